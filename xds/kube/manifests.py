"""The folder Source: objects from files of YAML and JSON, read again when a file changes.

What belongs here: folders, files, what a change of a file means for its objects, and waiting for changes. What does not: text
(`xds.kube.documents`) and what a document means (`xds.kube.parse`).
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from xds.config import Failure
from xds.kube import documents, parse
from xds.kube.objects import Object, Place, Ref, ref
from xds.kube.source import Change
from xds.model import Problem, Severity

ENDINGS = (".yaml", ".yml", ".json")
MAX_BYTES = 100 * 2**20
"""A bigger file is a Problem; it is no manifest, and would take minutes to read."""

DEBOUNCE = 50
STEP = 10
"""Milliseconds: changes are taken together until none has come for STEP, at most for DEBOUNCE (DESIGN 10.18)."""

SETTLE = 50
"""Milliseconds that a file which lost objects is given before that counts, for many programs empty a file and then write it."""

LOOK = 1000
"""Milliseconds after which we look by ourselves for what the kernel does not report, such as a folder that was put back."""

LOOK_MISSING = 50
"""Milliseconds between looks for a folder that is not there."""

_LIMITS = "the kernel may have no watches left: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
_SKIPPED = frozenset({"kustomization.yaml", "kustomization.yml"})


class ManifestsError(Exception):
    """A folder of manifests that cannot be used; the message is one sentence."""


class Stamp(NamedTuple):
    """What tells one state of a file from another without reading it; times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was last read: `objects` are its last good ones, `problems` those of its last reading."""

    name: str
    stamp: Stamp
    objects: tuple[Object, ...] = ()
    problems: tuple[Problem, ...] = ()
    unsettled: bool = False


@dataclass(slots=True)
class _Found:
    """What a walk through the folders found: files by their path, folders by theirs, links to either, what those
    lead to outside of the folders, and what could not be read."""

    files: dict[str, tuple[str, Stamp]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)
    unreadable: dict[str, Problem] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)


class Folder:
    """The objects of some folders as of the last reading, without any waiting.

    Files are read with all folders below, in the order of their names; `Place.file` is the path within the folder, after the folder as
    it was given where there are several. Of two documents with the same Ref the first one counts, and the other is a Problem. A file
    that cannot be read keeps its last good objects and has a Problem. Not safe for two threads at once.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        several = len(directories) > 1
        self._roots = {os.path.abspath(directory): f"{directory}/" if several else "" for directory in directories}
        self._shown = {os.path.abspath(directory): str(directory) for directory in directories}
        self._files: dict[str, _File] = {}
        self._found = _Found()
        self._objects: dict[Ref, Object] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    def read(self) -> Change:
        """The first reading: everything. Raises ManifestsError where a folder is not there, or cannot be read."""
        for root, shown in self._shown.items():
            try:
                os.scandir(root).close()
            except OSError as wrong:
                raise ManifestsError(f"The folder of manifests {shown} cannot be read: {_reason(wrong)}.") from None
        return self.reread(None)

    def reread(self, paths: Iterable[Path] | None = None, *, patient: bool = False) -> Change:
        """What changed since the last reading: in these files, which are read whatever their times say, or anywhere with None.

        A path that is no file of ours (a folder, a link, the `..data` of a mounted ConfigMap) leads to a look at all files. If
        `patient`, a file that lost objects may be half written: it stays `unsettled` and as it was, until the next reading.
        """
        named = None if paths is None else {os.path.abspath(path) for path in paths}
        if named is None or not all(self._is_plain(path) for path in named):
            self._walk()
            current = self._found.files
        else:
            current = {path: (file.name, file.stamp) for path, file in self._files.items()}
            for path in named:
                self._look_at(path, current)
        self._take(current, named or set(), patient)
        return self._compare()

    @property
    def unsettled(self) -> tuple[Path, ...]:
        """Files that lost objects in a patient reading; the next reading takes them as they are then."""
        return tuple(Path(path) for path, file in self._files.items() if file.unsettled)

    def stale(self) -> tuple[Path, ...]:
        """Linked files that point to something else by now, or to a file that changed where nobody watches."""
        return tuple(Path(path) for path in self._found.linked if path in self._files and _stamp(path) != self._files[path].stamp)

    def identities(self) -> dict[str, tuple[int, int] | None]:
        """What must be watched: the folders, and what links lead to elsewhere, by absolute path.

        Each with what tells it from another one of the same path; None where there is none.
        """
        return {path: _identity(path) for path in (*self._roots, *sorted(self._found.targets))}

    @property
    def is_there(self) -> bool:
        """Whether all of the folders are there."""
        return all(_identity(root) for root in self._roots)

    def _is_plain(self, path: str) -> bool:
        """Whether what happened to this path concerns at most this one file."""
        if path in self._found.linked or path in self._found.folders:
            return False
        parent = os.path.dirname(path)
        if self._is_hidden(parent):
            return not self._found.linked
        mode = _mode(path)
        return (mode is None or stat.S_ISREG(mode)) and (parent in self._found.folders or path in self._files)

    def _is_hidden(self, path: str) -> bool:
        below = [path[len(root) :] for root in self._roots if path.startswith(_below(root))]
        return any(os.sep + "." in relative for relative in below)

    def _look_at(self, path: str, current: dict[str, tuple[str, Stamp]]) -> None:
        parent, name = os.path.split(path)
        if parent not in self._found.folders or not _is_manifest(name):
            return
        if (stamp := _stamp(path)) is None:
            current.pop(path, None)
        else:
            current[path] = (self._name(path), stamp)

    def _name(self, path: str) -> str:
        root = max((root for root in self._roots if path.startswith(_below(root))), key=len)
        relative = os.fsencode(path[len(_below(root)) :]).decode("utf-8", "replace")
        return self._roots[root] + relative.replace(os.sep, "/")

    def _walk(self) -> None:
        self._found = found = _Found()
        for root, shown in self._shown.items():
            folders = [root]
            links: list[str] = []
            while folders or links:
                # real folders first, so that a file is known by its own path and not by that of a link to it
                folder = folders.pop() if folders else links.pop()
                try:
                    self._list(folder, found, folders, links)
                except OSError as wrong:
                    if folder == root or not isinstance(wrong, FileNotFoundError):
                        name = shown if folder == root else self._name(folder)
                        sentence = f"The folder cannot be read: {_reason(wrong)}."
                        found.unreadable[folder] = Problem(Ref("File", "", name), "", "unreadable", sentence)
        for folder in found.unreadable:
            if _mode(folder) is not None:
                for path, file in self._files.items():
                    if path.startswith(_below(folder)):
                        found.files.setdefault(path, (file.name, file.stamp))

    def _list(self, folder: str, found: _Found, folders: list[str], links: list[str]) -> None:
        identity = _identity(folder)
        if identity in found.seen:
            return
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name, reverse=True)
        if identity:
            found.seen.add(identity)
        found.folders.add(folder)
        for entry in listed:
            if entry.name.startswith("."):
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path):
                (links if is_link else folders).append(entry.path)
            elif _is_manifest(entry.name) and (stamp := _stamp(entry.path)) is not None:
                found.files[entry.path] = (self._name(entry.path), stamp)
            if is_link:
                found.linked.add(entry.path)
                target = os.path.realpath(entry.path)
                if not any(target.startswith(_below(os.path.realpath(root))) for root in self._roots):
                    found.targets.add(target)

    def _take(self, current: Mapping[str, tuple[str, Stamp]], named: set[str], patient: bool) -> None:
        """Read again what changed. A file that is gone takes its objects along; one under another name is read under that name."""
        files: dict[str, _File] = {}
        losers: list[str] = []
        for path, (name, stamp) in current.items():
            known = self._files.get(path)
            if known and known.stamp == stamp and not known.unsettled and path not in named:
                files[path] = known
                continue
            files[path] = _read_file(path, name, stamp, known)
            if patient and known and not known.unsettled and _lost(known, files[path].objects):
                losers.append(path)
        if losers:
            present = [item for file in files.values() for item in file.objects]  # moved to another file is not lost
            for path in losers:
                if _lost(self._files[path], present):
                    files[path] = replace(self._files[path], stamp=files[path].stamp, unsettled=True)
        self._files = dict(sorted(files.items(), key=lambda item: item[1].name))

    def _compare(self) -> Change:
        objects: dict[Ref, Object] = {}
        problems = {file.name: list(file.problems) for file in self._files.values()}
        for problem in self._found.unreadable.values():
            problems.setdefault(problem.about.name, []).append(problem)
        for file in self._files.values():
            for item in file.objects:
                about = ref(item)
                first = objects.setdefault(about, item)
                if first is not item:
                    problems[file.name].append(_duplicate(about, item, first))
        before, self._objects = self._objects, objects
        put = [item for about, item in objects.items() if (old := before.get(about)) is not item and old != item]
        drop = [about for about in before if about not in objects]
        return Change(tuple(put), tuple(drop), self._tell({name: tuple(found) for name, found in problems.items() if found}))

    def _tell(self, problems: dict[str, tuple[Problem, ...]]) -> dict[str, tuple[Problem, ...]]:
        before, self._problems = self._problems, problems
        names = dict.fromkeys((*before, *problems))
        return {name: problems.get(name, ()) for name in names if _words(before.get(name, ())) != _words(problems.get(name, ()))}


class Manifests:
    """Folders of manifests as a Source: `Folder.read`, then `watch`."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._folder = Folder(directories)
        self._is_read = False

    async def changes(self) -> AsyncGenerator[Change]:
        """First everything, then what changes. Raises Failure where a folder cannot be read, or not be watched."""
        try:
            first = await asyncio.to_thread(self._folder.read)
            self._is_read = True
            yield first
            async with aclosing(watch(self._folder)) as changes:
                async for change in changes:
                    yield change
        except ManifestsError as error:
            raise Failure(str(error)) from None

    def waiting(self) -> list[str]:
        """Whether the folders were read."""
        return [] if self._is_read else ["waiting for the first reading of the manifests"]

    def staleness(self, now: float) -> Mapping[str, float]:
        """Files are never out of date."""
        return {}

    async def close(self) -> None:
        """Nothing is held."""


async def watch(folder: Folder) -> AsyncGenerator[Change]:
    """Every Change from now on, within 100 ms; what changed since the Folder was last read comes first.

    Files are read in a thread, one reading at a time. A folder that is removed takes its objects along, and is read again once it is
    back. Raises ManifestsError where the kernel has no more watches to give.
    """
    while True:
        async with aclosing(_while_same(folder, folder.identities())) as changes:
            async for change in changes:
                yield change


async def _while_same(folder: Folder, watched: Mapping[str, object]) -> AsyncGenerator[Change]:
    """Changes until one of the watched is another one than before, or comes, or goes: then it must be watched anew."""
    there = [path for path, identity in watched.items() if identity is not None]
    if not there:
        if change := await asyncio.to_thread(folder.reread):
            yield change
        await asyncio.sleep(LOOK_MISSING / 1000)
        return
    events = awatch(
        *there,
        watch_filter=None,
        debounce=DEBOUNCE,
        step=STEP,
        rust_timeout=LOOK if folder.is_there else LOOK_MISSING,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    upcoming = asyncio.ensure_future(anext(events))
    try:
        await asyncio.sleep(0)  # the kernel watches from here on: what came before is found by the first look, the rest by events
        paths: Iterable[Path] | None = None
        while True:
            if paths != []:
                if change := await asyncio.to_thread(folder.reread, paths, patient=True):
                    yield change
                if unsettled := folder.unsettled:
                    await asyncio.sleep(SETTLE / 1000)
                    if change := await asyncio.to_thread(folder.reread, unsettled):
                        yield change
            if folder.identities() != watched:
                return
            try:
                batch = await upcoming
            except FileNotFoundError:
                await asyncio.sleep(LOOK_MISSING / 1000)
                return
            except (OSError, WatchfilesRustInternalError) as wrong:
                raise ManifestsError(f"The folders of manifests cannot be watched ({wrong}); {_LIMITS}.") from None
            upcoming = asyncio.ensure_future(anext(events))
            paths = [*(Path(path) for _, path in batch), *folder.stale()]
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await events.aclose()


def _read_file(path: str, name: str, stamp: Stamp, known: _File | None) -> _File:
    kept = known.objects if known else ()
    try:
        raw = _bytes(path, stamp)
        objects, problems = _parse(name, raw)
    except documents.Malformed as wrong:
        place, code, sentence = Place(name, 0, wrong.line), "syntax", wrong.sentence
    except OSError as wrong:
        place, code, sentence = Place(name, 0, 1), "unreadable", f"The file cannot be read: {_reason(wrong)}."
    else:
        return _File(name, stamp, objects, problems)
    if kept:
        sentence += " What it held before stays in effect."
    return _File(name, stamp, kept, (Problem(Ref("File", "", name), "", code, sentence, place=place),))


def _lost(known: _File, present: Iterable[Object]) -> bool:
    return not {ref(item) for item in known.objects} <= {ref(item) for item in present}


def _bytes(path: str, stamp: Stamp) -> bytes:
    if stamp.size > MAX_BYTES:
        raise documents.Malformed(1, f"The file is bigger than {MAX_BYTES:,} bytes.")
    with open(path, "rb") as file:
        return file.read()


def _parse(name: str, raw: bytes) -> tuple[tuple[Object, ...], tuple[Problem, ...]]:
    objects: list[Object] = []
    problems: list[Problem] = []
    position = 0
    for document in documents.read(raw, only_json=name.endswith(".json")):
        for value, line, repeats in _entries(document):
            place = Place(name, position, line)
            position += 1
            found = parse.from_document(value, place)
            objects += [each for each in found if not isinstance(each, Problem)]
            problems += [each for each in found if isinstance(each, Problem)]
            if found:
                about = found[0].about if isinstance(found[0], Problem) else ref(found[0])
                problems += [_repeated(about, repeat, place) for repeat in repeats]
    return tuple(objects), tuple(problems)


def _entries(document: documents.Document) -> Iterator[tuple[Any, int, list[documents.Repeat]]]:
    """The document itself, or the entries of a list, each with its first line and the keys that it has twice."""
    entries = parse.members(document.value)
    if entries is None:
        yield document.value, document.line, list(document.repeats)
        return
    lines = document.item_lines if len(document.item_lines) == len(entries) else (document.line,) * len(entries)
    repeats: dict[documents.Step, list[documents.Repeat]] = {}
    for repeat in document.repeats:
        match repeat.path:
            case ("items", int(at), *rest):
                repeats.setdefault(at, []).append(documents.Repeat(tuple(rest), repeat.line))
    for at, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        yield entry, line, repeats.get(at, [])


def _repeated(about: Ref, repeat: documents.Repeat, place: Place) -> Problem:
    way = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in repeat.path).removeprefix(".")
    sentence = "This key is written more than once; the last one counts."
    return Problem(about, way, "duplicate-key", sentence, Severity.WARNING, place._replace(line=repeat.line))


def _duplicate(about: Ref, item: Object, first: Object) -> Problem:
    sentence = f"This {about.kind} is defined at {first.meta.place} already, which counts; remove one of the two."
    return Problem(about, "", "duplicate", sentence, place=item.meta.place)


def _words(problems: tuple[Problem, ...]) -> list[tuple[Problem, str, Severity, Place | None]]:
    """All of the Problems, for their equality is that of their identity."""
    return [(each, each.sentence, each.severity, each.place) for each in problems]


def _is_manifest(name: str) -> bool:
    return not name.startswith(".") and name.endswith(ENDINGS) and name.lower() not in _SKIPPED


def _mode(path: str) -> int | None:
    """The kind of what is there, of a link itself; None where there is nothing."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None


def _identity(path: str) -> tuple[int, int] | None:
    """What stays the same while a file or a folder lives, whatever its content; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _stamp(path: str) -> Stamp | None:
    """The state of a file, behind links; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _below(folder: str) -> str:
    return folder if folder.endswith(os.sep) else folder + os.sep


def _reason(wrong: OSError) -> str:
    return (wrong.strerror or type(wrong).__name__).lower()
