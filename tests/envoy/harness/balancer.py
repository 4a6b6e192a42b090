"""A load balancer that stands for a Service or a cloud's: it passes connections on to what is ready."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from examples.apps import Address, StreamServer


class Balancer:
    """Passes each new connection to the next of `targets`; those that are open stay where they are. Without a target it closes them."""

    def __init__(self, *targets: Address) -> None:
        self.targets = list(targets)
        self._turns = itertools.count()
        self._server = StreamServer(self._pass)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.targets:
            return
        host, port = self.targets[next(self._turns) % len(self.targets)]
        backend_reader, backend_writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(_copy(reader, backend_writer), _copy(backend_reader, writer))
        finally:
            backend_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until they end, and the end as well."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
