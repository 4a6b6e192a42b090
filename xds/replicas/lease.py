"""Leader election: one candidate for a Lease (coordination.k8s.io/v1), without IO.

An Elector is a state machine, as client-go's: `next(now)` returns what to do (read the Lease, take it, wait). The caller does it, and
reports the result by `found`, `taken`, `conflict` or `failed`. `now` is any steady clock. The times in a Lease are for people, and to
detect that it has changed.

Two replicas never both believe that they lead, however long requests take, and whichever responses are lost:

E1  A leader trusts the Lease for `TRUST` of its duration, counted from before the request that took or renewed it.
E2  Another candidate waits for the whole duration, counted from after it saw the last change. Clocks of two replicas are never compared.
E3  The Lease is replaced only in the version that was read, or created only where there is none. So of two candidates, one succeeds.

A leader that crashes is replaced within `ttl`. The Lease lasts two thirds of it. The candidates read the Lease often enough to see its last
renewal within one sixth, and the rest is for the requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TRUST = 0.75
"""The part of the duration for which a leader trusts the Lease. Its last writes have the rest of the time to arrive."""
SHORTEST = 3
"""The shortest duration of a Lease in seconds, so that there is time to renew it."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of a Lease: its holder ("" for none), its duration, when it was taken and renewed, and how often the holder changed."""

    holder: str
    seconds: int
    acquired: str
    renewed: str
    transitions: int


@dataclass(frozen=True, slots=True)
class Look:
    """Read the Lease."""


@dataclass(frozen=True, slots=True)
class Take:
    """Write the Lease: replace the one of this `version`, or create it (""). Where `acquired` is "", the time of writing is used."""

    holder: str
    seconds: int
    acquired: str
    transitions: int
    version: str


@dataclass(frozen=True, slots=True)
class Idle:
    """Do nothing for so many seconds."""

    seconds: float


class Elector:
    """One candidate. `ttl` is the longest time in seconds until a crashed leader is replaced. `chance` returns numbers from 0 to 1."""

    def __init__(self, identity: str, ttl: float, chance: Callable[[], float]) -> None:
        self.identity = identity
        self.seconds = max(SHORTEST, int(ttl * 2 / 3))
        self.pause = self.seconds / 4
        """Seconds between two renewals, and between two reads. Also the timeout of a request."""
        self._chance = chance
        self._record: LeaseRecord | None = None
        self._version = ""
        self._seen = -math.inf
        self._is_up_to_date = False
        self._asked = -math.inf
        self._sent = -math.inf
        self._not_before = -math.inf
        self.trusted_until = -math.inf
        """The end of our leadership, as known now."""

    def is_leader(self, now: float) -> bool:
        """Whether this candidate leads, so that no other may (E1)."""
        return now < self.trusted_until

    def next(self, now: float) -> Look | Take | Idle:
        """What to do now."""
        if now < self._not_before:
            return Idle(min(self._not_before, self.trusted_until if self.is_leader(now) else math.inf) - now)
        self._asked = now
        if not self._is_up_to_date:
            return Look()
        self._sent = now
        held = self._record if self._record and self._record.holder == self.identity else None
        if held:
            return Take(self.identity, self.seconds, held.acquired, held.transitions, self._version)
        return Take(self.identity, self.seconds, "", self._record.transitions + 1 if self._record else 0, self._version)

    def found(self, record: LeaseRecord | None, version: str, now: float) -> None:
        """The response to Look: the content of the Lease, and its resourceVersion. None and "" where there is no Lease."""
        if record != self._record:
            self._seen = now  # the wait of E2 starts again: its holder has just renewed it
        self._record, self._version = record, version
        # Our own name may be there although no response confirmed it: then the next Take renews it.
        if record is None or record.holder in ("", self.identity) or now >= self._free_at(record):
            self._is_up_to_date = True
            self._not_before = now
            return
        self.trusted_until = -math.inf
        self._not_before = min(now + self._jittered(), self._free_at(record))

    def taken(self, record: LeaseRecord, version: str, now: float) -> None:
        """The response to Take: the Lease as written."""
        self._record, self._version, self._seen = record, version, now
        self.trusted_until = self._sent + self.seconds * TRUST  # not `now`: the API server may have written it long ago
        self._not_before = now + self._jittered()

    def conflict(self, now: float) -> None:
        """Take failed: the Lease has changed since it was read."""
        self._is_up_to_date = False
        self._not_before = now + self._jittered() / 4

    def failed(self, now: float) -> None:
        """There was no usable response. Whether the Lease was written is unknown.

        The wait counts from the request: after a timeout, the next request is sent at once, on another connection.
        """
        self._is_up_to_date = False
        self._not_before = max(now, self._asked + self._jittered())

    def release(self, now: float) -> Take | None:
        """At the end: the write that lets another candidate lead at once. None where this one does not lead."""
        if not self.is_leader(now) or self._record is None:
            return None
        self.trusted_until = -math.inf
        return Take("", 1, "", self._record.transitions, self._version)

    def _free_at(self, record: LeaseRecord) -> float:
        """When another candidate may take the Lease (E2)."""
        return self._seen + (record.seconds if record.seconds > 0 else self.seconds)

    def _jittered(self) -> float:
        return self.pause * (0.5 + self._chance() / 2)
