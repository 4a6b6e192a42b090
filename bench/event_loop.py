"""The longest block of the event loop while the control plane processes a change.

    python -m bench.event_loop [N …]

A task asks for the loop every 5 ms; what it waits beyond that is what a ping, a probe or another stream would wait. On a busy machine
that is mostly the time of other programs. So the CPU that was used between two such moments is shown as well. A block takes at most as
much as all threads: another one may hold the interpreter. No Envoy is connected, but for the last row: its Session runs without gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter

from bench import objects
from bench.machine import apart
from bench.table import Mark, Table, marked
from bench.waits import TICK, Wait, longest_wait
from tests.publish.wired import Wired
from xds.app import ControlPlane
from xds.config import Flags
from xds.kube.source import Change
from xds.machine.process import first_build
from xds.snapshot import ROUTE

SIZES = (1_000, 10_000)
MARK = Mark(50, "ms")
CHANGES: Mapping[str, Callable[[int], list[objects.Raw]]] = {
    "every object again, nothing changed (a re-list)": lambda n: list(objects.world(n)),
    "one EndpointSlice": lambda n: [objects.endpoint_slice(n - 1, addresses=["10.9.9.9"])],
    "one Ingress": lambda n: [objects.ingress(n - 1, path="/changed")],
    "one certificate renewed": lambda n: [objects.secret(0)],
    "100 Ingresses in one change": lambda n: [objects.ingress(i, path="/all") for i in range(min(n, 100))],
    "a ConfigMap value that concerns every host": lambda _: [objects.config_map({"proxy-read-timeout": "77"})],
    "every Ingress and EndpointSlice again, each changed": lambda n: [
        *(objects.ingress(i, path="/again") for i in range(n)),
        *(objects.endpoint_slice(i, addresses=["10.9.9.8"]) for i in range(n)),
    ],
    "as many Ingresses more, each with a Problem": lambda n: [objects.ingress(n + i) for i in range(n)],
}
"""What changes in a World of `n` applications, in this order: only the first one finds the World as it was made."""
REJECTED = "… and an Envoy rejects all routes from now on, 5 s"
_REJECTED_FOR = 5.0


async def _waits(n: int) -> dict[str, list[float]]:
    control_plane = ControlPlane(Flags(configmap=objects.CONFIG_MAP))
    with first_build():
        await control_plane.apply(Change(put=tuple(map(objects.parsed, objects.world(n)))))
    control_plane.snapshot.ready = True
    found: dict[str, list[float]] = {}
    for what, change in CHANGES.items():
        put = tuple(map(objects.parsed, change(n)))
        waits: list[Wait] = []
        begun = perf_counter()
        async with longest_wait(waits):
            await control_plane.apply(Change(put=put))
        found[what] = [*waits[0], (perf_counter() - begun - 4 * TICK) * 1000]
    return found | {REJECTED: await _rejected(n)}


async def _rejected(n: int) -> list[float]:
    """The same while an Envoy rejects all routes, and the control plane searches for what is wrong with them."""
    site = Wired(Flags(configmap=objects.CONFIG_MAP))
    with first_build():
        await site.put(*map(objects.parsed, objects.world(n)))
    envoy = site.connect()
    await site.settle()
    envoy.refuses = lambda type_url, _: type_url == ROUTE
    waits: list[Wait] = []
    begun = perf_counter()
    async with longest_wait(waits):
        await site.put(objects.parsed(objects.config_map({"proxy-read-timeout": "78"})))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REJECTED_FOR):
                await site.settle()
    return [*waits[0], (perf_counter() - begun - 4 * TICK) * 1000]


def waits(n: int) -> dict[str, list[float]]:
    """What changed → the longest wait, the most CPU within one (loop, all threads), and how long it took in all, in milliseconds."""
    logging.disable()  # a line for each of thousands of Problems is not what is shown here
    try:
        return asyncio.run(_waits(n))
    finally:
        logging.disable(logging.NOTSET)


def measure(sizes: Iterable[int] = SIZES, *, repeat: int = 3) -> Table:
    """Each size in `repeat` fresh interpreters; of each wait the least."""
    table = Table(
        "The event loop is blocked for, ms",
        ("what changes", "N", "longest wait", "mark", "", "CPU in one", "… of all threads", "all of it took"),
        note=f"The least of {repeat} runs. From parsed objects to the published Snapshot, as `xds.app` does it.",
    )
    for n in sizes:
        runs = [apart(waits, n) for _ in range(repeat)]
        for what in (*CHANGES, REJECTED):
            least, cpu, of_all, took = (min(run[what][k] for run in runs) for k in range(4))
            verdict = marked(least, "", MARK if n == SIZES[-1] else None)
            table.add(what, f"{n:,}", *verdict, f"{cpu:.1f}", f"{of_all:.1f}", f"{took:,.0f}")
    return table


if __name__ == "__main__":
    print(measure([int(argument) for argument in sys.argv[1:]] or SIZES))
