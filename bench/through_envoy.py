"""Event → answered by the new configuration, through a real Envoy, as a client sees it.

    python -m bench.through_envoy

A client on one connection asks without a pause. Two ways in: objects given to the control plane one by one, as a watch of an API server
brings them, and a file of a folder replaced (which includes the 50 ms in which a folder's events are taken together, decision 18).
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from bench import objects
from bench.control_plane import ControlPlane
from bench.machine import cpu_of, quantile
from bench.real_envoy import AS_DEPLOYED, until_still
from bench.table import NO_MARK, Mark, Table, marked
from examples.apps import Address
from tests.envoy.harness import Folder, Process, Site, endpoint_slice, ingress, service, wait_until
from tests.envoy.harness.manifests import Manifest
from xds.config import Flags
from xds.render.bootstrap import bootstrap

INJECTED = (1_000, 10_000)
FOLDER = (100, 1_000)
MARKS = {
    ("endpoints", 1_000): Mark(4, "ms"),
    ("endpoints", 10_000): Mark(6, "ms"),
    ("route", 1_000): Mark(15, "ms"),
    ("route", 10_000): Mark(120, "ms"),
}
SUSTAINED = Mark(1_000, "/s", at_least=True)
KINDS = ("endpoints", "route", "route and cluster")
"""A changed EndpointSlice; an Ingress that leads to another Service; and one which is the only one that leads to either."""
OLD, NEW, OTHER = "old", "new", "other"
SEEN, NEIGHBOUR = 2, 3
"""The application that the client asks for, and one of the same namespace; neither has TLS, which would redirect."""
PATIENCE = 10.0
_PAUSE = 0.05
"""Seconds between an answer and the next event: Envoy throws away what it does not need any more."""
_SETTLED = 1.0
"""Seconds after which a changed folder has surely been read."""
_SAME_NAMESPACE = 100
"""Applications whose numbers differ by a multiple of this share a namespace."""
_POD_ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Client:
    """One connection to Envoy, blocking: it is asked again as soon as it has answered."""

    def __init__(self, address: Address, host: str) -> None:
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()

    def ask(self) -> str:
        """The body of one answer, which must have a Content-Length."""
        self._socket.sendall(self._request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._more()
        return body.decode()

    def until(self, answer: str, *, pause: float = 0.0) -> float:
        """Ask until this is the answer; returns when it was (perf_counter)."""
        end = perf_counter() + PATIENCE
        while (found := self.ask()) != answer:
            if perf_counter() > end:
                raise TimeoutError(f"still {found!r} after {PATIENCE:g} s, not {answer!r}")
            sleep(pause)
        return perf_counter()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _more(self) -> bytes:
        if not (got := self._socket.recv(1 << 16)):
            raise ConnectionError("Envoy closed the connection of a client that was about to ask")
        return got


Results = dict[str, list[float]]
"""Kind of event → milliseconds, one for each event."""

Events = Sequence[tuple[Callable[[], None], str]]
"""What makes each event happen, and the answer that it leads to."""


def latencies(client: Client, events: Events) -> list[float]:
    """Milliseconds from each event to the first answer that follows it."""
    found = []
    for happen, answer in events:
        assert client.ask() != answer
        begun = perf_counter()
        happen()
        found.append((client.until(answer) - begun) * 1000)
        sleep(_PAUSE)
    return found


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the backends listen: pods before and after a rollout, and pods of another Service."""

    old: int
    new: int
    other: int


@asynccontextmanager
async def backends(site: Site) -> AsyncIterator[Ports]:
    """The applications, in a process of their own."""
    ports = Ports(site.ports.take(), site.ports.take(), site.ports.take())
    words = [str(ports.old), OLD, str(ports.new), NEW, str(ports.other), OTHER]
    process = Process("backends", [sys.executable, "-m", "bench.backends", *words], site.path)
    await process.start()
    try:
        await process.line("listening")
        yield ports
    finally:
        await process.stop()


async def injected(n: int, count: int, burst: int) -> Results:
    """Latencies of `count` "endpoints" and "route" changes; "sustained": changes a second, and CPU ms a change, in a burst."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
        async with Site(Path(folder)) as site, backends(site) as ports:
            plane = ControlPlane(n, site.path, site.ports)
            site.processes.append(plane.process)
            try:
                await plane.start()
                envoy = await site.static_envoy(
                    bootstrap(Flags(xds_address=plane.xds_address, node_id="bench")), ready=False, flags=AS_DEPLOYED
                )
                await wait_until(envoy.ready, "Envoy to be ready", deadline=60)
                await until_still(envoy.process.pid)
                return await _asked(site, plane.http, lambda client: _with_injected(plane, client, ports, count, burst))
            finally:
                await plane.stop()


async def _asked(site: Site, http: Address, measurement: Callable[[Client], Results]) -> Results:
    """Run a measurement, which blocks, in a thread: this loop reads what the processes say, and that is shown if it fails."""
    try:
        with closing(Client(http, objects.host(SEEN))) as client:
            return await asyncio.to_thread(measurement, client)
    except (OSError, TimeoutError) as error:
        raise AssertionError(f"{error}\n\n{site.report()}") from error


def _with_injected(plane: ControlPlane, client: Client, ports: Ports, count: int, burst: int) -> Results:
    pods = [objects.endpoint_slice(SEEN, addresses=_POD_ADDRESSES, port=port) for port in (ports.old, ports.new)]
    plane.put(objects.endpoint_slice(NEIGHBOUR, addresses=_POD_ADDRESSES, port=ports.other), pods[0])
    client.until(OLD)
    rollouts = [(lambda k=k: plane.put(pods[k]), (OLD, NEW)[k]) for k in _alternately(count)]
    endpoints = latencies(client, rollouts)
    plane.put(pods[0])
    client.until(OLD)
    moves = [(lambda k=k: plane.put(objects.ingress(SEEN, service=(SEEN, NEIGHBOUR)[k])), (OLD, OTHER)[k]) for k in _alternately(count)]
    clusters = latencies(client, moves)
    plane.put(*(objects.ingress(i + _SAME_NAMESPACE * plane.n, service=i) for i in (SEEN, NEIGHBOUR)), objects.ingress(SEEN))
    client.until(OLD)
    routes = latencies(client, moves)
    plane.put(objects.ingress(SEEN))
    client.until(OLD)
    sustained = _sustained(plane, client, pods[1], burst)
    return {"endpoints": endpoints, "route": routes, "route and cluster": clusters, "sustained": sustained}


def _sustained(plane: ControlPlane, client: Client, last: objects.Raw, burst: int) -> list[float]:
    """Many EndpointSlices at once, of services all over the World; the last is the one that the client sees."""
    others = [objects.endpoint_slice(4 + k % (plane.n - 4), addresses=[f"10.99.{k >> 8 & 255}.{k & 255}"]) for k in range(burst - 1)]
    used, begun = cpu_of(plane.pid), perf_counter()
    plane.put(*others, last)
    took = client.until(NEW, pause=0.002) - begun
    return [burst / took, (cpu_of(plane.pid) - used) * 1000 / burst]


async def from_folder(n: int, count: int) -> Results:
    """As `injected`, without a burst: `xds serve` over a folder of `n` files, of which one is replaced."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
        async with Site(Path(folder)) as site, backends(site) as ports:
            for i in range(n):
                site.folder.write(f"web-{i:05d}.yaml", *_application(i, ports.other if i == NEIGHBOUR else ports.old))
            await site.start()
            await until_still(site.envoy.process.pid)
            return await _asked(site, site.http, lambda client: _with_folder(site.folder, client, ports, count))


def _with_folder(folder: Folder, client: Client, ports: Ports, count: int) -> Results:
    def write(port: int, to: int = SEEN) -> None:
        folder.write(f"web-{SEEN:05d}.yaml", *_application(SEEN, port, to))

    client.until(OLD)
    rollouts = [(lambda k=k: write((ports.old, ports.new)[k]), (OLD, NEW)[k]) for k in _alternately(count)]
    endpoints = latencies(client, rollouts)
    write(ports.old)
    client.until(OLD)
    moves = [(lambda k=k: write(ports.old, (SEEN, NEIGHBOUR)[k]), (OLD, OTHER)[k]) for k in _alternately(count)]
    clusters = latencies(client, moves)
    write(ports.old)
    folder.write("others.yaml", *(ingress(f"also-{i}", f"also-{i}.example.com", {"/": (f"web-{i}", 80)}) for i in (SEEN, NEIGHBOUR)))
    client.until(OLD)
    sleep(_SETTLED)
    routes = latencies(client, moves)
    return {"endpoints": endpoints, "route": routes, "route and cluster": clusters}


def _alternately(count: int) -> list[int]:
    """1, 0, 1, 0, …"""
    return [(k + 1) % 2 for k in range(count)]


def _application(i: int, port: int, to: int | None = None) -> list[Manifest]:
    """What people write: an Ingress, a Service, and pods on loopback."""
    slices = [endpoint_slice(f"web-{i}", [(address, port) for address in _POD_ADDRESSES])]
    return [ingress(f"web-{i}", objects.host(i), {"/": (f"web-{i if to is None else to}", 80)}), service(f"web-{i}"), *slices]


def measure(sizes: Iterable[int] = INJECTED, folders: Iterable[int] = FOLDER, *, count: int = 30, burst: int = 3_000) -> Table:
    """Every size once, with `count` changes of each kind."""
    table = Table(
        "Event → answered by the new configuration, through a real Envoy, ms",
        ("event", "way in", "N", "median", "mark", "", "least", "p90"),
        note=(
            f"{count} events each. `burst`: {burst:,} EndpointSlices changed at once, one event each → the last one answered. "
            "Envoy has one worker thread; client, applications, control plane and Envoy share the machine."
        ),
    )
    rows = [("objects", n, asyncio.run(injected(n, count, burst))) for n in sizes]
    rows += [("a file", n, asyncio.run(from_folder(n, count))) for n in folders]
    for way, n, found in rows:
        for what in KINDS:
            times = found[what]
            mark = MARKS.get((what, n)) if way == "objects" else None
            table.add(what, way, f"{n:,}", *marked(quantile(times, 0.5), "", mark), f"{min(times):.1f}", f"{quantile(times, 0.9):.1f}")
    for way, n, found in rows:
        if "sustained" in found:
            rate, each = found["sustained"]
            table.add("burst", way, f"{n:,}", *marked(rate, "/s", SUSTAINED), NO_MARK, NO_MARK)
            table.add("burst, on one core", way, f"{n:,}", *marked(1000 / each if each else 0.0, "/s", SUSTAINED), NO_MARK, NO_MARK)
    return table


if __name__ == "__main__":
    print(measure())
