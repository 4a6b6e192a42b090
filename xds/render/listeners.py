"""Listeners: http, https, and one for each entry of the tcp- and udp-services ConfigMaps.

A change of routes, endpoints or the contents of certificates does not change their bytes. Each certificate has a filter chain of its own.
`filter_chain_matcher`, beside the chains, selects the chain of a connection. Envoy drains the connections of a changed chain, so a chain
must not contain its hosts. A changed listener drains all of its connections, so everything else is part of it from the start.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
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
from envoy_data_plane.envoy.extensions.filters.network.direct_response.v3 import Config
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import Route as UdpRoute
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import UdpProxyConfig, UdpProxyConfigHashPolicy
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CertificateValidationContextTrustChainVerification,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import StringValue
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherOnMatch

from xds.model import Cluster, HostTls, Passthrough, Settings, Stream, Terminate, Via
from xds.nginx.messages import BUFFER, authority, sds
from xds.nginx.registry import asks, with_hook
from xds.nginx.tls import USUAL
from xds.render import names
from xds.render.connections import connection, stream_logs
from xds.render.handshakes import arrival, noted
from xds.render.server_names import matcher_bytes
from xds.translate.certificates import DEFAULT
from xds.wire.encode import encode, field, pack
from xds.wire.template import Template, placeholder

_LARGEST_DATAGRAM = 9000
"""Bytes: the payload of jumbo frames. Envoy's default of 1,500 truncates the answers of many DNS servers."""
_SOL_SOCKET, _SO_RCVBUF, _RECEIVE_BUFFER = 1, 8, 4 << 20
"""Linux's constants, and the bytes that the kernel buffers, so that a burst of datagrams is not lost."""
_TCP, _TCP_NOTSENT_LOWAT, _UNSENT = 6, 25, 128 << 10
"""Linux's constants, and the bytes of a connection that the kernel keeps unsent; by itself it keeps megabytes.

For thousands of clients that read nothing that would be gigabytes, beside Envoy's own memory.
"""
_ACCEPTED = 16
"""Connections that Envoy accepts before it turns to those that it has; without it all that wait, which may be thousands."""
_READ_NOTHING = datetime.timedelta(seconds=60)
"""How long a client may read nothing of what waits for it: nginx' send_timeout."""
_HANDSHAKE = datetime.timedelta(seconds=60)
"""How long TLS may take, unless the ConfigMap has a client-header-timeout, which nginx applies to it as well."""
_PASSTHROUGH_IDLE = datetime.timedelta(hours=24)
_NOWHERE = "nowhere"
"""The chain that refuses every connection that is led there."""
_UNRECOGNIZED_NAME, _INTERNAL_ERROR = 112, 80
"""Alerts of TLS (RFC 8446, 6.2)."""
_FILTER_CHAINS = 3
"""The field number of Listener.filter_chains."""
_FILTER_CHAIN_MATCHER = 32
"""The field number of Listener.filter_chain_matcher."""


def http(address: str, port: int, defaults: Settings, counts: Sequence[AccessLog] = ()) -> Listener:
    """The plain listener. `counts` count its requests (`xds.render.request_counts`)."""
    manager = _manager(Via.HTTP, port, defaults, counts)
    made = _listener(names.HTTP, address, port, filter_chains=[FilterChain(name=names.HTTP, filters=[manager])])
    made.per_connection_buffer_high_watermark_timeout = _READ_NOTHING
    return _drawn(made, defaults)


def https(address: str, port: int, defaults: Settings, counts: Sequence[AccessLog] = ()) -> Listener:
    """The TLS listener with the chain of the default certificate only; `https_bytes` puts in the others, and who takes which.

    The default chain is no `default_filter_chain`: a listener whose `filter_chains` are empty Envoy replaces as a whole, which drains it.
    """
    inspector = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
    chain = _tls_chain(Terminate(), _tls_context(defaults), _HANDSHAKE)
    chain.filters.append(_manager(Via.HTTPS, port, defaults, counts))
    made = _listener(names.HTTPS, address, port, listener_filters=[inspector], filter_chains=[chain])
    made.per_connection_buffer_high_watermark_timeout = _READ_NOTHING
    if asks("rejects_unnamed", defaults):
        made.filter_chain_matcher = Matcher(on_no_match=MatcherOnMatch(action=_to_chain(_NOWHERE)))
        made.filter_chains.append(_alerting(_NOWHERE, _UNRECOGNIZED_NAME))
    return _drawn(made, defaults)


def _drawn(made: Listener, defaults: Settings) -> Listener:
    """With what features add to both listeners."""
    for name, on_listener in with_hook("on_listener"):
        if name in defaults:
            on_listener(defaults[name], made)
    return made


def https_bytes(bare: Listener, chains: Mapping[str, Sequence[bytes]], by_host: Mapping[str, str]) -> bytes:
    """The TLS listener with further filter chains (name → as `chain_pieces` made them), sorted by name.

    `by_host` is host → the name of its chain; a host may be a wildcard such as `*.example.com`, and "" is every other name. Where there is
    no chain of that name, Envoy closes the connection.
    """
    before = encode(Listener(name=bare.name, address=bare.address, stat_prefix=bare.stat_prefix, filter_chains=bare.filter_chains))
    whole = encode(replace(bare, filter_chain_matcher=None))
    assert whole.startswith(before)
    named = {host: chain for host, chain in by_host.items() if host}
    matcher = field(_FILTER_CHAIN_MATCHER, matcher_bytes(named, _NOWHERE if rejects_unnamed(bare) else by_host.get("", DEFAULT)))
    return b"".join([before, *(piece for name in sorted(chains) for piece in chains[name]), matcher, whole[len(before) :]])


def rejects_unnamed(bare: Listener) -> bool:
    """Whether a client must name a host that is there."""
    return bare.filter_chain_matcher is not None


def chain_pieces(tls: HostTls, bare: Listener) -> tuple[bytes, ...]:
    """The filter chain of hosts whose TLS ends there, as it stands in a Listener: bytes to be joined.

    The connection manager, nearly all of it, is the same bytes object in all chains. A thousand copies would take 20 MB.
    """
    if isinstance(tls, Passthrough):
        name = names.chain(tls)
        return (field(_FILTER_CHAINS, encode(_passthrough_chain(name, tls.cluster) if tls.cluster else _alerting(name, _INTERNAL_ERROR))),)
    first = bare.filter_chains[0]
    assert first.transport_socket is not None
    assert first.transport_socket.typed_config is not None
    before, after = _around_manager(tls, first.transport_socket.typed_config.value, first.transport_socket_connect_timeout)
    pieces = (before, _manager_bytes(first.filters[-1]), after)
    whole = field(_FILTER_CHAINS, b"".join(pieces))
    return (whole[: len(whole) - sum(map(len, pieces))], *pieces)


def _around_manager(tls: Terminate, context: bytes, patience: datetime.timedelta | None) -> tuple[bytes, bytes]:
    """What stands in a chain before the connection manager, and after it. Chains that ask for no certificate of clients share templates."""
    if tls.authority or tls == Terminate():
        chain = _tls_chain(tls, _parsed(context), patience)
        return encode(FilterChain(filters=chain.filters)), encode(replace(chain, filters=[]))
    before, after = _templates(tls.ciphers, context, patience)
    return before.fill(arrival(tls)), after.fill(names.chain(tls), tls.certificate or DEFAULT)


@lru_cache(maxsize=64)
def _templates(ciphers: tuple[str, ...], context: bytes, patience: datetime.timedelta | None) -> tuple[Template, Template]:
    """The placeholder of the first is the note of an arrival; those of the second are the names of the chain and of its certificate."""
    some = Terminate(placeholder(1), ciphers=ciphers)
    chain = replace(_tls_chain(some, _parsed(context), patience), name=placeholder(0))
    return Template(FilterChain(filters=[noted(some, placeholder(0))]), 1), Template(replace(chain, filters=[]), 2)


def _manager_bytes(manager: Filter) -> bytes:
    """A filter as it stands in a FilterChain."""
    assert manager.typed_config is not None
    return _filter_bytes(manager.name, manager.typed_config.type_url, manager.typed_config.value)


@lru_cache(maxsize=8)
def _filter_bytes(name: str, type_url: str, value: bytes) -> bytes:
    return encode(FilterChain(filters=[Filter(name=name, typed_config=AnyMessage(type_url=type_url, value=value))]))


def tcp(entry: Stream, address: str, cluster: str) -> Listener:
    """The listener of an entry of tcp-services: connections go to the endpoints, and are closed after `idle` idle seconds."""
    proxy = TcpProxy(
        stat_prefix=names.stream(entry.protocol, entry.port),
        cluster=cluster,
        idle_timeout=datetime.timedelta(seconds=entry.idle),
        max_connect_attempts=entry.tries,
        hash_policy=[HashPolicy(source_ip=HashPolicySourceIp())] if entry.by_client else [],
        access_log=list(stream_logs(entry.protocol, entry.log)),
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
        access_log=list(stream_logs(entry.protocol, entry.log)),
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
        access_log=list(stream_logs("TCP")),
    )
    return FilterChain(name=name, filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))])


def _alerting(name: str, alert: int) -> FilterChain:
    """A chain that ends TLS before it begins, with a record of TLS that is a fatal alert: a client that does not get one tries again."""
    response = Config(response=DataSource(inline_bytes=bytes((21, 3, 3, 0, 2, 2, alert))))
    return FilterChain(name=name, filters=[Filter(name="envoy.filters.network.direct_response", typed_config=pack(response))])


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
    made = Listener(
        name=name,
        address=Address(socket_address=where),
        filter_chains=list(filter_chains),
        listener_filters=list(listener_filters),
        stat_prefix=name,
    )
    if protocol is SocketAddressProtocol.TCP:
        made.per_connection_buffer_limit_bytes = BUFFER
        made.max_connections_to_accept_per_socket_event = _ACCEPTED
        unsent = SocketOption(level=_TCP, name=_TCP_NOTSENT_LOWAT, int_value=_UNSENT, state=SocketOptionSocketState.STATE_PREBIND)
        made.socket_options = [unsent]
    return made


def _manager(via: Via, port: int, defaults: Settings, counts: Sequence[AccessLog]) -> Filter:
    made = connection(via, port, defaults)
    made.access_log += counts
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(made))


def _tls_context(defaults: Settings) -> DownstreamTlsContext:
    """What all chains share: TLS 1.2 and 1.3 with nginx's ciphers, unless the ConfigMap sets others."""
    parameters = TlsParameters(
        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
        tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        cipher_suites=list(USUAL),
    )
    context = DownstreamTlsContext(common_tls_context=CommonTlsContext(tls_params=parameters, alpn_protocols=["h2", "http/1.1"]))
    for name, on_tls in with_hook("on_tls"):
        if name in defaults:
            on_tls(defaults[name], context)
    return context


@lru_cache(maxsize=8)
def _parsed(context: bytes) -> DownstreamTlsContext:
    """The context of the first chain; it is copied, never changed."""
    return DownstreamTlsContext.parse(context)


def _tls_chain(tls: Terminate, shared: DownstreamTlsContext, patience: datetime.timedelta | None) -> FilterChain:
    """The chain of a certificate, without the connection manager. The handshake ends within `patience`.

    The certificate is only named, so that a renewal touches no listener.

    Who asks clients for certificates lets TLS go on without a good one, since nginx answers those in HTTP. Its sessions are not resumed:
    they would be taken for validated whatever has been revoked since.
    """
    assert shared.common_tls_context is not None
    common = replace(
        shared.common_tls_context,
        tls_certificate_sds_secret_configs=[sds(tls.certificate or DEFAULT)],
    )
    context = replace(shared, common_tls_context=common)
    if tls.ciphers:
        assert common.tls_params is not None
        common.tls_params = replace(common.tls_params, cipher_suites=list(tls.ciphers))
    if tls.authority:
        trust = CertificateValidationContext(
            trust_chain_verification=CertificateValidationContextTrustChainVerification.ACCEPT_UNTRUSTED,
            max_verify_depth=tls.authority.depth + 1,  # BoringSSL counts the authority itself as well
        )
        common.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=trust,
            validation_context_sds_secret_config=sds(authority(tls.authority.secret)),
        )
        context.require_client_certificate = False
        context.disable_stateless_session_resumption = context.disable_stateful_session_resumption = True
    socket = TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
    filters = [noted(tls)]
    return FilterChain(name=names.chain(tls), filters=filters, transport_socket=socket, transport_socket_connect_timeout=patience)


def _to_chain(name: str) -> TypedExtensionConfig:
    return TypedExtensionConfig(name="chain", typed_config=pack(StringValue(value=name)))
