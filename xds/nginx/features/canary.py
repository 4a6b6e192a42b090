"""canary and its siblings: an Ingress that offers another backend for paths that other Ingresses claim.

A header decides which requests the canary answers, else a cookie, else chance (nginx 4.12). Each of these is a route of its own before
that of the primary, with the primary's settings: so each request has one cluster, and what the primary denies the canary never answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from xds.model import Forward, HeaderMatch, Location, Offer, Route, Share
from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, Phase, Risk, Role, Scope
from xds.nginx.messages import CACHED
from xds.nginx.values import boolean, choice, matching, whole
from xds.patterns import regex

NAME = "canary"
_LEAST_TOTAL = 100
_MOST = 1_000_000_000
_LONGEST_COOKIE = 64
"""Characters of a cookie's name: each of them becomes a part of an expression."""

CANARY = Annotation(
    "canary",
    boolean,
    "Whether the Ingress claims no paths of its own, and offers its backends for those of Ingresses with the same host, path and type.",
    "true",
    default=False,
    scope=Scope.UPSTREAM,
)
BY_HEADER = Annotation(
    "canary-by-header",
    matching(r"[-_A-Za-z0-9]{1,200}", "name of a header"),
    "The header that decides first: `always` leads to the canary, `never` to the primary; with another value, or without it, the cookie "
    "decides.",
    "x-canary",
    "",
    scope=Scope.UPSTREAM,
    risk=Risk.MEDIUM,
    beside="canary",
)
BY_HEADER_VALUE = Annotation(
    "canary-by-header-value",
    matching(r"[-._~a-zA-Z0-9/: ]{1,200}", "value of letters, digits and -._~/:"),
    "The one value of that header that leads to the canary, in place of `always` and `never`.",
    "beta",
    "",
    scope=Scope.UPSTREAM,
    risk=Risk.MEDIUM,
    beside="canary-by-header",
)
BY_HEADER_PATTERN = Annotation(
    "canary-by-header-pattern",
    matching(r"[-._~a-zA-Z0-9/:^$\[\](){}*+?|&=\\]+", "regular expression of letters, digits and -._~/:^$[](){}*+?|&=\\"),
    "A regular expression, found anywhere in that header, that leads to the canary; without effect beside canary-by-header-value.",
    "^(de|fr)$",
    "",
    Fidelity.APPROXIMATE,
    "one that RE2 does not know (look-ahead, back-references) leaves all requests with that header with the primary",
    lambda pattern, _paths: bool(regex.fault(pattern)),
    scope=Scope.UPSTREAM,
    risk=Risk.MEDIUM,
    beside="canary-by-header",
)
BY_COOKIE = Annotation(
    "canary-by-cookie",
    matching(rf"[-._~a-zA-Z0-9/:]{{1,{_LONGEST_COOKIE}}}", f"name of a cookie of at most {_LONGEST_COOKIE} characters"),
    "The cookie that decides next: `always` leads to the canary, `never` to the primary; else the weight decides.",
    "canary",
    "",
    scope=Scope.UPSTREAM,
    risk=Risk.MEDIUM,
    beside="canary",
)
WEIGHT = Annotation(
    "canary-weight",
    whole(0, _MOST),
    "How many of canary-weight-total requests lead to the canary, by chance.",
    "10",
    0,
    scope=Scope.UPSTREAM,
    beside="canary",
)
WEIGHT_TOTAL = Annotation(
    "canary-weight-total",
    whole(_LEAST_TOTAL, _MOST),
    "What canary-weight is a part of; less than 100 counts as 100.",
    "1000",
    _LEAST_TOTAL,
    scope=Scope.UPSTREAM,
    beside="canary",
)
AFFINITY_BEHAVIOR = Annotation(
    "affinity-canary-behavior",
    choice("sticky", "legacy"),
    "Whether a client stays with the canary (sticky), or is judged by the canary's rules at each request (legacy).",
    "legacy",
    "sticky",
    scope=Scope.UPSTREAM,
    beside="canary",
)
_RULES = (BY_HEADER, BY_HEADER_VALUE, BY_HEADER_PATTERN, BY_COOKIE, WEIGHT, WEIGHT_TOTAL)


@dataclass(frozen=True, slots=True)
class Canary:
    """Which requests go to the canary: the first rule that a request fits says whether it does, and where none fits, chance.

    With `legacy` clients of the canary get no cookie of the primary's affinity.
    """

    rules: tuple[tuple[HeaderMatch, bool], ...]
    share: Share | None
    legacy: bool


def _read(notes: Notes) -> Canary | None:
    weight, total = notes.get(WEIGHT), notes.get(WEIGHT_TOTAL)
    rules, legacy = [*_by_header(notes), *_by_cookie(notes)], notes.get(AFFINITY_BEHAVIOR) == "legacy"
    if not notes.get(CANARY):
        return None
    share = Share(min(weight, total), total) if weight else None
    while rules and share is None and not rules[-1][1]:
        rules.pop()  # the primary has what is left, with and without it
    return Canary(tuple(rules), share, legacy)


def _by_header(notes: Notes) -> Iterator[tuple[HeaderMatch, bool]]:
    name, value, pattern = notes.get(BY_HEADER).replace("_", "-"), notes.get(BY_HEADER_VALUE), notes.get(BY_HEADER_PATTERN)
    if fault := regex.fault(pattern) or regex.fault(regex.found_in(pattern)):
        notes.complain(BY_HEADER_PATTERN, f"{fault}; all requests with the header stay with the primary")
    elif value and pattern:
        notes.complain(BY_HEADER_PATTERN, "counts only without canary-by-header-value")
    if not name:
        return
    if value:
        yield HeaderMatch(name, value), True
    elif not pattern:
        yield HeaderMatch(name, "always"), True
        yield HeaderMatch(name, "never"), False
    elif fault:
        yield HeaderMatch(name, ".*", regex=True, words=f"header {name}, whatever it is"), False
    else:
        yield HeaderMatch(name, regex.found_in(pattern), regex=True, words=f"header {name} in which {pattern} is found"), True


def _by_cookie(notes: Notes) -> Iterator[tuple[HeaderMatch, bool]]:
    if name := notes.get(BY_COOKIE):
        for value, leads in (("always", True), ("never", False)):
            yield HeaderMatch("cookie", _cookie(name, value), regex=True, words=f"cookie {name}={value}"), leads


@lru_cache(maxsize=CACHED)
def _cookie(name: str, value: str) -> str:
    """A pattern for a Cookie header in which the first cookie of this name has this value (letters).

    As in nginx the case of the name does not matter. RE2 cannot say "no such cookie before it"; so each cookie before it is one that
    differs from the name in its first letter, which is no space, or in its second, and so on, or goes on after it.
    """
    other = " *(?:[^=; ,][^;,]*)?"
    for place in range(len(name) - 1, -1, -1):
        same = regex.literal(name[place])
        other = f"(?:[^{same};,{'' if place else ' '}][^;,]*|{same}{other})?"
    return f"(?i:(?:{other}[;,] *)*{regex.literal(name)}) *= *{value}(?:;.*)?"


def _routes(_setting: Canary | None, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    for offer in location.offers:
        routes = tuple(each for route in routes for each in _split(offer, route))
    return routes


def _split(offer: Offer, primary: Route) -> Iterator[Route]:
    """The routes of a request that the primary would answer: each rule's, that of the share, and the primary's own."""
    canary: Canary = offer.own[NAME]
    if isinstance(primary.action, Forward):
        offered = replace(primary, action=offer.action, origin=offer.origin, rule=offer.rule, settings=offer.settings)
        for header, leads in canary.rules:
            yield replace(offered if leads else primary, headers=(*primary.headers, header))
        if canary.share:
            yield replace(offered, share=canary.share)
    yield primary


FEATURE = Feature(
    read=_read,
    annotations=(CANARY, *_RULES, AFFINITY_BEHAVIOR),
    phase=Phase.BALANCER,
    role=lambda _canary: Role.OFFERS,
    routes=_routes,
)
