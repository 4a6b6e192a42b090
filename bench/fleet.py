"""Many Envoys: what one change costs all of them, what it costs when all come back, and what each costs in memory. Real gRPC on loopback.

    python -m bench.fleet [STREAMS]

The control plane is a process of its own; its Envoys are delta ADS streams of this one, each on a connection of its own. They come as
after a restart of the control plane: with the versions of everything that they hold.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc

from bench import objects
from bench.control_plane import ControlPlane
from bench.machine import apart, cpu_of, cpu_of_threads, memory, quantile
from bench.real_envoy import until_still
from bench.table import NO_MARK, Mark, Table, marked
from tests.envoy.harness import Ports
from tests.envoy.harness.process import raise_file_limit
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from xds.wire.encode import field

N = 1_000
STREAMS = 1_000
CHANGE, RECONNECT, NOTHING, MEMORY, LAG = Mark(100, "ms"), Mark(5_000, "ms"), Mark(0, "bytes"), Mark(100, "kB"), Mark(50, "ms")
_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_FENCE = "bench/fence"
"""A Secret that does not exist, asked for last: the answer has no resource, and comes after all that the other requests led to."""
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))

Held = Mapping[str, Mapping[str, str]]
"""Type → name → version."""


@dataclass(frozen=True, slots=True)
class Response:
    """A DeltaDiscoveryResponse: its resources by name with their versions, the names that are gone."""

    type_url: str
    nonce: bytes
    resources: Mapping[str, str]
    removed: frozenset[str]
    size: int


class Stream:
    """One Envoy's side of a stream."""

    _numbers = itertools.count(1)

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._call = channel.stream_stream(_METHOD)()
        self._node = field(1, field(1, b"bench-%d" % next(self._numbers)))

    @classmethod
    def to(cls, address: str) -> Stream:
        """One on a connection of its own."""
        return cls(grpc.aio.insecure_channel(address, options=_OPTIONS))

    async def ask(self, type_url: str, names: tuple[str, ...] = (), held: Mapping[str, str] | None = None, nonce: bytes = b"") -> None:
        """A DeltaDiscoveryRequest; the first one names the node."""
        parts = [self._node, field(2, type_url.encode()), *(field(3, name.encode()) for name in names)]
        parts += [field(5, field(1, name.encode()) + field(2, version.encode())) for name, version in (held or {}).items()]
        self._node = b""
        await self._call.write(b"".join((*parts, field(6, nonce) if nonce else b"")))

    async def receive(self) -> Response:
        """The next response, which is accepted."""
        raw = await self._call.read()
        assert raw is not grpc.aio.EOF, "the control plane has ended a stream"
        response = _parsed(raw)
        await self.ask(response.type_url, nonce=response.nonce)
        return response

    async def come(self, held: Held) -> int:
        """Ask for everything, with what is held from before; returns the bytes of the responses that had a resource."""
        for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET):
            wildcard = type_url in (CLUSTER, LISTENER)
            await self.ask(type_url, () if wildcard else (*held[type_url], *((_FENCE,) if type_url == SECRET else ())), held[type_url])
        spent = 0
        while _FENCE not in (response := await self.receive()).removed:
            spent += response.size if response.resources else 0
        return spent + (response.size if response.resources else 0)

    async def close(self) -> None:
        """End the stream and its connection."""
        self._call.cancel()
        await self._channel.close()


def _parsed(raw: bytes) -> Response:
    type_url, nonce, removed = "", b"", []
    resources: dict[str, str] = {}
    for number, value in _fields(raw):
        if number == 2:
            found = dict(_fields(value))
            resources[found[3].decode()] = found[1].decode()
        elif number == 4:
            type_url = value.decode()
        elif number == 5:
            nonce = value
        elif number == 6:
            removed.append(value.decode())
    return Response(type_url, nonce, resources, frozenset(removed), len(raw))


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that has none but length-delimited ones with numbers up to 15."""
    at = 0
    while at < len(raw):
        number, at, length, shift = raw[at] >> 3, at + 1, 0, 0
        while True:
            length, shift, at = length | (raw[at] & 127) << shift, shift + 7, at + 1
            if raw[at - 1] < 128:
                break
        yield number, raw[at : at + length]
        at += length


async def _everything(address: str, n: int) -> Held:
    """The resources that a new Envoy receives."""
    stream = Stream.to(address)
    held: dict[str, dict[str, str]] = {}
    for type_url in (CLUSTER, LISTENER):
        await stream.ask(type_url)
    while len(held) < 5 or len(held[SECRET]) < 1 + len(objects.with_tls(n)):  # secrets come one by one (T4)
        response = await stream.receive()
        held.setdefault(response.type_url, {}).update(response.resources)
        if response.type_url == CLUSTER:
            await stream.ask(ENDPOINT, tuple(response.resources))
        elif response.type_url == LISTENER:
            await stream.ask(ROUTE, ("ingress",))
            await stream.ask(SECRET, ("default", *map(objects.secret_name, objects.with_tls(n))))
    await stream.close()
    assert len(held[CLUSTER]) == len(held[ENDPOINT]) == n, "an Envoy did not receive everything"
    return held


def run(n: int, count: int, changes: int) -> dict[str, Any]:
    """Milliseconds, bytes and kilobytes of `count` streams over `n` applications; of each of `changes` changes."""
    return asyncio.run(_run(n, count, changes))


async def _run(n: int, count: int, changes: int) -> dict[str, Any]:
    raise_file_limit()
    ports = Ports()
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
        plane = ControlPlane(n, Path(folder), ports)
        streams: list[Stream] = []
        try:
            await plane.start()
            held = await _everything(plane.xds_address, n)
            await until_still(plane.pid)
            before, used = memory(plane.pid), cpu_of(plane.pid)
            plane.watch()
            begun = perf_counter()
            streams = [Stream.to(plane.xds_address) for _ in range(count)]
            spent = await asyncio.gather(*(stream.come(held) for stream in streams))
            came, cpu = (perf_counter() - begun) * 1000, (cpu_of(plane.pid) - used) * 1000
            waited = await plane.waited()
            await until_still(plane.pid)
            grown = (memory(plane.pid) - before) * 1000 / count
            times, handed, change_cpu = await _changes(plane, streams, changes)
        finally:
            await asyncio.gather(*(stream.close() for stream in streams))
            await plane.stop()
            ports.release()
    found = {"came": came, "cpu": cpu, "bytes": sum(spent), "grown": grown, "waited": waited}
    return found | {"changes": times, "handed": handed, "change cpu": change_cpu}


async def _changes(plane: ControlPlane, streams: list[Stream], changes: int) -> tuple[list[float], list[float], float]:
    """Milliseconds from each change to the last stream that has read it, and to the last one for which it was handed to gRPC; and of CPU
    of the control plane for one, answers included."""
    times, handed = [], []
    used = cpu_of_threads(plane.pid)
    for k in range(changes):
        receiving = [asyncio.create_task(stream.receive()) for stream in streams]
        begun = perf_counter()
        plane.put(objects.endpoint_slice(k % plane.n, addresses=[f"10.77.0.{k + 1}"]))
        waiting = asyncio.create_task(plane.made(len(streams)))
        responses = await asyncio.gather(*receiving)
        times.append((perf_counter() - begun) * 1000)
        handed.append(await waiting)
        assert all(response.type_url == ENDPOINT and len(response.resources) == 1 for response in responses), (
            "another response was still due"
        )
        await until_still(plane.pid)
    return times, handed, (cpu_of_threads(plane.pid) - used) * 1000 / changes


def measure(count: int = STREAMS, *, n: int = N, changes: int = 10) -> Table:
    """One run."""
    table = Table(
        f"{count:,} Envoys, N = {n:,}",
        ("what", "result", "mark", "", "CPU of the control plane"),
        note=(
            "Delta ADS streams, each on a connection of its own, all from one Python process on the same machine. A change: the median of "
            f"{changes}. gRPC writes at once what it is handed; it is read when the process of the streams has time."
        ),
    )
    found = apart(run, n, count, changes)
    cpu = _each(found["change cpu"], count)
    table.add("one EndpointSlice changed → handed to gRPC for the last stream", *marked(quantile(found["handed"], 0.5), "ms", CHANGE), cpu)
    table.add("… → the last stream has read it", *marked(quantile(found["changes"], 0.5), "ms", None), NO_MARK)
    table.add("all come back with current versions → settled", *marked(found["came"], "ms", RECONNECT), _each(found["cpu"], count))
    table.add("… bytes of responses with resources", *marked(found["bytes"], "bytes", NOTHING), NO_MARK)
    wall, of_loop, of_all = found["waited"]
    table.add("… its event loop keeps others waiting", *marked(wall, "ms", LAG), f"{of_loop:.0f} ms in one wait, all threads {of_all:.0f}")
    table.add("memory for each of them", *marked(found["grown"], "kB", MEMORY), NO_MARK)
    return table


def _each(cpu: float, count: int) -> str:
    return f"{cpu:,.0f} ms, {cpu / count:.2f} ms each"


if __name__ == "__main__":
    print(measure(*map(int, sys.argv[1:])))
