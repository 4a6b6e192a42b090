"""TCP and UDP clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Self

from examples.apps import Address
from tests.envoy.harness.waiting import PATIENCE


class Tcp:
    """One open TCP connection to a server that answers lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect. Raises OSError."""
        async with asyncio.timeout(PATIENCE):
            return cls(*await asyncio.open_connection(*address))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> str:
        """Read one line, without its end; "" where the connection has ended."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readline()).decode().rstrip("\r\n")

    async def ask(self, line: str) -> str:
        """Send a line and return the one that comes back."""
        await self.send(line.encode() + b"\n")
        return await self.line()

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
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Udp:
    """One UDP socket that talks to one address: to a proxy, one session."""

    def __init__(self, found: socket.socket) -> None:
        self._socket = found

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Make the socket; nothing is sent yet."""
        found = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        found.settimeout(0)
        found.connect(address)
        return cls(found)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, payload: bytes) -> None:
        """Send one datagram."""
        await asyncio.get_running_loop().sock_sendall(self._socket, payload)

    async def receive(self, timeout: float = 1) -> bytes:  # noqa: ASYNC109
        """Return the next datagram. Raises TimeoutError after so many seconds, ConnectionRefusedError where nobody listens."""
        async with asyncio.timeout(timeout):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    async def ask(self, payload: bytes, *, timeout: float = 1, tries: int = 5) -> bytes:  # noqa: ASYNC109
        """Send a datagram and return the next that comes, sending it again where none does. Raises TimeoutError."""
        for _ in range(tries):
            await self.send(payload)
            with contextlib.suppress(TimeoutError):
                return await self.receive(timeout)
        raise TimeoutError(f"no answer to {tries} datagrams")

    async def close(self) -> None:
        """Close the socket."""
        self._socket.close()
