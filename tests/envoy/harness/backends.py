"""Backends that do what the demo's applications do not: break, hang, show raw bytes, read the PROXY protocol."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError

from examples.apps import LONGEST, StreamServer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


class RawHttp:
    """An HTTP/1 backend that keeps every request head as it came (`heads`) and sends the same bytes to each, by default a 200.

    Bodies with a Content-Length are read and kept in `bodies`. With `close` each answer ends its connection.
    """

    def __init__(self, answer: bytes = ANSWER, *, close: bool = False) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._answer = answer
        self._close = close
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(int(lengths[0])) if lengths else b"")
            writer.write(self._answer)
            await writer.drain()
            if self._close:
                return


class Obeying:
    """An HTTP/1 backend that answers with the status and headers that a request asks for (`asking`), and keeps each head (`heads`)."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            asked = next((line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("x-answer:")), "[200, []]")
            status, headers = json.loads(asked)
            lines = [f"HTTP/1.1 {status} X", "Content-Length: 2", *(f"{name}: {value}" for name, value in headers)]
            writer.write("\r\n".join([*lines, "", "ok"]).encode())
            await writer.drain()


def asking(status: int, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    """The headers of a request to `Obeying`."""
    return [("X-Answer", json.dumps([status, headers]))]


class RawHttp2:
    """An HTTP/2 backend (prior knowledge) that answers with the headers of a path, allowed or not, and the body `ok`; by default a 200.

    The headers of each request are kept in `heads`. Requests for /held are answered by `let_go`.
    """

    def __init__(self, answers: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({})) -> None:
        self.heads: list[dict[str, str]] = []
        self._answers = answers
        self._held: list[Callable[[], None]] = []
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    @property
    def held(self) -> int:
        """How many requests wait to be answered."""
        return len(self._held)

    def let_go(self) -> None:
        """Answer the requests that wait, where their connection is still open."""
        held, self._held = self._held, []
        for answer in held:
            with contextlib.suppress(ProtocolError):
                answer()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        state = h2.connection.H2Connection(config)
        state.decoder.max_header_list_size = LONGEST
        state.encoder.encode = functools.partial(
            state.encoder.encode, huffman=False
        )  # whose time grows with the square of a value's length
        state.initiate_connection()
        writer.write(state.data_to_send())
        while data := await reader.read(1 << 16):
            for event in state.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self._take(state, writer, event)
            writer.write(state.data_to_send())
            await writer.drain()

    def _take(self, state: h2.connection.H2Connection, writer: asyncio.StreamWriter, request: h2.events.RequestReceived) -> None:
        assert request.headers
        assert request.stream_id
        head = {str(name): str(value) for name, value in request.headers}
        self.heads.append(head)
        answer = functools.partial(self._answer, state, writer, request.stream_id, head[":path"])
        if head[":path"] == "/held":
            self._held.append(answer)
        else:
            answer()

    def _answer(self, state: h2.connection.H2Connection, writer: asyncio.StreamWriter, stream: int, path: str) -> None:
        state.send_headers(stream, self._answers.get(path, [(":status", "200")]))
        state.send_data(stream, b"ok", end_stream=True)
        writer.write(state.data_to_send())


class Resetting:
    """A backend that resets every connection: once a request head has come, or `at_once`. `hits` counts connections."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.hits = 0
        self._at_once = at_once
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        if not self._at_once:
            await reader.readuntil(b"\r\n\r\n")
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class Silent:
    """A backend that takes every connection and never answers. `hits` counts connections."""

    def __init__(self) -> None:
        self.hits = 0
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        while await reader.read(1 << 16):
            pass


class Gate:
    """An HTTP/1 backend that answers when `count` requests are there at the same time: proof that so many can be.

    `waiting` requests have no answer yet; `most` is the most that this ever was.
    """

    def __init__(self, count: int) -> None:
        self.waiting = self.most = 0
        self._count = count
        self._open = asyncio.Event()
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            if self.waiting >= self._count:
                self._open.set()
            await self._open.wait()
            self.waiting -= 1
            writer.write(ANSWER)
            await writer.drain()


class ProxyProtocol:
    """A TCP backend that reads a PROXY header (version 1 or 2), says it in one line, and then sends every line back after its name.

    The line is `v2 TCP4 192.0.2.1 10.0.0.1 4711 80` (source, destination, their ports), or `none` where no header came first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, header = await _proxy_header(reader)
        writer.write(header.encode() + b"\n")
        line = first or await reader.readline()
        while line:
            writer.write(f"{self.name}: ".encode() + line)
            await writer.drain()
            line = await reader.readline()


async def _proxy_header(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Read a PROXY header; return what was read beyond it, and the header in words."""
    start = await reader.readexactly(2)
    if start == PROXY_V2[:2]:
        _, family, size = struct.unpack("!BBH", (await reader.readexactly(14))[-4:])
        body = await reader.readexactly(size)
        width, kind = (4, "TCP4") if family >> 4 == 1 else (16, "TCP6")
        ends = [socket.inet_ntop(socket.AF_INET if width == 4 else socket.AF_INET6, body[at : at + width]) for at in (0, width)]
        ports = struct.unpack("!HH", body[2 * width : 2 * width + 4])
        return b"", " ".join(["v2", kind, *ends, *map(str, ports)])
    line = start + await reader.readline()
    if line.startswith(b"PROXY "):
        return b"", "v1" + line.decode().strip().removeprefix("PROXY")
    return line, "none"
