"""How long the validating webhook takes to judge an Ingress beside many others: `python -m bench.admission [INGRESSES]`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import msgspec

from bench import objects
from bench.pipeline import Pipeline
from bench.table import Mark, Table, marked
from xds.kube.objects import Ingress
from xds.units.rehearsal import problems_with

MARK = Mark(10, "ms")
ROUNDS = 50


def _judged(n: int) -> Iterator[tuple[str, Ingress]]:
    """An Ingress of each kind, and what it is."""
    there = objects.parsed(objects.ingress(0))
    assert isinstance(there, Ingress)
    changed = objects.parsed(objects.ingress(0, path="/other"))
    new = objects.parsed(objects.ingress(n))
    assert isinstance(changed, Ingress)
    assert isinstance(new, Ingress)
    late = msgspec.structs.replace(there.meta, name="late")
    yield "a new host", new
    yield "a path of a host changes", changed
    yield "the host and path of another Ingress", msgspec.structs.replace(there, meta=late)


def measure(n: int = 10_000) -> Table:
    """Milliseconds for the Problems of an Ingress, without the document around it."""
    pipeline = Pipeline.of(n)
    table = Table(f"Judging one Ingress beside {n:,}", ("Ingress", "median", "mark", ""))
    for name, item in _judged(n):
        times = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            problems_with(pipeline.world, pipeline.tables.build, item)
            times.append(time.perf_counter() - begun)
        table.add(name, *marked(1_000 * statistics.median(times), "ms", MARK))
    return table


if __name__ == "__main__":
    print(measure(*map(int, sys.argv[1:])))
