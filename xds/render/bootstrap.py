"""The bootstrap of an Envoy: how it finds the management server, who it says it is, and what it defends itself with.

What belongs here: what Envoy must know before it has asked anybody, as plain values that are YAML and JSON alike. What does not
belong here: listeners, routes and clusters (`xds.render`), writing files (`xds.cli.bootstrap`), running Envoy.
"""

from __future__ import annotations

from typing import Any

from xds.config import Flags, SocketAddress, ip_or_none, parse_address

XDS_CLUSTER = "xds_cluster"
"""The static cluster of the management server. No Service can have the name of its cluster: those have slashes."""

REGEX_PROGRAM_SIZE = 100_000
"""Largest compiled RE2 program that Envoy takes. Its default, 100, rejects a route whose regex has a counted repetition or two."""

_READY = "/ready"
PROBE_PATHS = (_READY, "/stats/prometheus")
"""What is answered at `--probe-address`: the two pages of the admin that only tell, and nothing that anybody must not know."""

PROBE_CONNECTIONS = 1_000
"""Connections that `--probe-address` takes at a time, whatever else is connected."""

_TYPE = "type.googleapis.com/envoy.extensions"
_MONITOR = "envoy.resource_monitors"
_ACTION = "envoy.overload_actions"
_CERTIFICATE = "xds_certificate"
_CA = "xds_ca"
_ADMIN_CLUSTER = "xds_admin"
_PROBE_LISTENER = "probe"


def bootstrap(settings: Flags) -> dict[str, Any]:
    """An Envoy bootstrap (envoy.config.bootstrap.v3.Bootstrap) in its JSON form.

    LDS and CDS never time out (xDS rule O9): without an answer there is nothing to serve, so Envoy stays unready, and whoever
    balances over Envoys leaves it alone.
    """
    content = {
        "node": {"id": settings.node_id, "cluster": settings.node_cluster},
        # The limit of connections must not lock out the one who looks why it was reached.
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
        # Statistics of a cluster without traffic take no memory: most of an ingress' clusters, most of the time.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
    }
    overload = _overload(settings)
    return content | ({"overload_manager": overload} if overload else {})


def secret_files(settings: Flags) -> dict[str, dict[str, Any]]:
    """File name → the content of the files in `--output-dir` that the bootstrap's TLS refers to; none without TLS or folder.

    Envoy follows renewals of files only in secrets that come by SDS; these come by SDS from a file. Where the folder of a
    certificate is a mounted Secret, the kubelet swaps a symbolic link in it, which is what `watched_directory` waits for.
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


def _resolver() -> dict[str, Any]:
    """How names are resolved. Nothing that is new is served before its name is, so a silent name server must not take long.

    Envoy asks again every few seconds, and keeps the addresses that it has; c-ares by itself would wait for up to 50 s.
    """
    config = {"@type": f"{_TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig", "query_timeout_seconds": 1, "query_tries": 1}
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": config}


def _static(settings: Flags) -> dict[str, Any]:
    clusters = [_xds_cluster(settings)]
    if not settings.probe_address:
        return {"clusters": clusters}
    return {"listeners": [_probe_listener(settings)], "clusters": [*clusters, _admin_cluster(settings)]}


def _probe_listener(settings: Flags) -> dict[str, Any]:
    """Kubelets and Prometheus come from outside; the admin page, which can end Envoy, stays where only its own pod or user gets in.

    Envoy listens here once it is initialised, as it does everywhere: before that, nobody answers, and so it is not ready.
    """
    connection = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": _PROBE_LISTENER,
        "route_config": {
            "virtual_hosts": [{"name": _PROBE_LISTENER, "domains": ["*"], "routes": [_probe_route(path) for path in PROBE_PATHS]}]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}],
        "common_http_protocol_options": {"idle_timeout": "75s"},
        # Nobody has a reason to be slow with a request that has no body.
        "request_headers_timeout": "5s",
        "request_timeout": "5s",
        "stream_idle_timeout": "30s",
    }
    address = _address(parse_address(settings.probe_address))
    if parse_address(settings.probe_address).host == "::":
        address["socket_address"]["ipv4_compat"] = True
    return {
        "name": _PROBE_LISTENER,
        "stat_prefix": _PROBE_LISTENER,
        "address": address,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]}],
        "ignore_global_conn_limit": True,  # an Envoy with all the connections that it may have is ready; PROBE_CONNECTIONS is the limit
    }


def _probe_route(path: str) -> dict[str, Any]:
    """To one page of the admin: the path as it was sent, without a query, so that nothing but these bytes ever reaches the admin.

    That Envoy is ready is asked with a priority of its own: pages of statistics, which take longer, do not keep it waiting.
    """
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    as_sent = {"name": ":path", "string_match": {"exact": path}}
    priority = "HIGH" if path == _READY else "DEFAULT"
    return {"match": {"path": path, "headers": [method, as_sent]}, "route": {"cluster": _ADMIN_CLUSTER, "priority": priority}}


def _admin_cluster(settings: Flags) -> dict[str, Any]:
    """Envoy makes its pages in the thread that takes over what is new: few are asked for at a time."""
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
    """Whoever can connect may end Envoy, so a socket is for its own user, whoever else may enter its folder."""
    address = _address(parse_address(settings.admin_address))
    if "pipe" in address:
        address["pipe"]["mode"] = 0o600
    return address


def _runtime(settings: Flags) -> dict[str, Any]:
    probe = {f"envoy.resource_limits.listener.{_PROBE_LISTENER}.connection_limit": PROBE_CONNECTIONS} if settings.probe_address else {}
    return probe | {
        "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE,
        # As nginx: what follows a "#" is cut off. Envoy by itself answers 400.
        "envoy.reloadable_features.http_reject_path_with_fragment": False,
    }


def _overload(settings: Flags) -> dict[str, Any]:
    """Connections are refused beyond the limit; near the limit of memory Envoy frees what it can, then refuses requests."""
    monitors: list[dict[str, Any]] = []
    actions: list[dict[str, Any]] = []
    if settings.max_connections:
        limit = {
            "@type": f"{_TYPE}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": settings.max_connections,
        }
        monitors.append({"name": f"{_MONITOR}.global_downstream_max_connections", "typed_config": limit})
    if settings.max_heap_bytes:
        heap = {"@type": f"{_TYPE}.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": settings.max_heap_bytes}
        monitors.append({"name": f"{_MONITOR}.fixed_heap", "typed_config": heap})
        for action, threshold in (("shrink_heap", 0.9), ("disable_http_keepalive", 0.95), ("stop_accepting_requests", 0.98)):
            trigger = {"name": f"{_MONITOR}.fixed_heap", "threshold": {"value": threshold}}
            actions.append({"name": f"{_ACTION}.{action}", "triggers": [trigger]})
    if not monitors:
        return {}
    return {"refresh_interval": "0.25s", "resource_monitors": monitors} | ({"actions": actions} if actions else {})
