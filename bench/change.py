"""One object changed → its bytes ready to send: from the JSON of a watch event to the body of the response as it is written to a stream.

    python -m bench.change [N …]

One Envoy is connected (its side of the stream is played, without gRPC) and holds everything. Each change is accepted before the next one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from time import process_time

from bench import objects
from bench.machine import apart, quantile
from bench.objects import Raw
from bench.pipeline import Conversation, Pipeline
from bench.table import Mark, Table, marked
from xds.kube import parse
from xds.problem import Problem
from xds.protocol.discovery import DiscoveryResponse
from xds.server.messages import Encoder

SIZES = (100, 1_000, 10_000)
MARKS = {
    ("Ingress", 100): Mark(3, "ms"),
    ("Ingress", 10_000): Mark(10, "ms"),
    **{("EndpointSlice", n): Mark(1, "ms") for n in SIZES},
}
_STAGES = ("parse", "World", "Tables", "Snapshot", "Session", "Encoder")


def ingress_changes(n: int, count: int) -> Iterable[Raw]:
    """Another path each time, on Ingresses all over the World."""
    return (objects.ingress(k * 7919 % n, path=f"/v{k + 1}") for k in range(count))


def slice_changes(n: int, count: int) -> Iterable[Raw]:
    """A rollout: one of three pods has another address."""
    for k in range(count):
        i = k * 7919 % n
        yield objects.endpoint_slice(i, addresses=[f"10.200.{k >> 8 & 255}.{k & 255}", "10.201.0.1", "10.201.0.2"])


CHANGES: dict[str, Callable[[int, int], Iterable[Raw]]] = {"Ingress": ingress_changes, "EndpointSlice": slice_changes}


def run(kind: str, n: int, count: int) -> dict[str, float]:
    """Milliseconds of CPU of `count` changes: p50, p99, most, and the median of each stage."""
    pipeline = Pipeline.of(n)
    stream = Conversation(pipeline.snapshot, Encoder("bench"))
    stream.open()
    events = [raw.body for raw in CHANGES[kind](n, count)]
    stages: list[list[float]] = []
    for event in events:
        times, responses = _one(pipeline, stream, event)
        stages.append([(b - a) * 1000 for a, b in pairwise(times)])
        assert responses, "a change that changes nothing"
        stream.accept(responses)
    pipeline.check()
    whole = [sum(times) for times in stages]
    medians = {stage: quantile([times[k] for times in stages], 0.5) for k, stage in enumerate(_STAGES)}
    return {**medians, "p50": quantile(whole, 0.5), "p99": quantile(whole, 0.99), "most": max(whole)}


def _one(pipeline: Pipeline, stream: Conversation, event: bytes) -> tuple[list[float], list[DiscoveryResponse]]:
    """One change, step by step: the times between the steps, and the responses."""
    times = [process_time()]
    item = parse.from_json(event)
    assert item is not None
    assert not isinstance(item, Problem), item
    times.append(process_time())
    keys = pipeline.world.apply([item])
    times.append(process_time())
    update = pipeline.tables.apply(keys)
    times.append(process_time())
    update.publish(pipeline.snapshot)
    times.append(process_time())
    responses = stream.publish()
    times.append(process_time())
    stream.encode(responses)
    times.append(process_time())
    return times, responses


def measure(sizes: Iterable[int] = SIZES, *, count: int = 500, repeat: int = 2) -> Table:
    """Each kind and size in `repeat` fresh interpreters; of the runs the one with the lower p99."""
    table = Table(
        "One object changed → its bytes ready to send, CPU ms",
        ("changed", "N", "p50", "p99", "most", "mark (p99)", "", *_STAGES),
        note=(
            f"{count} changes a run, the better of {repeat} runs, each in a fresh interpreter. The last columns: the median of each stage."
        ),
    )
    for kind in CHANGES:
        for n in sizes:
            best = min((apart(run, kind, n, count) for _ in range(repeat)), key=lambda found: float(found["p99"]))
            p99, mark, verdict = marked(best["p99"], "", MARKS.get((kind, n)))
            medians = [f"{best[stage]:.2f}" for stage in _STAGES]
            table.add(kind, f"{n:,}", f"{best['p50']:.2f}", p99, f"{best['most']:.2f}", mark, verdict, *medians)
    return table


if __name__ == "__main__":
    print(measure([int(argument) for argument in sys.argv[1:]] or SIZES))
