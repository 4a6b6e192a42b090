"""Small applications to put behind an Ingress: an HTTP, a TCP and a UDP one. Each answers with its name.

    python examples/apps.py http --name one --port 9001

For the examples, and imported by the tests. Nothing of the management server belongs here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from aiohttp import WSMsgType, web

Address = tuple[str, int]
"""Host and port."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BACKLOG = 4096
"""Connections that may wait to be accepted: a burst of thousands must not fall back on TCP's retries."""

LONGEST = 1 << 20
"""Bytes of a line, or of a request's head, that are read at once."""

UDP_BUFFER = 4 << 20
"""Bytes that may wait to be read from the socket of a UdpApp."""

ENDING = re.compile(r"/(ws|sleep/[0-9.]+|status/[0-9]{3}|big/[0-9]+|chunked/[0-9]+)$")
"""What the end of a path may ask for; it is the end, so that it works behind every prefix."""

PIECE = b"0123456789abcdef" * 4096


class App(Protocol):
    """What can be started on an address and stopped."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""

    async def stop(self) -> None:
        """Close what listens and every connection."""


@contextlib.asynccontextmanager
async def running(app: App, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Address]:
    """An application for the length of a block; the value is where it listens."""
    address = await app.start(host, port)
    try:
        yield address
    finally:
        await app.stop()


class HttpApp:
    """An HTTP/1 application that answers with what it received.

    The answer is a JSON object: `app` (the name), `method`, `path` (as sent, with the query), `version`, `headers` (pairs, in the order
    and spelling received), `body_length` in bytes; or with `Accept: text/plain` the same as lines. The end of the path may ask for more:
    `/ws` is a websocket that echoes messages, `/sleep/N` answers after N seconds, `/status/N` with status N, `/big/N` with N bytes,
    `/chunked/N` with N chunks. `hits` counts requests.
    """

    def __init__(self, name: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.hits = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls, backlog=BACKLOG).start()
        found: Address = self._runner.addresses[0][:2]
        return found

    async def stop(self) -> None:
        """Close what listens and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.hits += 1
        found = ENDING.search(request.raw_path.partition("?")[0])
        what, _, amount = found[1].partition("/") if found else ("", "", "")
        if what == "ws":
            return await _echo_websocket(request)
        if what == "big":
            return await _send(request, int(amount), int(amount))
        if what == "chunked":
            return await _send(request, int(amount) * len(PIECE), None)
        if what == "sleep":
            await asyncio.sleep(float(amount))
        return await self._describe(request, int(amount) if what == "status" else 200)

    async def _describe(self, request: web.Request, status: int) -> web.Response:
        length = 0
        with contextlib.suppress(ConnectionError):
            async for piece in request.content.iter_any():
                length += len(piece)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        version = f"{request.version.major}.{request.version.minor}"
        said: dict[str, object] = {
            "app": self.name,
            "method": request.method,
            "path": request.raw_path,
            "version": version,
            "headers": headers,
        }
        said["body_length"] = length
        if "text/plain" not in request.headers.get("Accept", ""):
            return web.json_response(said, status=status)
        lines = [f"{self.name}: {request.method} {request.raw_path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
        return web.Response(text="\n".join([*lines, f"body: {length} bytes", ""]), status=status)


async def _send(request: web.Request, size: int, content_length: int | None) -> web.StreamResponse:
    """Answer `size` bytes piece by piece; without a `content_length` in chunks."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if content_length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = content_length
    await response.prepare(request)
    while size > 0:
        await response.write(PIECE[:size])
        size -= len(PIECE)
    await response.write_eof()
    return response


async def _echo_websocket(request: web.Request) -> web.StreamResponse:
    """Send every message back until the other side closes."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


class StreamServer:
    """A TCP server that runs `serve` for every connection; stopping it ends those that are open."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        self._server = await asyncio.start_server(self._accept, host, port, backlog=BACKLOG, limit=LONGEST)
        found: Address = self._server.sockets[0].getsockname()[:2]
        return found

    async def stop(self) -> None:
        """Close what listens and every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class TcpApp:
    """A TCP application that sends every line back, after its name: `hello` becomes `one: hello`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._server = StreamServer(self._answer)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        return await self._server.start(host, port)

    async def stop(self) -> None:
        """Close what listens and every connection."""
        await self._server.stop()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(f"{self.name}: ".encode() + line)
            await writer.drain()


class UdpApp:
    """A UDP application that sends every datagram back, after its name: `hello` becomes `one: hello`. `peers` are those who asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: set[Address] = set()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._answer), local_addr=(host, port))
        bound = self._transport.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
        found: Address = bound.getsockname()[:2]
        return found

    async def stop(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def _answer(self, payload: bytes, peer: Address) -> None:
        self.peers.add(peer)
        if self._transport is not None:
            self._transport.sendto(f"{self.name}: ".encode() + payload, peer)


class _Datagrams(asyncio.DatagramProtocol):
    """Hands every datagram to a function."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]) -> None:
        self._receive(data, addr[:2])


APPS: dict[str, Callable[[str], App]] = {"http": HttpApp, "tcp": TcpApp, "udp": UdpApp}


async def run(kind: str, name: str, host: str, port: int) -> None:
    """Run one application until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(APPS[kind](name), host, port) as (where, bound):
        sys.stdout.write(f"{name}: {kind} on {where} port {bound}\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str] | None = None) -> None:
    """Run the application that the command line names."""
    parser = argparse.ArgumentParser(description="A small application to put behind an Ingress; it answers with its name.")
    parser.add_argument("kind", choices=sorted(APPS))
    parser.add_argument("--name", default="app", help="what it calls itself (default: app)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, required=True, help="the port to listen on; 0 takes a free one")
    chosen = parser.parse_args(arguments)
    try:
        asyncio.run(run(chosen.kind, chosen.name, chosen.host, chosen.port))
    except OSError as error:
        parser.exit(1, f"{chosen.name}: cannot listen on {chosen.host} port {chosen.port}: {error.strerror}\n")


if __name__ == "__main__":
    main()
