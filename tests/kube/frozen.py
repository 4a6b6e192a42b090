"""A proxy in front of an API server, which may stop forwarding without a word: its connections stay, and bytes are acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards connections to a port on loopback. `accepted` counts them."""

    def __init__(self, to: int) -> None:
        self.accepted = 0
        self._to = to
        self._forwarding: set[asyncio.Event] = set()
        self._is_frozen = False
        self._tasks: set[asyncio.Task[None]] = set()

    def freeze(self, *, new: bool = False) -> None:
        """Forward nothing more on the connections that are open; `new`: nor on those that come."""
        self._is_frozen = new
        for event in self._forwarding:
            event.clear()

    def thaw(self) -> None:
        """Forward what comes on new connections."""
        self._is_frozen = False

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        forwarding = asyncio.Event()
        if not self._is_frozen:
            forwarding.set()
        self._forwarding.add(forwarding)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        pipes = [asyncio.create_task(_pipe(*each, forwarding)) for each in ((reader, to_writer), (to_reader, writer))]
        self._tasks.update(pipes)
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        for each in (writer, to_writer):
            each.transport.abort()
            with contextlib.suppress(OSError):
                await each.wait_closed()
        self._tasks.difference_update(pipes)
        self._forwarding.discard(forwarding)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forwarding: asyncio.Event) -> None:
    """Until one end closes; what comes while nothing is forwarded is read, and lost."""
    with contextlib.suppress(OSError):
        while found := await reader.read(65536):
            if forwarding.is_set():
                writer.write(found)
                await writer.drain()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A Proxy before a server on loopback, and its URL there."""
    scheme, _, port = url.rpartition(":")
    proxy = Proxy(int(port))
    server = await asyncio.start_server(proxy.take, "127.0.0.1", 0)
    try:
        yield proxy, f"{scheme}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        proxy.close()
        await asyncio.sleep(0)
