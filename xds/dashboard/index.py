"""All paths of all hosts, to be searched: made in small pieces at a request, and kept until something has changed.

What belongs here: the rows and how old they may be. What does not: whose a path is (`xds.explain.owners`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from xds.dashboard.subject import Displayed
from xds.explain.owners import OwnedPath
from xds.problem import Problem, Ref, Severity

_AT_ONCE = 0.002
"""Seconds for which rows are made before other tasks get a turn."""
_HOSTS = 1_000
"""More than that time is enough for."""
_REST = 10
"""An index is used for so many times the time that it took, whatever changes: so it takes a tenth of a core at most."""
MOST_WORDS = 8
"""Words of a search."""


@dataclass(frozen=True)
class Listing:
    """All rows at one moment, sorted by host; and all Problems, errors first. `worst` has the worst of each object."""

    rows: Sequence[OwnedPath]
    problems: Sequence[Problem]
    worst: Mapping[Ref, Severity]

    @cached_property
    def hosts(self) -> int:
        """How many hosts the rows have."""
        return len({row.host for row in self.rows})

    @cached_property
    def _texts(self) -> Sequence[str]:
        """Where the words of a search are looked for in each row."""
        return [f"{r.host}{r.path} {r.owner.namespace}/{r.owner.name} {r.backend} {r.name_of}".lower() for r in self.rows]

    def found(self, search: str, *, only: str = "") -> Sequence[OwnedPath]:
        """The rows that have every word of a search. `only` narrows that: "problems" to those whose owner, or who else wants the path, has
        an error or a warning; "contested" to those that others claim as well."""
        words, rows = search.lower().split()[:MOST_WORDS], self.rows
        if words:
            rows = [row for row, text in zip(rows, self._texts, strict=True) if all(word in text for word in words)]
        if only == "problems":
            return [row for row in rows if self.severity(row) in (Severity.ERROR, Severity.WARNING)]
        return [row for row in rows if row.others] if only == "contested" else rows

    def severity(self, row: OwnedPath) -> Severity | None:
        """How bad the worst Problem is of those who want the path."""
        found = [self.worst[about] for about in (row.owner, *row.others, *row.canaries) if about in self.worst]
        return min(found, key=lambda severity: severity.rank, default=None)

    def problems_with(self, search: str, *, only: str = "") -> Sequence[Problem]:
        """The Problems that have every word of a search, of the one severity that is named or of all."""
        words = search.lower().split()[:MOST_WORDS]
        some = [p for p in self.problems if p.severity.value == only] if only else self.problems
        return [p for p in some if all(word in f"{p.about} {p.field} {p.sentence}".lower() for word in words)] if words else some


class Index:
    """The Listing of a control plane."""

    def __init__(self, subject: Displayed) -> None:
        self._subject = subject
        self._turn = asyncio.Lock()
        self._listing = Listing((), (), {})
        self._steps = -1
        self._until = 0.0

    async def listing(self) -> Listing:
        """The present one, or one of a moment ago."""
        async with self._turn:
            if self._steps != self._subject.steps and time.monotonic() >= self._until:
                begun, steps = time.monotonic(), self._subject.steps
                self._listing = await self._make()
                now = time.monotonic()
                self._steps, self._until = steps, now + _REST * (now - begun)
            return self._listing

    async def _make(self) -> Listing:
        problems = sorted(await self._subject.problems(), key=lambda p: p.severity.rank)
        rows: list[OwnedPath] = []
        hosts, done = await self._subject.hosts(), 0
        while done < len(hosts):
            more, of = await self._subject.owned_paths(hosts[done : done + _HOSTS], _AT_ONCE)
            rows += more
            done += of
            await asyncio.sleep(0)
        return Listing(rows, problems, dict(_worst(problems)))


def _worst(problems: Iterable[Problem]) -> Iterator[tuple[Ref, Severity]]:
    """Errors come first, so from the end the last one counts."""
    return ((problem.about, problem.severity) for problem in reversed(list(problems)))
