"""A gRPC client and a backend, for any method, with bytes as messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from examples.apps import Address
from tests.envoy.harness.tls import Certificate

METHOD = "/echo.Echo/Say"
CHAT = "/echo.Echo/Chat"
"""A method that streams in both directions; all others are unary."""


class GrpcEcho:
    """A gRPC backend that answers every unary method with its name and the request: `hello` becomes `one: hello`.

    So does CHAT with each message of its stream. It speaks h2c, or with a certificate TLS.
    `x-echo` in the metadata comes back as `x-echo` and as trailer `x-echo-trailer`; `x-status: 5` ends the call with that status code.
    """

    def __init__(self, name: str, certificate: Certificate | None = None) -> None:
        self.name = name
        self._certificate = certificate
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        self._server = grpc.aio.server(handlers=[_Every(self._say, self._chat)], options=[("grpc.so_reuseport", 0)])
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._certificate is None:
            bound = self._server.add_insecure_port(where)
        else:
            pair = (self._certificate.key_pem, self._certificate.cert_pem)
            bound = self._server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
        await self._server.start()
        return host, bound

    async def stop(self) -> None:
        """Close what listens and every connection."""
        if self._server is not None:
            await self._server.stop(None)

    async def _say(self, request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        if "x-status" in metadata:
            code = next(code for code in grpc.StatusCode if code.value[0] == int(metadata["x-status"]))
            await context.abort(code, f"{self.name} was asked to")
        if "x-echo" in metadata:
            await context.send_initial_metadata([("x-echo", metadata["x-echo"])])
            context.set_trailing_metadata([("x-echo-trailer", metadata["x-echo"])])
        return f"{self.name}: ".encode() + request

    async def _chat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield f"{self.name}: ".encode() + request


class Collector:
    """A collector of spans that keeps each message that it gets by OTLP, as bytes (`received`)."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        self._server = grpc.aio.server(handlers=[_Every(self._keep)], options=[("grpc.so_reuseport", 0)])
        bound = self._server.add_insecure_port(f"{host}:{port}")
        await self._server.start()
        return host, bound

    async def stop(self) -> None:
        """Close what listens and every connection."""
        if self._server is not None:
            await self._server.stop(None)

    async def _keep(self, message: bytes, _context: Any) -> bytes:
        self.received.append(message)
        return b""


class _Every(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method of every service is the same unary one, but for CHAT where it is given."""

    def __init__(self, say: Any, chat: Any = None) -> None:
        self._method = grpc.unary_unary_rpc_method_handler(say)
        self._chat = grpc.stream_stream_rpc_method_handler(chat) if chat else self._method

    def service(self, handler_call_details: Any) -> Any:
        return self._chat if handler_call_details.method == CHAT else self._method


def grpc_channel(address: Address, host: str, roots: bytes | None = None) -> grpc.aio.Channel:
    """A channel over h2c, or with `roots` (PEM) over TLS."""
    options = [("grpc.default_authority", host), ("grpc.ssl_target_name_override", host), ("grpc.enable_http_proxy", 0)]
    target = f"{address[0]}:{address[1]}"
    if roots is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options=options)


async def grpc_call(
    address: Address,
    payload: bytes,
    *,
    host: str,
    method: str = METHOD,
    metadata: tuple[tuple[str, str], ...] = (),
    timeout: float = 30,  # noqa: ASYNC109
    roots: bytes | None = None,
) -> bytes:
    """Call a unary method over h2c, or with `roots` (PEM) over TLS. Raises grpc.aio.AioRpcError."""
    async with grpc_channel(address, host, roots) as channel:
        answer: bytes = await channel.unary_unary(method)(payload, metadata=metadata, timeout=timeout)
        return answer
