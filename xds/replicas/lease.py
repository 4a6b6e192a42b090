"""Which replica writes: a candidate for a Lease (coordination.k8s.io/v1), without the API server and without a clock.

An Elector is a machine, as client-go's: `next(now)` says what to do (look at the Lease, take it, wait), and who does it tells what came
of it: `found`, `taken`, `conflict` or `failed`. `now` is any steady clock; the times in a Lease are for people, and for seeing that it
changed.

Two replicas never both believe that they lead, however long requests take and whichever answers are lost, because:

E1  Who takes or renews the Lease believes in it for `TRUST` of its duration, counted from before the request was sent.
E2  Who finds another holder waits the whole duration, counted from after the change was seen. Clocks are never compared.
E3  The Lease is replaced only in the version that was looked at (or created only where there is none): of two who try, one gets it.

And a leader that falls silent is replaced within `ttl`: whoever waits looks often enough to see its last sign of life in the first sixth,
and the Lease lasts two thirds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TRUST = 0.75
"""The part of the duration that a leader trusts in; what is on its way when it ends has the rest of the time to arrive."""
SHORTEST = 3
"""Seconds that a Lease lasts at least, so that there is time to renew it."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says: its holder ("" for nobody), how long it lasts, when it was taken and renewed, how often it changed hands."""

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
    """Write the Lease: replace the one of this `version`, or create it ("").

    `renewed` is the time of writing, and so is `acquired` where it is "" here.
    """

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
    """One candidate. `ttl` is how long a leader that falls silent stays one, at most, in seconds; `chance` gives numbers from 0 to 1."""

    def __init__(self, identity: str, ttl: float, chance: Callable[[], float]) -> None:
        self.identity = identity
        self.seconds = max(SHORTEST, int(ttl * 2 / 3))
        self.pause = self.seconds / 4
        """Between two renewals, and between two looks; also how long an answer is waited for."""
        self._chance = chance
        self._record: LeaseRecord | None = None
        self._version = ""
        self._seen = -math.inf
        self._is_up_to_date = False
        self._asked = -math.inf
        self._sent = -math.inf
        self._not_before = -math.inf
        self.trusted_until = -math.inf
        """Until then we lead, as far as we know now."""

    def is_leader(self, now: float) -> bool:
        """Whether nobody else may lead now (E1)."""
        return now < self.trusted_until

    def next(self, now: float) -> Look | Take | Idle:
        """What is to be done now."""
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
        """The answer to Look: what the Lease says, in which version; None and "" where there is none."""
        if record != self._record:
            self._seen = now
        self._record, self._version = record, version
        if record is None or record.holder in ("", self.identity) or now >= self._free_at(record):
            self._is_up_to_date = True
            self._not_before = now
            return
        self.trusted_until = -math.inf
        self._not_before = min(now + self._jittered(), self._free_at(record))

    def taken(self, record: LeaseRecord, version: str, now: float) -> None:
        """The answer to Take: the Lease as it is now."""
        self._record, self._version, self._seen = record, version, now
        self.trusted_until = self._sent + self.seconds * TRUST
        self._not_before = now + self._jittered()

    def conflict(self, now: float) -> None:
        """Take came too late: the Lease is another one by now."""
        self._is_up_to_date = False
        self._not_before = now + self._jittered() / 4

    def failed(self, now: float) -> None:
        """There was no answer, or none that can be used; whether the Lease was written is unknown.

        The pause counts from the request: who has waited for its answer in vain asks again at once, on another connection.
        """
        self._is_up_to_date = False
        self._not_before = max(now, self._asked + self._jittered())

    def release(self, now: float) -> Take | None:
        """At the end: what lets somebody else take over at once; None where we do not lead."""
        if not self.is_leader(now) or self._record is None:
            return None
        self.trusted_until = -math.inf
        return Take("", 1, "", self._record.transitions, self._version)

    def _free_at(self, record: LeaseRecord) -> float:
        """When somebody else may take it (E2)."""
        return self._seen + (record.seconds if record.seconds > 0 else self.seconds)

    def _jittered(self) -> float:
        return self.pause * (0.5 + self._chance() / 2)
