"""upstream-vhost: the Host header that the backend gets; what the client asked for stays in X-Forwarded-Host."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Route
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, Objects
from xds.nginx.messages import action_of
from xds.nginx.values import matching, refusing, shown
from xds.nginx.variables import as_format, known, too_many

_form = refusing(matching(r"[-._~a-zA-Z0-9/:^$\[\](){}*+?|&=\\]*", "host such as internal.example.com or $service_name.example.com"))


def _host(text: str) -> str:
    if "\\" in _form(text):
        raise ValueError(f"is {shown(text)}, with a backslash, which no host has")
    return known(text)


UPSTREAM_VHOST = Annotation(
    "upstream-vhost",
    _host,
    "The Host header that the backend gets; variables of nginx such as $host and $service_name are replaced.",
    "internal.example.com",
    "",
    Fidelity.APPROXIMATE,
    "where the variables are empty, the backend gets the Host of the client instead of none",
    lambda host, _paths: "$" in host,
)


def _resolve(host: str, item: Ingress, _objects: Objects) -> str | Complaint:
    why = too_many((host,), item.most_locations)
    return Complaint(UPSTREAM_VHOST.name, why) if why else host


def _on_forward(host: str, route: Route, envoy: EnvoyRoute) -> None:
    if "$" in host:
        action_of(envoy).host_rewrite = as_format(host, route)
    else:
        action_of(envoy).host_rewrite_literal = host


FEATURE = Feature(
    read=lambda notes: notes.get(UPSTREAM_VHOST) or None,
    annotations=(UPSTREAM_VHOST,),
    resolve=_resolve,
    on_forward=_on_forward,
    by_path=True,
)
