"""upstream-hash-by: requests with the same value of some nginx variables go to the same endpoint.

It is asked after load-balance, whose choice of endpoint it replaces.
"""

from __future__ import annotations

import re
from functools import lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import (
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteActionHashPolicyCookie,
    RouteActionHashPolicyHeader,
    RouteActionHashPolicyQueryParameter,
)

from xds.model import Forward, Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Risk, Scope, with_key
from xds.nginx.messages import CACHED, action_of, substitution
from xds.nginx.values import matching, shown

MOST_VARIABLES = 8
"""Variables of one text: each is a hash policy of its own in each route of the Ingress, some 200 bytes of Envoy's memory."""
_FORM = matching(r"[A-Za-z0-9\-_${}]*", "text with nginx variables such as $request_uri")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_HEADERS = {
    "request_uri": ":path",
    "host": ":authority",
    "http_host": ":authority",
    "request_method": ":method",
    "scheme": "x-forwarded-proto",
    "request_id": "x-request-id",
}
_OF_PATH = {
    "uri": (r"^([^?]*)(?:\?.*)?$", r"\1"),
    "document_uri": (r"^([^?]*)(?:\?.*)?$", r"\1"),
    "args": (r"^[^?]*\??(.*)$", r"\1"),
    "query_string": (r"^[^?]*\??(.*)$", r"\1"),
}
_BY_CLIENT = ("remote_addr", "binary_remote_addr", "the_real_ip")
_PREFIXES = ("http_", "arg_", "cookie_")


def _variables(text: str) -> tuple[str, ...]:
    """The variables in the text, each once; text around them is the same for all requests and says nothing."""
    names = tuple(dict.fromkeys(braced or bare for braced, bare in _VARIABLE.findall(_FORM(text))))
    if re.search(r"[${}]", _VARIABLE.sub("", text)):
        raise ValueError(f'is {shown(text)}, where a "$" or a brace belongs to no variable')
    if not names:
        raise ValueError(f"is {shown(text)}, which has no variable, so that all requests would go to one endpoint")
    if len(names) > MOST_VARIABLES:
        raise ValueError(f"is {shown(text)}, which has {len(names)} variables, more than {MOST_VARIABLES}")
    for name in names:
        known = name in _HEADERS or name in _OF_PATH or name in _BY_CLIENT
        if not known and not any(name.startswith(prefix) and name != prefix for prefix in _PREFIXES):
            raise ValueError(f"is {shown(text)}, but ${name[:40]} is no variable that Envoy could hash by")
    return names


UPSTREAM_HASH_BY = with_key(
    Annotation[tuple[str, ...]](
        "upstream-hash-by",
        _variables,
        "nginx variables whose values choose the endpoint, by consistent hashing.",
        "$request_uri",
        (),
        Fidelity.APPROXIMATE,
        "the hash is another one than nginx's, and a request without any of the values goes to any endpoint",
        scope=Scope.UPSTREAM,
        risk=Risk.HIGH,
    )
)


@lru_cache(maxsize=CACHED)
def hash_policy(name: str) -> RouteActionHashPolicy:
    """By which part of a request Envoy chooses an endpoint, for the name of one of nginx's variables, without `$`."""
    kind, _, rest = name.partition("_")
    if name in _BY_CLIENT:
        return RouteActionHashPolicy(connection_properties=RouteActionHashPolicyConnectionProperties(source_ip=True))
    if name in _HEADERS:
        return RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=_HEADERS[name]))
    if name in _OF_PATH:
        part = substitution(*_OF_PATH[name])
        return RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=":path", regex_rewrite=part))
    if kind == "arg":
        return RouteActionHashPolicy(query_parameter=RouteActionHashPolicyQueryParameter(name=rest))
    if kind == "cookie":
        return RouteActionHashPolicy(cookie=RouteActionHashPolicyCookie(name=rest))
    return RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=rest.lower().replace("_", "-")))


def _on_forward(names: tuple[str, ...], _route: Route, envoy: EnvoyRoute) -> None:
    action_of(envoy).hash_policy = [hash_policy(name) for name in names]


def _patterns(names: tuple[str, ...], route: Route) -> tuple[str, ...]:
    return tuple(_OF_PATH[name][0] for name in names if name in _OF_PATH) if isinstance(route.action, Forward) else ()


def _on_cluster(_names: tuple[str, ...], cluster: EnvoyCluster) -> None:
    cluster.lb_policy = ClusterLbPolicy.RING_HASH


def _cluster_key(names: tuple[str, ...]) -> str:
    return "".join(f"${{{name}}}" for name in names)


FEATURE = Feature(
    read=lambda notes: notes.get(UPSTREAM_HASH_BY) or None,
    annotations=(UPSTREAM_HASH_BY,),
    on_forward=_on_forward,
    patterns=_patterns,
    cluster=True,
    cluster_key=_cluster_key,
    on_cluster=_on_cluster,
)
