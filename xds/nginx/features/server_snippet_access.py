"""allow and deny in a server-snippet, for all paths of the host that have no such rules of their own; and what closes the whole host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig

from xds.model import Location, Respond, Route
from xds.nginx.feature import Feature, FilterPlace, Notes, Phase
from xds.nginx.features import snippet_access
from xds.nginx.features.server_snippet import SERVER_SNIPPET
from xds.nginx.features.source_ranges import lists_of
from xds.nginx.snippets.access import AccessRule
from xds.nginx.snippets.gate import read_snippet


@dataclass(frozen=True, slots=True)
class ServerRules:
    """The rules of a host, `of_all` if only the ConfigMap has them; `closed`, where one that keeps somebody out is not translated."""

    rules: tuple[AccessRule, ...]
    closed: bool
    of_all: bool


def _read(notes: Notes) -> ServerRules | None:
    found = read_snippet(notes, SERVER_SNIPPET)
    return ServerRules(found.rules, found.closed is not None, found.of_all) if found and (found.rules or found.closed) else None


def _routes(found: ServerRules, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return tuple(replace(route, action=Respond(503)) for route in routes) if found.closed else routes


def _filters(found: ServerRules, route: Route) -> Iterable[TypedExtensionConfig]:
    """A location with rules of its own has none of the server (ngx_http_access_module)."""
    if not found.rules or route.settings.get(snippet_access.NAME) or lists_of(route.settings):
        return ()
    return snippet_access.filters(found.rules, route)


FEATURE = Feature(
    read=_read,
    phase=Phase.ACCESS,
    routes=_routes,
    filters=_filters,
    place=FilterPlace.ACCESS,
    by_host=True,
    yields=lambda found: found.of_all,
    everywhere=True,
)
