"""relative-redirects: redirects to another path of the same host have a Location without scheme and host."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Location, Redirect, Route
from xds.nginx.feature import Annotation, Feature, Phase, Unreadable, with_key
from xds.nginx.values import boolean

RELATIVE_REDIRECTS = with_key(
    Annotation(
        "relative-redirects",
        boolean,
        "Whether redirects to another path of the same host (permanent-redirect to a path, the slash that a path lacks) leave out scheme "
        "and host.",
        "true",
        default=False,
        unreadable=Unreadable.LEAVES_OUT,
    )
)


def _routes(_yes: bool, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return tuple(
        replace(route, action=replace(route.action, relative=True)) if isinstance(route.action, Redirect) else route for route in routes
    )


FEATURE = Feature(
    read=lambda notes: notes.get(RELATIVE_REDIRECTS) or None,
    annotations=(RELATIVE_REDIRECTS,),
    phase=Phase.HOST,
    routes=_routes,
    is_relative=lambda yes: yes,
)
