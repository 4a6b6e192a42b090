"""A Program on the routes of a location."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from urllib.parse import quote

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations

from xds.kube.objects import Ingress
from xds.model import Forward, Location, PathKind, PathMatch, Respond, Route
from xds.nginx.feature import Closed, Complaint
from xds.nginx.messages import action_of, formatted, page, substitution, text_format
from xds.nginx.snippets import headers
from xds.nginx.snippets.program import Answer, MovedTo, Program, Way
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS
from xds.nginx.variables import MORE_ARGUMENTS, as_format, only_text, with_captures
from xds.patterns import regex, spelling
from xds.wire.encode import pack

_PAGES = {
    402: "Payment Required",
    405: "Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    421: "Misdirected Request",
    429: "Too Many Requests",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}
"""Statuses of which nginx has a page, beside those whose page is Envoy's local reply. That of 405 is for methods that nginx refuses."""
_OF_THE_LISTENER = (301, 302, 303, 307, 308, 400, 401, 403, 404, 408, 413, 414, 431, 500, 502, 503, 504, 508)
OF_HOST = 100
"""Paths that a server-snippet is taken to be for at least: those of other Ingresses of its host repeat it as well."""


def affordable(name: str, found: Program, item: Ingress, inner: Program | None = None) -> Program | Complaint | Closed:
    """The program, unless it closes the paths of its Ingress, or is too large for as many paths as that has.

    `inner`: the program that each of its ways goes on with.
    """
    if closed := found.closed:
        return Closed(name, f"has `{closed.name}` in line {closed.line}, without which its paths would be open: {closed.sentence}")
    size = found.size * len(inner.ways) + inner.size * len(found.ways) if inner else found.size
    most = max(item.most_locations, OF_HOST) if inner else item.most_locations
    if size * most > LONGEST_IN_ALL_LOCATIONS:
        return Closed(name, f"comes to {size:,} bytes on each path, too many for {most:,} paths and hosts")
    return found


def way_of(setting: Program | Way) -> Way:
    """The way that a route has; of one that is answered before the snippet, the last one, which has no tests."""
    return setting if isinstance(setting, Way) else setting.ways[-1]


def routes(name: str, found: Program, location: Location, before: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes of each way, in order."""
    return tuple(each for way in found.ways for each in _of_way(name, way, location, before))


def _of_way(name: str, way: Way, location: Location, before: tuple[Route, ...]) -> Iterator[Route]:
    if way.end:
        before = (Route(location.match, respond(way.end), location.origin, location.rule, settings=location.settings),)
    for route in before:
        yield replace(route, headers=(*route.headers, *way.tests), settings=route.settings.but(**{name: way}))


def respond(end: Answer | MovedTo) -> Respond:
    """What Envoy answers by itself. A Content-Type keeps the body as it is."""
    if isinstance(end, MovedTo) or (not end.body and end.status in _OF_THE_LISTENER) or end.status == 204:
        return Respond(end.status)
    if not end.body and end.status in _PAGES:
        return Respond(end.status, (("Content-Type", "text/html"),), _page(end.status))
    return Respond(end.status, (("Content-Type", end.type),), end.body if only_text(end.body) else "")


def anywhere(pattern: str, *, any_case: bool) -> str:
    """A pattern for whole paths, in whatever spelling, in which something is found."""
    spelled = spelling.expression(PathMatch(PathKind.REGEX, pattern, escaped=True))
    found = f"(?{'i' if any_case else ''}s){regex.found_in(spelled)}"
    return found if not regex.fault(found) else f"(?{'i' if any_case else ''}s){regex.found_in(pattern)}"


def encoded(path: str) -> str:
    """A plain path in the percent-encoding with which requests are compared."""
    return quote(path, safe="/:@!$&'()*+,;=-._~")


def _page(status: int) -> str:
    return page(f"{status} {_PAGES[status]}")


def on_route(way: Way, route: Route, envoy: EnvoyRoute) -> None:
    """Where the request ends, or what the backend gets of it."""
    if isinstance(way.end, MovedTo) and envoy.direct_response:
        envoy.response_headers_to_add.append(formatted("Location", _location(way.end, route)))
    elif isinstance(way.end, Answer) and envoy.direct_response and not only_text(way.end.body):
        envoy.direct_response.body_format = text_format(as_format(way.end.body, route), empty=True)
    elif isinstance(route.action, Forward):
        headers.on_request(way.headers, route, envoy)
        if way.rewritten:
            action_of(envoy).regex_rewrite = substitution(way.rewritten.pattern, way.rewritten.replacement)


def _location(moved: MovedTo, route: Route) -> str:
    made = with_captures(moved.location, moved.pattern, route, moved.of) if moved.pattern else as_format(moved.location, route)
    return made + (MORE_ARGUMENTS if moved.joins else "")


def filters(name: str, way: Way, route: Route) -> Iterable[TypedExtensionConfig]:
    """The filter for what a response shows of the snippet."""
    changes = headers.on_response(way.headers, route)
    end = way.end
    if isinstance(end, Answer) and not end.body and end.status not in (*_OF_THE_LISTENER, *_PAGES, 204):
        changes.insert(0, Mutation(remove="content-type"))
    if not changes:
        return ()
    config = HeaderMutation(mutations=Mutations(response_mutations=changes))
    return (TypedExtensionConfig(name=name.replace("_", "-"), typed_config=pack(config)),)
