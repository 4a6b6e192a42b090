"""How soon a page of the dashboard is there, and how long it holds up the event loop: `python -m bench.dashboard [INGRESSES]`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from bench import objects
from bench.injected import LOOPBACK, Given
from bench.machine import apart
from bench.table import Mark, Table, marked, number
from tests.envoy.harness import Ports
from xds.app import ControlPlane
from xds.config import Flags
from xds.kube.source import Change

MARK = Mark(300, "ms")
HELD_UP = Mark(50, "ms")
Measured = tuple[float, float]
"""Seconds by the clock, and of CPU time."""
ROUNDS = 5
FIRST = "hosts, the first page of all"
PAGES = {
    "hosts": "/",
    "hosts, the last page of them": "/?page=100000",
    "hosts, searched": "/?q=web-77",
    "one Ingress": "/ingress/team-0/web-0",
    "a URL explained": "/explain?url=https://web-7.example.com/cart",
    "the fleet": "/fleet",
    "the changes": "/changes",
}


@asynccontextmanager
async def _serving(n: int) -> AsyncIterator[str]:
    """A control plane of `n` applications in this process, and where its dashboard is."""
    source = Given()
    source.queue.put_nowait(Change(put=tuple(map(objects.parsed, objects.world(n)))))
    ports = Ports()
    flags = Flags(
        configmap=objects.CONFIG_MAP,
        xds_address=f"{LOOPBACK}:{ports.take()}",
        debug_address="",
        dashboard_address=f"{LOOPBACK}:{ports.take()}",
        healthz_host=LOOPBACK,
        healthz_port=ports.take(),
    )
    plane = ControlPlane(flags, source)
    await plane.start()
    running = asyncio.create_task(plane.run())
    try:
        assert plane.dashboard_address is not None, "its port was taken"
        yield f"http://{plane.dashboard_address}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await plane.stop()


async def _longest_wait(until: asyncio.Event) -> float:
    """The longest time in seconds for which the loop ran nothing of this task."""
    longest, before = 0.0, time.perf_counter()
    while not until.is_set():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest


async def _fetched(session: aiohttp.ClientSession, url: str) -> Measured:
    """Until a page has come."""
    begun, used = time.perf_counter(), time.process_time()
    async with session.get(url) as response:
        assert response.status == 200, url
        await response.read()
    return time.perf_counter() - begun, time.process_time() - used


async def _held_up(session: aiohttp.ClientSession, url: str) -> Measured:
    """For how long the loop is held up at most meanwhile. To look at it makes the page later, and its CPU time means nothing."""
    done = asyncio.Event()
    waiting = asyncio.create_task(_longest_wait(done))
    await _fetched(session, url)
    done.set()
    return await waiting, 0.0


async def _each(n: int, measured: Callable[[aiohttp.ClientSession, str], Awaitable[Measured]]) -> dict[str, Measured]:
    async with _serving(n) as base, aiohttp.ClientSession() as session:
        found = {FIRST: await measured(session, base + "/")}
        for name, path in PAGES.items():
            found[name] = min([await measured(session, base + path) for _ in range(ROUNDS)])
    return found


def times(n: int) -> dict[str, Measured]:
    """Of each page the seconds until it has come."""
    return asyncio.run(_each(n, _fetched))


def waits(n: int) -> dict[str, Measured]:
    """Of each page the seconds for which the event loop is held up meanwhile."""
    return asyncio.run(_each(n, _held_up))


def measure(n: int = 10_000, repeat: int = 2) -> Table:
    """Milliseconds for each page, and of the longest pause of the event loop meanwhile."""
    taken, held = ([apart(run, n) for _ in range(repeat)] for run in (times, waits))
    columns = ("page", "CPU", "it has come after", "mark", "", "the loop waits at most", "mark ", " ")
    table = Table(f"A page of the dashboard, {n:,} Ingresses", columns)
    for name in (FIRST, *PAGES):
        took, used = (1_000 * min(run[name][which] for run in taken) for which in (0, 1))
        waited = 1_000 * min(run[name][0] for run in held)
        table.add(name, f"{number(used)} ms", *marked(took, "ms", MARK), *marked(waited, "ms", HELD_UP))
    table.note = f"The least of {repeat} runs, each in a fresh interpreter, with {ROUNDS} requests a page; the first of all is one request."
    return table


if __name__ == "__main__":
    print(measure(*map(int, sys.argv[1:])))
