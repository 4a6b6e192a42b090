"""What a Source of objects is, and what it yields.

What belongs here: the types between a Source and the publisher. What does not: a Source (`xds.kube.manifests`,
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
    """The difference to the last Change: new and changed objects (`put`), deleted ones (`drop`), and Problems.

    `problems` maps a place (the name of a file, an object, a request) to all of its present Problems. It has the places whose Problems
    have changed; an empty tuple means that there are none any more. An empty Change is false.
    """

    put: tuple[Object, ...] = ()
    drop: tuple[Ref, ...] = ()
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.put or self.drop or self.problems)


class Batch:
    """Joins Changes. Of each object and each place only the last state counts. An object that came and went is dropped as well."""

    def __init__(self) -> None:
        self._objects: dict[Ref, Object | None] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    def __len__(self) -> int:
        """Of how many objects."""
        return len(self._objects)

    def put(self, item: Object) -> None:
        """An object is new, or has changed."""
        self._objects[ref(item)] = item

    def drop(self, which: Ref) -> None:
        """An object was deleted."""
        self._objects[which] = None

    def report(self, where: str, *problems: Problem) -> None:
        """All present Problems of a place."""
        self._problems[where] = problems

    def add(self, change: Change) -> None:
        """Add a later Change."""
        for which in change.drop:
            self.drop(which)
        for item in change.put:
            self.put(item)
        self._problems.update(change.problems)

    def take(self) -> Change:
        """Return the joined Change, and start an empty one."""
        objects, self._objects = self._objects, {}
        problems, self._problems = self._problems, {}
        put = tuple([item for item in objects.values() if item is not None])
        return Change(put, tuple([which for which, item in objects.items() if item is None]), problems)


class Source(Protocol):
    """Where objects come from."""

    def changes(self) -> AsyncGenerator[Change]:
        """First everything, once it is complete, then each change. Raises `xds.config.Failure` where the Source can never work.

        After an exception it may be called again. Then the first Change has the difference to the last one.
        """

    def waiting(self) -> list[str]:
        """What the first Change still waits for, as sentences. None after it."""

    def staleness(self, now: float) -> Mapping[str, float]:
        """Kind → seconds since the last response about it. `now` is a time of time.monotonic. Empty where nothing can be out of date."""

    async def close(self) -> None:
        """Release all resources, after `changes` has ended."""
