"""The folder Source: objects from files of YAML and JSON, read again when a file changes.

What belongs here: folders, files, the effect of a changed file on its objects, and waiting for changes. What does not: text
(`xds.kube.documents`) and what a document means (`xds.kube.parse`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import stat
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from watchfiles import awatch

from xds.config import Failure
from xds.kube import documents, parse, walk
from xds.kube.objects import Object, ref
from xds.kube.source import Change
from xds.problem import Place, Problem, Ref, Severity, printable

_log = logging.getLogger("xds")

DEBOUNCE = 50
STEP = 10
"""Milliseconds. A batch of changes ends when none has come for STEP, at most after DEBOUNCE (decision 18)."""

SETTLE = 50
"""Milliseconds before lost objects of a file count as deleted, because many programs truncate a file before they write it."""

LOOK = 1000
"""Milliseconds between two checks for what the kernel does not report, such as a folder that was moved back."""

LOOK_MISSING = 50
"""Milliseconds between two checks for a missing folder."""

DUPLICATE = "duplicate"
"""The code of an object that is defined twice."""

_TEMPLATE = re.compile(rb"\{\{|\{%")
_MANIFEST = re.compile(rb"apiVersion|kind|metadata")
_LIMITS = "the kernel may have no watches left: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
_MOST_CHECKS = 30
"""Checks between two attempts to have the kernel watch, where it does not. Their number doubles up to this."""
_Result = TypeVar("_Result")


class ManifestsError(Exception):
    """A folder or a file of manifests, or standard input, cannot be used. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as last read. `objects` are its last valid ones, `problems` those of the last reading.

    `unsettled`: it lost objects in a patient reading, so it may be half written.
    """

    name: str
    stamp: walk.Stamp
    objects: tuple[Object, ...] = ()
    problems: tuple[Problem, ...] = ()
    unsettled: bool = False


class Folder:
    """The objects of some folders as of the last reading. It waits for nothing.

    Folders are read recursively, in the order of the names of files. `Place.file` is the path within the folder; if there are several
    folders, it starts with the folder as given. Of two documents with the same Ref the first one counts, and the other is a Problem. A
    file that cannot be read keeps its last valid objects, and has a Problem. Files in `left_out` (absolute paths) are not read. A lock
    allows one reading at a time.
    """

    def __init__(self, directories: Sequence[Path], *, left_out: Collection[str] = ()) -> None:
        several = len(directories) > 1
        self._left_out = left_out
        self._roots = {os.path.abspath(directory): f"{directory}/" if several else "" for directory in directories}
        self._shown = {os.path.abspath(directory): str(directory) for directory in directories}
        self._files: dict[str, _File] = {}
        self._found = walk.Found()
        self._unwatched = ""
        self._reading = threading.Lock()
        self._objects: dict[Ref, Object] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    def read(self) -> Change:
        """The first reading: everything. Raises ManifestsError where a folder is missing, or cannot be read."""
        for root, shown in self._shown.items():
            try:
                os.scandir(root).close()
            except OSError as error:
                raise ManifestsError(f"The folder of manifests {shown} cannot be read: {walk.reason(error)}.") from None
        return self.reread(None)

    def reread(self, paths: Iterable[Path] | None = None, *, patient: bool = False) -> Change:
        """The Change since the last reading: of these files, which are read even if their times are the same, or of all with None.

        A path that is not a manifest (a folder, a link, the `..data` of a mounted ConfigMap) leads to a check of all files. If `patient`,
        a file that lost objects may be half written. It keeps its objects and is `unsettled` until the next reading.
        """
        with self._reading:
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

    def unwatched(self, why: str) -> Change:
        """The kernel does not watch the folders, for this reason, or does again (""). Returns the Change of that Problem."""
        if why == self._unwatched:
            return Change()
        with self._reading:
            self._unwatched = why
            return self._compare()

    @property
    def unsettled(self) -> tuple[Path, ...]:
        """Files that lost objects in a patient reading. The next reading takes them as they are then."""
        return tuple(Path(path) for path, file in self._files.items() if file.unsettled)

    def stale(self) -> tuple[Path, ...]:
        """Linked files whose target has changed. The kernel does not report that, where the target is outside of the watched folders."""
        return tuple(Path(path) for path in self._found.linked if path in self._files and walk.stamp(path) != self._files[path].stamp)

    def identities(self) -> dict[str, walk.Identity]:
        """What must be watched, by absolute path: the folders found last, all below them, and the folders of targets of links.

        The value distinguishes a folder from a later one with the same path. It is None where there is none.
        """
        found = self._found
        return {**found.folders, **found.beside, **{root: walk.identity(root) for root in self._roots}}

    @property
    def is_there(self) -> bool:
        """Whether all of the folders exist."""
        return all(walk.identity(root) for root in self._roots)

    def _is_plain(self, path: str) -> bool:
        """Whether an event of this path is about this one file at most."""
        if path in self._found.linked or path in self._found.folders or len(self._files) >= walk.MOST_FILES:
            return False
        parent = os.path.dirname(path)
        if self._is_hidden(parent):
            return not self._found.linked  # a hidden folder matters only as a target of links, as in a mounted ConfigMap
        mode = _mode(path)
        return (mode is None or stat.S_ISREG(mode)) and (parent in self._found.folders or path in self._files)

    def _is_hidden(self, path: str) -> bool:
        below = [path[len(root) :] for root in self._roots if path.startswith(walk.below(root))]
        return any(os.sep + "." in relative for relative in below)

    def _look_at(self, path: str, current: dict[str, tuple[str, walk.Stamp]]) -> None:
        parent, name = os.path.split(path)
        if parent not in self._found.folders or not walk.is_manifest(name):
            return
        if (stamp := walk.stamp(path)) is None:
            current.pop(path, None)
        else:
            current[path] = (self._name(path), stamp)

    def _name(self, path: str) -> str:
        root = max((root for root in self._roots if walk.below(path).startswith(walk.below(root))), key=len)
        relative = os.fsencode(path[len(walk.below(root)) :]).decode("utf-8", "replace")
        return self._roots[root] + relative.replace(os.sep, "/")

    def _walk(self) -> None:
        """Walk all folders. What cannot be listed, or is beyond a bound, keeps its last known state."""
        self._found = found = walk.walk(self._shown, self._name)
        for path in self._left_out:
            found.files.pop(path, None)
        unlisted = tuple(walk.below(folder) for folder in found.unlisted if _mode(folder) is not None)
        for path, file in self._files.items():
            if path in found.beyond or (unlisted and path.startswith(unlisted)):
                found.files.setdefault(path, (file.name, file.stamp))

    def _take(self, current: Mapping[str, tuple[str, walk.Stamp]], named: set[str], patient: bool) -> None:
        """Read changed files again. A deleted file loses its objects. A renamed one is read under its new name."""
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
        if losers:  # only now, because a Folder of thousands of files is compared at each event
            present = [item for file in files.values() for item in file.objects]  # an object that moved to another file is not lost
            for path in losers:
                if _lost(self._files[path], present):
                    files[path] = replace(self._files[path], stamp=files[path].stamp, unsettled=True)
        self._files = dict(sorted(files.items(), key=lambda item: item[1].name))

    def _compare(self) -> Change:
        objects: dict[Ref, Object] = {}
        problems = {file.name: list(file.problems) for file in self._files.values()}
        for problem in self._found.problems.values():
            problems.setdefault(problem.about.name, []).append(problem)
        if self._unwatched:
            shown = next(iter(self._shown.values()))
            problems.setdefault(shown, []).append(Problem(Ref("File", "", shown), "", "unwatched", self._unwatched, Severity.WARNING))
        for file in self._files.values():
            for item in file.objects:
                about = ref(item)
                first = objects.setdefault(about, item)
                if first is not item:
                    problems[file.name].append(duplicate(item, first))
        before, self._objects = self._objects, objects
        put = [item for about, item in objects.items() if (old := before.get(about)) is not item and old != item]
        drop = [about for about in before if about not in objects]
        return Change(tuple(put), tuple(drop), self._changed_problems({name: tuple(found) for name, found in problems.items() if found}))

    def _changed_problems(self, problems: dict[str, tuple[Problem, ...]]) -> dict[str, tuple[Problem, ...]]:
        before, self._problems = self._problems, problems
        names = dict.fromkeys((*before, *problems))
        return {name: problems.get(name, ()) for name in names if _details(before.get(name, ())) != _details(problems.get(name, ()))}


class Manifests:
    """Folders of manifests as a Source: `Folder.read`, then `watch`."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._folder = Folder(directories)
        self._is_read = False

    async def changes(self) -> AsyncGenerator[Change]:
        """First everything, then each change. Raises Failure where a folder cannot be read."""
        try:
            first = await _aside(self._folder.read)
            self._is_read = True
            yield first
            async with aclosing(watch(self._folder)) as changes:
                async for change in changes:
                    yield change
        except ManifestsError as error:
            raise Failure(str(error)) from None

    def waiting(self) -> list[str]:
        """One sentence until the folders were read."""
        return [] if self._is_read else ["waiting for the first reading of the manifests"]

    def staleness(self, now: float) -> Mapping[str, float]:
        """Files are never out of date."""
        return {}

    async def close(self) -> None:
        """Nothing to release."""


async def watch(folder: Folder) -> AsyncGenerator[Change]:
    """Every Change from now on, within 100 ms. The difference to the last reading of the Folder comes first.

    Files are read in a thread, one reading at a time. A deleted folder loses its objects, and is read again once it is back. Where the
    kernel does not watch (no watches are left, or a name is no text), that is a Problem. The folders are then polled every LOOK
    milliseconds, between attempts to watch again.
    """
    failures = 0
    while True:
        try:
            async with aclosing(_while_same(folder)) as changes:
                async for change in changes:
                    yield change
            failures = 0
            continue
        except Exception as error:  # noqa: BLE001 - also groups of exceptions, because the watcher runs in a task of its own
            why = _in_words(error)
        if change := await _aside(partial(folder.unwatched, why)):
            yield change
        for _ in range(min(2**failures, _MOST_CHECKS)):  # attempts to watch back off: each one walks all folders
            if change := await _aside(folder.reread):
                yield change
            await asyncio.sleep(LOOK / 1000)
        failures = min(failures + 1, 10)


async def _while_same(folder: Folder) -> AsyncGenerator[Change]:
    """Changes until a folder is created, deleted or replaced. Then the set of watches is out of date."""
    watched = await _aside(folder.identities)
    there = [path for path, identity in watched.items() if identity is not None]
    if not there:
        if change := await _aside(folder.reread):
            yield change
        await asyncio.sleep(LOOK_MISSING / 1000)
        return
    tellable = [path for path in there if walk.is_text(path)]
    events = awatch(
        *tellable,
        watch_filter=None,
        debounce=DEBOUNCE,
        step=STEP,
        rust_timeout=LOOK if folder.is_there else LOOK_MISSING,
        yield_on_timeout=True,
        recursive=False,  # the library's own walk is unbounded, and follows links anywhere
        ignore_permission_denied=True,
    )
    upcoming = asyncio.ensure_future(anext(events))  # the watcher starts with it, before the first reading below
    try:
        await asyncio.sleep(0)  # the kernel watches from here on: the first reading finds earlier changes, events report later ones
        paths: Iterable[Path] | None = None
        while True:
            if paths != []:
                if change := await _aside(partial(folder.reread, paths, patient=True)):
                    yield change
                if unsettled := folder.unsettled:
                    await asyncio.sleep(SETTLE / 1000)
                    if change := await _aside(partial(folder.reread, unsettled)):
                        yield change
            if await _aside(folder.identities) != watched:
                return  # inotify follows an inode, not a path: a replaced folder would stay unwatched
            try:
                batch = await upcoming
            except FileNotFoundError:
                await asyncio.sleep(LOOK_MISSING / 1000)
                return
            upcoming = asyncio.ensure_future(anext(events))
            if change := await _aside(partial(folder.unwatched, "")):
                yield change
            paths = [*(Path(path) for _, path in batch), *await _aside(folder.stale)] if len(tellable) == len(there) else None
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await events.aclose()


async def _aside(work: Callable[[], _Result]) -> _Result:
    """The result of work in a daemon thread, which does not delay the end of the process: a file system may hang."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_Result] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not result.done():
            outcome()

    def run() -> None:
        try:
            done = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            outcome = partial(result.set_exception, error)
        else:
            outcome = partial(result.set_result, done)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no one awaits the result
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="folder", daemon=True).start()
    return await result


def _in_words(error: BaseException) -> str:
    """Why the kernel does not watch, as a sentence."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    limits = f": {_LIMITS}" if isinstance(error, OSError) else ""
    what = printable(str(error) or type(error).__name__, 300)
    return f"The folders cannot be watched ({what}), so they are read every second{limits}."


def _read_file(path: str, name: str, stamp: walk.Stamp, known: _File | None) -> _File:
    kept = known.objects if known else ()
    raw = b""
    try:
        raw = _bytes(path)
        objects, problems = _parse(name, raw)
    except documents.UnreadableText as error:
        problem = _broken(name, error) if kept else _malformed(name, raw, error)
    except OSError as error:
        problem = _unreadable(name, walk.reason(error))
    except Exception:  # noqa: BLE001 - one file must not stop the others
        _log.exception("internal error while %s was read; please report it", printable(name, 300))
        problem = _unreadable(name, "it leads to an internal error; please report it")
    else:
        return _File(name, stamp, objects, problems)
    if kept:
        problem = replace(problem, sentence=f"{problem.sentence} What it held before stays in effect.")
    return _File(name, stamp, kept, (problem,))


def of_text(name: str, raw: bytes) -> tuple[tuple[Object, ...], tuple[Problem, ...]]:
    """The objects and Problems of one text that was named by the user, and therefore is a manifest.

    `name` is shown to people, and its suffix decides between JSON and YAML.
    """
    try:
        return _parse(name, raw)
    except documents.UnreadableText as error:
        is_template = _TEMPLATE.search(raw)
        return (), (parse.template(Place(name, 0, error.line)) if is_template else _broken(name, error),)


def _unreadable(name: str, why: str) -> Problem:
    return Problem(Ref("File", "", name), "", "unreadable", f"The file cannot be read: {why}.", place=Place(name, 0, 1))


def _malformed(name: str, raw: bytes, error: documents.UnreadableText) -> Problem:
    """The Problem of text in a folder that is no YAML. It may be a template, which must be rendered first, or no manifest at all."""
    if _TEMPLATE.search(raw):
        return parse.template(Place(name, 0, error.line))
    if raw.strip() and not _MANIFEST.search(raw.replace(b"\0", b"")):  # UTF-16 has a zero beside each letter
        sentence = f"This is no Kubernetes manifest: it names neither kind nor metadata, and cannot be read ({error.sentence.rstrip('.')})."
        return Problem(Ref("File", "", name), "", parse.NO_MANIFEST, sentence, Severity.NOTE, Place(name, 0, error.line))
    return _broken(name, error)


def _broken(name: str, error: documents.UnreadableText) -> Problem:
    return Problem(Ref("File", "", name), "", "syntax", error.sentence, place=Place(name, 0, error.line))


def _lost(known: _File, present: Iterable[Object]) -> bool:
    return not {ref(item) for item in known.objects} <= {ref(item) for item in present}


def _bytes(path: str) -> bytes:
    """The content of a file, within its bound even if the file grows. A pipe or device in its place does not block."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise documents.UnreadableText(1, "This is no file.")
        if found.st_size <= walk.MAX_BYTES and len(raw := file.read(walk.MAX_BYTES + 1)) <= walk.MAX_BYTES:
            return raw
    raise documents.UnreadableText(1, f"The file is bigger than {walk.MAX_BYTES:,} bytes.")


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
    """The document itself, or the entries of a list. Each comes with its first line and its repeated keys."""
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


def duplicate(item: Object, first: Object) -> Problem:
    """The Problem of an object that is defined twice. `first` is the one that counts."""
    about = ref(item)
    sentence = f"This {about.kind} is defined at {first.meta.place} already, which counts; remove one of the two."
    return Problem(about, "", DUPLICATE, sentence, place=item.meta.place)


def _details(problems: tuple[Problem, ...]) -> list[tuple[Problem, str, Severity, Place | None]]:
    """All fields of the Problems, because their equality compares only their identity (decision 17)."""
    return [(each, each.sentence, each.severity, each.place) for each in problems]


def _mode(path: str) -> int | None:
    """The mode of a path, for a link that of the link. None where there is nothing."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None
