"""Which Problems there are now: the metrics count them, the log has each once when it appears and once when it is gone.

What does not belong here: finding them. They come from the Units (`xds.units`), from the Source, from the coordination, and from the
quarantine.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from xds import logs
from xds.problem import Problem, Ref, Severity
from xds.web.problems import Problems

_log = logging.getLogger("xds")
_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.NOTE: logging.DEBUG}
_STEP = 200
"""Problems that are counted and logged in one step: some milliseconds."""
_EACH = 100
"""Problems of one object that are logged one by one when they appear, or disappear, together."""


def in_order(changes: Mapping[Problem, bool]) -> dict[Problem, bool]:
    """The same changes, sorted by object and field: of ten thousand Problems 40 ms."""
    return {problem: changes[problem] for problem in sorted(changes, key=lambda p: (p.about, p.field, p.code))}


class Notices:
    """All Problems, in `current`; of those that no Unit reports, by place: a file, a kind that is forbidden, what Envoy rejects."""

    def __init__(self, current: Problems) -> None:
        self._current = current
        self._places: dict[str, tuple[Problem, ...]] = {}

    def replace(self, place: str, problems: tuple[Problem, ...]) -> None:
        """These are all Problems of a place now."""
        before = self._places.get(place, ())
        self._places[place] = problems
        self.update(dict.fromkeys(before, False) | dict.fromkeys(problems, True))

    def at(self, place: str) -> tuple[Problem, ...]:
        """The Problems of a place."""
        return self._places.get(place, ())

    def of_places(self) -> Iterable[Problem]:
        """The Problems of all places."""
        return (problem for problems in self._places.values() for problem in problems)

    def update(self, changes: Mapping[Problem, bool]) -> None:
        """These have appeared (true) or disappeared. One that a place still has stays.

        Of one object no more than `_EACH` are logged one by one: its author must not fill the log.
        """
        for _ in self.updating(in_order(changes)):
            pass

    def updating(self, changes: Mapping[Problem, bool]) -> Iterator[None]:
        """The same for changes that are `in_order`, in steps of `_STEP` Problems, between which others may run."""
        counts: Counter[tuple[Ref, bool]] = Counter()
        ordered = list(changes)
        for at in range(0, len(ordered), _STEP):
            elsewhere = set(self.of_places())
            for problem in ordered[at : at + _STEP]:
                self._take(problem, changes[problem] or problem in elsewhere, counts)
            yield
        for (about, stands), count in counts.items():
            if count > _EACH:
                _log.warning("%s%s: %d more Problems", "" if stands else "no longer: ", about, count - _EACH)

    def _take(self, problem: Problem, stands: bool, counts: Counter[tuple[Ref, bool]]) -> None:
        if stands == (problem in self._current):
            return
        counts[problem.about, stands] += 1
        (self._current.add if stands else self._current.discard)(problem)
        if counts[problem.about, stands] > _EACH:
            return
        if stands:
            _log.log(_LEVELS[problem.severity], "%s", problem, extra=logs.of_problem(problem))
        else:
            _log.info("no longer: %s", problem, extra=logs.of_problem(problem))
