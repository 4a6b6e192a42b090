"""Which files of manifests there are in some folders: one walk, with an end whatever the folders hold.

What belongs here: listing folders, links, and the bounds of both. What does not: what files hold (`xds.kube.manifests`), and when to look.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xds.problem import Problem, Ref, Severity

ENDINGS = (".yaml", ".yml", ".json")
MAX_BYTES = 100 * 2**20
"""A bigger file is a Problem; it is no manifest, and would take minutes to read."""

MOST_DEPTH = 32
"""Folders within each other, below the one that was given."""
MOST_FOLDERS = 10_000
"""Folders of one walk; the kernel watches each of them."""
MOST_IN_FOLDER = 100_000
MOST_ENTRIES = 500_000
"""Entries of one folder, and of all: whatever they are, each is looked at."""
MOST_FILES = 100_000
MOST_BYTES = 2**30
"""Manifests, and how big they may be together."""
MOST_PROBLEMS = 100
"""Problems of one walk, for each file of a tree may have one."""

_SKIPPED = frozenset({"kustomization.yaml", "kustomization.yml"})

Identity = tuple[int, int] | None
"""What stays the same while a file or a folder lives, whatever its content; None where there is none."""


class Stamp(NamedTuple):
    """What distinguishes two states of a file without reading it. Times are nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(slots=True)
class Found:
    """What one walk found.

    `files`: path → name and state of each manifest. `folders`: those that were listed, and those in which links end, which may change
    unseen otherwise. `linked`: links to either. `unlisted`: folders of which not everything is known, and `beyond`: files that are too
    many. `problems`: path → its Problem.
    """

    files: dict[str, tuple[str, Stamp]] = field(default_factory=dict)
    folders: dict[str, Identity] = field(default_factory=dict)
    beside: dict[str, Identity] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    beyond: set[str] = field(default_factory=set)
    problems: dict[str, Problem] = field(default_factory=dict)


class _TooMuch(Exception):
    """A bound of one folder was reached; the message is a sentence about it."""


class _Exhausted(_TooMuch):
    """A bound of the whole walk was reached."""


def walk(roots: Mapping[str, str], name: Callable[[str], str]) -> Found:
    """Everything in and below some folders. `roots` maps their absolute paths to the given ones. `name` returns the name of a path.

    The walk is breadth-first, so that beyond a bound only the deepest files are left out. Links within the roots are followed, as those of
    a mounted ConfigMap. A link that leads out of them is a Problem, and so is what exceeds a bound. Names that begin with a dot are
    skipped.
    """
    return _Walk(roots, name).found


class _Walk:
    """One walk. `seen` are the identities of the listed folders, because links may form cycles."""

    def __init__(self, roots: Mapping[str, str], name: Callable[[str], str]) -> None:
        self.found = Found()
        self._name = name
        self._real = [below(os.path.realpath(root)) for root in roots]
        self._seen: set[Identity] = set()
        self._entries = 0
        self._bytes = 0
        self._roots = roots
        self._walk()

    def _walk(self) -> None:
        # real folders first, so that a file is known by its own path and not by that of a link to it
        folders, links = deque((root, 0) for root in self._roots), deque[tuple[str, int]]()
        while folders or links:
            folder, depth = (folders or links).popleft()
            try:
                self._list(folder, depth, folders, links)
            except _TooMuch as bound:
                self.found.unlisted.add(folder)
                self._wrong(folder, "too-much", str(bound))
                if isinstance(bound, _Exhausted):
                    self.found.unlisted.update(path for path, _ in (*folders, *links))
                    return
            except OSError as error:
                if depth == 0 or not isinstance(error, FileNotFoundError):
                    self.found.unlisted.add(folder)
                    self._wrong(folder, "unreadable", f"The folder cannot be read: {reason(error)}.")

    def _wrong(self, path: str, code: str, sentence: str, severity: Severity = Severity.ERROR) -> None:
        if len(self.found.problems) >= MOST_PROBLEMS:
            return
        if len(self.found.problems) == MOST_PROBLEMS - 1:
            sentence += " More of this kind are not reported."
        self.found.problems[path] = Problem(Ref("File", "", self._roots.get(path) or self._name(path)), "", code, sentence, severity)

    def _list(self, folder: str, depth: int, folders: deque[tuple[str, int]], links: deque[tuple[str, int]]) -> None:
        which = identity(folder)
        if which in self._seen:
            return
        if depth > MOST_DEPTH:
            raise _TooMuch(f"The folder lies more than {MOST_DEPTH} folders deep; what is in it has no effect.")
        if len(self.found.folders) >= MOST_FOLDERS:
            raise _Exhausted(f"There are more than {MOST_FOLDERS:,} folders; what is in this one, and in those after it, has no effect.")
        listed = self._entries_of(folder)
        if which:
            self._seen.add(which)
        self.found.folders[folder] = which
        if not is_text(folder):
            sentence = "The name of this folder is not UTF-8, so what changes in it is noticed late; rename it."
            self._wrong(folder, "name-not-utf-8", sentence, Severity.WARNING)
        for entry in sorted(listed, key=lambda entry: entry.name):
            if entry.is_symlink():
                self._link(entry, depth, links)
            elif entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, depth + 1))
            elif is_manifest(entry.name):
                self._file(entry.path)

    def _entries_of(self, folder: str) -> list[os.DirEntry[str]]:
        listed: list[os.DirEntry[str]] = []
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries, 1):
                self._entries += 1
                if number > MOST_IN_FOLDER:
                    raise _TooMuch(f"The folder has more than {MOST_IN_FOLDER:,} entries; what is in it has no effect.")
                if self._entries > MOST_ENTRIES:
                    many = f"The folders have more than {MOST_ENTRIES:,} entries"
                    raise _Exhausted(f"{many}; what is in this one, and in those after it, has no effect.")
                if not entry.name.startswith("."):
                    listed.append(entry)
        return listed

    def _link(self, entry: os.DirEntry[str], depth: int, links: deque[tuple[str, int]]) -> None:
        target = os.path.realpath(entry.path)
        within = any(below(target).startswith(root) for root in self._real)
        if is_folder := os.path.isdir(target):
            if within:
                links.append((entry.path, depth + 1))
        elif not is_manifest(entry.name):
            return
        elif within:
            self._file(entry.path)
        self.found.linked.add(entry.path)
        if within:
            beside = target if is_folder else os.path.dirname(target)
            self.found.beside[beside] = identity(beside)
        elif is_folder or os.path.isfile(target):
            sentence = "This link leads out of the folder, so it is not followed: put what it leads to into the folder, or give that, too."
            self._wrong(entry.path, "link-outside", sentence)

    def _file(self, path: str) -> None:
        if (found := stamp(path)) is None:
            return
        size = found.size if found.size <= MAX_BYTES else 0  # which is not read
        if len(self.found.files) >= MOST_FILES or self._bytes + size > MOST_BYTES:
            if not self.found.beyond:
                most = f"{MOST_FILES:,} files, or more than {MOST_BYTES:,} bytes in them"
                self._wrong(path, "too-much", f"There are more than {most}; this file, and those after it, have no effect.")
            self.found.beyond.add(path)
            return
        self._bytes += size
        self.found.files[path] = (self._name(path), found)
        if not is_text(path) and is_text(os.path.dirname(path)):
            sentence = "The name of this file is not UTF-8; the file is read, but its changes may be noticed late. Rename it."
            self._wrong(path, "name-not-utf-8", sentence, Severity.WARNING)


def is_manifest(name: str) -> bool:
    """Whether a file of this name is one that we read."""
    return not name.startswith(".") and name.endswith(ENDINGS) and name.lower() not in _SKIPPED


def identity(path: str) -> Identity:
    """The identity of a path, with links resolved."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def stamp(path: str) -> Stamp | None:
    """The state of a file, behind links; None where there is none, or something else: a FIFO, a socket, a device."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def below(folder: str) -> str:
    """What the path of everything in a folder begins with."""
    return folder if folder.endswith(os.sep) else folder + os.sep


def reason(error: OSError) -> str:
    """In the words of the system."""
    return (error.strerror or type(error).__name__).lower()


def is_text(path: str) -> bool:
    """Whether a path is UTF-8. Otherwise it has lone surrogates in Python."""
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)
