"""A request to both sides, and how many requests are shared out among those who wrote objects. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from xds.explain.route_of import HttpRequest, MatchedRoute
from xds.model import Share, Via
from xds.problem import Ref

T = TypeVar("T")


class Why(Enum):
    """What a request is for."""

    RULE = "rule"
    """It was derived from a rule, which answers it."""
    BESIDE = "beside"
    """It was derived from a rule that must not answer it, such as /foobar for a Prefix /foo."""
    LOST = "lost"
    """It was derived from a rule that answers nothing here: another one has its path, it is left out, or its whole host is closed."""
    LOG = "log"
    """It was read from an access log."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request to both, and what answers it here: the virtual host, the Ingress and its rule.

    `target` is the path and query as they are sent, `headers` are those beside Host, by names in lower case. `derived_from` is the Ingress
    and the rule that it was derived from, if it was. `by_chance`: a part of such requests has another answer, by chance.
    """

    why: Why
    method: str
    via: Via
    host: str
    target: str
    headers: tuple[tuple[str, str], ...]
    origin: Ref | None
    rule: str
    served_by: str
    derived_from: tuple[Ref, str] | None = None
    by_chance: bool = False

    @property
    def sent(self) -> tuple[str, Via, str, str, tuple[tuple[str, str], ...]]:
        """All that is sent."""
        return self.method, self.via, self.host, self.target, self.headers

    @property
    def url(self) -> str:
        """As people write it."""
        return f"{self.via.value}://{self.host}{self.target}"


def inquiry(why: Why, request: HttpRequest, target: str, found: MatchedRoute, derived_from: tuple[Ref, str] | None = None) -> Inquiry:
    """The request with what answers it."""
    route = found.route
    return Inquiry(
        why,
        request.method,
        request.via,
        request.host,
        target,
        request.headers,
        route.origin,
        route.rule,
        found.host,
        derived_from,
        any(0 < _share(each.share) < 1 for each in found.shares),
    )


def _share(share: Share | None) -> float:
    return share.parts / share.of if share else 1.0


def in_turn(each: Iterable[Iterator[T]]) -> Iterator[T]:
    """One of each, then the next of each, until all are exhausted: where there is a bound, each has its part."""
    waiting = deque(each)
    while waiting:
        one = waiting.popleft()
        for found in one:
            yield found
            waiting.append(one)
            break


def spread(all_: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of a sequence, evenly spread, the first among them."""
    return all_ if len(all_) <= most else [all_[n * len(all_) // most] for n in range(most)]


def is_allowed(host: str, allow: Sequence[str]) -> bool:
    """Whether a host may be asked for: one of these names, or below one with a wildcard (`*.example.com`). Without names all may be."""
    return not allow or any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in map(str.lower, allow))
