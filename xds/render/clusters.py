"""Clusters: each is the port of a Service under one policy, which is the settings that differ from the defaults.

What does not belong here: the names of clusters (`xds.render.names`), and their endpoints (`xds.render.endpoints`).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCustomClusterType,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Metadata,
    ProxyProtocolConfig,
    ProxyProtocolConfigVersion,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.clusters.common.dns.v3 import DnsLookupFamily
from envoy_data_plane.envoy.extensions.clusters.dns.v3 import DnsCluster
from envoy_data_plane.envoy.extensions.transport_sockets.proxy_protocol.v3 import ProxyProtocolUpstreamTransport
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Struct, Value

from xds import model
from xds.addresses import ip_or_none
from xds.nginx.messages import BUFFER, ads
from xds.nginx.registry import drawn_by, with_hook
from xds.render import names
from xds.render.addresses import upstream_filters
from xds.render.endpoints import load_assignment
from xds.translate.backends import Address
from xds.translate.endpoint_addresses import NOTHING_DENIED, Denied
from xds.wire.encode import encode, pack
from xds.wire.template import Template, placeholder

_ALL = 2**32 - 1
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UDP_SESSIONS = 10_000
"""UDP sessions that an Envoy has at a time for one entry of the ConfigMap; a datagram that would begin another one is dropped.

Whoever sends datagrams may write any address and port into them. Each makes a session, an open file, and Envoy does not survive running
out of those.
"""
METADATA = "xds"
"""The metadata namespace of a cluster with `upstream`, which the access log prints."""


def cluster(
    wanted: model.Cluster, defaults: model.Settings, *, by_client: bool, external: Address | None = None, denied: Denied = NOTHING_DENIED
) -> Cluster:
    """The cluster of a Service's port.

    `defaults` are the settings that its policy does not have. `external` is the target of an ExternalName, a host name and a port, and
    `denied` the addresses to which that must not resolve. With `by_client` one client address stays with one endpoint.
    """
    settings = drawn_by(dict(wanted.policy), defaults)
    made = _external(wanted, external) if external else _by_eds(wanted)
    if wanted.protocol == "UDP":
        made.circuit_breakers = CircuitBreakers(thresholds=[CircuitBreakersThresholds(max_connections=UDP_SESSIONS)])
    if by_client:
        made.lb_policy = ClusterLbPolicy.RING_HASH
    for name, on_cluster in with_hook("on_cluster"):
        if (setting := settings.get(name)) is not None:
            on_cluster(setting, made)
    options = _upstream(settings)
    options.http_filters = upstream_filters(denied, options.http_filters, aside=wanted.aside)
    made.typed_extension_protocol_options[_OPTIONS] = pack(options)
    if wanted.send_proxy:
        made.transport_socket = _proxy_protocol(made.transport_socket)
    return made


def _upstream(settings: Mapping[str, Any]) -> HttpProtocolOptions:
    """The HTTP protocol options towards the endpoints; clusters for TCP and UDP ignore them."""
    options = HttpProtocolOptions()
    for name, on_upstream in with_hook("on_upstream"):
        if (setting := settings.get(name)) is not None:
            on_upstream(setting, options)
    return options


def cluster_bytes(
    wanted: model.Cluster, defaults: model.Settings, *, by_client: bool, external: Address | None = None, denied: Denied = NOTHING_DENIED
) -> bytes:
    """`encode(cluster(…))`. Clusters that differ only in their names share a template."""
    if external:
        return encode(cluster(wanted, defaults, by_client=by_client, external=external, denied=denied))
    made = _template(wanted.policy, wanted.protocol, wanted.send_proxy, by_client, defaults)
    return made.fill(names.cluster(wanted), names.upstream(wanted))


@lru_cache(maxsize=1024)
def _template(policy: tuple[tuple[str, Any], ...], protocol: str, send_proxy: bool, by_client: bool, defaults: model.Settings) -> Template:
    made = cluster(model.Cluster("", "", 0, policy, protocol, send_proxy=send_proxy), defaults, by_client=by_client)
    made.name = placeholder(0)
    assert made.metadata is not None
    made.metadata.filter_metadata[METADATA].fields["upstream"].string_value = placeholder(1)
    return Template(made, 2)


def _by_eds(wanted: model.Cluster) -> Cluster:
    return Cluster(
        name=names.cluster(wanted),
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads()),
        **_common(wanted),
    )


def _external(wanted: model.Cluster, where: Address) -> Cluster:
    """The cluster of an ExternalName: all addresses of both families, refreshed at the TTL of the DNS (nginx 4.6). IP addresses are static.

    A changed cluster starts without addresses, so the old one serves until the DNS has answered (`wait_for_warm_on_init`, Envoy's default).
    Envoy ACKs clusters only then, and routes are sent after that. The bootstrap bounds how long a silent name server may take.
    """
    made = Cluster(name=names.cluster(wanted), load_assignment=load_assignment(names.cluster(wanted), [where]), **_common(wanted))
    if ip_or_none(where.ip) is not None and "%" not in where.ip:
        made.type = ClusterDiscoveryType.STATIC
    else:
        dns = DnsCluster(respect_dns_ttl=True, dns_lookup_family=DnsLookupFamily.ALL)
        made.cluster_type = ClusterCustomClusterType(name="envoy.clusters.dns", typed_config=pack(dns))
    return made


def _common(wanted: model.Cluster) -> dict[str, Any]:
    """Fields of every cluster: limits of no circuit breaker (decision 9); draining endpoints get nothing new (decision 11)."""
    limits = CircuitBreakersThresholds(
        max_connections=_ALL, max_pending_requests=_ALL, max_requests=_ALL, max_retries=_ALL, max_connection_pools=_ALL
    )
    return {
        "connect_timeout": datetime.timedelta(seconds=5),
        "per_connection_buffer_limit_bytes": BUFFER,
        "circuit_breakers": CircuitBreakers(thresholds=[limits]),
        "common_lb_config": ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0.0)),
        "metadata": Metadata(filter_metadata={METADATA: Struct(fields={"upstream": Value(string_value=names.upstream(wanted))})}),
    }


def _proxy_protocol(inner: TransportSocket | None) -> TransportSocket:
    """A transport socket that begins each connection with a PROXY header of version 1, as nginx's `proxy_protocol on` does."""
    inner = inner or TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer()))
    header = ProxyProtocolConfig(version=ProxyProtocolConfigVersion.V1)
    config = ProxyProtocolUpstreamTransport(config=header, transport_socket=inner)
    return TransportSocket(name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=pack(config))
