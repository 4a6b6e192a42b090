"""Which Problems stand, and telling the log of each once when it comes and once when it goes.

What does not belong here: finding them. They come from the Units (`xds.units`), from the Source, from what reports and shares, and from the
quarantine.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from xds import logs
from xds.problem import Problem, Ref, Severity
from xds.web.problems import Problems

_log = logging.getLogger("xds")
_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.NOTE: logging.DEBUG}
_EACH = 100
"""Problems of one object that are logged one by one when they come, or go, together."""


class Notices:
    """The Problems of places that are no Unit's: a file, a kind that is forbidden, reporting itself, what Envoy refuses."""

    def __init__(self, standing: Problems) -> None:
        self._standing = standing
        self._places: dict[str, tuple[Problem, ...]] = {}

    def hear(self, place: str, problems: tuple[Problem, ...]) -> None:
        """All Problems of a place now."""
        before = self._places.get(place, ())
        self._places[place] = problems
        self.tell(dict.fromkeys(before, False) | dict.fromkeys(problems, True))

    def at(self, place: str) -> tuple[Problem, ...]:
        """The Problems of a place."""
        return self._places.get(place, ())

    def elsewhere(self) -> Iterable[Problem]:
        """The Problems of all places."""
        return (problem for problems in self._places.values() for problem in problems)

    def tell(self, moved: Mapping[Problem, bool]) -> None:
        """These have come (true) or gone. Of one object no more than `_EACH` are told one by one: its author must not fill the log."""
        of_places = set(self.elsewhere())
        told: Counter[tuple[Ref, bool]] = Counter()
        for problem in sorted(moved, key=lambda p: (p.about, p.field, p.code)):
            stands = moved[problem] or problem in of_places
            if stands == (problem in self._standing):
                continue
            told[problem.about, stands] += 1
            (self._standing.add if stands else self._standing.discard)(problem)
            if told[problem.about, stands] > _EACH:
                continue
            if stands:
                _log.log(_LEVELS[problem.severity], "%s", problem, extra=logs.of_problem(problem))
            else:
                _log.info("no longer: %s", problem, extra=logs.of_problem(problem))
        for (about, stands), count in told.items():
            if count > _EACH:
                _log.warning("%s%s: %d more Problems", "" if stands else "no longer: ", about, count - _EACH)
