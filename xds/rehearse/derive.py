"""Requests from objects: for each host and path those that show what its rule does, with what must answer them. Pure.

The routes of the Model are the source, so that what a feature adds is asked for as well: a canary's header, an origin of CORS, a further
name of a host. Every request is run through `xds.explain` first. Requests that the rule does not answer are left out.

What does not belong here: requests of people (`access_log`), and the answers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import re2

from xds.explain.route_of import BadUrl, HttpRequest, VirtualHosts, answer, parse_url
from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader
from xds.model import HeaderMatch, PathKind, PathMatch, Route, Via
from xds.problem import Ref
from xds.rehearse.inquiries import Inquiry, Why, in_turn, inquiry, is_allowed, spread
from xds.rehearse.samples import samples
from xds.translate.hosts import virtual_host

MOST_PATHS = 200
"""Paths of one host for which requests are derived, evenly spread over all of them."""
MOST_HEADERS = 12
"""Sets of headers that are tried on one path."""
WORD = "rehearsal"
"""What stands for text that nobody has chosen: a segment of a path, a label below a wildcard."""
_UNCLAIMED = f"{WORD}.invalid"
"""A host that no Ingress has; the domain is reserved (RFC 6761)."""
_IN_PATH = "/:@!$&'()*+,;=-._~"
_SPECIAL = re.compile(r"[\^$*+?()\[\]{}|]")
"""What paths of text seldom have, and expressions often."""
_FIXED = {":authority", ":method", ":path", "x-forwarded-proto", "host"}
"""Headers that are not chosen freely."""
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scene:
    """What requests are derived from: virtual hosts by name, each translated once, and the names of all.

    `ingresses` are those of our class. `vias` are the schemes that are asked for, `allow` the hosts (all, if there are none).
    """

    read: Reader
    ingresses: Sequence[Ingress]
    hosts: VirtualHosts
    served: Collection[str]
    vias: Sequence[Via]
    allow: Sequence[str]


def scene(read: Reader, ingresses: Sequence[Ingress], served: Collection[str], vias: Sequence[Via], allow: Sequence[str] = ()) -> Scene:
    """Of a World, through its Reader; `served` are the hosts that have a virtual host."""
    return Scene(read, ingresses, functools.cache(functools.partial(virtual_host, read)), served, vias, allow)


def derived(found: Scene) -> Iterator[Inquiry]:
    """All requests, each once: one for each namespace in turn, and there for each host, so that none takes the place of others."""
    by_namespace: dict[str, list[Iterator[Inquiry]]] = {}
    written = _written(found)
    for name in sorted({*found.served, *written, ""}):
        of = written.get(name)
        by_namespace.setdefault(of[0].item.meta.namespace if of else "", []).append(_of_host(found, name, of or []))
    seen = set()
    for each in in_turn(in_turn(hosts) for hosts in by_namespace.values()):
        if each.sent not in seen:
            seen.add(each.sent)
            yield each


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A path of an Ingress, under the name that routes have for it."""

    item: Ingress
    field: str
    path: str


def _written(found: Scene) -> dict[str, list[WrittenRule]]:
    """The paths of all Ingresses, by host."""
    made: dict[str, list[WrittenRule]] = {}
    for item in found.ingresses:
        for n, rule in enumerate(item.rules):
            paths = [WrittenRule(item, f"spec.rules[{n}].http.paths[{m}]", each.path or "/") for m, each in enumerate(rule.paths)]
            made.setdefault(rule.host.lower(), []).extend(paths)
    return {host: rules for host, rules in made.items() if rules}


def name_under(found: Scene, host: str) -> str:
    """The name to ask for: the host itself, or one below its wildcard that no other host has; "" is what no Ingress claims."""
    if not host:
        return _UNCLAIMED
    if not host.startswith("*."):
        return host
    names = (f"{WORD}{n or ''}{host[1:]}" for n in range(len(found.served) + 1))
    return next(name for name in names if name not in found.served)


def _of_host(found: Scene, host: str, written: Sequence[WrittenRule]) -> Iterator[Inquiry]:
    asked = name_under(found, host)
    if not is_allowed(asked, found.allow):
        return
    made = found.hosts(host)
    by_match: dict[PathMatch, list[Route]] = {}
    for route in made.routes if made else ():
        by_match.setdefault(route.match, []).append(route)
    routed = {(route.origin, route.rule) for routes in by_match.values() for route in routes}
    lost = [each for each in written if (ref(each.item), each.field) not in routed]
    of_lost = (_lost(found, asked, each) for each in spread(lost, MOST_PATHS))
    of_paths = (_of_path(found, asked, match, routes) for match, routes in spread(list(by_match.items()), MOST_PATHS))
    yield from in_turn((*of_lost, *of_paths))  # of two that are the same the first counts, which has a rule


def _lost(found: Scene, host: str, rule: WrittenRule) -> Iterator[Inquiry]:
    """The requests that a rule without a route is written for."""
    for text in samples(rule.path) if _SPECIAL.search(rule.path) else (rule.path,):
        path = quote(text if text.startswith("/") else f"/{text}", safe=_IN_PATH)
        for via in found.vias:
            if made := _made(found, via, host, path, "GET", (), Why.LOST, (ref(rule.item), rule.field)):
                yield made


def _of_path(found: Scene, host: str, match: PathMatch, routes: Sequence[Route]) -> Iterator[Inquiry]:
    """The requests for one path. `routes` are all that have it: of the rule, of the canary's, of features."""
    rules = {(route.origin, route.rule) for route in routes}
    own = next(((route.origin, route.rule) for route in routes if route.origin), None)
    wanted = [(path, method, headers) for path in paths_of(match)[:1] for method, headers in _variants(routes)]
    wanted += [(path, "GET", ()) for path in paths_of(match)[1:]]
    for path, method, headers in wanted:
        for via in found.vias:
            made = _made(found, via, host, path, method, headers, Why.RULE)
            if made and (made.origin, made.rule) in rules:
                yield replace(made, derived_from=(made.origin, made.rule) if made.origin else None)
    for path in _beside(match):
        for via in found.vias:
            if made := _made(found, via, host, path, "GET", (), Why.BESIDE, own):
                yield made


def _made(
    found: Scene, via: Via, host: str, path: str, method: str, headers: Headers, why: Why, rule: tuple[Ref, str] | None = None
) -> Inquiry | None:
    """The request with what answers it; None where no client could send it."""
    try:
        request = parse_url(f"{via.value}://{host}{path}", method)
    except BadUrl:
        return None
    return asked(found, replace(request, headers=headers), path, why, rule)


def asked(found: Scene, request: HttpRequest, target: str, why: Why, rule: tuple[Ref, str] | None = None) -> Inquiry:
    """A request with what answers it; `rule` is what it was derived from."""
    return inquiry(why, request, target, answer(found.hosts, found.served, request), rule)


def paths_of(match: PathMatch) -> list[str]:
    """Paths that the match takes: its own, with a slash, and a child (with a query); or samples of an expression."""
    path = match.path
    if match.kind in (PathKind.REGEX, PathKind.PATTERN):
        found = (quote(text if text.startswith("/") else f"/{text}", safe=_IN_PATH) for text in samples(path))
        return list(dict.fromkeys(found))
    if match.kind is PathKind.EXACT:
        return [path]
    below = f"{path.removesuffix('/')}/"
    return list(dict.fromkeys((path, below, f"{below}{WORD}?{WORD}=1")))


def _beside(match: PathMatch) -> list[str]:
    """Paths that begin like the match and are others."""
    if match.path == "/" or match.kind in (PathKind.REGEX, PathKind.PATTERN):
        return []
    bare = match.path.removesuffix("/")
    return [f"{bare}/"] if match.kind is PathKind.EXACT else [f"{bare}{WORD}", bare]


def _variants(routes: Sequence[Route]) -> Iterator[tuple[str, Headers]]:
    """Methods and headers with which each of these routes can be reached: those that it asks for, and those that an earlier one forbids."""
    yield "GET", ()
    yield "HEAD", ()
    sets: dict[Headers, None] = {}
    for route in routes:
        usable = [header for header in route.headers if header.name.lower() not in _FIXED]
        wanted = [header for header in usable if not header.inverted]
        sets[_with(wanted)] = None
        for header in usable:
            if header.inverted:
                sets[_with([*wanted, header])] = None
        if len(sets) > MOST_HEADERS:
            break
    for headers in list(sets)[: MOST_HEADERS + 1]:
        if headers:
            yield "GET", headers


def _with(headers: Sequence[HeaderMatch]) -> Headers:
    """Values for these headers; of two for one header the first. Without those of which no value is known."""
    values: dict[str, str] = {}
    for header in headers:
        if value := _value(header):
            values.setdefault(header.name.lower(), value)
    return tuple(sorted(values.items()))


def _value(header: HeaderMatch) -> str:
    if not header.regex:
        return header.value if _is_sendable(header.value) else ""
    return next((text for text in samples(header.value) if text and _is_sendable(text) and re2.fullmatch(header.value, text)), "")


def _is_sendable(value: str) -> bool:
    """Whether it may stand in a header: visible ASCII, with spaces within."""
    return value.isascii() and value.isprintable() and value == value.strip() and len(value) <= 1_000
