"""An HTTP/2 client, over TLS or with prior knowledge (h2c)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Self

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError

from examples.apps import Address
from tests.envoy.harness.http1 import LONGEST_LINE, Headers, Response
from tests.envoy.harness.tls import Tls
from tests.envoy.harness.waiting import PATIENCE


class _Stream:
    """What has come for one request."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def response(self) -> Response:
        status = next(int(value) for name, value in self.headers if name == ":status")
        headers = [(name, value) for name, value in self.headers if not name.startswith(":")]
        return Response(status, "", "2", headers, bytes(self.body), self.trailers)


class Http2:
    """One open connection, on which any number of requests may be under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, strict: bool = True) -> None:
        self.goaway = asyncio.Event()
        self._reader = reader
        self._writer = writer
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=strict, normalize_outbound_headers=strict
        )
        self._state = h2.connection.H2Connection(config)
        self._state.decoder.max_header_list_size = LONGEST_LINE
        encode = self._state.encoder.encode
        self._state.encoder.encode = functools.partial(encode, huffman=False)  # whose time grows with the square of a value's length
        self._streams: dict[int, _Stream] = {}
        self._window = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: Address, *, tls: Tls | None = None, strict: bool = True) -> Self:
        """Connect; TLS, if asked for, offers h2 only. Without `strict` headers are sent as they are, allowed or not.

        Raises OSError, and AssertionError where TLS agrees on something else.
        """
        async with asyncio.timeout(PATIENCE):
            if tls is None:
                connection = cls(*await asyncio.open_connection(*address), strict=strict)
            else:
                context = tls.context()
                context.set_alpn_protocols(["h2"])
                connection = cls(*await asyncio.open_connection(*address, ssl=context, server_hostname=tls.sni or ""), strict=strict)
                agreed = connection._writer.get_extra_info("ssl_object").selected_alpn_protocol()
                if agreed != "h2":
                    connection._writer.close()
                    raise AssertionError(f"TLS agreed on {agreed}, not on h2")
        connection._state.initiate_connection()
        await connection._flush()
        connection._task = asyncio.create_task(connection._receive())
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str = "GET",
        target: str | bytes = "/",
        *,
        host: str,
        headers: Headers = (),
        body: bytes = b"",
        scheme: str = "http",
    ) -> Response:
        """Send one request and wait for its answer. Raises ConnectionError where the stream is reset or the connection ends."""
        number = self._state.get_next_available_stream_id()
        stream = self._streams[number] = _Stream()
        pseudo = [(":method", method), (":scheme", scheme), *([(":authority", host)] if host else []), (":path", target)]
        self._state.send_headers(number, [*pseudo, *headers], end_stream=not body)
        async with asyncio.timeout(PATIENCE):
            await self._flush()
            if body:
                await self._send_body(number, stream, body)
            await stream.end
        del self._streams[number]
        return stream.response()

    async def close(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _send_body(self, number: int, stream: _Stream, body: bytes) -> None:
        while body and not stream.end.done():
            size = min(len(body), self._state.local_flow_control_window(number), self._state.max_outbound_frame_size)
            if not size:
                self._window.clear()
                await self._window.wait()
                continue
            piece, body = body[:size], body[size:]
            self._state.send_data(number, piece, end_stream=not body)
            await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
        await self._writer.drain()

    async def _receive(self) -> None:
        """Read until the connection ends; whoever still waits then gets a ConnectionError."""
        with contextlib.suppress(OSError, ProtocolError):
            while data := await self._reader.read(1 << 16):
                for event in self._state.receive_data(data):
                    self._take(event)
                await self._flush()
        self._window.set()
        for stream in self._streams.values():
            _fail(stream, "the connection has ended")

    def _take(self, event: h2.events.Event) -> None:
        self._window.set()
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway.set()
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            _fail(stream, f"the stream was reset: {event.error_code}")
        elif isinstance(event, h2.events.StreamEnded) and not stream.end.done():
            stream.end.set_result(None)


def _fail(stream: _Stream, why: str) -> None:
    if not stream.end.done():
        stream.end.set_exception(ConnectionError(why))
