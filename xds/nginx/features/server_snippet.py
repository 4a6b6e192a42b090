"""server-snippet, of an Ingress and of the ConfigMap: nginx configuration for a whole host, as far as `xds.nginx.snippets` translates it.

It is the server's part of what `xds.nginx.features.configuration_snippet` is the location's: its steps come first, and blocks inherit from
it. So all of it is put on the routes as settings of that feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xds.kube.objects import Ingress
from xds.model import CLOSED, Location, PathKind, PathMatch, Route, Settings
from xds.nginx.feature import (
    Before,
    Closed,
    Complaint,
    Feature,
    Further,
    Notes,
    Objects,
    Phase,
    Scope,
)
from xds.nginx.features import configuration_snippet, snippet_access
from xds.nginx.snippets import gate, routing
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.gate import read_snippet, snippet_annotation
from xds.nginx.snippets.program import Program, ServerLocation, Way, program
from xds.nginx.values import readable

_NAME = configuration_snippet.NAME


SERVER_SNIPPET = snippet_annotation(
    "server-snippet",
    Block.SERVER,
    "nginx configuration for the host, of which the directives of [snippets.md](snippets.md) are translated.",
    "location = /healthy { return 204; }",
    Scope.HOST,
)


def _read(notes: Notes) -> Program | None:
    return read_snippet(notes, SERVER_SNIPPET)


def _resolve(found: Program, item: Ingress, _objects: Objects) -> Program | Complaint | Closed:
    """Each way of the server is there once for each way of a location."""
    name = f"/{configuration_snippet.CONFIGURATION_SNIPPET.name}"
    written = next((text for key, text in item.meta.annotations.items() if key.endswith(name)), "")
    try:
        inner = program(readable(written), Block.LOCATION)
    except ValueError:
        inner = Program()
    return routing.affordable(SERVER_SNIPPET.name, found, item, inner)


def _routes(found: Program, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The ways of the server, and on each of them those of the location, unless the request ends before one is looked for."""
    return tuple(each for way in found.ways for each in _of_way(way, location, routes))


def _of_way(way: Way, location: Location, routes: tuple[Route, ...]) -> Iterator[Route]:
    if way.end:
        answer = Route(location.match, routing.respond(way.end), location.origin, location.rule, headers=way.tests, early=True)
        yield replace(answer, settings=Settings({_NAME: way}))
        return
    for route in routes:
        inner = routing.way_of(route.settings.get(_NAME) or Program())
        both = replace(inner, headers=inner.headers.within(way.headers), rewritten=way.rewritten or inner.rewritten)
        yield replace(route, headers=(*way.tests, *route.headers), settings=route.settings.but(**{_NAME: both}))


def _locations(found: Program, location: Location) -> Iterator[Further]:
    """The locations of the snippet. What they have no `return` for is 404, for there are no files."""
    patterns = any(place.modifier.startswith("~") for place in found.places)
    for place in found.places:
        where = f"server-snippet{' of the ConfigMap' if found.of_all else ''} line {place.line}"
        settings = Settings({"server_snippet": replace(found, places=()), _NAME: place.program})
        if rules := place.program.rules or found.rules:
            settings = settings.but(**{snippet_access.NAME: rules})
        if closed := place.program.closed:
            settings = settings.but(**{CLOSED: f"server-snippet has `{closed.name}` in line {closed.line}"})
        match, before = _match(place, patterns=patterns)
        yield Further(Location(location.host, place.path, match, location.tls, location.origin, where, settings), before)


def _match(place: ServerLocation, *, patterns: bool) -> tuple[PathMatch, Before]:
    if place.modifier.startswith("~"):
        return PathMatch(PathKind.PATTERN, routing.anywhere(place.path, any_case=place.modifier == "~*")), Before.PATHS
    if place.modifier == "=":
        return PathMatch(PathKind.EXACT, routing.encoded(place.path), escaped=True), Before.EXACT
    before = Before.PATTERNS if place.modifier and patterns else Before.SHORTER
    return PathMatch(PathKind.RAW_PREFIX, routing.encoded(place.path), escaped=True), before


FEATURE = Feature[Any](
    read=_read,
    annotations=(SERVER_SNIPPET,),
    keys=(gate.SERVER_SNIPPET,),
    phase=Phase.HOST,
    resolve=_resolve,
    routes=_routes,
    patterns=lambda _found, _route: (),  # those of its ways are settings of the other feature, and its tests are the route's
    by_host=True,
    yields=lambda found: found.of_all,
    everywhere=True,
    locations=_locations,
)
