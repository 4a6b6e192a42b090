"""With a real API server as the Source: from its answer to a write until a real Envoy answers by it, and what else a cluster costs.

    python -m bench.cluster [N …]

Needs root (a network namespace of its own) and the programs of `make kube`. Everything of each N is new: etcd, API server, objects. The
control plane has the rights that deploy/base gives it; it writes neither status nor Events, except where that is what is measured. A
client on one connection asks Envoy without a pause.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from compileall import compile_dir
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from threading import local
from time import perf_counter, sleep
from typing import Any

from bench import machine, objects
from bench.machine import cpu_of, cpu_of_threads, memory, quantile
from bench.objects import Raw
from bench.real_envoy import AS_DEPLOYED, until_still
from bench.table import Mark, Table, marked
from bench.through_envoy import NEIGHBOUR, NEW, OLD, OTHER, SEEN, Client
from tests.cluster.harness import API, HTTP, NEEDED, NODE, Cluster, NotPermitted, missing, own_network
from tests.cluster.harness.kube import PORT, Kube
from tests.envoy.harness import ControlPlane, Envoy, Process, fetch, wait_until
from xds.config import Flags

Json = dict[str, Any]
SIZES = (100, 1_000, 10_000)
STATUS = 1_000
"""Ingresses that get their address."""
OF_ENVOY = "… CPU of Envoy"
IDLE, IDLE_SECONDS = "CPU of the control plane while nothing happens", 10.0
ROUTE, ENDPOINTS, CPU = "one path added to an Ingress, or taken away", "endpoints of one Service changed", "… CPU of the control plane"
START, PLANE, ENVOY = "process start → last Ingress answered", "memory of the control plane, after all of it", "memory of Envoy"
ADDRESSES = "process start → all Ingresses have their address"
MARKS = {
    (ROUTE, 1_000): Mark(15, "ms"),
    (ROUTE, 10_000): Mark(120, "ms"),
    (ROUTE + CPU, 1_000): Mark(5, "ms"),
    (ROUTE + CPU, 10_000): Mark(20, "ms"),
    (ENDPOINTS, 1_000): Mark(4, "ms"),
    (ENDPOINTS, 10_000): Mark(6, "ms"),
    **{(ENDPOINTS + CPU, n): Mark(2, "ms") for n in SIZES},
    (START, 1_000): Mark(1.3, "s"),
    (START, 10_000): Mark(8, "s"),
    (PLANE, 1_000): Mark(130, "MB"),
    (PLANE, 10_000): Mark(300, "MB"),
    (ENVOY, 1_000): Mark(140, "MB"),
    (ENVOY, 10_000): Mark(740, "MB"),
    (ADDRESSES, STATUS): Mark(10, "s"),
}
PEERS = {
    ROUTE: (("107", "142", "665"), ("21", "144", "1,845")),
    ROUTE + CPU: (("7", "33", "500"), ("17", "135", "1,928")),
    ENDPOINTS: (("3.3", "9.5", "84"), ("17", "112", "1,577")),
    ENDPOINTS + CPU: (("1", "11", "84"), ("20", "130", "1,884")),
    START: (("0.7", "1.3", "21"), ("18", "19", "37")),
    PLANE: (("105", "420", "3,502"), ("132", "208", "866")),
    ENVOY: (("101", "373", "3,015"), ("77", "141", "740")),
}
"""What Contour 1.33 and Envoy Gateway 1.9 need, for each of SIZES, on such a machine (in the units of ours)."""
PORTS = {8080: OLD, 8081: NEW, 8082: OTHER}
"""Where pods listen, and what they answer: each address of the pods' range is here."""
WRITERS = 16
"""Connections over which the objects are made."""
LONGEST = 120.0
"""Seconds that a start may take."""
_PAUSE = 0.05
"""Seconds between an answer and the next write: Envoy throws away what it does not need any more."""
_TTL = f"{Flags().election_ttl:g}s"
"""The default, which users have: the tests' is shorter, so that another replica leads soon."""
_PLURALS = {"Service": "services", "Secret": "secrets", "EndpointSlice": "endpointslices", "Ingress": "ingresses"}


class Writer:
    """Writes to the API server as an administrator, and waits for its answer; blocking, each thread on a connection of its own."""

    def __init__(self, kube: Kube) -> None:
        self._context = kube.trust()
        self._headers = {"Authorization": f"Bearer {kube.token}", "Content-Type": "application/json"}
        self._of_thread = local()

    def create(self, item: Json) -> None:
        """Make an object."""
        self.ask("POST", _collection(item), item)

    def replace(self, item: Json) -> None:
        """Bring an object to this, whatever version it has."""
        self.ask("PUT", f"{_collection(item)}/{item['metadata']['name']}", item)

    def ask(self, method: str, path: str, body: Json | None = None) -> Any:
        """One request, and its response as parsed JSON. Raises AssertionError where it is rejected."""
        connection: HTTPSConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = HTTPSConnection(API, PORT, context=self._context, timeout=60)
        connection.request(method, path, json.dumps(body) if body is not None else None, self._headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 201), f"{method} {path}: {answer.status} {text[:500]!r}"
        return json.loads(text)

    def create_all(self, items: Iterable[Json]) -> None:
        """Make objects, some at a time."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in pool.map(self.create, items):
                pass


def _collection(item: Json) -> str:
    """Where objects of this kind and namespace are."""
    version = item["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if item["kind"] == "Namespace":
        return f"{root}/namespaces"
    return f"{root}/namespaces/{item['metadata']['namespace']}/{_PLURALS[item['kind']]}"


def written(raw: Raw) -> Json:
    """An object as somebody writes it: without what the API server adds, and with an address that it can choose."""
    item: Json = json.loads(raw.body)
    meta = item["metadata"]
    item["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
    item.pop("status", None)
    if raw.kind == "Service":
        item["spec"] = {key: value for key, value in item["spec"].items() if not key.startswith("clusterIP")}
    return item


def pods(i: int, port: int) -> Json:
    """The EndpointSlice of application `i`, with three addresses of the pods' range."""
    addresses = [f"10.77.{a >> 8 & 255}.{a & 255}" for a in range(3 * i + 1, 3 * i + 4)]
    return written(objects.endpoint_slice(i, addresses=addresses, port=port))


def world(n: int) -> Iterable[Json]:
    """All objects of `n` applications."""
    services = [written(objects.service(i)) for i in range(n)]
    names = sorted({item["metadata"]["namespace"] for item in services})
    yield from ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names)
    yield from services
    yield from (pods(i, 8082 if i == NEIGHBOUR else 8080) for i in range(n))
    yield from (written(objects.secret(i)) for i in objects.with_tls(n))
    yield from (written(objects.ingress(i)) for i in range(n))


def with_a_path(is_there: bool) -> Json:
    """The Ingress of SEEN, in which a path that leads to NEIGHBOUR is there or not: it is the one that the client asks for."""
    item, other = written(objects.ingress(SEEN)), written(objects.ingress(SEEN, service=NEIGHBOUR))
    if is_there:
        (added,) = other["spec"]["rules"][0]["http"]["paths"]
        item["spec"]["rules"][0]["http"]["paths"].append(added | {"pathType": "Exact"})
    return item


@dataclass(frozen=True, slots=True)
class Bed:
    """A cluster that has everything of `n` applications, and who writes to it."""

    n: int
    cluster: Cluster
    writer: Writer


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until the last Ingress answers, and of CPU that the control plane and Envoy have used by then."""

    took: float
    cpu: float
    of_envoy: float


@dataclass(slots=True)
class Found:
    """What was measured: each start, and after that each result by its name."""

    starts: list[Start]
    results: dict[str, float]


@asynccontextmanager
async def bed(n: int) -> AsyncIterator[Bed]:
    """An API server with all objects, and applications behind them; within `own_network()`."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        folder = Path(name)
        words = [word for port, answer in PORTS.items() for word in (str(port), answer)]
        backends = Process("backends", [sys.executable, "-m", "bench.backends", *words], folder)
        async with Cluster(folder, bare=True) as cluster:
            await backends.start()
            try:
                await backends.line("listening")
                writer = Writer(cluster.kube)
                await asyncio.to_thread(writer.create_all, world(n))
                yield Bed(n, cluster, writer)
            finally:
                await backends.stop()


@asynccontextmanager
async def started(test: Bed, into: list[Start]) -> AsyncIterator[tuple[ControlPlane, Envoy]]:
    """A control plane and an Envoy, which is started as soon as it finds somebody; appends how they started."""
    plane = test.cluster.new_control_plane("--update-status=false", "--disable-sync-events", "--election-ttl", _TTL)
    envoy = Envoy(await plane.bootstrap(), test.cluster.folder, test.cluster.ports, flags=AS_DEPLOYED)
    test.cluster.control_planes.append(plane)
    test.cluster.envoys.append(envoy)
    begun = perf_counter()
    try:
        await plane.start(ready=False)
        await wait_until(lambda: _listens(plane), "the control plane to listen", deadline=LONGEST)
        await envoy.start(ready=False)
        last = max(i for i in range(test.n) if i not in objects.with_tls(test.n))
        await wait_until(lambda: _answers(last), "the last Ingress to answer", deadline=LONGEST)
        into.append(Start(perf_counter() - begun, cpu_of(plane.process.pid), cpu_of(envoy.process.pid)))
        for i in range(1, test.n, max(1, test.n // 50)):
            assert i in objects.with_tls(test.n) or await _answers(i), f"{objects.host(i)} does not answer"
        for process in (plane.process, envoy.process):
            await until_still(process.pid)
        yield plane, envoy
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{error}\n\n{test.cluster.report()}") from error
    finally:
        await plane.stop()
        await envoy.stop()
        test.cluster.control_planes.remove(plane)
        test.cluster.envoys.remove(envoy)


async def _listens(plane: ControlPlane) -> bool:
    assert plane.process.running, plane.process.report()
    with suppress(OSError):
        _, writer = await asyncio.open_connection(*plane.xds)
        writer.close()
        return True
    return False


async def _answers(i: int) -> bool:
    with suppress(OSError):
        return (await fetch(HTTP, host=objects.host(i))).status == 200
    return False


def latencies(client: Client, pid: int, writes: Sequence[tuple[Callable[[], None], str]]) -> tuple[float, float]:
    """Two medians or means in ms: from the API server's answer until Envoy answers so, and the CPU of the process for each."""
    times = []
    used = cpu_of(pid)
    for write, answer in writes:
        assert client.ask() != answer
        write()
        begun = perf_counter()
        times.append((client.until(answer) - begun) * 1000)
        sleep(_PAUSE)
    return quantile(times, 0.5), (cpu_of(pid) - used) * 1000 / len(times)


def _changes(test: Bed, pid: int, count: int) -> dict[str, float]:
    """`count` changes of each kind, every other one back to where it was; blocking."""
    ways = [(k + 1) % 2 for k in range(count)]
    moves = [(lambda k=k: test.writer.replace(with_a_path(bool(k))), (OLD, OTHER)[k]) for k in ways]
    rollouts = [(lambda k=k: test.writer.replace(pods(SEEN, (8080, 8081)[k])), (OLD, NEW)[k]) for k in ways]
    found = {}
    with closing(Client(HTTP, objects.host(SEEN))) as client:
        for what, writes in ((ROUTE, moves), (ENDPOINTS, rollouts)):
            found[what], found[what + CPU] = latencies(client, pid, writes)
    return found


async def _idle(pid: int) -> float:
    """Percent of a core that a process uses while no object changes."""
    used = cpu_of_threads(pid)
    await asyncio.sleep(IDLE_SECONDS)
    return (cpu_of_threads(pid) - used) / IDLE_SECONDS * 100


async def _run(n: int, count: int, starts: int) -> Found:
    found = Found([], {})
    async with bed(n) as test:
        for left in reversed(range(starts)):
            async with started(test, found.starts) as (plane, envoy):
                if not left:
                    found.results[IDLE] = await _idle(plane.process.pid)
                    found.results |= await asyncio.to_thread(_changes, test, plane.process.pid, count)
                    found.results |= {PLANE: memory(plane.process.pid), ENVOY: memory(envoy.process.pid)}
    found.results[START] = quantile([start.took for start in found.starts], 0.5)
    found.results[START + CPU] = quantile([start.cpu for start in found.starts], 0.5)
    found.results[START + OF_ENVOY] = quantile([start.of_envoy for start in found.starts], 0.5)
    return found


async def _until_addresses(n: int) -> float:
    """Seconds from the start of a control plane that writes status until the last of `n` Ingresses shows its address."""
    async with bed(n) as test:
        begun = perf_counter()
        async with test.cluster.replica():

            async def all_have_one() -> bool:
                listed = await asyncio.to_thread(test.writer.ask, "GET", "/apis/networking.k8s.io/v1/ingresses?resourceVersion=0")
                return all(item["status"]["loadBalancer"].get("ingress") == [{"ip": NODE}] for item in listed["items"])

            await wait_until(all_have_one, "all Ingresses to have an address", deadline=LONGEST)
            return perf_counter() - begun


def measure(sizes: Iterable[int] = SIZES, *, count: int = 30, starts: int = 3, status: int = STATUS) -> Table:
    """Every size, with `count` changes of each kind (an even number). Raises NotPermitted where there can be no network of its own."""
    table = Table(
        "With a real API server",
        ("what", "N", "result", "mark", "", "Contour 1.33", "Envoy Gateway 1.9"),
        note=(
            f"{count} changes of each kind, from the API server's answer to the write until Envoy answers by it: the median; of CPU the "
            f"mean, with what is idle in between. Idle: percent of a core, over {IDLE_SECONDS:g} s. The median of {starts} starts. Envoy "
            "has one worker thread; client, applications, etcd, API server, control plane and Envoy share the machine."
        ),
    )
    units = {IDLE: "%", START: "s", START + CPU: "s", START + OF_ENVOY: "s", PLANE: "MB", ENVOY: "MB"}
    for n in sizes:
        with own_network():
            found = asyncio.run(_run(n, count, starts)).results
        for what in (ROUTE, ROUTE + CPU, ENDPOINTS, ENDPOINTS + CPU, IDLE, START, START + CPU, START + OF_ENVOY, PLANE, ENVOY):
            shown = next((of for of in (CPU, OF_ENVOY) if what.endswith(of)), what)
            peers = [values[SIZES.index(n)] for values in PEERS[what]] if what in PEERS and n in SIZES else ["–", "–"]
            table.add(shown, f"{n:,}", *marked(found[what], units.get(what, "ms"), MARKS.get((what, n))), *peers)
    if status:
        with own_network():
            took = asyncio.run(_until_addresses(status))
        table.add(
            f"process start → {status:,} Ingresses have their address",
            f"{status:,}",
            *marked(took, "s", MARKS.get((ADDRESSES, status))),
            "–",
            "–",
        )
    return table


def main(sizes: Sequence[int]) -> None:
    """Print the table, and how long it took to make."""
    if why := missing(*NEEDED):
        sys.exit(f"There is no API server to measure with: {why}.")
    begun = perf_counter()
    compile_dir(machine.ROOT / "xds", quiet=1)  # as pip does: where Python may write no bytecode, each start would compile all sources
    print(machine.description(), flush=True)
    try:
        print(f"\n{measure(sizes or SIZES)}", flush=True)
    except NotPermitted as refused:
        sys.exit(f"This takes a network of its own, and {refused}.")
    print(f"\nAll of it took {perf_counter() - begun:.0f} s.")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
