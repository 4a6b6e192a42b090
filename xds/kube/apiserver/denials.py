"""Which answers "403 Forbidden" are to be believed.

An API server that has just started says 403 to everybody, until it has read its roles. What belongs here: telling that from a role that
lacks something. What does not: asking again, and what to do without the right. (A Reflector, which has pauses of its own, follows the same
rule: R7.)
"""

from __future__ import annotations

from xds.kube.apiserver.reflector import CONFIRMATIONS


class Denials:
    """Counts them by place, such as a namespace. A 403 is believed when it is the third in a row there, `least` seconds after the first.

    Once one is believed, all are, until something is allowed again anywhere: a role that allows nothing is not doubted namespace by
    namespace.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._rows: dict[str, tuple[float, int]] = {}
        self._nothing_is_allowed = False

    def denied(self, place: str, now: float) -> bool:
        """There was a 403; returns whether to believe it. `now` is any steady clock."""
        since, times = self._rows.get(place, (now, 0))
        self._rows[place] = since, times + 1
        is_confirmed = times + 1 >= CONFIRMATIONS and now - since >= self._least
        self._nothing_is_allowed |= is_confirmed
        return is_confirmed or self._nothing_is_allowed

    def allowed(self, place: str) -> None:
        """There was another answer."""
        self._rows.pop(place, None)
        self._nothing_is_allowed = False
