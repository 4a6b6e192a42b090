"""app-root: where the bare host name leads."""

from __future__ import annotations

from xds.model import Location, PathKind, PathMatch, Redirect, RedirectTo, Route
from xds.nginx._feature import Annotation, Feature, Phase, Risk, Scope, with_key
from xds.nginx._values import matching

_FORM = matching(r"/?[-._~a-zA-Z0-9/:]*", "path such as /app")


def _path(text: str) -> str:
    path = "/" + _FORM(text).removeprefix("/")
    if path == "/":
        raise ValueError('is "/", which would lead to itself')
    return path


APP_ROOT = with_key(
    Annotation(
        "app-root",
        _path,
        "The path to which a request for / is redirected (302).",
        "/app",
        "",
        scope=Scope.HOST,
        risk=Risk.MEDIUM,
    )
)


def _host_routes(path: str, location: Location) -> tuple[Route, ...]:
    redirect = Redirect(302, RedirectTo.PATH, path)
    return (Route(PathMatch(PathKind.EXACT, "/"), redirect, location.origin, location.rule, settings=location.settings),)


FEATURE = Feature(read=lambda notes: notes.get(APP_ROOT) or None, annotations=(APP_ROOT,), phase=Phase.HOST, host_routes=_host_routes)
