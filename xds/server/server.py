"""The gRPC server: its services, address and limits; its start, and a stop that does not make all Envoys reconnect at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from xds.addresses import parse_address
from xds.machine.network import started
from xds.protocol.discovery import Wire
from xds.server import tls
from xds.server.address import CONNECTION_TIMEOUTS, listen
from xds.server.calls import OpenCalls
from xds.server.fleet import Fleet
from xds.server.stream import StreamEnd
from xds.server.tls import CertificateFiles
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET

_log = logging.getLogger("xds.server")


class DiscoveryService(NamedTuple):
    """A discovery service: the type url that it serves (None: all), and its methods for state of the world and for delta."""

    only: str | None
    sotw: str
    delta: str


SERVICES: Mapping[str, DiscoveryService] = {
    "envoy.service.discovery.v3.AggregatedDiscoveryService": DiscoveryService(
        None, "StreamAggregatedResources", "DeltaAggregatedResources"
    ),
    "envoy.service.cluster.v3.ClusterDiscoveryService": DiscoveryService(CLUSTER, "StreamClusters", "DeltaClusters"),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": DiscoveryService(ENDPOINT, "StreamEndpoints", "DeltaEndpoints"),
    "envoy.service.listener.v3.ListenerDiscoveryService": DiscoveryService(LISTENER, "StreamListeners", "DeltaListeners"),
    "envoy.service.route.v3.RouteDiscoveryService": DiscoveryService(ROUTE, "StreamRoutes", "DeltaRoutes"),
    "envoy.service.secret.v3.SecretDiscoveryService": DiscoveryService(SECRET, "StreamSecrets", "DeltaSecrets"),
}
"""The services of this server; gRPC answers UNIMPLEMENTED to all others (M10)."""

OPTIONS = {
    "grpc.so_reuseport": 0,  # otherwise a second server on the same port silently gets half of the connections
    "grpc.max_receive_message_length": 8 * 2**20,  # a reconnecting Envoy lists every name and version (B5)
    "grpc.max_concurrent_streams": 100_000,  # single-type EDS has a stream for each cluster; surplus ones would hang (B7)
    "grpc.http2.max_ping_strikes": 0,  # an Envoy's keepalive must not end its idle streams (L1)
    "grpc.http2.max_pings_without_data": 0,
    "grpc.keepalive_time_ms": 30_000,  # detects dead Envoys (L2)
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
    **CONNECTION_TIMEOUTS,
    "grpc.http2.bdp_probe": 0,  # clients send little; larger windows let a thousand of them fill more memory
    "grpc.experimental.tcp_max_read_buffer_size": 8192,  # otherwise a connection keeps a buffer of 64 KiB after a large request
}
_AGE_GRACE_MS = 10_000
_LAST_BYTES = 1.0  # seconds after the last stream was ended, for clients that read slowly


class Server:
    """Serves a Fleet on one address.

    `address`: `host:port`, `[IPv6 address]:port` or `unix:/path`. Without `certificates` it must be loopback (I4, I6); `client_names` are
    the DNS and URI names of which a client's certificate must have one (none: any client that the CA vouches for).
    `max_connection_age`: seconds after which a connection is closed so that load spreads over replicas; gRPC varies it by a tenth (L3).
    None means half an hour with TLS and without end otherwise. Beyond `most_connections` a new one is closed at once.
    Raises ValueError for an address that cannot be read, and with a sentence for one or for certificates that cannot be used.
    """

    def __init__(
        self,
        fleet: Fleet,
        address: str,
        *,
        certificates: CertificateFiles | None = None,
        client_names: Collection[str] = (),
        max_connection_age: float | None = None,
        most_connections: int = 10_000,
    ) -> None:
        self._fleet = fleet
        self._address = parse_address(address)
        if certificates is None and not self._address.loopback:
            raise ValueError(
                f"the xDS server serves private keys, so it listens on {self._address}, beyond this machine, only with TLS: "
                "give a certificate, its key and the CA of the clients, or a loopback address"
            )
        self._credentials = tls.credentials(certificates) if certificates is not None else None
        self._client_names = frozenset(client_names)
        self._options = dict(OPTIONS) | {"grpc.max_allowed_incoming_connections": most_connections}
        age = 1800.0 if max_connection_age is None and certificates is not None else max_connection_age
        if age is not None:
            self._options |= {"grpc.max_connection_age_ms": int(age * 1000), "grpc.max_connection_age_grace_ms": _AGE_GRACE_MS}
        self._calls = OpenCalls()
        self._health = health.HealthServicer()
        self._health_task: asyncio.Task[None] | None = None
        self._server: Any = None

    @property
    def address(self) -> str:
        """Where it listens. Port 0 becomes the port that the system has chosen once it has started."""
        return str(self._address)

    async def start(self) -> None:
        """Listens. Raises OSError with a sentence where that is not possible."""
        server = grpc.aio.server(interceptors=[self._calls], options=list(self._options.items()))
        server.add_generic_rpc_handlers(tuple(self._rpc_handler(name, service) for name, service in SERVICES.items()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._address = listen(server, self._address, self._credentials, "the xDS server")
        await started(server)
        self._server = server
        self._health_task = asyncio.create_task(self._report_ready())
        _log.info("the xDS server listens on %s (%s)", self._address, "plaintext" if self._credentials is None else "TLS")

    async def stop(self, grace: float = 5.0) -> None:
        """Accepts nothing new and ends the streams, spread over `grace` seconds; returns when all have ended, or a second later (L4)."""
        if self._server is None:
            return
        assert self._health_task is not None
        self._health_task.cancel()
        shutdown = asyncio.create_task(self._health.enter_graceful_shutdown())
        self._fleet.stop(grace)
        await self._server.stop(grace + _LAST_BYTES)
        await self._calls.ended()
        shutdown.cancel()
        self._server = None

    async def _report_ready(self) -> None:
        await self._fleet.ready.wait()
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _rpc_handler(self, name: str, service: DiscoveryService) -> Any:
        """Both methods of a service, with bytes in and bytes out."""

        def method(wire: Wire) -> Any:
            async def serve(_: Any, context: Any) -> None:
                found = tls.names(context)
                if self._client_names and self._client_names.isdisjoint(found):
                    text = "the client certificate has none of the names that are allowed"
                    await self._fleet.end(context, StreamEnd(grpc.StatusCode.PERMISSION_DENIED, text))
                else:
                    await self._fleet.serve(context, wire, service.only, tls.allowed(found))

            return grpc.stream_stream_rpc_method_handler(serve)

        return grpc.method_handlers_generic_handler(name, {service.sotw: method(Wire.SOTW), service.delta: method(Wire.DELTA)})
