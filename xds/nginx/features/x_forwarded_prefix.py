"""x-forwarded-prefix: the backend receives the path that rewrite-target took away."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Route
from xds.nginx.feature import Annotation, Complaint, Feature, Objects, Risk
from xds.nginx.features import rewrite_target
from xds.nginx.messages import formatted
from xds.nginx.values import matching, refusing, shown
from xds.nginx.variables import CAPTURE, as_references, extracted, known_beside_captures, may_be_empty, only_text, too_many, with_captures
from xds.patterns import regex

_form = refusing(matching(r"/?[-._~a-zA-Z0-9/:$ ]*", "path such as /app or /$1"))


def _prefix(text: str) -> str:
    return known_beside_captures(_form(text))


X_FORWARDED_PREFIX = Annotation(
    "x-forwarded-prefix",
    _prefix,
    "The header X-Forwarded-Prefix for the backend, where rewrite-target has an effect; $1 to $9 stand for the groups of the path.",
    "/app",
    "",
    risk=Risk.MEDIUM,
)


def _resolve(prefix: str, item: Ingress, _objects: Objects) -> str | Complaint:
    """Not for a path that Envoy would compile too long, for each request once more."""
    if why := too_many((prefix,), item.most_locations):
        return Complaint(X_FORWARDED_PREFIX.name, why)
    if CAPTURE.search(prefix) and (path := rewrite_target.too_dear(item)):
        what = f"has a capture, but the path {shown(path)} is too large to be searched for it in each request"
        return Complaint(X_FORWARDED_PREFIX.name, what)
    return prefix


def _on_forward(prefix: str, route: Route, envoy: EnvoyRoute) -> None:
    if pattern := rewrite_target.pattern(route):
        if may_be_empty("X-Forwarded-Prefix", prefix):
            envoy.request_headers_to_remove.append("X-Forwarded-Prefix")
        envoy.request_headers_to_add.append(formatted("X-Forwarded-Prefix", _value(prefix, pattern, route)))


def _value(prefix: str, pattern: str, route: Route) -> str:
    """The prefix as a format. Captures without other variables are found in one search."""
    if only_text(CAPTURE.sub("", prefix)) and CAPTURE.search(prefix):
        return extracted(pattern, as_references(prefix, regex.groups(pattern)))
    return with_captures(prefix, pattern, route)


def _patterns(prefix: str, route: Route) -> tuple[str, ...]:
    pattern = rewrite_target.pattern(route)
    return (pattern,) if pattern and CAPTURE.search(prefix) else ()


FEATURE = Feature(
    read=lambda notes: notes.get(X_FORWARDED_PREFIX) or None,
    annotations=(X_FORWARDED_PREFIX,),
    resolve=_resolve,
    on_forward=_on_forward,
    patterns=_patterns,
    by_path=True,
)
