"""What the tables are made of: the values of Units, by name or single, with what is held in their place.

What does not belong here: which values are wanted, which each table knows itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar, cast

from xds.kube.world import Reader
from xds.snapshot import Part, Resource
from xds.units.memo import Build, Unit
from xds.units.parts import Value, same
from xds.units.tables.holds import Holds
from xds.units.tables.update import Update

N = TypeVar("N", bound=Hashable)
V = TypeVar("V", bound=Value)


class Touched:
    """The kept Units that may be out of date. `weight` is about how many bytes are to be made again."""

    __slots__ = ("_arguments", "weight")

    def __init__(self, units: Iterable[Unit] = ()) -> None:
        self.weight = 0
        self._arguments: dict[object, set[Hashable]] = {}  # by function, the first of each
        for unit in units:
            self._arguments.setdefault(unit.function, set()).add(unit.arguments[0] if unit.arguments else None)

    def of(self, function: Callable[[Reader, N], object]) -> set[N]:
        """The names for which this function may give another value."""
        return cast("set[N]", self._arguments.get(function, set()))

    def has(self, function: Callable[[Reader], object]) -> bool:
        """Whether this function may give another value."""
        return function in self._arguments


class ValueChange(NamedTuple, Generic[N, V]):
    """A name of a table has another value; None where it has none."""

    name: N
    part: Part
    old: V | None
    new: V | None


class Table(Generic[N, V]):
    """Values by name, each that of a Unit; `want` counts by how many a name is needed. `part` returns what a name is to Envoy."""

    def __init__(
        self, build: Build, function: Callable[[Reader, N], V | None], type_url: str, part: Callable[[N], Part], holds: Holds
    ) -> None:
        self.values: dict[N, V] = {}
        self.part = part
        self._build = build
        self._function = function
        self._type_url = type_url
        self._holds = holds
        self._wanted: Counter[N] = Counter()
        self._new: set[N] = set()

    def want(self, more: Iterable[N], fewer: Iterable[N] = ()) -> None:
        """These are needed once more, those once less."""
        for name in more:
            self._wanted[name] += 1
            if self._wanted[name] == 1:
                self._build.keep(Unit(self._function, (name,)))
                self._new.add(name)
        for name in fewer:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name]
                self._build.release(Unit(self._function, (name,)))
                self._new.add(name)

    def wants(self, name: N) -> bool:
        """Whether it is needed."""
        return name in self._wanted

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self._new |= self.called(parts)

    def called(self, parts: Collection[Part]) -> set[N]:
        """The names of these Parts, as far as they are needed. Its cost grows with their number."""
        return {name for name in self._wanted if self.part(name) in parts} if self._has_type(parts) else set()

    def among(self, parts: Collection[Part]) -> dict[Part, V]:
        """The values of those of the Parts that are there. Costs what there is."""
        if not self._has_type(parts):
            return {}
        return {part: value for name, value in self.values.items() if (part := self.part(name)) in parts}

    def _has_type(self, parts: Iterable[Part]) -> bool:
        return any(part.type_url == self._type_url for part in parts)

    def refresh(self, touched: Touched) -> Iterator[ValueChange[N, V]]:
        """Bring up to date what was touched, newly wanted, or not any more; yields where values differ."""
        found = self._new | touched.of(self._function)
        self._new = set()
        parts = sorted(((self.part(name), name) for name in found), key=lambda pair: (pair[0], pair[1] in self._wanted))
        there = {part for part, name in parts if name in self._wanted}
        for part, name in parts:
            old = self.values.get(name)
            new = None
            if name in self._wanted:
                new = self._holds.effective(part, self._build.value(Unit(self._function, (name,))))
            elif part not in there:
                self._holds.effective(part, None)
            if new is None:
                self.values.pop(name, None)
            else:
                self.values[name] = new
            if old != new:
                yield ValueChange(name, part, old, new)


def publish(table: Table[N, bytes], touched: Touched, update: Update) -> list[tuple[N, bool]]:
    """Bring a table up to date whose values are whole resources; returns the names of those that changed, and whether they are there."""
    found = []
    for name, part, old, new in table.refresh(touched):
        update.add(part.type_url, part.resource, None if new is None else Resource.of(part.resource, new))
        update.move(part, old, new)
        found.append((name, new is not None))
    return found


class Single(Generic[V]):
    """The value of a Part that there is one of, that of a Unit without arguments. `value` is None before it was first made."""

    def __init__(self, build: Build, function: Callable[[Reader], V | None], part: Part, holds: Holds) -> None:
        self.value: V | None = None
        self.part = part
        self._build = build
        self._function = function
        self._holds = holds
        self._again = False
        build.keep(Unit(function, ()))

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self._again |= self.part in parts

    def is_due(self, touched: Touched) -> bool:
        """Whether it may be out of date, or is not there."""
        return self._again or self.value is None or touched.has(self._function)

    def among(self, parts: Collection[Part]) -> dict[Part, V]:
        """The value, if it is there and the Part among these."""
        return {self.part: self.value} if self.value is not None and self.part in parts else {}

    def refresh(self, update: Update) -> V | None:
        """Bring it up to date.

        None: the resource is gone, because Envoy has refused all there ever was of it; or our own code has failed (`Build.faults`), and
        then what is out there stays.
        """
        self._again = False
        old = self.value
        new: V | None = self._holds.effective(self.part, self._build.value(Unit(self._function, ())))
        if new is None and self.part in self._holds:
            self.value = None
            update.add(self.part.type_url, self.part.resource, None)
            update.move(self.part, old, None)
        elif new is not None:
            self.value = new
            if not same(old, new):
                update.move(self.part, old, new)
        return new
