"""Cold start: objects in memory as JSON, as an API server lists them → the first full Snapshot, every body joined.

    python -m bench.cold_start [N …]

Beside it what a real Envoy needs to take that very Snapshot in, over delta ADS, less what it needs to start without any.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from itertools import pairwise
from time import perf_counter, process_time

from bench import objects
from bench.machine import apart
from bench.pipeline import Pipeline
from bench.table import Mark, Table, marked
from xds.config import Flags
from xds.machine.process import first_build

SIZES = (100, 1_000, 10_000)
MARK = Mark(1.0, "× Envoy's")
_STAGES = ("parse", "World", "Tables", "Snapshot", "bodies", "gc")


def build(n: int, settings: Flags | None = None) -> tuple[Pipeline, dict[str, float]]:
    """The Pipeline, and milliseconds: CPU of each stage, `cpu` and `wall` of all of it."""
    raws = list(objects.world(n))
    pipeline = Pipeline(settings or Flags(configmap=objects.CONFIG_MAP))
    times, wall = [process_time()], perf_counter()
    with first_build():
        found = [objects.parsed(raw) for raw in raws]
        times.append(process_time())
        keys = pipeline.world.apply(found)
        times.append(process_time())
        update = pipeline.tables.apply(keys)
        times.append(process_time())
        update.publish(pipeline.snapshot)
        times.append(process_time())
        pipeline.bodies()
        times.append(process_time())
    times.append(process_time())
    wall = perf_counter() - wall
    pipeline.snapshot.ready = True
    pipeline.check()
    stages = {stage: (b - a) * 1000 for stage, (a, b) in zip(_STAGES, pairwise(times), strict=True)}
    return pipeline, {**stages, "cpu": sum(stages.values()), "wall": wall * 1000}


def beside_envoy(n: int) -> dict[str, float]:
    """One cold start, and `envoy`: milliseconds of CPU of the Envoy that takes it in."""
    from bench.real_envoy import settings_for, take_in
    from tests.envoy.harness import Ports

    ports = Ports()
    settings = settings_for(ports, configmap=objects.CONFIG_MAP)
    pipeline, result = build(n, settings)
    nothing, _ = build(0, settings)
    full = asyncio.run(take_in(pipeline.snapshot, ports))
    empty = asyncio.run(take_in(nothing.snapshot, ports))
    ports.release()
    return {**result, "envoy": (full.cpu - empty.cpu) * 1000}


def measure(sizes: Iterable[int] = SIZES, *, repeat: int = 3) -> Table:
    """Each size in `repeat` fresh interpreters; of each number the least, ours and Envoy's alike, for the machine may be busy."""
    table = Table(
        "Cold start, CPU ms",
        ("N", *_STAGES, "all", "wall", "Envoy's intake", "ratio", "mark", ""),
        note=(
            f"The least of {repeat} runs, each in a fresh interpreter with an Envoy of its own; ours and Envoy's alike. "
            "`bodies`: every body joined; `gc`: what was made is taken out of garbage collection. "
            "Envoy: user and system time of one with one worker, from its start until it serves everything, less an empty one's."
        ),
    )
    for n in sizes:
        runs = [apart(beside_envoy, n) for _ in range(repeat)]
        least = {key: min(run[key] for run in runs) for key in runs[0]}
        ratio, mark, verdict = marked(least["cpu"] / max(least["envoy"], 10.0), "", MARK)
        cells = [f"{least[stage]:,.0f}" for stage in (*_STAGES, "cpu", "wall", "envoy")]
        table.add(f"{n:,}", *cells, ratio, mark, verdict if n == SIZES[-1] else "")
    return table


if __name__ == "__main__":
    print(measure([int(argument) for argument in sys.argv[1:]] or SIZES))
