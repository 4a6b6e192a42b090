"""x-forwarded-prefix: the backend receives the path that rewrite-target took away."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Route
from xds.nginx.feature import Annotation, Complaint, Feature, Objects, Risk, Unreadable
from xds.nginx.features import rewrite_target
from xds.nginx.messages import formatted
from xds.nginx.values import matching, shown
from xds.nginx.variables import CAPTURE, as_format, as_references, extracted, known, too_many
from xds.patterns import regex

_form = matching(r"/?[-._~a-zA-Z0-9/:$ ]*", "path such as /app or /$1")


def _prefix(text: str) -> str:
    plain = CAPTURE.sub("", _form(text))
    if plain != text and "$" in plain:
        raise ValueError(f"is {shown(text)}, but beside captures such as $1 there can be no other variables")
    return text if plain != text else known(text)


X_FORWARDED_PREFIX = Annotation(
    "x-forwarded-prefix",
    _prefix,
    "The header X-Forwarded-Prefix for the backend, where rewrite-target has an effect; $1 to $9 stand for the groups of the path.",
    "/app",
    "",
    risk=Risk.MEDIUM,
    unreadable=Unreadable.LEAVES_OUT,
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
        captures = as_references(prefix, regex.groups(pattern))
        value = extracted(pattern, captures) if CAPTURE.search(prefix) else as_format(prefix, route)
        envoy.request_headers_to_add.append(formatted("X-Forwarded-Prefix", value))


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
