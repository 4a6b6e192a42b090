"""An HTTP/1 client that sends exactly the bytes it is told, and shows what came back as it was spelled."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509

from examples.apps import Address
from tests.envoy.harness.tls import Tls
from tests.envoy.harness.waiting import PATIENCE

Headers = Iterable[tuple[str, str]]

LONGEST_LINE = 1 << 20
FAREWELL = 0.2
"""Seconds that a client waits for the end of TLS from the other side; Envoy lets one wait that it has told to close."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `headers` in the order and spelling received, `body` without its chunks, `trailers` as `headers`."""

    status: int
    reason: str = ""
    version: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Return every value of a header, whatever its spelling."""
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of a header that is there at most once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as JSON says it."""
        return json.loads(self.body)

    @property
    def app(self) -> str:
        """The name of the HttpApp that answered; "" if it was none, or if it was asked for headers only."""
        if not self.body or not (self.header("content-type") or "").startswith("application/json"):
            return ""
        return str(self.json().get("app", ""))

    def received(self, name: str) -> list[str]:
        """Return every value of a request header that the HttpApp received, whatever its spelling."""
        return [value for found, value in self.json()["headers"] if found.lower() == name.lower()]


def request_bytes(
    method: str = "GET",
    target: str = "/",
    *,
    host: str | None = None,
    headers: Headers = (),
    body: bytes = b"",
    version: str = "1.1",
) -> bytes:
    """Return a request as bytes: the Host header first (None: none), Content-Length last and only if there is a body."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Http1:
    """One open connection; `send` and `receive` may be mixed at will (pipelining, half requests)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address, *, tls: Tls | None = None) -> Self:
        """Connect, with TLS if asked for. Raises OSError (ssl.SSLError is one)."""
        async with asyncio.timeout(PATIENCE):
            if tls is None:
                return cls(*await asyncio.open_connection(*address, limit=LONGEST_LINE))
            options = {"ssl": tls.context(), "server_hostname": tls.sni or "", "ssl_shutdown_timeout": FAREWELL}
            return cls(*await asyncio.open_connection(*address, limit=LONGEST_LINE, **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def alpn(self) -> str | None:
        """The protocol that TLS agreed on."""
        agreed: str | None = self.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        return agreed

    @property
    def tls_version(self) -> str:
        """The version that TLS agreed on: "TLSv1.2", "TLSv1.3"."""
        return str(self.writer.get_extra_info("ssl_object").version())

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate that the server showed."""
        return x509.load_der_x509_certificate(self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, method: str = "GET") -> Response:
        """Read the answer to a request by `method` (HEAD has no body). Raises EOFError where the connection ends before it does."""
        async with asyncio.timeout(PATIENCE):
            version, status, reason = await self._status_line()
            headers = await self._headers()
            names = {name.lower(): value for name, value in headers}
            if method == "HEAD" or status in (204, 304) or status < 200 or (method == "CONNECT" and status < 300):
                return Response(status, reason, version, headers)
            if names.get("transfer-encoding", "").lower() == "chunked":
                body, trailers = await self._chunks()
                return Response(status, reason, version, headers, body, trailers)
            length = names.get("content-length")
            body = await self.reader.read() if length is None else await self.reader.readexactly(int(length))
            return Response(status, reason, version, headers, body)

    async def request(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        host: str | None = None,
        headers: Headers = (),
        body: bytes = b"",
        version: str = "1.1",
    ) -> Response:
        """Send one request and read its answer; the connection stays open."""
        await self.send(request_bytes(method, target, host=host, headers=headers, body=body, version=version))
        return await self.receive(method)

    async def ended(self) -> bool:
        """Wait for the server to close; False if it sent something instead."""
        async with asyncio.timeout(PATIENCE):
            try:
                return not await self.reader.read(1)
            except ConnectionError:
                return True

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await self.writer.wait_closed()

    async def _status_line(self) -> tuple[str, int, str]:
        line = await self._line()
        version, _, rest = line.partition(" ")
        status, _, reason = rest.partition(" ")
        return version.removeprefix("HTTP/"), int(status), reason

    async def _headers(self) -> list[tuple[str, str]]:
        headers = []
        while line := await self._line():
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return headers

    async def _line(self) -> str:
        return (await self.reader.readuntil(b"\r\n"))[:-2].decode("latin-1")

    async def _chunks(self) -> tuple[bytes, list[tuple[str, str]]]:
        pieces = []
        while size := int((await self._line()).partition(";")[0], 16):
            pieces.append(await self.reader.readexactly(size))
            await self._line()
        return b"".join(pieces), await self._headers()


async def fetch(
    address: Address,
    target: str = "/",
    *,
    host: str | None = None,
    method: str = "GET",
    headers: Headers = (),
    body: bytes = b"",
    version: str = "1.1",
    tls: Tls | None = None,
) -> Response:
    """Send one request over a connection of its own."""
    async with await Http1.open(address, tls=tls) as connection:
        return await connection.request(method, target, host=host, headers=headers, body=body, version=version)


TEXT, BINARY, CLOSE = 1, 2, 8


class WebSocket:
    """One open websocket (RFC 6455): whole messages, no extensions."""

    def __init__(self, connection: Http1) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, address: Address, target: str = "/ws", *, host: str, tls: Tls | None = None, headers: Headers = ()) -> Self:
        """Connect and upgrade. Raises AssertionError with the answer if it is not 101."""
        connection = await Http1.open(address, tls=tls)
        key = base64.b64encode(os.urandom(16)).decode()
        asked = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key), *headers]
        response = await connection.request(target=target, host=host, headers=asked)
        if response.status != 101:
            await connection.close()
            raise AssertionError(f"no websocket: {response}")
        return cls(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """Send one message."""
        size = len(payload)
        head = bytes([0x80 | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += bytes([0x80 | 126]) + struct.pack("!H", size) if size < 1 << 16 else bytes([0x80 | 127]) + struct.pack("!Q", size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        await self._connection.send(head + mask + masked)

    async def receive(self) -> tuple[int, bytes]:
        """Read one message: its opcode and payload. Raises EOFError where the connection ends."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self._connection.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._connection.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._connection.reader.readexactly(8))
            return first & 0x0F, await self._connection.reader.readexactly(size)

    async def ask(self, payload: bytes) -> bytes:
        """Send one text message and return the payload of the next one that comes."""
        await self.send(payload)
        return (await self.receive())[1]

    async def close(self) -> None:
        """Close the connection without a closing handshake."""
        await self._connection.close()
