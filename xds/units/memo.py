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
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from xds.kube.world import Key
from xds.problem import Problem

T = TypeVar("T")


class Unit(NamedTuple):
    """A function and what it is called with, after the reader."""

    function: Callable[..., Any]
    arguments: tuple[Hashable, ...]


class Fault(NamedTuple):
    """A Unit has raised, which is a bug of ours. Its value is None until something that it read changes."""

    unit: Unit
    traceback: str


class Values(Protocol):
    """Where a running Unit reads: the values of keys and of other Units."""

    @property
    def lookup(self) -> Callable[[Key], Any]:
        """Gives the value of a key."""

    def value(self, unit: Unit) -> Any:
        """Give the value of a Unit."""


FRESH, DOUBTFUL, STALE = range(3)


class _Memo:
    """The value of a Unit. Revisions count the calls of `Build.stale_kept`."""

    __slots__ = ("changed", "reads", "state", "unit", "value", "verified")

    def __init__(self, unit: Unit) -> None:
        self.unit = unit  # the one object for it that is kept: readers make equal ones, thousands of which would take megabytes
        self.value: Any = None
        self.reads: tuple[Hashable, ...] = ()  # keys and Units, in the order of first reading, each once
        self.state = STALE
        self.verified = -1  # the revision in which it was last known to be right
        self.changed = -1  # the revision in which its value last changed


class _Readers:
    """Who reads which keys and Units. Most have one reader or a few, for which no dict is made: that takes a fifth less memory."""

    __slots__ = ("_of",)

    _FEW = 8

    def __init__(self) -> None:
        self._of: dict[Hashable, tuple[Unit, ...] | dict[Unit, None]] = {}

    def __contains__(self, read: Hashable) -> bool:
        return read in self._of

    def of(self, read: Hashable) -> Collection[Unit]:
        """The readers, in the order in which they began to read."""
        return self._of.get(read, ())

    def add(self, reads: Iterable[Hashable], unit: Unit) -> None:
        """A Unit reads all this."""
        of = self._of
        for read in reads:
            found = of.get(read)
            if found is None:
                of[read] = (unit,)
            elif isinstance(found, dict):
                found[unit] = None
            elif unit not in found:
                of[read] = (*found, unit) if len(found) < self._FEW else dict.fromkeys((*found, unit))

    def remove(self, read: Hashable, unit: Unit) -> None:
        """A Unit does not read this any more."""
        found = self._of.get(read, ())
        if isinstance(found, dict):
            found.pop(unit, None)
            if len(found) < self._FEW:
                self._of[read] = tuple(found)
        elif left := tuple(each for each in found if each != unit):
            self._of[read] = left
        else:
            self._of.pop(read, None)


class Recorder:
    """The reader that is passed to a running Unit (`xds.kube.world.Reader`): it returns values, and records what was read."""

    __slots__ = ("_values", "problems", "seen")

    def __init__(self, values: Values) -> None:
        self._values = values
        self.seen: dict[Hashable, None] = {}
        self.problems: list[Problem] | None = None

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key."""
        self.seen[key] = None
        return self._values.lookup(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of another Unit."""
        unit = Unit(function, arguments)
        self.seen[unit] = None
        value: T = self._values.value(unit)
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
        self.problems: dict[Unit, tuple[Problem, ...]] = {}
        self.faults: dict[Unit, Fault] = {}
        self._standing: Counter[Problem] = Counter()  # how many Units report it
        self._moved: set[Problem] = set()  # what may have appeared or disappeared since `problem_changes` was called
        self._revision = 0
        self._memos: dict[Unit, _Memo] = {}
        self._readers = _Readers()
        self._kept: Counter[Unit] = Counter()  # how many times each was kept and not released
        self._running: list[Recorder] = []  # of the Units that run now, each read by the one before

    def __len__(self) -> int:
        return len(self._memos)

    def keep(self, unit: Unit) -> None:
        """Keep the memo of this Unit until it is released as often. A memo is evicted when its Unit is neither kept nor read."""
        self._kept[unit] += 1

    def release(self, unit: Unit) -> None:
        """The opposite of `keep`."""
        self._kept[unit] -= 1
        if not self._kept[unit]:
            del self._kept[unit]
            self._forget_if_unread(unit)

    def stale_kept(self, keys: Iterable[Key]) -> set[Unit]:
        """Mark all that depends on these keys, which have changed. Returns the kept Units among it: their values may have changed."""
        self._revision += 1
        found: set[Unit] = set()
        work: list[Unit] = []
        for key in keys:
            for unit in self._readers.of(key):
                memo = self._memos[unit]
                if memo.state == FRESH:
                    work.append(unit)
                memo.state = STALE
        while work:  # a memo that is not FRESH was marked before, and so were all its readers
            unit = work.pop()
            if unit in self._kept:
                found.add(unit)
            for reader in self._readers.of(unit):
                memo = self._memos[reader]
                if memo.state == FRESH:
                    memo.state = DOUBTFUL
                    work.append(reader)
        return found

    def value(self, unit: Unit) -> Any:
        """The value, brought up to date."""
        memo = self._memos.get(unit)
        if memo is None:
            memo = self._memos[unit] = _Memo(unit)
        if memo.state == DOUBTFUL and not self._a_read_changed(memo):
            memo.state, memo.verified = FRESH, self._revision
        if memo.state != FRESH:
            self._run(unit, memo)
        return memo.value

    def known(self, unit: Unit) -> tuple[Any] | None:
        """The value of a Unit, if it need not run for it; else None."""
        memo = self._memos.get(unit)
        return (memo.value,) if memo is not None and memo.state == FRESH else None

    def depending(self, keys: Iterable[Key]) -> set[Unit]:
        """All Units that have read one of these keys, directly or not."""
        found: set[Unit] = set()
        work: list[Hashable] = list(keys)
        while work:
            readers = {*self._readers.of(work.pop())} - found
            found |= readers
            work.extend(readers)
        return found

    def reports(self, problem: Problem) -> bool:
        """Whether a Unit reports this Problem now."""
        return problem in self._standing

    def problem_changes(self) -> dict[Problem, bool]:
        """The Problems that may have appeared (True) or disappeared (False) since the last call."""
        moved, self._moved = self._moved, set()
        return {problem: problem in self._standing for problem in moved}

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

    def _a_read_changed(self, memo: _Memo) -> bool:
        """Whether a value that a DOUBTFUL Unit read has changed. It read no changed key, else it would be STALE.

        In the order of reading: what was read later may have been read because of a value that is another one now, and must not run.
        """
        for read in memo.reads:
            if isinstance(read, Unit):
                self.value(read)
                if self._memos[read].changed > memo.verified:
                    return True
        return False

    def _run(self, unit: Unit, memo: _Memo) -> None:
        self.runs += 1
        recorder = Recorder(self)
        self._running.append(recorder)
        try:
            value = self._call(unit, recorder)
        finally:
            self._running.pop()
        before, memo.reads = memo.reads, self._kept_ones(recorder.seen)
        self._readers.add(memo.reads, memo.unit)
        for read in before:
            if read not in recorder.seen:
                self._drop_reader(read, unit)
        self._report(unit, recorder.problems or ())
        if memo.changed < 0 or value != memo.value:
            memo.value, memo.changed = value, self._revision
        memo.state, memo.verified = FRESH, self._revision

    def _kept_ones(self, reads: Iterable[Hashable]) -> tuple[Hashable, ...]:
        """Of equal Units the object that is kept."""
        memos = self._memos
        return tuple([memos[read].unit if type(read) is Unit else read for read in reads])

    def _call(self, unit: Unit, recorder: Recorder) -> Any:
        try:
            value = unit.function(recorder, *unit.arguments)
        except Exception:  # noqa: BLE001 - one object that we cannot cope with must not stop the others
            self.faults[unit] = Fault(unit, traceback.format_exc())
            return None
        self.faults.pop(unit, None)
        return value

    def _drop_reader(self, read: Hashable, unit: Unit) -> None:
        self._readers.remove(read, unit)
        if isinstance(read, Unit) and read not in self._readers:
            self._forget_if_unread(read)

    def _forget_if_unread(self, unit: Unit) -> None:
        if unit in self._kept or unit in self._readers or any(unit in recorder.seen for recorder in self._running):
            return  # a Unit that runs becomes a reader of what it has read when it is done
        if unit in self._memos:
            memo = self._memos.pop(unit)
            self._report(unit, ())
            self.faults.pop(unit, None)
            for read in memo.reads:
                self._drop_reader(read, unit)
