"""configuration-snippet, and location-snippet of the ConfigMap: nginx configuration for each path.

`xds.nginx.snippets` has what is translated of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Location, Route, Settings
from xds.nginx.feature import Closed, Complaint, Feature, FilterPlace, Notes, Objects, Phase, Scope
from xds.nginx.snippets import routing
from xds.nginx.snippets.directives import Block
from xds.nginx.snippets.gate import ALLOW_SNIPPET_ANNOTATIONS, LOCATION_SNIPPET, read_snippet, snippet_annotation
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


def of_answer(settings: Settings) -> tuple[str, ...]:
    """The headers of an authentication service's answer that the snippet of a path, not of one way through it, makes use of."""
    found = settings.get(NAME)
    return found.of_answer if isinstance(found, Program) else ()


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
    keys=(ALLOW_SNIPPET_ANNOTATIONS, LOCATION_SNIPPET),
    phase=Phase.RETURN,
    resolve=_resolve,
    routes=_routes,
    on_route=_on_route,
    filters=_filters,
    place=FilterPlace.CORS,
    patterns=_patterns,
    by_path=True,
    everywhere=True,
)
