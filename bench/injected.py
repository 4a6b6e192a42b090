"""The control plane as `xds serve` runs it, but for its Source: N applications at the start, then an object for each line that comes in.

    python -m bench.injected N EVENTS_PORT XDS_PORT HEALTH_PORT HTTP_PORT HTTPS_PORT

A line on a connection to EVENTS_PORT is an object as JSON, as in a watch event; each is a change of its own. Everything is on loopback.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping

from bench import objects
from xds import logs
from xds.app import ControlPlane
from xds.cli.serve import until_signal
from xds.config import Flags
from xds.kube import parse
from xds.kube.source import Change
from xds.problem import Problem

LOOPBACK = "127.0.0.1"
_LONGEST_LINE = 1 << 20


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
    source = Given()
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
        async for line in reader:
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
