"""rewrite-target: the path that the backend sees instead of the requested one."""

from __future__ import annotations

import re
from functools import lru_cache

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute

from xds.kube.objects import Ingress
from xds.model import Forward, Location, PathKind, PathMatch, Redirect, RedirectTo, Route
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, Objects, Phase, Risk
from xds.nginx.messages import CACHED, action_of, substitution
from xds.nginx.values import matching, shown
from xds.nginx.variables import (
    CAPTURE,
    DEAREST,
    VARIABLE,
    as_references,
    known_beside_captures,
    names_in,
    only_text,
    too_many,
    with_captures,
)
from xds.patterns import regex, spelling

NAME = "rewrite_target"
_FORM = matching(r"/?[-._~a-zA-Z0-9/:$]*", "path such as /api/$1")
_ADDRESS = re.compile(r"(?:https?|\$scheme)://[^/]+(/.*)?")
_STATUS = 302
_TAKEN = ("host", "pass_access_scheme", "scheme", "server_name")
"""Variables that a path may have: what a client puts into others could have spaces or a query."""


def _target(text: str) -> str:
    _FORM(text)
    plain = CAPTURE.sub("/", text)  # what is around a capture is no variable together
    if "$" in VARIABLE.sub("", plain) or any(name not in _TAKEN for name in names_in(plain)):
        raise ValueError(f"is {shown(text)}, but only the captures $1 to $9, $host, $server_name and $scheme can stand in it")
    if _is_absolute(text) and (not _ADDRESS.fullmatch(text) or CAPTURE.search(text.split("/", 3)[2])):
        raise ValueError(f"is {shown(text)}, which has no host, or a capture in it")
    return known_beside_captures(text)


REWRITE_TARGET = Annotation(
    "rewrite-target",
    _target,
    "The path that the backend gets; the Ingress path becomes a regular expression, $1 to $9, $host, $server_name, $scheme are replaced.",
    "/$2",
    "",
    Fidelity.APPROXIMATE,
    "groups stand for the path as it was sent, escapes included",
    lambda target, _paths: "$" in target or _is_absolute(target),
    risk=Risk.MEDIUM,
)


def _is_absolute(target: str) -> bool:
    return target.startswith(("http://", "https://", "$scheme"))


def _is_worked_out(target: str) -> bool:
    """Whether variables make the target, and not captures alone, which Envoy's own rewriting puts into it."""
    return not only_text(CAPTURE.sub("", target))


def _makes_regex(target: str, path: str, exact: bool) -> bool:
    """Whether anything is rewritten. ingress-nginx makes /same and /same/ of a Prefix /same, and only one of them is the target."""
    return target != path or not (exact or path.endswith("/"))


def _routes(target: str, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    if not _is_absolute(target):
        return routes
    path = _expression(location.match)
    redirect = to_address(target)
    if redirect is None:
        text = _substituted(target if target.count("/") > 2 else f"{target}/", path)
        redirect = Redirect(_STATUS, RedirectTo.REWRITTEN, text, regex.nginx_rewrite(path))
    return (Route(location.match, redirect, location.origin, location.rule, settings=location.settings),)


def to_address(target: str) -> Redirect | None:
    """The redirect of a target that is an address with variables, whose Location `rewrite_address` writes; None of others."""
    return Redirect(_STATUS, RedirectTo.URL, target) if _is_absolute(target) and _is_worked_out(target) else None


def _resolve(target: str, item: Ingress, _objects: Objects) -> str | Complaint:
    """Not for a path with variables that Envoy would compile too long, for each request once more."""
    if not _is_worked_out(target):
        return target
    if why := too_many((target,), item.most_locations):
        return Complaint(REWRITE_TARGET.name, why)
    if path := too_dear(item):
        return Complaint(REWRITE_TARGET.name, f"has a variable, but the path {shown(path)} is too large to be searched for in each request")
    return target


def too_dear(item: Ingress) -> str | None:
    """The first path of an Ingress whose expression is too large for Envoy to compile in each request (`xds.nginx.variables.extracted`)."""
    paths = (path.path for rule in item.rules for path in rule.paths)
    return next((path for path in paths if not regex.path_fault(path) and regex.cost(regex.nginx_rewrite(path)) > DEAREST), None)


def _on_forward(target: str, route: Route, envoy: EnvoyRoute) -> None:
    if not _rewrites(target, route):
        return
    if not _is_worked_out(target):
        action_of(envoy).regex_rewrite = rewrite(target, _expression(route.match))
    else:
        path = with_captures(target, regex.nginx_rewrite(_expression(route.match)), route)
        action_of(envoy).path_rewrite = path if target.startswith("/") else f"/{path}"  # Envoy's substitution knows no variables


def pattern(route: Route) -> str:
    """The expression, for the whole path, by which a route rewrites it; "" for one that does not. The groups are those of the path."""
    target = route.settings.get(NAME)
    rewritten = target is not None and isinstance(route.action, Forward) and _rewrites(target, route)
    return searched(route.match) if rewritten else ""


def searched(match: PathMatch) -> str:
    """The expression, for the whole path, by which a target replaces what a match takes."""
    return regex.nginx_rewrite(_expression(match))


def _patterns(_target: str, route: Route) -> tuple[str, ...]:
    found = pattern(route)
    return (found,) if found else ()


def _rewrites(target: str, route: Route) -> bool:
    return _makes_regex(target, route.match.path, exact=route.match.kind is not PathKind.REGEX)


def _expression(match: PathMatch) -> str:
    return spelling.expression(match) if match.kind is PathKind.REGEX else regex.literal(match.path)


@lru_cache(maxsize=CACHED)
def rewrite(target: str, path: str) -> RegexMatchAndSubstitute:
    """The whole path is replaced, wherever nginx finds its regular expression in it."""
    text = _substituted(target, path)
    return substitution(regex.nginx_rewrite(path), text if text.startswith(("/", "\\")) else f"/{text}")


def _substituted(target: str, path: str) -> str:
    """The target as RE2 writes it; a group that the path does not have is empty."""
    groups = regex.groups(path)
    return as_references(target, groups)


FEATURE = Feature(
    read=lambda notes: notes.own(REWRITE_TARGET),
    annotations=(REWRITE_TARGET,),
    phase=Phase.RETURN,
    resolve=_resolve,
    regex=_makes_regex,
    routes=_routes,
    on_forward=_on_forward,
    patterns=_patterns,
    by_path=True,
)
