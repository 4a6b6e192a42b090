"""upstream-hash-by: requests with the same value of some nginx variables go to the same endpoint.

It is asked after load-balance, whose choice of endpoint it replaces.
"""

from __future__ import annotations

import re
from functools import lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import (
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteActionHashPolicyCookie,
    RouteActionHashPolicyFilterState,
    RouteActionHashPolicyHeader,
    RouteActionHashPolicyQueryParameter,
)
from envoy_data_plane.envoy.extensions.filters.common.set_filter_state.v3 import FilterStateValue
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState

from xds.kube.objects import Ingress
from xds.model import Forward, Route
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, Notes, Objects, Risk, Scope, Unreadable, with_key
from xds.nginx.messages import CACHED, action_of, substitution, text_format
from xds.nginx.values import boolean, matching, shown, whole
from xds.nginx.variables import as_format, of_route, too_many, unknown
from xds.wire.encode import pack

NAME = "upstream_hash_by"
MOST_VARIABLES = 8
"""Variables of one text: each is a hash policy of its own in each route of the Ingress, some 200 bytes of Envoy's memory."""
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
_KEPT = "xds.hash."
"""What stands before the name of a variable whose value is kept for the choice of an endpoint, in Envoy's filter state."""


def _fault(text: str) -> str:
    """Why nobody could hash by this text, as the rest of a sentence; "" where Envoy can."""
    names = _names(text)
    if re.search(r"[${}]", _VARIABLE.sub("", text)):
        return f'is {shown(text)}, where a "$" or a brace belongs to no variable'
    if len(names) > MOST_VARIABLES:
        return f"is {shown(text)}, which has {len(names)} variables, more than {MOST_VARIABLES}"
    for name in names:
        if not _is_native(name) and unknown(f"${name}"):
            return f"is {shown(text)}, but ${name[:40]} is no variable that Envoy could hash by"
    return ""


def _is_native(name: str) -> bool:
    """Whether one of Envoy's own policies hashes by this variable. Others are worked out before (`_filters`)."""
    known = name in _HEADERS or name in _OF_PATH or name in _BY_CLIENT
    return known or any(name.startswith(prefix) and name != prefix for prefix in _PREFIXES)


def _names(text: str) -> tuple[str, ...]:
    """The variables in the text, each once; text around them is the same for all requests and makes no difference."""
    return tuple(dict.fromkeys(braced or bare for braced, bare in _VARIABLE.findall(text)))


def _of_requests(text: str) -> tuple[str, ...]:
    """Those that are not the same for all requests of a route."""
    return tuple(name for name in _names(text) if not of_route(name))


UPSTREAM_HASH_BY = with_key(
    Annotation[str](
        "upstream-hash-by",
        matching(r"[A-Za-z0-9\-_${} ]*", "text with nginx variables such as $request_uri"),
        "nginx variables whose values choose the endpoint, by consistent hashing; without variables one endpoint answers all requests.",
        "$request_uri",
        "",
        scope=Scope.UPSTREAM,
        risk=Risk.HIGH,
        unreadable=Unreadable.LEAVES_OUT,
    )
)
SUBSET = Annotation(
    "upstream-hash-by-subset",
    boolean,
    "Whether a hash chooses a set of endpoints, of which any answers, instead of one endpoint.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason="a hash chooses one endpoint, as if each set had one",
    scope=Scope.UPSTREAM,
    beside="upstream-hash-by",
    unreadable=Unreadable.LEAVES_OUT,
)
SUBSET_SIZE = Annotation(
    "upstream-hash-by-subset-size",
    whole(-(10**9), 10**9),
    "The number of endpoints that a hash chooses together.",
    "5",
    3,
    Fidelity.APPROXIMATE,
    "a hash chooses one endpoint, as if each set had one",
    scope=Scope.UPSTREAM,
    beside="upstream-hash-by-subset",
    unreadable=Unreadable.LEAVES_OUT,
)


def _read(notes: Notes) -> tuple[str, ...] | None:
    """The variables, `()` for a text without; None where nothing is hashed. Sets are read for what cannot be read of them."""
    text = notes.get(UPSTREAM_HASH_BY)
    notes.own(SUBSET), notes.own(SUBSET_SIZE)
    if why := _fault(text):
        notes.complain(UPSTREAM_HASH_BY, why)
        return None
    return _of_requests(text) if text else None


@lru_cache(maxsize=CACHED)
def hash_policy(name: str) -> RouteActionHashPolicy:
    """By which part of a request Envoy chooses an endpoint, for the name of one of nginx's variables, without `$`."""
    kind, _, rest = name.partition("_")
    if not _is_native(name):
        return RouteActionHashPolicy(filter_state=RouteActionHashPolicyFilterState(key=f"{_KEPT}{name}"))
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


@lru_cache(maxsize=1)
def _for_all() -> RouteActionHashPolicy:
    """The same for all requests: it counts alone where there is no other, and changes nothing where there is."""
    same = substitution(".*", "")
    return RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=":authority", regex_rewrite=same))


def _on_forward(names: tuple[str, ...], _route: Route, envoy: EnvoyRoute) -> None:
    """A value that a request does not have is empty, and empty values have a hash like others."""
    action_of(envoy).hash_policy = [*(hash_policy(name) for name in names), _for_all()]


def _filters(names: tuple[str, ...], route: Route) -> tuple[TypedExtensionConfig, ...]:
    """Work out the variables for which Envoy has no policy of its own."""
    worked_out = [name for name in names if not _is_native(name)]
    if not worked_out or not isinstance(route.action, Forward):
        return ()
    values = [
        FilterStateValue(
            object_key=f"{_KEPT}{name}",
            factory_key="envoy.hashable_string",
            format_string=text_format(as_format(f"${name}", route), empty=True),
        )
        for name in worked_out
    ]
    return (TypedExtensionConfig(name=NAME, typed_config=pack(SetFilterState(on_request_headers=values))),)


def _resolve(names: tuple[str, ...], item: Ingress, _objects: Objects) -> tuple[str, ...] | Complaint:
    why = too_many((f"${name}" for name in names if not _is_native(name)), item.most_locations)
    return Complaint(UPSTREAM_HASH_BY.name, why) if why else names


def _patterns(names: tuple[str, ...], route: Route) -> tuple[str, ...]:
    return (".*", *(_OF_PATH[name][0] for name in names if name in _OF_PATH)) if isinstance(route.action, Forward) else ()


def _on_cluster(_names: tuple[str, ...], cluster: EnvoyCluster) -> None:
    cluster.lb_policy = ClusterLbPolicy.RING_HASH


def _cluster_key(names: tuple[str, ...]) -> str:
    return "".join(f"${{{name}}}" for name in names) or "-"


FEATURE = Feature(
    read=_read,
    annotations=(UPSTREAM_HASH_BY, SUBSET, SUBSET_SIZE),
    resolve=_resolve,
    on_forward=_on_forward,
    filters=_filters,
    patterns=_patterns,
    cluster=True,
    cluster_key=_cluster_key,
    on_cluster=_on_cluster,
)
