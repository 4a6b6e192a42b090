"""Red-green incremental evaluation with early cut-off: memoised pure functions, so that a change costs what it touches.

The algorithm is that of Salsa (https://salsa-rs.github.io/salsa/reference/algorithm.html) and of rustc's queries. A *Unit* is a function
with its arguments, a query in Salsa's words. While it runs, its reader records each key of the World and each other Unit that it reads.
A memo has one of three states:

    FRESH      green: the value is right
    STALE      red: a key that the Unit read has changed, so it must run again
    DOUBTFUL   a Unit that it read, directly or not, is STALE: the value may be right all the same

`Build.stale_kept` marks memos when keys change. `Build.value` brings one up to date: it runs a STALE Unit, and checks what a DOUBTFUL one
read before it runs that. Where a Unit runs and its value equals the old one, its readers become FRESH without running: the early cut-off.

What does not belong here: any knowledge of Kubernetes or Envoy.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

from xds.kube.world import Key
from xds.problem import Problem

T = TypeVar("T")


class Unit(NamedTuple):
    """A function and what it is called with, after the reader."""

    function: Callable[..., Any]
    arguments: tuple[Hashable, ...]


class Abandoned(BaseException):
    """The Build was abandoned, so no Unit runs any more. It is no Exception: it must not end in the Fault of a Unit."""


class Fault(NamedTuple):
    """A Unit has raised, which is a bug of ours. Its value is None until something that it read changes."""

    unit: Unit
    traceback: str


FRESH, DOUBTFUL, STALE = range(3)


class ReadKey:
    """A key of the World that Units read."""

    __slots__ = ("key", "readers")

    def __init__(self, key: Key) -> None:
        self.key = key  # one object for all of its readers
        self.readers: Readers = ()


class Memo:
    """The value of a Unit. Revisions count the calls of `Build.stale_kept`."""

    __slots__ = ("changed", "kept", "readers", "reads", "state", "unit", "value", "verified")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.value: Any = None
        self.reads: tuple[Memo | ReadKey, ...] = ()  # in the order of first reading, each once
        self.readers: Readers = ()
        self.kept = 0  # how many times it was kept and not released
        self.state = STALE
        self.verified = -1  # the revision in which it was last known to be right
        self.changed = -1  # the revision in which its value last changed


Readers = tuple[Memo, ...] | dict[Memo, None]
"""Who reads a value, in the order in which they began to. Most have one reader or a few, and no dict: that takes a fifth less memory."""
_FEW = 8


def _add(read: Memo | ReadKey, reader: Memo) -> None:
    found = read.readers
    if isinstance(found, dict):
        found[reader] = None
    elif reader not in found:
        read.readers = (*found, reader) if len(found) < _FEW else dict.fromkeys((*found, reader))


def _remove(read: Memo | ReadKey, reader: Memo) -> None:
    found = read.readers
    if isinstance(found, dict):
        found.pop(reader, None)
        if len(found) < _FEW:
            read.readers = tuple(found)
    else:
        read.readers = tuple(each for each in found if each is not reader)


class Recorder:
    """The reader that is passed to a running Unit (`xds.kube.world.Reader`): it returns values, and records what was read."""

    __slots__ = ("_build", "_lookup", "_memos", "problems", "seen")

    def __init__(self, build: Build) -> None:
        self._build = build
        self._lookup = build.lookup
        self._memos = build.memos
        self.seen: dict[Memo | Key, None] = {}
        self.problems: list[Problem] | None = None

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key."""
        self.seen[key] = None
        return self._lookup(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of another Unit."""
        memo = self._memos.get((function, arguments)) or self._build.memo(Unit(function, arguments))
        self.seen[memo] = None
        value: T = memo.value if memo.state == FRESH else self._build.refreshed(memo)
        return value

    def report(self, problem: Problem) -> None:
        """Report a Problem; it stands until the Unit runs again."""
        if self.problems is None:
            self.problems = []
        self.problems.append(problem)


class Beside:
    """A reader (`xds.kube.world.Reader`) for what is no Unit: at any time, also while a Build runs in another thread.

    A value that is up to date is taken from the Build; another one is computed, and not kept. Nothing is recorded, and Problems are
    dropped: the Units themselves report them.
    """

    __slots__ = ("_build",)

    def __init__(self, build: Build) -> None:
        self._build = build

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key."""
        return self._build.lookup(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of a Unit."""
        known = self._build.known(Unit(function, arguments))
        value: T = known[0] if known is not None else function(self, *arguments)
        return value

    def report(self, problem: Problem) -> None:
        """Drop it."""


class Build:
    """The memos of all Units that are needed, and the graph of who reads what.

    `lookup` gives the value of a key. `runs` counts the Units that ran.
    """

    def __init__(self, lookup: Callable[[Key], Any]) -> None:
        self.lookup = lookup
        self.runs = 0
        self.memos: dict[tuple[object, ...], Memo] = {}
        """By Unit. Who reads a value is recorded in its Memo, so that this is the only place that hashes a Unit."""
        self.problems: dict[Unit, tuple[Problem, ...]] = {}
        self.faults: dict[Unit, Fault] = {}
        self._standing: Counter[Problem] = Counter()  # how many Units report it
        self._moved: set[Problem] = set()  # what may have appeared or disappeared since `problem_changes` was called
        self._revision = 0
        self._keys: dict[Key, ReadKey] = {}  # those that a Unit reads
        self._running: list[Recorder] = []  # of the Units that run now, each read by the one before
        self._is_abandoned = False

    def __len__(self) -> int:
        return len(self.memos)

    def keep(self, unit: Unit) -> None:
        """Keep the memo of this Unit until it is released as often. A memo is evicted when its Unit is neither kept nor read."""
        self.memo(unit).kept += 1

    def release(self, unit: Unit) -> None:
        """The opposite of `keep`."""
        memo = self.memos[unit]
        memo.kept -= 1
        self._forget_if_unread(memo)

    def abandon(self) -> None:
        """Let no Unit run any more, from any thread: who wants the value of one gets Abandoned. The process is about to end."""
        self._is_abandoned = True

    def stale_kept(self, keys: Iterable[Key]) -> set[Unit]:
        """Mark all that depends on these keys, which have changed. Returns the kept Units among it: their values may have changed."""
        self._revision += 1
        found: set[Unit] = set()
        work: list[Memo] = []
        for key in keys:
            for memo in self._readers_of(key):
                if memo.state == FRESH:
                    work.append(memo)
                memo.state = STALE
        while work:  # a memo that is not FRESH was marked before, and so were all its readers
            memo = work.pop()
            if memo.kept:
                found.add(memo.unit)
            for reader in memo.readers:
                if reader.state == FRESH:
                    reader.state = DOUBTFUL
                    work.append(reader)
        return found

    def memo(self, unit: Unit) -> Memo:
        """Its memo, which may be new and without a value."""
        memo = self.memos.get(unit)
        if memo is None:
            memo = self.memos[unit] = Memo(unit)
        return memo

    def value(self, unit: Unit) -> Any:
        """The value, brought up to date."""
        return self.refreshed(self.memo(unit))

    def refreshed(self, memo: Memo) -> Any:
        """The value of a memo, brought up to date."""
        if memo.state == DOUBTFUL and not self._a_read_changed(memo):
            memo.state, memo.verified = FRESH, self._revision
        if memo.state != FRESH:
            self._run(memo)
        return memo.value

    def known(self, unit: Unit) -> tuple[Any] | None:
        """The value of a Unit, if it need not run for it; else None."""
        memo = self.memos.get(unit)
        return (memo.value,) if memo is not None and memo.state == FRESH else None

    def depending(self, keys: Iterable[Key]) -> set[Unit]:
        """All Units that have read one of these keys, directly or not."""
        found = {memo for key in keys for memo in self._readers_of(key)}
        work = list(found)
        while work:
            readers = {*work.pop().readers} - found
            found |= readers
            work.extend(readers)
        return {memo.unit for memo in found}

    def reports(self, problem: Problem) -> bool:
        """Whether a Unit reports this Problem now."""
        return problem in self._standing

    def problem_changes(self) -> dict[Problem, bool]:
        """The Problems that may have appeared (True) or disappeared (False) since the last call."""
        moved, self._moved = self._moved, set()
        return {problem: problem in self._standing for problem in moved}

    def _readers_of(self, key: Key) -> Iterable[Memo]:
        found = self._keys.get(key)
        return found.readers if found else ()

    def _report(self, unit: Unit, problems: Iterable[Problem]) -> None:
        """All Problems of a Unit now; several Units may report the same one."""
        before, after = self.problems.pop(unit, ()), tuple(problems)
        if before == after == ():
            return
        if after:
            self.problems[unit] = after
        self._standing.update(after)
        self._standing.subtract(before)
        for problem in {*before, *after}:
            if not self._standing[problem]:
                del self._standing[problem]
            self._moved.add(problem)

    def _a_read_changed(self, memo: Memo) -> bool:
        """Whether a value that a DOUBTFUL Unit read has changed. It read no changed key, else it would be STALE.

        In the order of reading: what was read later may have been read because of a value that is another one now, and must not run.
        """
        for read in memo.reads:
            if isinstance(read, Memo):
                self.refreshed(read)
                if read.changed > memo.verified:
                    return True
        return False

    def _run(self, memo: Memo) -> None:
        if self._is_abandoned:
            raise Abandoned
        self.runs += 1
        unit, recorder = memo.unit, Recorder(self)
        self._running.append(recorder)
        try:
            value = unit.function(recorder, *unit.arguments)
        except Exception:  # noqa: BLE001 - one object that we cannot cope with must not stop the others
            value = None
            self.faults[unit] = Fault(unit, traceback.format_exc())
        else:
            if self.faults:
                self.faults.pop(unit, None)
        finally:
            self._running.pop()
        self._record(memo, recorder.seen)
        is_new = memo.changed < 0
        if recorder.problems or not is_new:
            self._report(unit, recorder.problems or ())
        if is_new or value != memo.value:
            memo.value, memo.changed = value, self._revision
        memo.state, memo.verified = FRESH, self._revision

    def _record(self, memo: Memo, seen: Iterable[Memo | Key]) -> None:
        """A memo reads all this from now on, and nothing else."""
        reads = tuple([read if isinstance(read, Memo) else self._read_key(read) for read in seen])
        for read in reads:
            if read.readers:
                _add(read, memo)
            else:
                read.readers = (memo,)
        before, memo.reads = memo.reads, reads
        left = {*reads} if before else set()
        for gone in before:
            if gone not in left:
                self._drop_reader(gone, memo)

    def _read_key(self, key: Key) -> ReadKey:
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = ReadKey(key)
        return found

    def _drop_reader(self, read: Memo | ReadKey, memo: Memo) -> None:
        _remove(read, memo)
        if read.readers:
            return
        if isinstance(read, ReadKey):
            del self._keys[read.key]
        else:
            self._forget_if_unread(read)

    def _forget_if_unread(self, memo: Memo) -> None:
        if memo.kept or memo.readers or any(memo in recorder.seen for recorder in self._running):
            return  # a Unit that runs becomes a reader of what it has read when it is done
        del self.memos[memo.unit]
        self._report(memo.unit, ())
        self.faults.pop(memo.unit, None)
        for read in memo.reads:
            self._drop_reader(read, memo)
