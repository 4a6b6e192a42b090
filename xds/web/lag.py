"""The lag of the event loop: how long a request, a stream or a probe waits before it is processed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Histogram

TICK = 0.05
"""Seconds between two measurements. A block of the loop may be so much longer than the observed lag, if it began after a measurement."""


class Lag:
    """`xds_event_loop_lag_seconds`: a task sleeps for 50 ms again and again, and observes how late it wakes up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = f"How late the event loop runs a waiting task, measured every {TICK * 1000:g} ms. A block may be so much longer than that."
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
        self._lag = Histogram("xds_event_loop_lag_seconds", text, buckets=buckets, registry=registry)

    async def run(self) -> None:
        """Measure the running loop, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            self._lag.observe(max(0.0, clock() - due))

    async def watching(self, _app: object) -> AsyncIterator[None]:
        """Measure as long as the application runs. This is a cleanup context of aiohttp."""
        task = asyncio.create_task(self.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
