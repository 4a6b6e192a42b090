"""rewrite-target that is an address with variables: the redirect of `rewrite_target` gets its Location, worked out for each request.

It stands apart, so that a route whose target is a path has nothing of it.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.model import Route
from xds.nginx.feature import Feature, Notes, Phase
from xds.nginx.features.rewrite_target import REWRITE_TARGET, searched, to_address
from xds.nginx.messages import formatted
from xds.nginx.variables import as_format, with_captures


def _read(notes: Notes) -> str | None:
    target = notes.own(REWRITE_TARGET)
    return target if target and to_address(target) else None


def _on_route(target: str, route: Route, envoy: EnvoyRoute) -> None:
    """As nginx does, the query of the request follows."""
    if route.action == to_address(target):
        address = with_captures(target, searched(route.match), route)
        envoy.response_headers_to_add.append(formatted("Location", f"{address}{as_format('$is_args$args', route)}"))


def _patterns(target: str, route: Route) -> tuple[str, ...]:
    return (searched(route.match),) if route.action == to_address(target) else ()


FEATURE = Feature(read=_read, phase=Phase.RETURN, on_route=_on_route, patterns=_patterns, by_path=True)
