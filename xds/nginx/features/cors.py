"""enable-cors: pages of other origins may read the responses, and the preflight requests of their browsers are answered here.

A browser asks by an `OPTIONS` request before it sends what a form could not (Fetch Standard, "CORS-preflight fetch"). ingress-nginx answers
it with 204 before redirects, access rules and the backend, and adds the same headers to every response of the location, errors included.

Where every origin may read, that is one route more. Where some may, the routes are there twice: first for requests of other origins, or
none, which are served as if there were no CORS; behind them, for the origins of the list. Origins are compared as text, but for those with
a wildcard, of which each is a regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations

from xds.kube.objects import Ingress
from xds.model import HeaderMatch, Location, Respond, Route
from xds.nginx.feature import Annotation, Complaint, Feature, FilterPlace, Notes, Objects, Phase, Risk
from xds.nginx.messages import CACHED, formatted, overwriting
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, LONGEST_IN_ROUTE, boolean, matching, shown, whole, words
from xds.patterns import regex
from xds.wire.encode import pack

NAME = "cors"
EVERYBODY: tuple[str, ...] = ("*",)
MOST_ORIGINS = 100
"""Origins of a list: each is compared on each path, for the redirect to https and for the path itself."""
_CHARACTERS = re.compile(r"(?:[a-z]://|\*\.|:[0-9]|[-A-Za-z0-9.,])*")
_ORIGIN = re.compile(r"null|[a-z]+://(?:\*\.)?[-A-Za-z0-9.]*(?::[0-9]+)?")
_LABEL = "[-A-Za-z0-9]+"
"""What takes the place of a wildcard."""
_NAMES = r"{0}(?:(?:, ?| ){0})*(?:, ?| )?"
_ORIGIN_HEADER = "origin"
MOST_COMPARED = 10_000
"""Origins of an Ingress on all of its paths together. A request of the host is compared with one after the other, at some 0.1 µs each."""
_PREFLIGHT = HeaderMatch(":method", "OPTIONS")


def _origins(text: str) -> tuple[str, ...]:
    """The entries of the list, not all of which need be origins; `EVERYBODY` where a "*" is among them."""
    entries = words(text)
    if "*" in entries:
        return EVERYBODY
    if not _CHARACTERS.fullmatch(text.replace(" ", "")):
        raise ValueError(f"is {shown(text)}, which is no list of origins such as https://example.com, so that every origin may read")
    return entries


ENABLE_CORS = Annotation("enable-cors", boolean, "Whether pages of other origins may read the responses.", "true", default=False)
CORS_ALLOW_ORIGIN = Annotation(
    "cors-allow-origin",
    _origins,
    'The origins whose pages may read the responses: "*", or a list of origins; a first label of "*" stands for any one label.',
    "https://example.com, https://*.example.org:8443",
    EVERYBODY,
    risk=Risk.MEDIUM,
)
CORS_ALLOW_METHODS = Annotation(
    "cors-allow-methods",
    matching(_NAMES.format("[A-Za-z]+"), "list of methods such as GET, POST"),
    "The methods of requests that pages of other origins may send.",
    "GET, POST",
    "GET, PUT, POST, DELETE, PATCH, OPTIONS",
    risk=Risk.MEDIUM,
)
CORS_ALLOW_HEADERS = Annotation(
    "cors-allow-headers",
    matching(_NAMES.format("[-A-Za-z0-9_]+"), "list of headers such as X-Token, Range"),
    "The headers of requests that pages of other origins may send.",
    "X-Token",
    "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
    risk=Risk.MEDIUM,
)
CORS_ALLOW_CREDENTIALS = Annotation(
    "cors-allow-credentials", boolean, "Whether requests of other origins may carry cookies.", "false", default=True
)
CORS_EXPOSE_HEADERS = Annotation(
    "cors-expose-headers",
    matching(_NAMES.format(r"(?:[-A-Za-z0-9_]+|\*)"), 'list of headers such as X-Total, or "*"'),
    "The headers of responses that pages of other origins may read.",
    "X-Total",
    "",
    risk=Risk.MEDIUM,
)
CORS_MAX_AGE = Annotation(
    "cors-max-age",
    whole(-(10**18), 10**18),
    "Seconds for which a browser may remember the answer to a preflight request.",
    "600",
    1_728_000,
)


@dataclass(frozen=True, slots=True)
class Cors:
    """`origins` may read (`EVERYBODY`, or a list); `headers` are those of responses to them, but for Access-Control-Allow-Origin.

    `admitted` is whether a route is for these origins. Only `_routes` makes such a route, so that none can show the headers to others.
    """

    origins: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    admitted: bool = False


def _read(notes: Notes) -> Cors | None:
    """None where no origin may read. Every annotation is read in any case, so that a bad value is seen before CORS is enabled."""
    enabled, origins = notes.get(ENABLE_CORS), _acceptable(notes)
    credentials, exposed = notes.get(CORS_ALLOW_CREDENTIALS), notes.get(CORS_EXPOSE_HEADERS)
    headers = (
        ("Access-Control-Allow-Credentials", "true" if credentials else ""),
        ("Access-Control-Allow-Methods", notes.get(CORS_ALLOW_METHODS)),
        ("Access-Control-Allow-Headers", notes.get(CORS_ALLOW_HEADERS)),
        ("Access-Control-Expose-Headers", exposed),
        ("Access-Control-Max-Age", str(notes.get(CORS_MAX_AGE))),
    )
    return Cors(origins, tuple((name, value) for name, value in headers if value)) if enabled and origins else None


def _acceptable(notes: Notes) -> tuple[str, ...]:
    """The origins of the list, each once, as far as there is room for them. What is no origin lets nobody in."""
    entries = notes.get(CORS_ALLOW_ORIGIN)
    if entries == EVERYBODY:
        return entries
    odd = next((entry for entry in entries if not _ORIGIN.fullmatch(entry)), None)
    found = tuple(dict.fromkeys(entry for entry in entries if _ORIGIN.fullmatch(entry)))
    if odd is not None:
        notes.complain(CORS_ALLOW_ORIGIN, f"has {shown(odd)}, which is no origin such as https://example.com and lets nobody read")
    elif not found:
        notes.complain(CORS_ALLOW_ORIGIN, "has no origin in it, so that nobody may read")
    kept = found[:MOST_ORIGINS]
    while sum(map(len, kept)) > LONGEST_IN_ROUTE:
        kept = kept[:-1]
    if kept != found:
        most = f"{MOST_ORIGINS} origins with {LONGEST_IN_ROUTE:,} characters, which each path repeats"
        notes.complain(CORS_ALLOW_ORIGIN, f"has more than {most}; from {shown(found[len(kept)])} on they let nobody read")
    return kept


def _resolve(cors: Cors, item: Ingress, _objects: Objects) -> Cors | Complaint:
    """Not where the lists, on so many paths, would make a table that takes Envoy long to read, or requests that it compares for long."""
    compared = () if cors.origins == EVERYBODY else cors.origins
    size = 2 * sum(map(len, compared)) + 3 * sum(len(name) + len(value) for name, value in cors.headers)
    most = item.most_locations
    if len(compared) * most > MOST_COMPARED:
        return Complaint(ENABLE_CORS.name, f"has {len(compared):,} origins, too many for {most:,} paths and hosts")
    if size * most > LONGEST_IN_ALL_LOCATIONS:
        return Complaint(ENABLE_CORS.name, f"has lists that come to {size:,} bytes on each path, too many for {most:,} paths and hosts")
    return cors


def _routes(cors: Cors, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    preflight = Route(location.match, Respond(204), location.origin, location.rule, headers=(_PREFLIGHT,), settings=location.settings)
    readable = tuple(_admitting(route, cors) for route in (preflight, *routes))
    if cors.origins == EVERYBODY:
        return readable
    others = tuple(_other_than(origin) for origin in cors.origins)
    return (*(replace(route, headers=(*route.headers, *others)) for route in routes), *readable)


def _admitting(route: Route, cors: Cors) -> Route:
    return replace(route, settings=route.settings.but(**{NAME: replace(cors, admitted=True)}))


def _other_than(origin: str) -> HeaderMatch:
    """An Origin is compared without regard to case, as in ingress-nginx."""
    expression = _expression(origin)
    return HeaderMatch(_ORIGIN_HEADER, expression or origin, regex=bool(expression), any_case=not expression, inverted=True)


@lru_cache(maxsize=CACHED)
def _expression(origin: str) -> str:
    """The regular expression for an origin with a wildcard; "" for others."""
    scheme, wildcard, rest = origin.partition("*")
    return f"(?i){regex.literal(scheme)}{_LABEL}{regex.literal(rest)}" if wildcard else ""


def _patterns(_cors: Cors, route: Route) -> tuple[str, ...]:
    return tuple(header.value for header in route.headers if header.name == _ORIGIN_HEADER and header.regex)


def _filters(cors: Cors, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    """A filter in front of the others of the route sees what they refuse, too."""
    return _adding(cors.origins == EVERYBODY, cors.headers) if cors.admitted else ()


@lru_cache(maxsize=CACHED)
def _adding(everybody: bool, headers: tuple[tuple[str, str], ...]) -> tuple[TypedExtensionConfig, ...]:
    """A request gets here with an Origin of the list, or where each is as good as another."""
    allowed = "Access-Control-Allow-Origin"
    added = [overwriting(allowed, "*") if everybody else formatted(allowed, "%REQ(origin)%"), *(overwriting(*header) for header in headers)]
    mutations = Mutations(response_mutations=[Mutation(append=header) for header in added])
    return (TypedExtensionConfig(name=NAME, typed_config=pack(HeaderMutation(mutations=mutations))),)


FEATURE = Feature(
    read=_read,
    annotations=(
        ENABLE_CORS,
        CORS_ALLOW_ORIGIN,
        CORS_ALLOW_METHODS,
        CORS_ALLOW_HEADERS,
        CORS_ALLOW_CREDENTIALS,
        CORS_EXPOSE_HEADERS,
        CORS_MAX_AGE,
    ),
    phase=Phase.CORS,
    resolve=_resolve,
    routes=_routes,
    filters=_filters,
    place=FilterPlace.CORS,
    patterns=_patterns,
)
