"""The longest block of the event loop while the control plane processes a change.

    python -m bench.event_loop [N …]

A task asks for the loop every 5 ms; what it waits beyond that is what a ping, a probe or another stream would wait. No Envoy is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import perf_counter

from bench import objects
from bench.machine import apart
from bench.table import Mark, Table, marked
from xds.app import ControlPlane
from xds.config import Flags
from xds.kube.source import Change
from xds.machine.process import first_build

SIZES = (1_000, 10_000)
MARK = Mark(50, "ms")
_TICK = 0.005
CHANGES: Mapping[str, Callable[[int], list[objects.Raw]]] = {
    "one EndpointSlice": lambda n: [objects.endpoint_slice(n - 1, addresses=["10.9.9.9"])],
    "one Ingress": lambda n: [objects.ingress(n - 1, path="/changed")],
    "one certificate renewed": lambda n: [objects.secret(0)],
    "100 Ingresses in one change": lambda n: [objects.ingress(i, path="/all") for i in range(min(n, 100))],
    "a ConfigMap value that concerns every host": lambda _: [objects.config_map({"proxy-read-timeout": "77"})],
    "every object again, nothing changed (a re-list)": lambda n: list(objects.world(n)),
}
"""What changes in a World of `n` applications."""


@contextlib.asynccontextmanager
async def longest_wait(into: list[float]) -> AsyncIterator[None]:
    """Appends the longest time in milliseconds that the loop kept another task waiting during the block."""
    waits = [0.0]

    async def tick() -> None:
        while True:
            due = perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            waits.append(perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(2 * _TICK)
    yield
    await asyncio.sleep(2 * _TICK)
    ticking.cancel()
    into.append(max(waits) * 1000)


async def _waits(n: int) -> dict[str, list[float]]:
    control_plane = ControlPlane(Flags(configmap=objects.CONFIG_MAP))
    with first_build():
        await control_plane.apply(Change(put=tuple(map(objects.parsed, objects.world(n)))))
    control_plane.snapshot.ready = True
    found: dict[str, list[float]] = {}
    for what, change in CHANGES.items():
        put = tuple(map(objects.parsed, change(n)))
        waits: list[float] = []
        begun = perf_counter()
        async with longest_wait(waits):
            await control_plane.apply(Change(put=put))
        found[what] = [waits[0], (perf_counter() - begun - 4 * _TICK) * 1000]
    return found


def waits(n: int) -> dict[str, list[float]]:
    """What changed → the longest wait and how long it took in all, in milliseconds."""
    return asyncio.run(_waits(n))


def measure(sizes: Iterable[int] = SIZES, *, repeat: int = 3) -> Table:
    """Each size in `repeat` fresh interpreters; of each wait the least."""
    table = Table(
        "The event loop is blocked for, ms",
        ("what changes", "N", "longest wait", "mark", "", "all of it took"),
        note=f"The least of {repeat} runs. From parsed objects to the published Snapshot, as `xds.app` does it.",
    )
    for n in sizes:
        runs = [apart(waits, n) for _ in range(repeat)]
        for what in CHANGES:
            least, took = (min(run[what][k] for run in runs) for k in (0, 1))
            table.add(what, f"{n:,}", *marked(least, "", MARK if n == SIZES[-1] else None), f"{took:,.0f}")
    return table


if __name__ == "__main__":
    print(measure([int(argument) for argument in sys.argv[1:]] or SIZES))
