"""Units: pure functions that remember what they read, so that a change costs what it touches.

A *Unit* is a function with its arguments. While it runs, each key of the World that it asks for is noted, and each other Unit whose
value it takes. `Build.touch` marks what may be out of date; `Build.value` runs again only what truly is, and where a new value equals
the old one, nothing above it runs. The same record tells whom to blame for a value (`Build.reads`).

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


class Failure(NamedTuple):
    """A Unit raised: a fault of ours. Its value counts as None until something that it read changes."""

    unit: Unit
    traceback: str


FRESH, DOUBTFUL, STALE = range(3)


class _Memo:
    __slots__ = ("changed", "ran", "reads", "state", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.reads: tuple[Hashable, ...] = ()  # keys and Units, in the order of first reading, each once
        self.state = STALE
        self.ran = -1  # the revision in which it was last known to be right
        self.changed = -1  # the revision in which its value last changed


class Recorder:
    """The reader that a running Unit is given (`xds.kube.world.Reader`)."""

    __slots__ = ("_build", "problems", "seen")

    def __init__(self, build: Build) -> None:
        self._build = build
        self.seen: dict[Hashable, None] = {}
        self.problems: list[Problem] | None = None

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key."""
        self.seen[key] = None
        return self._build.lookup(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of another Unit."""
        unit = Unit(function, arguments)
        self.seen[unit] = None
        value: T = self._build.value(unit)
        return value

    def report(self, problem: Problem) -> None:
        """A Problem that lasts as long as the value."""
        if self.problems is None:
            self.problems = []
        self.problems.append(problem)


class Build:
    """All Units that are needed, their values, and who reads what."""

    def __init__(self, lookup: Callable[[Key], Any]) -> None:
        self.lookup = lookup
        self.runs = 0
        self.problems: dict[Unit, tuple[Problem, ...]] = {}
        self.failures: dict[Unit, Failure] = {}
        self._standing: Counter[Problem] = Counter()  # how many Units say so
        self._moved: set[Problem] = set()  # what has come or gone since somebody asked
        self._revision = 0
        self._memos: dict[Unit, _Memo] = {}
        self._readers: dict[Hashable, dict[Unit, None]] = {}
        self._kept: Counter[Unit] = Counter()

    def __len__(self) -> int:
        return len(self._memos)

    def keep(self, unit: Unit) -> None:
        """This Unit's value is wanted from outside; without a reader and unkept it is forgotten."""
        self._kept[unit] += 1

    def release(self, unit: Unit) -> None:
        """The opposite of `keep`."""
        self._kept[unit] -= 1
        if not self._kept[unit]:
            del self._kept[unit]
            self._forget_if_unread(unit)

    def touch(self, keys: Iterable[Key]) -> set[Unit]:
        """These keys have changed: the kept Units whose values may have, too."""
        self._revision += 1
        found: set[Unit] = set()
        work: list[Unit] = []
        for key in keys:
            for unit in self._readers.get(key, ()):
                memo = self._memos[unit]
                if memo.state == FRESH:
                    work.append(unit)
                memo.state = STALE
        while work:
            unit = work.pop()
            if unit in self._kept:
                found.add(unit)
            for reader in self._readers.get(unit, ()):
                memo = self._memos[reader]
                if memo.state == FRESH:
                    memo.state = DOUBTFUL
                    work.append(reader)
        return found

    def value(self, unit: Unit) -> Any:
        """The value, brought up to date."""
        memo = self._memos.get(unit)
        if memo is None:
            memo = self._memos[unit] = _Memo()
        if memo.state == DOUBTFUL and not self._a_read_changed(memo):
            memo.state, memo.ran = FRESH, self._revision
        if memo.state != FRESH:
            self._run(unit, memo)
        return memo.value

    def reads(self, unit: Unit) -> frozenset[Key]:
        """All keys that this value was made from, directly or through other Units: blame and explain."""
        found: set[Key] = set()
        work: list[Unit] = [unit]
        seen: set[Unit] = set()
        while work:
            memo = self._memos.get(work.pop())
            for read in memo.reads if memo else ():
                if not isinstance(read, Unit):
                    found.add(read)  # type: ignore[arg-type]
                elif read not in seen:
                    seen.add(read)
                    work.append(read)
        return frozenset(found)

    def problem_changes(self) -> dict[Problem, bool]:
        """The Problems that have come (true) or gone since this was last asked; some may be as they were."""
        moved, self._moved = self._moved, set()
        return {problem: problem in self._standing for problem in moved}

    def _tell(self, unit: Unit, problems: Iterable[Problem]) -> None:
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
        for read in memo.reads:
            if isinstance(read, Unit):
                self.value(read)
                if self._memos[read].changed > memo.ran:
                    return True
        return False

    def _run(self, unit: Unit, memo: _Memo) -> None:
        self.runs += 1
        recorder = Recorder(self)
        value = self._call(unit, recorder)
        before, memo.reads = memo.reads, tuple(recorder.seen)
        for read in memo.reads:
            self._readers.setdefault(read, {})[unit] = None
        for read in before:
            if read not in recorder.seen:
                self._drop_reader(read, unit)
        self._tell(unit, recorder.problems or ())
        if memo.changed < 0 or value != memo.value:
            memo.value, memo.changed = value, self._revision
        memo.state, memo.ran = FRESH, self._revision

    def _call(self, unit: Unit, recorder: Recorder) -> Any:
        try:
            value = unit.function(recorder, *unit.arguments)
        except Exception:  # noqa: BLE001 - one object that we cannot cope with must not stop the others
            self.failures[unit] = Failure(unit, traceback.format_exc())
            return None
        self.failures.pop(unit, None)
        return value

    def _drop_reader(self, read: Hashable, unit: Unit) -> None:
        readers = self._readers[read]
        readers.pop(unit, None)
        if not readers:
            del self._readers[read]
            if isinstance(read, Unit):
                self._forget_if_unread(read)

    def _forget_if_unread(self, unit: Unit) -> None:
        if unit not in self._kept and unit not in self._readers and unit in self._memos:
            memo = self._memos.pop(unit)
            self._tell(unit, ())
            self.failures.pop(unit, None)
            for read in memo.reads:
                self._drop_reader(read, unit)
