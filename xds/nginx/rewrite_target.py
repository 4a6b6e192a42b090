"""rewrite-target: the path that the backend sees instead of the requested one."""

from __future__ import annotations

import re
from functools import lru_cache

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute

from xds import regex, spelling
from xds.model import Location, PathKind, Redirect, RedirectTo, Route
from xds.nginx._feature import Annotation, Feature, Fidelity, Phase, Risk
from xds.nginx._messages import CACHED, action_of, substitution
from xds.nginx._values import matching, shown

_FORM = matching(r"/?[-._~a-zA-Z0-9/:$]*", "path such as /api/$1")
_CAPTURE = re.compile(r"\$([1-9])")


def _target(text: str) -> str:
    _FORM(text)
    if "$" in _CAPTURE.sub("", text):
        raise ValueError(f"is {shown(text)}, but only the captures $1 to $9 can stand in it")
    if _is_absolute(text) and "$" in text:
        raise ValueError(f"is {shown(text)}, but captures cannot stand in an address")
    return text


REWRITE_TARGET = Annotation(
    "rewrite-target",
    _target,
    "The path that the backend gets; $1 to $9 stand for the groups of the Ingress path, which becomes a regular expression.",
    "/$2",
    "",
    Fidelity.APPROXIMATE,
    "paths match as they were sent, escapes included, and the redirect to a whole address drops the query",
    lambda target, _paths: "$" in target or _is_absolute(target),
    risk=Risk.MEDIUM,
)


def _is_absolute(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _makes_regex(target: str, path: str) -> bool:
    return target != path


def _routes(target: str, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    if not _is_absolute(target):
        return routes
    redirect = Redirect(302, RedirectTo.URL, target)
    return (Route(location.match, redirect, location.origin, location.rule, settings=location.settings),)


def _on_route(target: str, route: Route, envoy: EnvoyRoute) -> None:
    if target != route.match.path:
        action_of(envoy).regex_rewrite = _rewrite(target, _expression(route))


def _patterns(target: str, route: Route) -> tuple[str, ...]:
    return (regex.nginx_rewrite(_expression(route)),) if target != route.match.path else ()


def _expression(route: Route) -> str:
    return spelling.expression(route.match) if route.match.kind is PathKind.REGEX else regex.literal(route.match.path)


@lru_cache(maxsize=CACHED)
def _rewrite(target: str, path: str) -> RegexMatchAndSubstitute:
    """The whole path is replaced, wherever nginx finds its regular expression in it; a group that it does not have is empty."""
    groups = regex.groups(path)
    text = _CAPTURE.sub(lambda found: f"\\{found[1]}" if int(found[1]) <= groups else "", target)
    return substitution(regex.nginx_rewrite(path), text if text.startswith(("/", "\\")) else f"/{text}")


FEATURE = Feature(
    read=lambda notes: notes.own(REWRITE_TARGET),
    annotations=(REWRITE_TARGET,),
    phase=Phase.RETURN,
    regex=_makes_regex,
    routes=_routes,
    on_route=_on_route,
    patterns=_patterns,
    by_path=True,
)
