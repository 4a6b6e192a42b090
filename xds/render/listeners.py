"""Listeners: http, https, and one for each entry of the tcp- and udp-services ConfigMaps.

A change of routes, endpoints or the contents of certificates does not change their bytes. Each certificate has a filter chain of its own.
`filter_chain_matcher`, beside the chains, selects the chain of a connection. Envoy drains the connections of a changed chain, so a chain
must not contain its hosts. A changed listener drains all of its connections, so everything else is part of it from the start.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    SocketAddress,
    SocketAddressProtocol,
    SocketOption,
    SocketOptionSocketState,
    TransportSocket,
    UdpSocketConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener, ListenerFilter, UdpListenerConfig
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol.v3 import ProxyProtocol
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import Route as UdpRoute
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import UdpProxyConfig, UdpProxyConfigHashPolicy
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherOnMatch

from xds.model import Cluster, HostTls, Passthrough, Settings, Stream, Via
from xds.render import names
from xds.render.connections import connection, stream_log
from xds.render.server_names import matcher_bytes
from xds.render.sources import ads
from xds.translate.certificates import DEFAULT
from xds.wire.encode import encode, field, pack

_CIPHERS = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
]
_LARGEST_DATAGRAM = 9000
"""Bytes: the payload of jumbo frames. Envoy's default of 1,500 truncates the answers of many DNS servers."""
_SOL_SOCKET, _SO_RCVBUF, _RECEIVE_BUFFER = 1, 8, 4 << 20
"""Linux's constants, and the bytes that the kernel buffers, so that a burst of datagrams is not lost."""
_PASSTHROUGH_IDLE = datetime.timedelta(hours=24)
_FILTER_CHAINS = 3
"""The field number of Listener.filter_chains."""
_FILTER_CHAIN_MATCHER = 32
"""The field number of Listener.filter_chain_matcher."""


def http(address: str, port: int, defaults: Settings) -> Listener:
    """The plain listener."""
    manager = _manager(Via.HTTP, port, defaults)
    return _listener(names.HTTP, address, port, filter_chains=[FilterChain(name=names.HTTP, filters=[manager])])


def https(address: str, port: int, defaults: Settings) -> Listener:
    """The TLS listener with the chain of the default certificate only; `https_bytes` puts in the others, and who takes which.

    The default chain is no `default_filter_chain`: a listener whose `filter_chains` are empty Envoy replaces as a whole, which drains it.
    """
    inspector = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
    chain = _tls_chain(DEFAULT, _manager(Via.HTTPS, port, defaults))
    return _listener(names.HTTPS, address, port, listener_filters=[inspector], filter_chains=[chain])


def https_bytes(bare: Listener, chains: Mapping[str, bytes], by_host: Mapping[str, str]) -> bytes:
    """The TLS listener with further filter chains (name → as `chain_bytes` made them), sorted by name.

    `by_host` is host → the name of its chain; a host may be a wildcard such as `*.example.com`. Where there is no chain of that name, Envoy
    closes the connection.
    """
    before = encode(Listener(name=bare.name, address=bare.address, stat_prefix=bare.stat_prefix, filter_chains=bare.filter_chains))
    whole = encode(bare)
    assert whole.startswith(before)
    matcher = field(_FILTER_CHAIN_MATCHER, matcher_bytes(by_host, DEFAULT))
    return b"".join([before, *(chains[name] for name in sorted(chains)), matcher, whole[len(before) :]])


def chain_bytes(tls: HostTls, bare: Listener) -> bytes:
    """The filter chain of hosts whose TLS ends there, as it stands in a Listener."""
    if isinstance(tls, Passthrough):
        assert tls.cluster is not None
        return field(_FILTER_CHAINS, encode(_passthrough_chain(names.chain(tls), tls.cluster)))
    return field(_FILTER_CHAINS, encode(_tls_chain(names.chain(tls), bare.filter_chains[0].filters[0])))


def tcp(entry: Stream, address: str, cluster: str) -> Listener:
    """The listener of an entry of tcp-services: connections go to the endpoints, and are closed after `idle` idle seconds."""
    proxy = TcpProxy(
        stat_prefix=names.stream(entry.protocol, entry.port),
        cluster=cluster,
        idle_timeout=datetime.timedelta(seconds=entry.idle),
        max_connect_attempts=3,
        hash_policy=[HashPolicy(source_ip=HashPolicySourceIp())] if entry.by_client else [],
        access_log=[stream_log(entry.protocol)],
    )
    chain = FilterChain(filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))])
    filters = [ListenerFilter(name="envoy.filters.listener.proxy_protocol", typed_config=pack(ProxyProtocol()))] if entry.take_proxy else []
    return _listener(names.stream(entry.protocol, entry.port), address, entry.port, filter_chains=[chain], listener_filters=filters)


def udp(entry: Stream, address: str, cluster: str) -> Listener:
    """The listener of an entry of udp-services: a session for each client address and port, closed after `idle` idle seconds."""
    action = TypedExtensionConfig(name="route", typed_config=pack(UdpRoute(cluster=cluster)))
    proxy = UdpProxyConfig(
        stat_prefix=names.stream(entry.protocol, entry.port),
        matcher=Matcher(on_no_match=MatcherOnMatch(action=action)),
        idle_timeout=datetime.timedelta(seconds=entry.idle),
        hash_policies=[UdpProxyConfigHashPolicy(source_ip=True)] if entry.by_client else [],
        access_log=[stream_log(entry.protocol)],
        upstream_socket_config=UdpSocketConfig(max_rx_datagram_size=_LARGEST_DATAGRAM),
    )
    listener = _listener(
        names.stream(entry.protocol, entry.port),
        address,
        entry.port,
        protocol=SocketAddressProtocol.UDP,
        listener_filters=[ListenerFilter(name="envoy.filters.udp_listener.udp_proxy", typed_config=pack(proxy))],
    )
    listener.udp_listener_config = UdpListenerConfig(downstream_socket_config=UdpSocketConfig(max_rx_datagram_size=_LARGEST_DATAGRAM))
    buffer = SocketOption(level=_SOL_SOCKET, name=_SO_RCVBUF, int_value=_RECEIVE_BUFFER, state=SocketOptionSocketState.STATE_PREBIND)
    listener.socket_options = [buffer]
    return listener


def _passthrough_chain(name: str, cluster: Cluster) -> FilterChain:
    """TLS as it came, to a backend that has the certificate: without a transport socket Envoy sees bytes only.

    ingress-nginx waits without end for either side. A day is a bound for clients that vanished.
    """
    proxy = TcpProxy(
        stat_prefix="passthrough",
        cluster=names.cluster(cluster),
        idle_timeout=_PASSTHROUGH_IDLE,
        max_connect_attempts=3,
        access_log=[stream_log("TCP")],
    )
    return FilterChain(name=name, filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))])


def _listener(
    name: str,
    address: str,
    port: int,
    *,
    protocol: SocketAddressProtocol = SocketAddressProtocol.TCP,
    filter_chains: Sequence[FilterChain] = (),
    listener_filters: Sequence[ListenerFilter] = (),
) -> Listener:
    both = ipaddress.ip_address(address) == ipaddress.IPv6Address("::")
    where = SocketAddress(protocol=protocol, address=address, port_value=port, ipv4_compat=both)
    return Listener(
        name=name,
        address=Address(socket_address=where),
        filter_chains=list(filter_chains),
        listener_filters=list(listener_filters),
        stat_prefix=name,
    )


def _manager(via: Via, port: int, defaults: Settings) -> Filter:
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(connection(via, port, defaults)))


def _tls_chain(certificate: str, manager: Filter) -> FilterChain:
    """TLS 1.2 and 1.3 with nginx's ciphers; the certificate is only named, so that a renewal touches no listener."""
    parameters = TlsParameters(
        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
        tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        cipher_suites=_CIPHERS,
    )
    common = CommonTlsContext(
        tls_params=parameters,
        tls_certificate_sds_secret_configs=[SdsSecretConfig(name=certificate, sds_config=ads())],
        alpn_protocols=["h2", "http/1.1"],
    )
    tls = TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(DownstreamTlsContext(common_tls_context=common)))
    return FilterChain(
        name=certificate,
        filters=[manager],
        transport_socket=tls,
    )
