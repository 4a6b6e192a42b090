"""Memory: of the control plane, of each Envoy that is connected to it, and of a real Envoy that has taken everything in.

python -m bench.memory [N …]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

from bench.machine import apart, memory
from bench.table import Mark, Table, marked

SIZES = (1_000, 10_000)
MARKS = {
    ("all", 10_000): Mark(300, "MB"),
    ("peak", 10_000): Mark(300, "MB"),
    ("stream", 10_000): Mark(100, "kB"),
    ("envoy", 1_000): Mark(140, "MB"),
    ("envoy", 10_000): Mark(740, "MB"),
}
_WHAT = {
    "imports": ("control plane, all imports and nothing else", "MB"),
    "objects": ("… serving on its ports, no Envoy connected", "MB"),
    "all": ("… and one real Envoy has taken everything in", "MB"),
    "peak": ("… the most at any time", "MB"),
    "stream": ("each further Session that holds everything", "kB"),
    "empty": ("Envoy, with nothing to serve", "MB"),
    "envoy": ("Envoy, serving everything", "MB"),
}


def imports() -> dict[str, float]:
    """Megabytes of a process that has imported everything and done nothing."""
    import xds.app

    assert xds.app
    return {"imports": memory()}


def streams(n: int, count: int) -> dict[str, float]:
    """Kilobytes of Python objects that each of `count` further Sessions takes, once its Envoy has accepted everything."""
    from bench.pipeline import Conversation, Pipeline
    from xds.server.messages import Encoder

    pipeline = Pipeline.of(n)
    encoder = Encoder("bench", keep=0)  # the bytes that all streams share are no stream's own
    Conversation(pipeline.snapshot, encoder).open()
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    opened = [Conversation(pipeline.snapshot, encoder) for _ in range(count)]
    for stream in opened:
        stream.open()
    gc.collect()
    return {"stream": (tracemalloc.get_traced_memory()[0] - before) / count / 1000}


def processes(n: int) -> dict[str, float]:
    """Megabytes of a control plane that serves, before and after a real Envoy has taken everything in, and of that Envoy."""
    empty, full = asyncio.run(_processes(0)), asyncio.run(_processes(n))
    return {**full, "empty": empty["envoy"]}


async def _processes(n: int) -> dict[str, float]:
    from bench.control_plane import ControlPlane
    from bench.real_envoy import AS_DEPLOYED, DEADLINE, until_still
    from tests.envoy.harness import Site, wait_until
    from xds.config import Flags
    from xds.render.bootstrap import bootstrap

    with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
        async with Site(Path(folder)) as site:
            plane = ControlPlane(n, site.path, site.ports)
            try:
                await plane.start()
                ready = memory(plane.pid)
                envoy = await site.static_envoy(
                    bootstrap(Flags(xds_address=plane.xds_address, node_id="bench")), ready=False, flags=AS_DEPLOYED
                )
                await wait_until(envoy.ready, "Envoy to be ready", deadline=DEADLINE)
                await until_still(envoy.process.pid)
                served = memory(plane.pid)
                return {"objects": ready, "all": served, "peak": memory(plane.pid, "VmHWM"), "envoy": memory(envoy.process.pid)}
            finally:
                await plane.stop()


def measure(sizes: Iterable[int] = SIZES, *, count: int = 20) -> Table:
    """Each size, each part in a fresh interpreter."""
    table = Table(
        "Memory",
        ("what", "N", "memory", "mark", ""),
        note=(
            "MB (10⁶ bytes) resident, of the processes as they run; of a Session the Python objects, by tracemalloc, "
            f"over {count} of them. Envoy has one worker thread."
        ),
    )
    for n in sizes:
        found = {**apart(imports), **apart(streams, n, count), **apart(processes, n)}
        for key, (what, unit) in _WHAT.items():
            table.add(what, f"{n:,}", *marked(found[key], unit, MARKS.get((key, n))))
    return table


if __name__ == "__main__":
    print(measure([int(argument) for argument in sys.argv[1:]] or SIZES))
