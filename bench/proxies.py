"""Proxies to compare with: configurations of a bare Envoy and of nginx that do nothing but forward, and ours as one file.

What does not belong here: running and measuring them (`bench.request_price`).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.envoy.harness import Certificate
from tests.envoy.harness.manifests import Folder, config_map, endpoint_slice, ingress, secret_tls, service
from xds import offline
from xds.cli.translate import static_bootstrap
from xds.config import Flags

Json = dict[str, Any]
CONFIG = "type.googleapis.com/envoy."
_HCM = CONFIG + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {"name": "router", "typed_config": {"@type": CONFIG + "extensions.filters.http.router.v3.Router"}}
_UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LOG = {"name": "log", "typed_config": {"@type": CONFIG + "extensions.access_loggers.stream.v3.StdoutAccessLog"}}
_KEEP_CASE = {
    "header_key_format": {
        "stateful_formatter": {
            "name": "preserve_case",
            "typed_config": {"@type": CONFIG + "extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"},
        }
    }
}
_AS_OURS = {"normalize_path": True, "merge_slashes": True, "use_remote_address": True, "http_protocol_options": _KEEP_CASE}
_HTTP2 = {
    "typed_extension_protocol_options": {
        _UPSTREAM: {"@type": f"type.googleapis.com/{_UPSTREAM}", "explicit_http_config": {"http2_protocol_options": {}}}
    }
}
LUA_MODULES = tuple(Path("/usr/lib/nginx/modules", name) for name in ("ndk_http_module.so", "ngx_http_lua_module.so"))
_UPSTREAM_INFO = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [name] [] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id"
)
"""The default of ingress-nginx' `log-format-upstream`."""


def hosts(n: int) -> tuple[str, ...]:
    """The names of `n` hosts."""
    return tuple(f"web-{i}.example.com" for i in range(n))


def bare_envoy(port: int, backend: int, names: Sequence[str], *, as_ours: bool, log: bool, grpc: bool = False) -> Json:
    """An Envoy with one route a host and the router; `as_ours` with the path, the request id and the case of headers treated as we do.

    With `grpc` its backend gets HTTP/2.
    """
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
    manager: Json = {
        "@type": _HCM,
        "stat_prefix": "http",
        "generate_request_id": as_ours,
        "access_log": [_LOG] if log else [],
        "http_filters": [_ROUTER],
        "route_config": {"virtual_hosts": [{"name": name, "domains": [name], "routes": [route]} for name in names]},
        **(_AS_OURS if as_ours else {}),
    }
    endpoint = {"endpoint": {"address": _address(backend)}}
    return {
        "static_resources": {
            "listeners": [
                {"name": "http", "address": _address(port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
            ],
            "clusters": [
                {
                    "name": "backend",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]},
                    **(_HTTP2 if grpc else {}),
                }
            ],
        }
    }


def ours(
    port: int,
    https_port: int,
    backend: int,
    names: Sequence[str],
    notes: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    more: Sequence[Json] = (),
    certificate: Certificate | None = None,
    **flags_besides: Any,
) -> Json:
    """What `xds translate --static` prints for an Ingress a host, all of which lead to one backend on loopback.

    `notes` are annotations of each Ingress, `keys` those of the ConfigMap, `more` further objects. With a `certificate` there is the https
    listener as well, which has it for all names. `flags_besides` are fields of Flags.
    """
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
        manifests = Folder(Path(folder))
        manifests.write("backend.yaml", service("web"), endpoint_slice("web", [("127.0.0.1", backend)]))
        manifests.write("ingresses.yaml", *(ingress(f"web-{i}", name, {"/": ("web", 80)}, notes) for i, name in enumerate(names)))
        manifests.write("more.yaml", config_map("controller", keys or {}), *more)
        if certificate:
            manifests.write("certificate.yaml", secret_tls("default", certificate))
        flags = Flags(
            manifests=(Path(folder),),
            http_port=port,
            https_port=https_port,
            listen_address="127.0.0.1",
            configmap="default/controller" if keys else "",
            default_ssl_certificate="default/default" if certificate else "",
            **flags_besides,
        )
        made = static_bootstrap(flags, offline.load(flags).snapshot)
    listeners = [_listener(made, name) for name in ("http", *(["https"] if certificate else []))]
    return made | {"static_resources": made["static_resources"] | {"listeners": listeners}}


def with_tls(config: Json, port: int, certificate: Certificate) -> Json:
    """A bare Envoy that has its listener a second time, with TLS."""
    (plain,) = config["static_resources"]["listeners"]
    pair = {
        "certificate_chain": {"inline_string": certificate.cert_pem.decode()},
        "private_key": {"inline_string": certificate.key_pem.decode()},
    }
    context = {
        "@type": CONFIG + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
    }
    chain = plain["filter_chains"][0] | {"transport_socket": {"name": "tls", "typed_config": context}}
    secure = {"name": "https", "address": _address(port), "filter_chains": [chain]}
    return config | {"static_resources": config["static_resources"] | {"listeners": [plain, secure]}}


def without(config: Json, change: Callable[[Json], None]) -> Json:
    """The configuration after a change of its HTTP connection manager."""
    changed = copy.deepcopy(config)
    change(changed["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"])
    return changed


def without_filters(*named: str) -> Callable[[Json], None]:
    """A change: no HTTP filter, nor early header mutation, of these names."""

    def change(manager: Json) -> None:
        for field in ("http_filters", "early_header_mutation_extensions"):
            manager[field] = [each for each in manager.get(field, ()) if each["name"] not in named]

    return change


def without_fields(*paths: str) -> Callable[[Json], None]:
    """A change: fields of the connection manager, each a path with dots, are as if they had never been written."""

    def change(manager: Json) -> None:
        for path in paths:
            *parents, last = path.split(".")
            inner = manager
            for parent in parents:
                inner = inner.get(parent, {})
            inner.pop(last, None)

    return change


def without_request_header(name: str) -> Callable[[Json], None]:
    """A change: the route table does not write this header for all requests."""

    def change(manager: Json) -> None:
        table = manager["route_config"]
        table["request_headers_to_add"] = [each for each in table["request_headers_to_add"] if each["header"]["key"] != name]

    return change


def with_plain_log(manager: Json) -> None:
    """A change: Envoy's own log line in the place of ours."""
    manager["access_log"] = [_LOG]


def nginx(port: int, backend: int, names: Sequence[str], folder: Path, *, lua: bool, log: bool) -> str:
    """An nginx with a server a host and connections kept alive; `lua`: a balancer in Lua and the log line, as ingress-nginx has them."""
    balancer = f'balancer_by_lua_block {{ require("ngx.balancer").set_current_peer("127.0.0.1", {backend}) }}'
    server = f"server 0.0.0.1; {balancer}" if lua else f"server 127.0.0.1:{backend};"
    path = f"{folder}/access.log {'upstreaminfo' if lua else 'combined'}" if log else "off"
    http = (
        f"log_format upstreaminfo '{_UPSTREAM_INFO}'; access_log {path};",
        "server_names_hash_max_size 16384; server_names_hash_bucket_size 128;",
        f"upstream backend {{ {server} keepalive 320; keepalive_requests 1000000000; }}",
        *_servers(port, names),
    )
    return _nginx(folder, http, modules=LUA_MODULES if lua else ())


def answering_nginx(port: int, folder: Path) -> str:
    """An nginx that answers 200 with two bytes."""
    return _nginx(folder, [f"access_log off; server {{ listen 127.0.0.1:{port}; return 200 ok; }}"])


def answering_grpc(port: int, folder: Path) -> str:
    """An nginx that answers calls by HTTP/2 with an OK and no message."""
    headers = "default_type application/grpc; add_header grpc-status 0"
    return _nginx(folder, [f"access_log off; server {{ listen 127.0.0.1:{port} http2; {headers}; return 200; }}"])


def _nginx(folder: Path, http: Iterable[str], modules: Sequence[Path] = ()) -> str:
    """An nginx with one worker that writes nowhere but into a folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(
        [
            *(f"load_module {module};" for module in modules),
            f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;",
            "events { worker_connections 1024; }",
            "http {",
            "keepalive_requests 1000000000;",
            *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
            *http,
            "}",
        ]
    )


def _servers(port: int, names: Sequence[str]) -> Iterator[str]:
    headers = (
        "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; proxy_set_header X-Request-ID $request_id;"
    )
    for name in names:
        yield f"  server {{ listen 127.0.0.1:{port}; server_name {name}; location / {{ {headers} proxy_pass http://backend; }} }}"


def _listener(config: Json, name: str) -> Json:
    found: Json = next(each for each in config["static_resources"]["listeners"] if each["name"] == name)
    return found


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
