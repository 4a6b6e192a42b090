"""The bootstrap of an Envoy: the address of the management server, the Envoy's node, and its limits.

What belongs here: what Envoy needs before its first xDS request, as plain values that YAML and JSON can express. What does not: listeners,
routes and clusters (`xds.render`), writing files (`xds.cli.bootstrap`), running Envoy.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from xds import request_metrics
from xds.addresses import SocketAddress, ip_or_none, parse_address
from xds.config import Flags
from xds.nginx import access, open_requests

XDS_CLUSTER = "xds_cluster"
"""The static cluster of the management server. No cluster of a Service has this name, since those contain slashes."""

REGEX_PROGRAM_SIZE = 100_000
"""Size of the largest compiled RE2 program that Envoy accepts. Its default of 100 rejects an expression with one or two repetitions."""

REQUESTS_AT_ONCE = 1
"""Requests that Envoy takes from one connection before it turns to the others; without it a client may send a thousand in one go.

With more than one, HTTP/1 requests in a row that Envoy answers itself (404, redirects) end their connection: it lets two answers wait.
"""

EARLY_RESETS = 150
"""Requests that a connection of HTTP/2 may take back within a second of each, if those are more than half of all its requests.

It is more than the 128 that may be under way: who leaves a page stops all of them at once. Each costs Envoy 20 µs, which others wait for.
Envoy's default is 250.
"""

_READY = "/ready"
PROBE_PATHS = (_READY, "/stats/prometheus")
"""The pages of the admin that are served at `--probe-address`: they change nothing, and contain no secrets."""

PROBE_CONNECTIONS = 1_000
"""Connections that `--probe-address` accepts at a time, in addition to all others."""

_TRACKED = 10
"""Streams of HTTP/2 with buffers of 2 to the power of this, or more, are reset near the limit of memory, the largest first.

Envoy has eight sizes, each twice the one before, from 1 KiB on: so the largest are those of 128 KiB and more. It keeps some 256 KiB of a
stream whose client does not read.
"""
_BEYOND = 3
"""The parts of the limit of memory up to which Envoy still takes action.

An action is repeated only when the pressure that it follows has changed, and pressure ends at 1. One that follows the limit itself would
stop at the limit: Envoy would reset nothing more, however much memory is taken. More parts would leave smaller streams alone for longer.
"""
_LOOK = datetime.timedelta(milliseconds=10)
"""How often Envoy looks at its memory. Each time it resets 50 streams in each thread, and that number cannot be set.

It keeps 256 KiB of a stream, so that frees 1.3 GB a second in each thread: more than a thread reads from backends meanwhile.
With 100 ms a few thousand unread streams took nine times the limit. Looking takes half a percent of a core more than with 100 ms.
"""
_SHORTER = (0.8, 0.95)
"""The parts of the limit between which time-outs become shorter."""
_RESET_FROM = 0.8
_SHRINK_AT = 0.9
_REJECT_AT = 1.0
_REFUSE = (1.0, 1.1)
"""The parts of the limit between which a growing share of requests is refused."""
_TYPE = "type.googleapis.com/envoy.extensions"
_MONITOR = "envoy.resource_monitors"
_HEAP = f"{_MONITOR}.fixed_heap"
_HEAP_AND_BEYOND = "xds.heap_and_beyond"
_ACTION = "envoy.overload_actions"
_CERTIFICATE = "xds_certificate"
_CA = "xds_ca"
_ADMIN_CLUSTER = "xds_admin"
_PROBE_LISTENER = "probe"
_STATS_LISTENER = "stats"
_LUA = f"{_TYPE}.filters.http.lua.v3"
_PROCESS_SCRIPT = """\
function envoy_on_request(handle)
  local file = io.open("/proc/self/stat")
  local text = file and file:read("*a") or ""
  if file then file:close() end
  handle:respond({[":status"] = file and "200" or "503"}, text)
end
"""
"""Envoy's own CPU and memory. Envoy has no statistic of its CPU, and its process cannot be seen from another container."""
_FORGET = 86_400
"""Seconds after which statistics of requests are forgotten that nothing has been added to: those of an Ingress that is gone."""
_IDLE_STATISTICS = (
    "assignment_[a-z_]+",
    r"circuit_breakers\..+",
    r"default\.total_match_count",
    "init_fetch_timeout",
    "lb_[a-z_]+",
    "membership_(?:degraded|excluded)",
    "update_[a-z_]+",
    "version(?:_text)?",
    "warming_state",
)
"""Statistics of each cluster, also without traffic, that say nothing here: of limits that are never reached (`upstream_cx_overflow` counts
those of UDP), of subsets and zones that no cluster has, and of the discovery of its endpoints, which the control plane counts."""
_IDLE_OF_SECRETS = ("update_(?:attempt|duration|failure|success|time)", "version(?:_text)?")
"""The same of certificates. Those that Envoy has refused are counted by `update_rejected` and `key_rotation_failed`."""


def bootstrap(settings: Flags) -> dict[str, Any]:
    """An Envoy bootstrap (envoy.config.bootstrap.v3.Bootstrap) in its JSON form.

    LDS and CDS never time out (xDS rule O9). Without a response there is nothing to serve: so Envoy stays unready, and load balancers in
    front of it send it nothing.
    """
    content = {
        "node": {"id": settings.node_id, "cluster": settings.node_cluster},
        # The limit of connections must not lock out an operator who looks for its cause.
        "admin": {"address": _admin_address(settings), "ignore_global_conn_limit": True},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if settings.delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
            },
            "lds_config": _from_ads(),
            "cds_config": _from_ads(),
        },
        "static_resources": _static(settings),
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _runtime(settings)}]},
        "typed_dns_resolver_config": _resolver(),
        # Statistics of clusters without traffic take no memory; that is most clusters of an ingress, most of the time.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        **_statistics(settings),
    }
    overload = _overload(settings)
    return content | ({"overload_manager": overload} if overload else {})


def secret_files(settings: Flags) -> dict[str, dict[str, Any]]:
    """The files in `--output-dir` to which the bootstrap's TLS refers: name → content; none without TLS or folder.

    Envoy reloads renewed certificate files only in SDS secrets: so these are SDS secrets in files. In a mounted Secret the kubelet renews
    by replacing a symbolic link, which `watched_directory` notices.
    """
    if not (settings.output_dir and settings.xds_tls_ca):
        return {}
    secrets = {
        _CERTIFICATE: {"tls_certificate": _certificate(settings) | {"watched_directory": _folder(settings.xds_tls_cert)}},
        _CA: {"validation_context": _validation(settings) | {"watched_directory": _folder(settings.xds_tls_ca)}},
    }
    return {
        f"{name}.yaml": {"resources": [{"@type": f"{_TYPE}.transport_sockets.tls.v3.Secret", "name": name} | secret]}
        for name, secret in secrets.items()
    }


def _statistics(settings: Flags) -> dict[str, Any]:
    """Which statistics there are, the buckets of times of requests, and when their statistics are forgotten.

    Without the matchers each cluster takes 10 kB more, and each certificate 7. They are about clusters of Services and certificates of
    Secrets, which have a slash in their names. Clusters of an ExternalName, with an @, keep all: whether the name could be resolved is
    counted nowhere else.
    """
    idle = (rf"cluster\.[^/]+/[^@]+\.(?:{'|'.join(_IDLE_STATISTICS)})", rf"sds\.[^/]+/.+\.(?:{'|'.join(_IDLE_OF_SECRETS)})")
    stats = {"stats_matcher": {"exclusion_list": {"patterns": [{"safe_regex": {"regex": each}} for each in idle]}}}
    if not settings.stats_address:
        return {"stats_config": stats}
    bounds = sorted({bound for bound in settings.time_buckets if bound > 0})
    buckets = [
        {"match": {"prefix": f"{request_metrics.SCOPE}.{each.name}"}, "buckets": [round(bound * each.per_second, 6) for bound in bounds]}
        for each in request_metrics.STATISTICS
        if each.buckets
    ]
    if not bounds:
        return {"stats_config": stats}
    return {"stats_config": stats | {"histogram_bucket_settings": buckets}, "stats_eviction_interval": f"{_FORGET}s"}


def _resolver() -> dict[str, Any]:
    """The DNS resolver. New clusters wait until their names are resolved, so a silent name server must time out soon.

    Envoy retries every few seconds, and keeps the addresses that it has. c-ares by default would wait for up to 50 s.
    """
    config = {"@type": f"{_TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig", "query_timeout_seconds": 1, "query_tries": 1}
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": config}


def _static(settings: Flags) -> dict[str, Any]:
    clusters = [_xds_cluster(settings), _authz_cluster(access.CLUSTER, settings), _authz_cluster(open_requests.CLUSTER, settings)]
    listeners = [_probe_listener(settings)] if settings.probe_address else []
    listeners += [_stats_listener(settings)] if settings.stats_address else []
    if not listeners:
        return {"clusters": clusters}
    return {"listeners": listeners, "clusters": [*clusters, _admin_cluster(settings)]}


def _probe_listener(settings: Flags) -> dict[str, Any]:
    """The listener for kubelets and Prometheus. The admin page itself, which can stop Envoy, is reachable only from its own pod or user.

    Envoy binds this listener when it is initialised, as all others. Before that the probe fails, so the pod is not ready.
    """
    address = _address(parse_address(settings.probe_address))
    if parse_address(settings.probe_address).host == "::":
        address["socket_address"]["ipv4_compat"] = True
    return _own_listener(_PROBE_LISTENER, address, [_probe_route(path) for path in PROBE_PATHS])


def _stats_listener(settings: Flags) -> dict[str, Any]:
    """The listener for `xds metrics`: statistics, and what the kernel knows of Envoy's process. Only Envoy's user may connect."""
    address = {"pipe": {"path": parse_address(settings.stats_address).path, "mode": 0o600}}
    lua = {"name": "lua", "typed_config": {"@type": f"{_LUA}.Lua"}}
    script = {"@type": f"{_LUA}.LuaPerRoute", "source_code": {"inline_string": _PROCESS_SCRIPT}}
    process = {
        "match": {"path": request_metrics.PROCESS_PATH},
        "direct_response": {"status": 500},
        "typed_per_filter_config": {"lua": script},
    }
    return _own_listener(_STATS_LISTENER, address, [_probe_route(request_metrics.STATS_PATH), process], [lua])


def _own_listener(
    name: str, address: dict[str, Any], routes: list[dict[str, Any]], filters: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A listener for the machines that look after this Envoy."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
    connection = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, router],
        "common_http_protocol_options": {"idle_timeout": "75s"},
        # No honest client is slow with a request that has no body.
        "request_headers_timeout": "5s",
        "request_timeout": "5s",
        "stream_idle_timeout": "30s",
    }
    return {
        "name": name,
        "stat_prefix": name,
        "address": address,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]}],
        # An Envoy at its limits is still ready, and its statistics say why; PROBE_CONNECTIONS bounds the probe's listener.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


def _probe_route(path: str) -> dict[str, Any]:
    """A route to one page of the admin. It matches the path as sent, without a query: so the admin receives nothing but these bytes.

    The readiness page has a priority of its own, so that requests for statistics, which take longer, do not delay it.
    """
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    as_sent = {"name": ":path", "string_match": {"exact": path}}
    priority = "HIGH" if path == _READY else "DEFAULT"
    return {
        "match": {"path": path.partition("?")[0], "headers": [method, as_sent]},
        "route": {"cluster": _ADMIN_CLUSTER, "priority": priority},
    }


def _admin_cluster(settings: Flags) -> dict[str, Any]:
    """The admin as a cluster. Envoy renders its pages in the main thread, which also applies xDS updates: few at a time."""
    endpoint = {"endpoint": {"address": _address(parse_address(settings.admin_address))}}
    few = {"max_connections": 2, "max_requests": 2, "max_pending_requests": 16}
    return {
        "name": _ADMIN_CLUSTER,
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **few}, {"priority": "HIGH", "max_connections": 16}]},
        "load_assignment": {"cluster_name": _ADMIN_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _from_ads() -> dict[str, Any]:
    return {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}


def _xds_cluster(settings: Flags) -> dict[str, Any]:
    address = parse_address(settings.xds_address)
    by_name = not address.path and ip_or_none(address.host) is None
    endpoint = {"endpoint": {"address": _address(address)}}
    cluster: dict[str, Any] = {
        "name": XDS_CLUSTER,
        "connect_timeout": "5s",
        "type": "STRICT_DNS" if by_name else "STATIC",
        "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}},
                },
            }
        },
    }
    if by_name:
        cluster["dns_lookup_family"] = "ALL"
    if not address.path:
        keepalive = {"keepalive_time": 30, "keepalive_interval": 5, "keepalive_probes": 3}
        cluster["upstream_connection_options"] = {"tcp_keepalive": keepalive}
    if settings.xds_tls_ca:
        cluster["transport_socket"] = _tls(settings)
    return cluster


def _authz_cluster(name: str, settings: Flags) -> dict[str, Any]:
    """The authorisation service, on a socket. Questions wait there for expensive hashes, and requests that are counted last as they do.

    So there may be many at a time. Each purpose has a cluster of its own, so that neither takes the room of the other.
    """
    endpoint = {"endpoint": {"address": _address(parse_address(settings.authz_address))}}
    many = {"max_requests": 10_000, "max_pending_requests": 10_000}
    return {
        "name": name,
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _tls(settings: Flags) -> dict[str, Any]:
    """Both sides prove who they are (xDS rule I4); the server's name is compared, for Envoys have certificates of the same CA."""
    common: dict[str, Any] = {"alpn_protocols": ["h2"]}
    if settings.output_dir:
        common["tls_certificate_sds_secret_configs"] = [_from_file(settings, _CERTIFICATE)]
        common["validation_context_sds_secret_config"] = _from_file(settings, _CA)
    else:
        common["tls_certificates"] = [_certificate(settings)]
        common["validation_context"] = _validation(settings)
    name = _server_name(settings)
    socket = {"@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": socket | ({} if ip_or_none(name) else {"sni": name})}


def _from_file(settings: Flags, name: str) -> dict[str, Any]:
    path = {"path": f"{settings.output_dir}/{name}.yaml"}
    return {"name": name, "sds_config": {"path_config_source": path, "resource_api_version": "V3"}}


def _certificate(settings: Flags) -> dict[str, Any]:
    return {"certificate_chain": {"filename": str(settings.xds_tls_cert)}, "private_key": {"filename": str(settings.xds_tls_key)}}


def _validation(settings: Flags) -> dict[str, Any]:
    name = _server_name(settings)
    kind = "DNS" if ip_or_none(name) is None else "IP_ADDRESS"
    names = [{"san_type": kind, "matcher": {"exact": name}}]
    return {"trusted_ca": {"filename": str(settings.xds_tls_ca)}, "match_typed_subject_alt_names": names}


def _server_name(settings: Flags) -> str:
    return settings.xds_server_name or parse_address(settings.xds_address).host


def _folder(path: Any) -> dict[str, str]:
    return {"path": str(path.parent)}


def _address(address: SocketAddress) -> dict[str, Any]:
    if address.path:
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _admin_address(settings: Flags) -> dict[str, Any]:
    """The admin's address. Who can connect can stop Envoy: so a socket is only for Envoy's user, whatever its folder allows."""
    address = _address(parse_address(settings.admin_address))
    if "pipe" in address:
        address["pipe"]["mode"] = 0o600
    return address


def _runtime(settings: Flags) -> dict[str, Any]:
    probe = {f"envoy.resource_limits.listener.{_PROBE_LISTENER}.connection_limit": PROBE_CONNECTIONS} if settings.probe_address else {}
    return probe | {
        "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE,
        "http.max_requests_per_io_cycle": REQUESTS_AT_ONCE,
        # Of so many requests half may be taken back early; the connection ends as soon as there can be no other outcome.
        "overload.premature_reset_total_stream_count": 2 * EARLY_RESETS,
        # As in nginx the fragment after a "#" is cut off; by default Envoy answers 400.
        "envoy.reloadable_features.http_reject_path_with_fragment": False,
    }


def _overload(settings: Flags) -> dict[str, Any]:
    """The overload manager: it rejects connections beyond the limit. Near the limit of memory it frees memory."""
    monitors: list[dict[str, Any]] = []
    actions: list[dict[str, Any]] = []
    if settings.max_connections:
        limit = {
            "@type": f"{_TYPE}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": settings.max_connections,
        }
        monitors.append({"name": f"{_MONITOR}.global_downstream_max_connections", "typed_config": limit})
    if settings.max_heap_bytes:
        for name, parts in ((_HEAP, 1), (_HEAP_AND_BEYOND, _BEYOND)):
            heap = {
                "@type": f"{_TYPE}.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                "max_heap_size_bytes": parts * settings.max_heap_bytes,
            }
            monitors.append({"name": name, "typed_config": heap})
        actions = _near_the_heap()
    if not monitors:
        return {}
    if not actions:  # connections are counted as they come
        return {"resource_monitors": monitors}
    return {
        "refresh_interval": f"{_LOOK.total_seconds():g}s",
        "resource_monitors": monitors,
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _TRACKED},
        "actions": actions,
        # As an action (reject_incoming_connections) it would hold for each listener that begins beyond the limit, and for ever for those
        # that bypass the limit.
        "loadshed_points": [{"name": "envoy.load_shed_points.tcp_listener_accept", "triggers": [_at(_REJECT_AT)]}],
    }


def _near_the_heap() -> list[dict[str, Any]]:
    """What Envoy does near its limit of memory, the milder first: it resets the largest and slowest streams before it refuses requests.

    Connections are not closed after their answers (disable_http_keepalive): a client that reconnects may find that no more are accepted.
    """

    def action(name: str, trigger: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, Any]:
        made = {"name": f"{_ACTION}.{name}", "triggers": [trigger]}
        return made | ({"typed_config": config} if config else {})

    def between(begin: float, end: float, parts: int = 1) -> dict[str, Any]:
        scaled = {"scaling_threshold": round(begin / parts, 4), "saturation_threshold": round(end / parts, 4)}
        return {"name": _HEAP if parts == 1 else _HEAP_AND_BEYOND, "scaled": scaled}

    timers = {
        "@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
        "timer_scale_factors": [
            {"timer": name, "min_timeout": "5s"}
            for name in (
                "HTTP_DOWNSTREAM_CONNECTION_IDLE",
                "HTTP_DOWNSTREAM_STREAM_IDLE",
                "HTTP_DOWNSTREAM_STREAM_FLUSH",
                "TRANSPORT_SOCKET_CONNECT",
            )
        ],
    }
    return [
        action("reduce_timeouts", between(*_SHORTER), timers),
        action("reset_high_memory_stream", between(_RESET_FROM, _BEYOND, _BEYOND)),
        action("shrink_heap", _at(_SHRINK_AT)),
        action("stop_accepting_requests", between(*_REFUSE, _BEYOND)),
    ]


def _at(part: float) -> dict[str, Any]:
    """What begins at this part of the limit of memory."""
    return {"name": _HEAP, "threshold": {"value": part}}
