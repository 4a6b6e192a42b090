"""What stands behind Envoy in measurements: one process, a port for each answer, on every address of this machine.

    python -m bench.backends PORT ANSWER [PORT ANSWER …]

It says "listening" on standard output once it is.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

_END = b"\r\n\r\n"


class Backend(asyncio.Protocol):
    """Answers each request head on a connection with the same body; requests have none."""

    def __init__(self, answer: str) -> None:
        self._answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(answer)}\r\n\r\n{answer}".encode()
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *heads, self._pending = (self._pending + data).split(_END)
        self._transport.write(self._answer * len(heads))


async def serve(answers: list[tuple[int, str]]) -> None:
    """Listen for ever."""
    loop = asyncio.get_running_loop()
    for port, answer in answers:
        await loop.create_server(partial(Backend, answer), "0.0.0.0", port)
    print("listening", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(serve([(int(port), answer) for port, answer in zip(words[::2], words[1::2], strict=True)]))
