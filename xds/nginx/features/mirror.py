"""mirror-target, mirror-host, mirror-request-body: a copy of each request goes to another place; what is answered there goes nowhere.

Envoy copies a request as the backend gets it, and lets nobody write the path of the copy. So the route describes the copy by headers, which
clients cannot send. A script in the cluster of copies applies and removes them.

Copies have `X-Sent-From`, by which one that comes back here is counted, unless their Host is an IP address. Such a copy comes back as a
request for an address, if at all, and copies of those have the header: so of two copies in a row one is counted at least. What has been
counted before is so in any case.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import CircuitBreakers, CircuitBreakersThresholds
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteActionRequestMirrorPolicy
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.kube.objects import Ingress
from xds.model import Cluster, Forward, Location, Route
from xds.nginx.feature import Annotation, Complaint, Feature, Notes, Objects, Risk
from xds.nginx.messages import CACHED, PASSAGES, SENT_FROM, action_of, formatted, kept_text, literal
from xds.nginx.registry import cluster_name
from xds.nginx.targets import Target, cluster_of, speak, target
from xds.nginx.values import choice, matching, shown
from xds.nginx.variables import HOST, MOST
from xds.wire.encode import pack

NAME = "mirror"
LONGEST = timedelta(seconds=60)
"""How long a copy may take; ingress-nginx gives up where nothing comes for as long."""
AT_ONCE = 1_000
"""Copies that may be under way to one place. More are left out: a place that never answers must not fill the memory of Envoy."""

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[-A-Za-z0-9_.]+)(?::([0-9]{1,5}))?(/.*|\$.*)?")
_FORM = matching(r"[-A-Za-z0-9._~:/?=&%+,;@!()*'\[\]${}]*", "URL such as https://test.example.com$request_uri")
_VARIABLE = re.compile(r"\$(?:\{([a-z_]+)\}|([a-z_]+))")
_PATH, _HOST, _BODY, _CAME_FOR = "x-xds-copy-path", "x-xds-copy-host", "x-xds-copy-body", "x-xds-copy-came-for"
_ASKED_PATH, _ASKED_HOST = "xds.copy.path", "xds.copy.host"
"""What the client asked for, as Envoy's filter state keeps it while paths and hosts are rewritten."""
_HOST_ASKED_FOR = f"%FILTER_STATE({_ASKED_HOST}:PLAIN)%"
_QUERY = "%CEL(request.query)%"
_QUESTION = "%CEL(request.query != '' ? '?' : '')%"
_OF_PATH = {"request_uri": f"%FILTER_STATE({_ASKED_PATH}:PLAIN)%", "args": _QUERY, "query_string": _QUERY, "is_args": _QUESTION}
_OF_HOST = {"$host": f"%CEL({HOST})%", "$http_host": "%REQ(:authority)%"}
_NOT_COPIED = """
x-request-id x-real-ip x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-scheme x-scheme
x-original-forwarded-for x-original-forwarded-host x-envoy-internal te
"""
"""What a backend receives about the client, and a copy does not."""
_SCRIPT = f"""
local REMOVED = {{{", ".join(f'"{name}"' for name in (_PATH, _HOST, _BODY, _CAME_FOR, *_NOT_COPIED.split()))}}}

local function has_passed(headers)
  local found = false
  for name in pairs(headers) do found = found or name:sub(1, {len(PASSAGES)}) == "{PASSAGES}" end
  return found
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local came_for = headers:get("{_CAME_FOR}")
  local path, host, body = headers:get("{_PATH}"), headers:get("{_HOST}"), headers:get("{_BODY}")
  for _, name in ipairs(REMOVED) do headers:remove(name) end
  if not came_for or not came_for:find("^[^%[]*%a") or has_passed(headers) then headers:replace("x-sent-from", "{SENT_FROM}") end
  if path then headers:replace(":path", path) end
  if host then headers:replace(":authority", host) end
  if body then
    headers:remove("content-length")
    for chunk in handle:bodyChunks() do chunk:setBytes("") end
  end
end
"""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where copies go: `path` is one of Envoy's formats, and with `keeps_path` what the client asked for stands in it."""

    server: Target
    path: str
    keeps_path: bool


def _target(text: str) -> _Target:
    found = _URL.fullmatch(_FORM(text))
    if found is None:
        raise ValueError(f"is {shown(text)}, which is no URL such as https://test.example.com$request_uri, with http or https and a host")
    scheme, host, port, rest = found.groups()
    try:
        server = target(scheme, host, port or "")
    except ValueError as error:
        raise ValueError(f"is {shown(text)}, {error}") from None
    path, names = _path(text, rest or "$request_uri")
    return _Target(server, path, "request_uri" in names)


def _path(text: str, rest: str) -> tuple[str, list[str]]:
    """The path as a format, and the variables in it. As nginx does, the query of the request follows where there are none."""
    names = [braced or bare for braced, bare in _VARIABLE.findall(rest)]
    if len(names) > MOST:
        raise ValueError(f"is {shown(text)}, which has {len(names)} variables, more than {MOST}")
    if unknown := next((name for name in names if name not in _OF_PATH), ""):
        raise ValueError(f"is {shown(text)}, but of ${shown(unknown)[1:-1]} nothing is known here: ${', $'.join(_OF_PATH)} may stand in it")
    if set(_VARIABLE.sub("", rest)) & set("${}"):
        raise ValueError(f'is {shown(text)}, where a "$" or a brace belongs to no variable')
    made = "".join(_OF_PATH[part] if number % 2 else literal(part) for number, part in enumerate(_parts(rest)))
    made = made if made.startswith(("/", _OF_PATH["request_uri"])) else f"/{made}"
    return made if names else f"{made}{_QUESTION}{_QUERY}", names


def _parts(rest: str) -> Iterator[str]:
    """Text and variables in turn, beginning with text."""
    end = 0
    for found in _VARIABLE.finditer(rest):
        yield rest[end : found.start()]
        yield found[1] or found[2]
        end = found.end()
    yield rest[end:]


MIRROR_TARGET = Annotation[_Target | str](
    "mirror-target",
    _target,
    "The URL to which a copy of each request is sent; $request_uri stands for path and query, $args for the query.",
    "https://test.example.com$request_uri",
    "",
    risk=Risk.HIGH,
)
MIRROR_HOST = Annotation(
    "mirror-host",
    matching(r"\$host|\$http_host|[A-Za-z0-9_.:\[\]-]+", "host, nor $host or $http_host"),
    "The Host header of the copy: a name, $host or $http_host. Without it, the host of mirror-target.",
    "test.example.com",
    "",
    risk=Risk.HIGH,
)
MIRROR_REQUEST_BODY = Annotation("mirror-request-body", choice("on", "off"), "Whether the copy has the body.", "off", "on")


@dataclass(frozen=True, slots=True)
class _MirrorSetting:
    """What the annotations say."""

    target: _Target
    host: str
    body: bool


@dataclass(frozen=True, slots=True)
class Mirror:
    """The cluster of copies, what its requests are to be, and whether they have the body. `host` is literal, or a key of `_OF_HOST`."""

    cluster: Cluster
    path: str
    keeps_path: bool
    host: str
    body: bool


def _read(notes: Notes) -> _MirrorSetting | None:
    target = notes.own(MIRROR_TARGET)
    host, body = notes.get(MIRROR_HOST), notes.get(MIRROR_REQUEST_BODY) == "on"
    return _MirrorSetting(target, host, body) if isinstance(target, _Target) else None


def _resolve(asked: _MirrorSetting, item: Ingress, objects: Objects) -> Mirror | Complaint:
    cluster = cluster_of(asked.target.server, NAME, item.meta.namespace, objects)
    if isinstance(cluster, str):
        return Complaint(MIRROR_TARGET.name, cluster)
    return Mirror(cluster, asked.target.path, asked.target.keeps_path, asked.host or asked.target.server.host, asked.body)


def _clusters(mirror: Mirror, _location: Location) -> tuple[Cluster, ...]:
    return (mirror.cluster,)


def _filters(mirror: Mirror, route: Route) -> tuple[TypedExtensionConfig, ...]:
    """Keep what the client asked for, where the copy needs it, before the router rewrites it for the backend."""
    kept = [(_ASKED_PATH, "%REQ(:path)%")] if mirror.keeps_path else []
    kept += (
        [(_ASKED_HOST, _OF_HOST.get(mirror.host, _OF_HOST["$http_host"]))] if mirror.host in _OF_HOST or _is_address(mirror.host) else []
    )
    if not kept or not isinstance(route.action, Forward):
        return ()
    values = [kept_text(key, text) for key, text in kept]
    return (TypedExtensionConfig(name=NAME, typed_config=pack(SetFilterState(on_request_headers=values))),)


def _on_forward(mirror: Mirror, _route: Route, envoy: EnvoyRoute) -> None:
    action_of(envoy).request_mirror_policies = [_policy(mirror)]


def _is_address(host: str) -> bool:
    """Whether a Host is an IP address, for which few requests come. That of a rule cannot be one, but further names and wildcards may.

    IPv6 counts in brackets only: without them the letters of an address are those of a name to the script, and a loop would never end.
    """
    try:
        return bool(ipaddress.IPv6Address(host[1:-1]) if re.fullmatch(r"\[.*\]", host) else ipaddress.IPv4Address(host))
    except ValueError:
        return False


@lru_cache(maxsize=CACHED)
def _policy(mirror: Mirror) -> RouteActionRequestMirrorPolicy:
    """What the copy is. Each header that describes it is written or removed here, whatever the client sent."""
    headers = {_PATH: mirror.path, _HOST: "", _BODY: "" if mirror.body else "off", _CAME_FOR: ""}
    if by_variable := mirror.host in _OF_HOST:
        headers[_HOST] = _HOST_ASKED_FOR
    elif _is_address(mirror.host):
        headers[_CAME_FOR] = _HOST_ASKED_FOR
    mutations = [Mutation(append=formatted(name, text)) if text else Mutation(remove=name) for name, text in headers.items()]
    return RouteActionRequestMirrorPolicy(
        cluster=cluster_name(mirror.cluster),
        disable_shadow_host_suffix_append=True,
        host_rewrite_literal="" if by_variable else mirror.host,
        request_headers_mutations=mutations,
    )


def _on_cluster(how: str, cluster: EnvoyCluster) -> None:
    """As little as possible depends on the place: a bounded number of copies, none of them sent twice; TLS as towards a backend."""
    limits = CircuitBreakersThresholds(max_connections=AT_ONCE, max_pending_requests=AT_ONCE, max_requests=AT_ONCE, max_retries=0)
    cluster.circuit_breakers = CircuitBreakers(thresholds=[limits])
    speak(how, cluster)


def _on_upstream(_how: str, options: HttpProtocolOptions) -> None:
    options.common_http_protocol_options = options.common_http_protocol_options or CommonOptions()
    options.common_http_protocol_options.max_stream_duration = LONGEST
    script = pack(Lua(default_source_code=DataSource(inline_string=_SCRIPT)))
    options.http_filters.append(HttpFilter(name=NAME, typed_config=script))


FEATURE = Feature[Any](
    read=_read,
    annotations=(MIRROR_TARGET, MIRROR_HOST, MIRROR_REQUEST_BODY),
    resolve=_resolve,
    clusters=_clusters,
    filters=_filters,
    on_forward=_on_forward,
    on_cluster=_on_cluster,
    on_upstream=_on_upstream,
)
