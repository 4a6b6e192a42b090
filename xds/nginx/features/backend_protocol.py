"""backend-protocol: what the endpoints speak; and with it the protocol options that every cluster has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from functools import cache

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.core.v3 import Http1ProtocolOptions, TransportSocket
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions, HttpProtocolOptionsExplicitHttpConfig
from envoy_data_plane.google.protobuf import Any

from xds.model import Forward, Location, Route, Via
from xds.nginx.feature import Annotation, Feature
from xds.nginx.messages import HEADERS_COUNT, HEADERS_KB, STREAM_WINDOW, http2, overwriting, preserve_case
from xds.nginx.values import choice
from xds.wire.encode import pack

NAME = "backend_protocol"
_IDLE = timedelta(seconds=60)
_WINDOW = 1_024 * STREAM_WINDOW
"""Bytes of answers that may be under way on one connection to an endpoint: those of all streams that Envoy has on it.

Many clients share such a connection. With a smaller window a few that read nothing would stop the answers to all others.
"""
"""nginx closes connections to endpoints that were idle for so long; many servers close them sooner or later by themselves."""


class Protocol(Enum):
    """What an endpoint speaks."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    GRPC = "GRPC"
    GRPCS = "GRPCS"
    AUTO_HTTP = "AUTO_HTTP"
    """What the client speaks: a route for each, once the feature has acted on it."""


_word = choice(*(p.value for p in Protocol), any_case=True)


def _protocol(text: str) -> Protocol:
    if text.upper() == "FCGI":
        raise ValueError("is FCGI, which Envoy does not speak; put a web server that does in front of the application")
    return Protocol(_word(text))


BACKEND_PROTOCOL = Annotation(
    "backend-protocol",
    _protocol,
    "The protocol of the endpoints: HTTP, HTTPS (whatever certificate they show), GRPC, GRPCS, or AUTO_HTTP for what the client speaks.",
    "GRPC",
    Protocol.HTTP,
)


def _routes(protocol: Protocol, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    if protocol is not Protocol.AUTO_HTTP:
        return routes
    return tuple(part for route in routes for part in _by_scheme(route))


def _by_scheme(route: Route) -> Iterator[Route]:
    """The route once for each scheme by which it can be reached, with the protocol that this scheme asks for."""
    if not isinstance(route.action, Forward):
        yield route
        return
    for via, protocol in ((Via.HTTP, Protocol.HTTP), (Via.HTTPS, Protocol.HTTPS)):
        if route.via in (Via.ANY, via):
            yield replace(route, via=via, settings=route.settings.but(**{NAME: protocol}))


def _on_forward(protocol: Protocol, _route: Route, envoy: EnvoyRoute) -> None:
    """gRPC asks for this header, which nginx sends to each such backend. That of the client ends at the listener."""
    if protocol in (Protocol.GRPC, Protocol.GRPCS):
        envoy.request_headers_to_add.append(overwriting("te", "trailers"))


def _on_cluster(protocol: Protocol, cluster: EnvoyCluster) -> None:
    if protocol in (Protocol.HTTPS, Protocol.GRPCS):
        tls = _tls(http2=protocol is Protocol.GRPCS)
        cluster.transport_socket = TransportSocket(name="envoy.transport_sockets.tls", typed_config=tls)


def _on_upstream(protocol: Protocol, options: HttpProtocolOptions) -> None:
    """HTTP/2, or HTTP/1.1 with header names written as the client wrote them."""
    options.common_http_protocol_options = CommonOptions(
        idle_timeout=_IDLE, max_headers_count=HEADERS_COUNT, max_response_headers_kb=HEADERS_KB
    )
    if protocol in (Protocol.GRPC, Protocol.GRPCS):
        options.explicit_http_config = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=http2(_WINDOW))
    else:
        # nginx takes a Content-Length beside chunks from a backend, and ignores it, as RFC 9112 has it; from clients nobody takes both.
        http1 = Http1ProtocolOptions(header_key_format=preserve_case(), allow_chunked_length=True)
        options.explicit_http_config = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=http1)


@cache
def _tls(*, http2: bool) -> Any:
    """TLS to the endpoint without verification and without SNI, as nginx does it. Envoy by itself would offer TLS 1.2 only."""
    versions = TlsParameters(tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3)
    return pack(UpstreamTlsContext(common_tls_context=CommonTlsContext(tls_params=versions, alpn_protocols=["h2"] if http2 else [])))


def _cluster_key(protocol: Protocol) -> str:
    return protocol.value


FEATURE = Feature(
    read=lambda notes: notes.get(BACKEND_PROTOCOL),
    annotations=(BACKEND_PROTOCOL,),
    routes=_routes,
    on_forward=_on_forward,
    cluster=True,
    cluster_key=_cluster_key,
    on_cluster=_on_cluster,
    on_upstream=_on_upstream,
)
