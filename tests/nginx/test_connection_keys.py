"""Keys of the ConfigMap about connections, of clients and to backends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptionsHeadersWithUnderscoresAction as Underscores
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

from xds.model import Stream, Via
from xds.nginx.registry import stream
from xds.render.connections import connection as rendered
from xds.render.listeners import tcp
from xds.wire.encode import encode

from .drawing import CLUSTER, complaints, connection, settings, upstream


def made(**keys: str) -> HttpConnectionManager:
    return connection(settings(keys={name.replace("_", "-"): value for name, value in keys.items()}), Via.HTTP)


@pytest.mark.parametrize(
    ("keys", "idle", "requests"),
    [
        ({}, 75, None),
        ({"keep_alive": "120", "keep_alive_requests": "10000"}, 120, 10000),
        ({"keep_alive": "0", "keep_alive_requests": "10000"}, None, 1),
        ({"keep_alive_requests": "0"}, 75, None),
    ],
)
def test_how_long_a_connection_of_a_client_lasts(keys: dict[str, str], idle: int | None, requests: int | None) -> None:
    common = made(**keys).common_http_protocol_options
    assert common
    assert common.idle_timeout == (timedelta(seconds=idle) if idle else None)
    assert common.max_requests_per_connection == requests


def test_what_else_a_listener_takes() -> None:
    found = made(
        client_header_timeout="120", http2_max_concurrent_streams="7", enable_underscores_in_headers="true", generate_request_id="f"
    )
    assert found.request_headers_timeout == timedelta(seconds=120)
    assert found.http2_protocol_options
    assert found.http2_protocol_options.max_concurrent_streams == 7
    assert found.common_http_protocol_options
    assert found.common_http_protocol_options.headers_with_underscores_action is Underscores.ALLOW
    assert found.generate_request_id is False


@pytest.mark.parametrize(
    ("keys", "any_name", "underscores"),
    [
        ({}, False, Underscores.DROP_HEADER),
        ({"ignore-invalid-headers": "false"}, True, Underscores.ALLOW),
        ({"enable-underscores-in-headers": "true"}, False, Underscores.ALLOW),
    ],
)
def test_which_names_of_headers_pass(keys: dict[str, str], any_name: bool, underscores: Underscores) -> None:
    found = rendered(Via.HTTPS, 443, settings(keys=keys))
    assert found.common_http_protocol_options
    assert found.common_http_protocol_options.headers_with_underscores_action is underscores
    (first, *_) = found.early_header_mutation_extensions
    assert (b"[^a-z0-9_-]" in encode(first)) is not any_name


@pytest.mark.parametrize(
    ("keys", "tries"),
    [
        ({}, 3),
        ({"proxy-stream-next-upstream-tries": "5"}, 5),
        ({"proxy-stream-next-upstream-tries": "0"}, 32),
        ({"proxy-stream-next-upstream-tries": "1000"}, 32),
        ({"proxy-stream-next-upstream": "false", "proxy-stream-next-upstream-tries": "5"}, 1),
    ],
)
def test_how_many_endpoints_a_tcp_connection_is_tried_at(keys: dict[str, str], tries: int) -> None:
    entry = stream(settings(keys=keys), Stream(7000, "TCP", CLUSTER, by_client=False, take_proxy=False))
    (chain,) = tcp(entry, "::", "default/web/80").filter_chains
    assert chain.filters[0].typed_config
    assert TcpProxy.parse(chain.filters[0].typed_config.value).max_connect_attempts == tries


def test_how_long_a_connection_to_a_backend_lasts() -> None:
    usual = upstream().common_http_protocol_options
    assert usual
    assert (usual.idle_timeout, usual.max_requests_per_connection, usual.max_connection_duration) == (timedelta(seconds=60), None, None)
    keys = {"upstream-keepalive-timeout": "30", "upstream-keepalive-requests": "100", "upstream-keepalive-time": "1h"}
    found = upstream(keys=keys).common_http_protocol_options
    assert found
    assert (found.idle_timeout, found.max_requests_per_connection) == (timedelta(seconds=30), 100)
    assert found.max_connection_duration == timedelta(hours=1)
    assert found.max_headers_count == usual.max_headers_count, "what other features say stays"


@pytest.mark.parametrize("name", ["keep-alive", "client-header-timeout", "upstream-keepalive-timeout"])
def test_a_time_that_envoy_could_not_count_is_a_complaint(name: str) -> None:
    assert [said for said, _ in complaints(keys={name: "999999999999"})] == [name]
