"""The connections of an HTTP port: their limits, and one free connection for the next client, such as a probe.

A probe must get a response while other clients open as many connections as they can, send a byte a minute, or never read. So a new
connection is always accepted: beyond the limit, the one that has been idle for longest is closed. Some file descriptors of the process are
reserved for this port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

_log = logging.getLogger("xds")
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_BACKLOG = 1024
"""The accept queue of the kernel. A client that finds it full retries only after a second."""
_BACKOFF = (0.01, 1.0)
"""Seconds after a failed accept: the first wait, and the limit of its doubling."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the port."""

    most: int = 128
    """Open connections."""
    first: float = 10.0
    """Seconds until the first request."""
    next: float = 60.0
    """Seconds from one request to the next. The response must have been read by then."""
    bytes: int = 64 * 2**10
    """Bytes from one request to the next."""
    spare: int = 8
    """File descriptors in reserve."""


class Connection(asyncio.Protocol):
    """One connection. It passes its bytes to another protocol, which answers."""

    def __init__(self, connections: Connections, answering: asyncio.Protocol) -> None:
        self.answering = answering
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self)
        self._wait(self._connections.limits.first)
        self.answering.connection_made(transport)

    def asked(self) -> None:
        """A request has come. The time until the next one starts."""
        self._received = 0
        self._wait(self._connections.limits.next)
        self._connections.opened(self)

    def cut(self) -> None:
        """Close it at once, whatever its state."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self._received += len(data)
        if self._received > self._connections.limits.bytes:
            self.cut()
        else:
            self.answering.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more requests."""
        return self.answering.eof_received()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self.answering.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.answering.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._connections.closed(self)
        self.answering.connection_lost(error)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)


class Connections:
    """All connections of some listening sockets. What comes on one is answered by the application of `runner`, which learns of no limit.

    `to` is the server in words.
    """

    def __init__(self, runner: web.AppRunner, limits: Limits, to: str) -> None:
        self.limits = limits
        self._to = to
        self._runner = runner
        runner.app.middlewares.insert(0, self._note)
        self._open: dict[
            asyncio.Protocol, Connection
        ] = {}  # by the protocol that answers; the one that has been idle for longest comes first
        self._spare: list[int] = []
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self._open)

    def start(self, sockets: list[socket.socket]) -> None:
        """Accept connections on these sockets, which belong to this from now on."""
        self._sockets = sockets
        self._save()
        for each in sockets:
            each.settimeout(0)
            each.listen(_BACKLOG)
            self._accepting.append(asyncio.create_task(self._accept(each), name="accept"))

    async def stop(self) -> None:
        """Accept no more connections. The caller closes the open ones."""
        self._stopped = True
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for each in self._sockets:
            each.close()
        while self._spare:
            os.close(self._spare.pop())

    def make_room(self) -> None:
        """Another connection is to come: the one that has been idle for longest is closed where there are too many."""
        while len(self._open) >= self.limits.most:
            self._cut_oldest()

    def connection(self) -> Connection:
        """The protocol of a new connection, once the runner is set up."""
        assert self._runner.server is not None
        return Connection(self, self._runner.server())

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The protocol of a connection has received a request."""
        if (connection := self._open.get(cast(asyncio.Protocol, request.protocol))) is not None:
            connection.asked()
        return await handler(request)

    def opened(self, connection: Connection) -> None:
        """A connection is new, or has sent a request: it becomes the last one to be closed."""
        self._open.pop(connection.answering, None)
        self._open[connection.answering] = connection

    def closed(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.pop(connection.answering, None)
        self._save()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        delay = _BACKOFF[0]
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:  # the client may be gone again, or the process may be out of file descriptors
                if error.errno in _NO_FILES and self._free():
                    continue
                if delay == _BACKOFF[0]:
                    _log.warning("a connection to %s cannot be accepted: %s", self._to, error.strerror)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _BACKOFF[1])
                continue
            delay = _BACKOFF[0]
            self.make_room()
            try:
                await loop.connect_accepted_socket(self.connection, accepted)
            except OSError:
                accepted.close()

    def _cut_oldest(self) -> None:
        _, oldest = next(iter(self._open.items()))
        self._open.pop(oldest.answering)
        oldest.cut()

    def _free(self) -> bool:
        """Free a file descriptor for another connection. Returns whether it is free now, and not only soon."""
        if self._spare:
            os.close(self._spare.pop())
            return True
        if self._open:
            self._cut_oldest()
        return False

    def _save(self) -> None:
        """Reserve file descriptors."""
        with contextlib.suppress(OSError):
            while len(self._spare) < self.limits.spare and not self._stopped:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
