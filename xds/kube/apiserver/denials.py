"""Which responses "403 Forbidden" to believe.

An API server that has just started responds with 403 to every client, until it has read its roles. What belongs here: the difference to
a role that lacks a verb. What does not: retries, and the consequences. (A Reflector has its own backoff, and follows the same rule:
R7.)
"""

from __future__ import annotations

from xds.kube.apiserver.reflector import CONFIRMATIONS


class Denials:
    """Counts 403 by place, such as a namespace. The third in a row is believed, if it comes `least` seconds after the first.

    Once one is believed, all are, until any request is allowed again. Otherwise a role that allows nothing would take that time in each
    namespace.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._rows: dict[str, tuple[float, int]] = {}
        self._nothing_is_allowed = False

    def denied(self, place: str, now: float) -> bool:
        """A 403 has come. Returns whether to believe it. `now` is any steady clock."""
        since, times = self._rows.get(place, (now, 0))
        self._rows[place] = since, times + 1
        is_confirmed = times + 1 >= CONFIRMATIONS and now - since >= self._least
        self._nothing_is_allowed |= is_confirmed
        return is_confirmed or self._nothing_is_allowed

    def allowed(self, place: str) -> None:
        """Another response has come."""
        self._rows.pop(place, None)
        self._nothing_is_allowed = False
