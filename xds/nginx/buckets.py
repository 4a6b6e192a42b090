"""The buckets of tokens by which requests are counted (nginx: limit_req), and the shapes that they come in.

nginx lets a client send `rate × multiplier + 1` requests at once, and one more for each 1/rate of a second or minute. That is a bucket of
tokens. Buckets in a route would start anew at each change of the route table. So one filter of the listener has them all, and nothing in it
depends on an annotation. Its buckets have one *shape* each: for how many seconds tokens flow into an empty one. What a request takes out is
written in its route: `speed / rate` tokens. So one shape serves all rates that want as many seconds.

A limit wants `multiplier + 1/rate` seconds or minutes. A shape with up to 1/rate more lets as many whole requests pass at once. So for each
multiplier there is a shape for a rate of 1, for those below 4, below 8, and so on to 64; for higher rates the last one is near enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

NOTE = "limit_"
"""What the names of notes about limits begin with."""
WHO = ("envoy.filters.http.rbac", f"{NOTE}shadow_effective_policy_id")
"""Namespace and key in the metadata of a request of the Ingress as part of which it is counted; absent if it is not."""
MULTIPLIERS = (1, 2, 3, 5, 10)
"""Those whose bursts are as nginx has them."""
_PARTS = (1, 2, 4, 8, 16, 32)
_BEYOND = ((15, 1), (20, 1))
"""Multipliers, and the part of a second or minute beyond them: all are in each filter chain of the listeners, so there are few of them."""
_SLACK = 100
"""Tokens in a bucket beyond those that are needed, since Envoy counts time in seconds of 64-bit floating point."""


@dataclass(frozen=True, slots=True)
class RateUnit:
    """A unit of rates, in seconds: `speed` tokens flow into each of its buckets in a second."""

    name: str
    seconds: int
    speed: int


RPS, RPM = RateUnit("rps", 1, 3_000_000), RateUnit("rpm", 60, 3_400_000)
"""Envoy asks the bucket with the lower speed first: what is refused by the second takes nothing from the minute."""
UNITS = (RPS, RPM)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a request costs in a bucket of this shape; `per` is the name of the unit."""

    per: str
    shape: str
    cost: int


@cache
def shapes(unit: RateUnit) -> Mapping[str, int]:
    """The shapes of a unit: name → tokens that fit in."""
    parts = (*((multiplier, part) for multiplier in MULTIPLIERS for part in _PARTS), *_BEYOND)
    return {f"{m}+1/{part}": int(unit.speed * unit.seconds * (m + 1 / part)) + _SLACK for m, part in parts}


@lru_cache(maxsize=1024)
def limit(unit: RateUnit, rate: int, multiplier: int) -> Limit:
    """The shape in which as many requests fit as nginx lets pass at once, or nearly so."""
    cost = max(1, unit.speed * unit.seconds // rate)
    wanted = rate * multiplier + 1
    name, _ = min(shapes(unit).items(), key=lambda shape: (abs(shape[1] // cost - wanted), shape[1]))
    return Limit(unit.name, name, cost)
