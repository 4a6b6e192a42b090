"""What a Source of objects is, and what it tells.

What belongs here: the words between a Source and who takes its objects over. What does not: a Source (`xds.kube.manifests`,
`xds.kube.apiserver.apiserver`), and keeping objects (`xds.kube.world`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from xds.kube.objects import Object, ref
from xds.problem import Problem, Ref


@dataclass(frozen=True, slots=True)
class Change:
    """What is different from the last Change: objects that are new or other, objects that are gone, and Problems.

    `problems` has where they were found (a file's name, an object, a request) → all Problems there now, for each place whose Problems are
    other than before; () where there are none any more. A Change without anything is false.
    """

    put: tuple[Object, ...] = ()
    drop: tuple[Ref, ...] = ()
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.put or self.drop or self.problems)


class Batch:
    """Changes that are taken together: of each object and each place only the last word counts. What came and went is dropped, too."""

    def __init__(self) -> None:
        self._objects: dict[Ref, Object | None] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    def put(self, item: Object) -> None:
        """An object is new, or other than before."""
        self._objects[ref(item)] = item

    def drop(self, which: Ref) -> None:
        """An object is gone."""
        self._objects[which] = None

    def report(self, where: str, *problems: Problem) -> None:
        """All Problems in this place now."""
        self._problems[where] = problems

    def add(self, change: Change) -> None:
        """What came after all that is in here."""
        for which in change.drop:
            self.drop(which)
        for item in change.put:
            self.put(item)
        self._problems.update(change.problems)

    def take(self) -> Change:
        """All of it; the batch is empty afterwards."""
        objects, self._objects = self._objects, {}
        problems, self._problems = self._problems, {}
        put = tuple([item for item in objects.values() if item is not None])
        return Change(put, tuple([which for which, item in objects.items() if item is None]), problems)


class Source(Protocol):
    """Where objects come from."""

    def changes(self) -> AsyncGenerator[Change]:
        """First everything, once it is known as a whole, then what changes. Raises `xds.config.Failure` where nothing can be had.

        After it has raised something it may be called again: the first Change has what is different since then.
        """

    def waiting(self) -> list[str]:
        """What the first Change still waits for, as sentences; none once it is there."""

    def staleness(self, now: float) -> Mapping[str, float]:
        """Kind → seconds since the last word about it; `now` as `time.monotonic` tells it. Empty where a Source is never out of date."""

    async def close(self) -> None:
        """Let go of what it holds, once nobody waits for changes any more."""
