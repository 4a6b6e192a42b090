"""Access rules and spellings: which paths of a host have to be matched however they are spelled, so that no escape walks around a rule.

nginx looks for a location with a decoded and normalised path, Envoy with one in which some escapes are left (`xds.patterns.spelling`).
Where all paths of a host have the same rules, or none, that costs nothing but a 404. Where they differ, a spelling that misses the path
with the rule would reach another one without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xds.kube.world import Reader, settings
from xds.model import HeaderMatch, Location, PathKind, PathMatch, Respond, Route, Settings
from xds.nginx.registry import rules
from xds.patterns import regex, spelling
from xds.translate import paths
from xds.translate.claims import claims_of, serving, settings_of

Rules = tuple[tuple[str, object], ...]
_ESCAPED_RUN = HeaderMatch(":path", spelling.ESCAPED_RUN, regex=True)


@dataclass(frozen=True, slots=True)
class Guard:
    """The paths with access rules of a host where others have none, or others: percent-encoded, and those that have paths below them."""

    guarded: frozenset[str]
    above: frozenset[str]

    def widened(self, match: PathMatch) -> PathMatch:
        """The match as it has to be on this host: in every spelling, where it is about a rule.

        That is: a path with a rule; a text path below one, which would else fall to it; a regular expression, which could take what belongs
        to another.
        """
        if match.path == "/" and match.kind is not PathKind.EXACT:
            return match  # all paths begin with it, however they are spelled
        return replace(match, escaped=True) if match.kind is PathKind.REGEX or self._meets(match.path) else match

    def _meets(self, path: str) -> bool:
        return path in self.guarded or any(path[:n] in self.above for n, character in enumerate(path) if character == "/")


def guard(read: Reader, host: str) -> Guard | None:
    """The paths of a host that need it; None where all have the same rules, or none. A Unit."""
    ours = serving(read, host)
    found = {rules(settings_of(read, item)) for item in ours if item.rules}
    if settings(read).default_backend_service or any(item.default_backend for item in ours):
        found |= {rules(settings_of(read, item)) for item in ours} if host else {(), *found}
    if len(found) < 2:
        return None
    closed = [(c.type, c.path) for item in ours if rules(settings_of(read, item)) for c in claims_of(read, item, host)]
    return Guard(
        frozenset(paths.encoded(path) for _, path in closed),
        frozenset(paths.encoded(path).removesuffix("/") for kind, path in closed if kind != paths.EXACT),
    )


def first_routes(found: Sequence[tuple[Location, tuple[Route, ...]]]) -> Iterator[Route]:
    """The routes before all others of a host with a Guard: for requests of which no expression can tell where nginx would send them.

    Dots beside an escaped slash are answered with 400; where a path cannot be looked for in all spellings, every escape is. A path with an
    escaped slash beside another may fit an expression of which each slash takes a part: those with a rule are tried first.
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


def surcharge(match: PathMatch, own: Settings, price: int) -> int:
    """What `first_routes` may add to the price of a path's routes (`xds.patterns.regex.cost`)."""
    return price + regex.cost(_ESCAPED_RUN.value) if match.escaped and match.kind is PathKind.REGEX and rules(own) else 0
