"""How late the event loop is: what a request, a stream or a probe waits before anybody looks at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Histogram

TICK = 0.05
"""Seconds between two looks. A loop may pause for that much longer than what is noted, for it may have begun just after a look."""


class Lag:
    """`xds_event_loop_lag_seconds`: a task asks to be woken up every 50 ms, and notes by how much that was late."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = f"How late the event loop looks at what waits; seen every {TICK * 1000:g} ms, so a pause may look that much shorter."
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
        self._lag = Histogram("xds_event_loop_lag_seconds", text, buckets=buckets, registry=registry)

    async def run(self) -> None:
        """Watch the loop that this runs in, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            self._lag.observe(max(0.0, clock() - due))

    async def watching(self, _app: object) -> AsyncIterator[None]:
        """Watch for as long as the application is served: a cleanup context, as aiohttp calls it."""
        task = asyncio.create_task(self.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
