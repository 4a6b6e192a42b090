"""Access rules and spellings: which paths of a host must match in every spelling, so that percent-encoding cannot bypass an access rule.

nginx compares a decoded and normalised path with its locations. Envoy compares one in which some escapes are left
(`xds.patterns.spelling`). Where all paths of a host have the same access rules, or none, the worst that this can cause is a 404. Where they
differ, a spelling that misses the path with the rule would reach another path without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xds.kube.world import Reader, settings
from xds.model import HeaderMatch, Location, PathKind, PathMatch, Respond, Route, Settings
from xds.nginx.registry import on_path, rules
from xds.patterns import regex, spelling
from xds.translate import paths
from xds.translate.claims import claims_of, is_plain, on_host, serving, settings_of, settings_on

Rules = tuple[tuple[str, object], ...]
_ESCAPED_RUN = HeaderMatch(":path", spelling.ESCAPED_RUN, regex=True)


@dataclass(frozen=True, slots=True)
class Guard:
    """The paths with access rules of a host on which not all rules are equal: percent-encoded; `above` has those that are prefixes."""

    guarded: frozenset[str]
    above: frozenset[str]

    def widened(self, match: PathMatch) -> PathMatch:
        """The match of a path on this host, in every spelling where that matters for a rule.

        It matters for a path with a rule; for a plain path below one, whose requests would otherwise go to it; and for a regular
        expression, which could match requests of another path.
        """
        if match.path == "/" and match.kind is not PathKind.EXACT:
            return match  # all paths begin with it, however they are spelled
        return replace(match, escaped=True) if match.kind is PathKind.REGEX or self._meets(match.path) else match

    def _meets(self, path: str) -> bool:
        return path in self.guarded or any(path[:n] in self.above for n, character in enumerate(path) if character == "/")


def guard_of(read: Reader, host: str) -> Guard | None:
    """The `guard`; where no path has an access rule no Unit is needed to know it."""
    return None if is_plain(read, host) else read.unit(guard, host)


def guard(read: Reader, host: str) -> Guard | None:
    """The Guard of a host; None where all of its paths have the same access rules, or none. A Unit."""
    ours = serving(read, host)
    claims = [claim for item in ours for claim in claims_of(read, item, host)]
    found = {rules(settings_on(read, host, claim)) for claim in claims}
    if settings(read).default_backend_service or any(item.default_backend for item in ours):
        found |= {rules(on_host(read, host, on_path(settings_of(read, item), "/"))) for item in ours} if host else {(), *found}
    if len(found) < 2:
        return None
    closed = [(claim.type, claim.path) for claim in claims if rules(settings_on(read, host, claim))]
    return Guard(
        frozenset(paths.encoded(path) for _, path in closed),
        frozenset(paths.encoded(path).removesuffix("/") for kind, path in closed if kind != paths.EXACT),
    )


def first_routes(found: Sequence[tuple[Location, tuple[Route, ...]]]) -> Iterator[Route]:
    """The routes before all others of a host with a Guard: for requests of which no pattern knows where nginx would route them.

    Dots beside an escaped slash get 400. Where a path has no pattern for all of its spellings, every escape gets 400. A path with a run of
    slashes, some of them escaped, may match several expressions of the host: those with an access rule are tried first.
    """
    unread = any(location.match.escaped and not spelling.readable(location.match) for location, _ in found)
    yield Route(PathMatch(PathKind.PATTERN, spelling.ESCAPES if unread else spelling.DOTS), Respond(400))
    alike = len({own for location, _ in found if (own := rules(location.settings))}) == 1
    before: set[Rules] = set()
    for location, routes in found:
        own = rules(location.settings)
        if own and location.match.kind is PathKind.REGEX and before - {own}:
            for route in routes if alike else (Route(location.match, Respond(400)),):
                yield replace(route, headers=(*route.headers, _ESCAPED_RUN))
        before.add(own)


def dots(further: Sequence[object]) -> tuple[Route, ...]:
    """The route for paths that may lead to a location which no Ingress has, though nobody knows: dots beside an escaped slash get 400."""
    return (Route(PathMatch(PathKind.PATTERN, spelling.DOTS), Respond(400)),) if further else ()


def surcharge(match: PathMatch, own: Settings, cost: int, *, routes: int = 1) -> int:
    """What `first_routes` may add to the cost of a path's routes (`xds.patterns.regex.cost`)."""
    return cost + routes * regex.cost(_ESCAPED_RUN.value) if match.escaped and match.kind is PathKind.REGEX and rules(own) else 0
