"""How long an event loop keeps others waiting: the same for the benches of changes and of many Envoys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter, process_time, thread_time
from typing import NamedTuple

TICK = 0.005
"""Seconds after which a task asks for the loop again."""


class Wait(NamedTuple):
    """The longest time in milliseconds that the loop kept another task waiting; the most CPU that it, and all threads, used meanwhile."""

    wall: float
    cpu: float
    of_all: float


@contextlib.asynccontextmanager
async def longest_wait(into: list[Wait]) -> AsyncIterator[None]:
    """Appends the longest wait during the block."""
    found = [Wait(0, 0, 0)]

    async def tick() -> None:
        while True:
            due, used, of_all = perf_counter() + TICK, thread_time(), process_time()
            await asyncio.sleep(TICK)
            found.append(Wait(perf_counter() - due, thread_time() - used, process_time() - of_all))

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(2 * TICK)
    yield
    await asyncio.sleep(2 * TICK)
    ticking.cancel()
    into.append(Wait(*(max(each) * 1000 for each in zip(*found, strict=True))))
