"""The debug server itself: its services, its address, and the status codes of errors.

What does not belong here: what the services respond (`service`, `csds`, `reflection`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn

import betterproto2
import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from xds.addresses import parse_address
from xds.debug import csds, reflection, service
from xds.debug.descriptors import Files, Message, Method, files, of_module
from xds.debug.subject import InvalidArgument, Subject
from xds.machine.network import started
from xds.server.address import CONNECTION_TIMEOUTS, listen
from xds.server.calls import OpenCalls
from xds.wire.encode import encode

_log = logging.getLogger("xds.debug")
_CHANNELZ = "grpc.channelz.v1.Channelz"
_HEALTH = "grpc.health.v1.Health"
SERVICES: Mapping[str, Mapping[str, Method]] = {service.SERVICE: service.METHODS, csds.SERVICE: csds.METHODS}
"""The services whose messages are betterproto2's."""
ALL_SERVICES = (*SERVICES, _HEALTH, _CHANNELZ, *reflection.SERVICES)

OPTIONS = {
    "grpc.so_reuseport": 0,  # otherwise a second server on the same port silently gets half of the connections
    "grpc.enable_channelz": 1,
    "grpc.max_concurrent_streams": 100,
    "grpc.http2.max_ping_strikes": 0,
    "grpc.keepalive_time_ms": 30_000,  # detects clients of Watch that are gone
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.max_allowed_incoming_connections": 64,
    **CONNECTION_TIMEOUTS,
}
_ERRORS = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    service.NotFound: grpc.StatusCode.NOT_FOUND,
    service.NotReady: grpc.StatusCode.UNAVAILABLE,
    csds.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_REFUSALS = tuple(_ERRORS)
_Answer = Callable[[Any], Awaitable[bytes]]


class DebugServer:
    """Serves a Subject on one address: `host:port`, `[IPv6 address]:port` or `unix:/path`, in plaintext.

    Raises ValueError for an address that cannot be read.
    """

    def __init__(self, subject: Subject, address: str) -> None:
        self._subject = subject
        self._address = parse_address(address)
        self._debug = service.Debug(subject)
        self._csds = csds.ClientStatus(subject)
        self._calls = OpenCalls()
        self._health = health.HealthServicer()
        self._health_follows: asyncio.Task[None] | None = None
        self._server: Any = None

    @property
    def address(self) -> str:
        """Where it listens. After `start`, a port 0 is replaced by the one that the system has chosen."""
        return str(self._address)

    async def start(self) -> None:
        """Listen. Raises OSError with a sentence if that is not possible."""
        server = grpc.aio.server(interceptors=[self._calls], options=list(OPTIONS.items()))
        reflected = reflection.Reflection(ALL_SERVICES, lambda: all_files().pool())
        server.add_generic_rpc_handlers((*self._rpc_handlers(), *reflected.rpc_handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        channelz.add_channelz_servicer(server)
        await self._set_health(serving=False)
        self._address = listen(server, self._address, None, "the debug server")
        await started(server)
        self._server = server
        self._health_follows = asyncio.create_task(self._follow_health())
        _log.info("the debug server listens on %s", self._address)

    async def drain(self) -> None:
        """The control plane is about to stop: health is NOT_SERVING from now on, all services still respond."""
        if self._health_follows is not None:
            self._health_follows.cancel()
            await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """End all calls, and close the port."""
        if self._server is not None:
            await self.drain()
            await self._server.stop(0)
            await self._calls.ended()
            self._server = None

    async def _follow_health(self) -> None:
        await self._subject.ready.wait()
        await self._set_health(serving=True)

    async def _set_health(self, *, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        for name in ("", *ALL_SERVICES):
            await self._health.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)

    def _rpc_handlers(self) -> Iterator[Any]:
        """Bytes in and bytes out: where gRPC parses a request itself, a client with a malformed one gets no explanation."""
        debug = {
            "Fleet": _encoded(self._debug.fleet),
            "Problems": _encoded(self._debug.problems),
            "Explain": _encoded(self._debug.explain),
            "Programmed": _encoded(self._debug.programmed),
            "ListProgrammed": _encoded(self._debug.list_programmed),
            "History": _encoded(self._debug.history),
        }
        methods = {name: _unary(service.METHODS[name], answer) for name, answer in debug.items()}
        yield grpc.method_handlers_generic_handler(service.SERVICE, methods | {"Watch": grpc.unary_stream_rpc_method_handler(self._watch)})
        fetch, stream = csds.METHODS["FetchClientStatus"], csds.METHODS["StreamClientStatus"]
        status = {"FetchClientStatus": _unary(fetch, self._csds.answer), "StreamClientStatus": _each(stream, self._csds.answer)}
        yield grpc.method_handlers_generic_handler(csds.SERVICE, status)

    async def _watch(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            changes = self._debug.watch(_parse(service.METHODS["Watch"].request, raw))
            await context.send_initial_metadata(())  # a client that has received it misses nothing from then on
            async for change in changes:
                yield encode(change)
        except _REFUSALS as error:
            await _refuse(context, error)


def all_files() -> Files:
    """The descriptors of all services, for reflection. Takes half a second."""
    others = (of_module(health_pb2), of_module(channelz_pb2), *reflection.own_files())
    return files(SERVICES, others)


def _encoded(answer: Callable[[Any], Awaitable[betterproto2.Message]]) -> _Answer:
    async def encoded(request: Any) -> bytes:
        return encode(await answer(request))

    return encoded


def _unary(method: Method, answer: _Answer) -> Any:
    async def serve(raw: bytes, context: Any) -> bytes:
        try:
            return await answer(_parse(method.request, raw))
        except _REFUSALS as error:
            await _refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(serve)


def _each(method: Method, answer: _Answer) -> Any:
    """A response for each request of a stream."""

    async def serve(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for raw in requests:
                yield await answer(_parse(method.request, raw))
        except _REFUSALS as error:
            await _refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(serve)


def _parse(cls: Message, raw: bytes) -> Any:
    try:
        return cls.parse(raw)
    except Exception:  # noqa: BLE001 - betterproto2 raises exceptions of many types
        raise InvalidArgument(f"the request is not a {cls.__name__}.") from None


async def _refuse(context: Any, error: Exception) -> NoReturn:
    await context.abort(_ERRORS[type(error)], str(error))
    raise AssertionError("unreachable: abort raises")
