"""app-root: where the bare host name leads. Of a host with several, the one of the longest path, as ingress-nginx writes them."""

from __future__ import annotations

import re

from xds.model import Location, PathKind, PathMatch, Redirect, RedirectTo, Route
from xds.nginx.feature import Annotation, Feature, Phase, Risk, Scope
from xds.nginx.values import UNQUOTED, matching, shown

_FORM = matching(r"/[-._~a-zA-Z0-9/:$]*", "absolute path such as /app")
_ONE_WORD = matching(rf"/{UNQUOTED}*", "absolute path such as /app")
_CAPTURE = re.compile(r"\$[1-9]")


def _path(text: str) -> str:
    return _without_captures(_FORM(text))


def _any_path(text: str) -> str:
    """The same of what ingress-nginx' validation refuses, such as a path with an escape or a query."""
    return _without_captures(_ONE_WORD(text))


def _without_captures(text: str) -> str:
    """The path; captures are empty here, for nginx compares no expression before this redirect."""
    path = _CAPTURE.sub("", text)
    if "$" in path:
        raise ValueError(f"is {shown(text)}, but variables of nginx cannot stand in it")
    if not path.strip("/"):
        raise ValueError(f"is {shown(text)}, which would lead to itself")
    return path


APP_ROOT = Annotation(
    "app-root",
    _path,
    "The path to which a request for / is redirected (302).",
    "/app",
    "",
    scope=Scope.LONGEST,
    risk=Risk.MEDIUM,
    unvalidated=_any_path,
)


def _host_routes(path: str, location: Location) -> tuple[Route, ...]:
    redirect = Redirect(302, RedirectTo.PATH, path)
    return (Route(PathMatch(PathKind.EXACT, "/", escaped=True), redirect, location.origin, location.rule),)


FEATURE = Feature(read=lambda notes: notes.get(APP_ROOT) or None, annotations=(APP_ROOT,), phase=Phase.HOST, host_routes=_host_routes)
