"""The control plane as `xds serve` runs it, but for its Source: N applications at the start, then an object for each line that comes in.

    python -m bench.injected N EVENTS_PORT XDS_PORT HEALTH_PORT HTTP_PORT HTTPS_PORT

A line on a connection to EVENTS_PORT is an object as JSON, as in a watch event; each is a change of its own. A line with a number is
answered by another one, once so many responses were made for streams since the last object came: by the milliseconds that this took.
From the line "watch" on, how long the event loop keeps others waiting is measured; "waited" is answered by the longest, and by the most CPU
in one. Everything is on loopback.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

from bench import objects
from bench.waits import Wait, longest_wait
from xds import logs
from xds.app import ControlPlane
from xds.cli.serve import until_signal
from xds.config import Flags
from xds.kube import parse
from xds.kube.source import Change
from xds.problem import Problem
from xds.server.messages import Encoder

LOOPBACK = "127.0.0.1"
_LONGEST_LINE = 1 << 20


class Made:
    """When responses were made for streams, which are handed to gRPC as soon as they are; since `begin`."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._times: list[float] = []
        self._more = asyncio.Event()

    def begin(self) -> None:
        """Count from here."""
        self._begun = perf_counter()
        self._times.clear()

    def count(self, encode: Callable[..., bytes]) -> Callable[..., bytes]:
        """`Encoder.encode`, whose calls are counted."""

        def counted(*arguments: Any) -> bytes:
            raw = encode(*arguments)
            self._times.append(perf_counter())
            self._more.set()
            return raw

        return counted

    async def until(self, number: int) -> float:
        """Milliseconds until so many were made."""
        while len(self._times) < number:
            self._more.clear()
            await self._more.wait()
        return (self._times[number - 1] - self._begun) * 1000


class Given:
    """A Source of what is put into its queue."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Change] = asyncio.Queue()

    async def changes(self) -> AsyncGenerator[Change]:
        """Each Change as it is put in."""
        while True:
            yield await self.queue.get()

    def waiting(self) -> list[str]:
        """Nothing."""
        return []

    def staleness(self, now: float) -> Mapping[str, float]:
        """Never out of date."""
        return {}

    async def close(self) -> None:
        """Nothing is held."""


async def serve(n: int, events: int, xds: int, health: int, http: int, https: int) -> None:
    """Serve until cancelled."""
    source, made = Given(), Made()
    Encoder.encode = made.count(Encoder.encode)  # type: ignore[method-assign]
    source.queue.put_nowait(Change(put=tuple(map(objects.parsed, objects.world(n)))))
    control_plane = ControlPlane(
        Flags(
            configmap=objects.CONFIG_MAP,
            allowed_endpoints=("127.0.0.0/8",),
            xds_address=f"{LOOPBACK}:{xds}",
            dashboard_address="",
            healthz_host=LOOPBACK,
            healthz_port=health,
            listen_address=LOOPBACK,
            http_port=http,
            https_port=https,
        ),
        source,
    )

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waits: list[Wait] = []
        watching = AsyncExitStack()
        async for line in reader:
            match line.strip():
                case b"watch":
                    await watching.enter_async_context(longest_wait(waits))
                    continue
                case b"waited":
                    await watching.aclose()
                    writer.write(b"%.3f %.3f %.3f\n" % waits.pop())
                    continue
                case number if number.isdigit():
                    writer.write(b"%.3f\n" % await made.until(int(number)))
                    continue
            made.begin()
            item = parse.from_json(line)
            assert item is not None
            assert not isinstance(item, Problem), item
            source.queue.put_nowait(Change(put=(item,)))
            await asyncio.sleep(0)  # a line that has come already is no reason to let the streams wait
        writer.close()

    try:
        await control_plane.start()
        listening = await asyncio.start_server(take, LOOPBACK, events, limit=_LONGEST_LINE)
        async with listening:
            await control_plane.run()
    finally:
        await control_plane.stop()


if __name__ == "__main__":
    logs.begin("text", "info", sys.stderr)
    asyncio.run(until_signal(lambda: serve(*map(int, sys.argv[1:]))))
