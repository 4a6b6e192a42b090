"""configuration-snippet: nginx configuration for each path, as far as `xds.nginx.snippets` translates it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Location, Route
from xds.nginx.feature import Closed, Complaint, Feature, FilterPlace, Notes, Objects, Phase, Scope
from xds.nginx.snippets import routing
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.gate import ALLOW_SNIPPET_ANNOTATIONS, read_snippet, snippet_annotation
from xds.nginx.snippets.program import Program, Way

NAME = "configuration_snippet"


CONFIGURATION_SNIPPET = snippet_annotation(
    "configuration-snippet",
    Block.LOCATION,
    "nginx configuration for each path, of which the directives of [snippets.md](snippets.md) are translated.",
    'more_set_headers "X-Team: red";',
    Scope.LOCATION,
)


def _read(notes: Notes) -> Program | None:
    return read_snippet(notes, CONFIGURATION_SNIPPET)


def _resolve(found: Program, item: Ingress, _objects: Objects) -> Program | Complaint | Closed:
    return routing.affordable(CONFIGURATION_SNIPPET.name, found, item)


def _routes(found: Program, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return routing.routes(NAME, found, location, routes)


def _on_route(setting: Program | Way, route: Route, envoy: EnvoyRoute) -> None:
    routing.on_route(routing.way_of(setting), route, envoy)


def _filters(setting: Program | Way, route: Route) -> Iterable[TypedExtensionConfig]:
    return routing.filters(NAME, routing.way_of(setting), route)


def _patterns(setting: Program | Way, _route: Route) -> tuple[str, ...]:
    return routing.way_of(setting).patterns


FEATURE = Feature[Any](
    read=_read,
    annotations=(CONFIGURATION_SNIPPET,),
    keys=(ALLOW_SNIPPET_ANNOTATIONS,),
    phase=Phase.RETURN,
    resolve=_resolve,
    routes=_routes,
    on_route=_on_route,
    filters=_filters,
    place=FilterPlace.CORS,
    patterns=_patterns,
    by_path=True,
)
