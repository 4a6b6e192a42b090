"""The lag of the event loop: how long a request, a stream or a probe waits before it is processed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Histogram

TICK, IDLE_TICK = 0.05, 0.25
"""Seconds between two measurements, and where the process has little to do: each wakes a machine that may sleep, half of what idling costs.

A block of the loop may be so much longer than the observed lag, if it began after a measurement.
"""
_BUSY = 0.1
"""The share of a core from which on a process is busy, threads that keep the interpreter from the loop included."""


def pause(used: float, passed: float) -> float:
    """Seconds until the next measurement, after a process has used so many seconds of CPU in so many that have passed."""
    return TICK if used > _BUSY * passed else IDLE_TICK


class Lag:
    """`xds_event_loop_lag_seconds`: a timer, again and again, and how late it runs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = (
            f"How late the event loop runs a waiting task, measured every {TICK * 1000:g} ms; while there is little to do, every "
            f"{IDLE_TICK * 1000:g} ms. The loop may have been blocked for that much longer."
        )
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
        self._lag = Histogram("xds_event_loop_lag_seconds", text, buckets=buckets, registry=registry)
        self._next: asyncio.TimerHandle | None = None
        self._measured, self._used = 0.0, 0.0

    async def watching(self, _app: object) -> AsyncIterator[None]:
        """Measure the running loop as long as the application runs. This is a cleanup context of aiohttp."""
        self._measure_again(asyncio.get_running_loop())
        yield
        if self._next is not None:
            self._next.cancel()

    def _measure_again(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer by itself: a task that sleeps costs an idle process half as much again.
        now, used = loop.time(), time.process_time()
        due = now + pause(used - self._used, now - self._measured)
        self._measured, self._used = now, used
        self._next = loop.call_at(due, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._lag.observe(max(0.0, loop.time() - due))
        self._measure_again(loop)
