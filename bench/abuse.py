"""What others notice of a hostile client: the time of their slowest requests while it attacks their Envoy, and while it attacks another.

    python -m bench.abuse                    four minutes
    python -m bench.abuse "rapid resets"     one attack

The attacks are those of tests/envoy/test_abuse.py. Each is repeated for some seconds by a process of its own, while four clients ask one
Envoy, which has one worker, every few milliseconds: first without an attack, then while another Envoy is attacked on the same machine,
then while theirs is. So what an attack costs the machine, and what it costs Envoy, are apart. Where this process may, Envoy has a core of
its own, and with its clients precedence over everything else: so other programs do not count.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.machine import cpu_of, description, memory, quantile
from bench.table import Mark, Table, marked, number
from examples.apps import Address
from tests.envoy.harness import Http1, Process, Site, attacks, backend, config_map, fetch, ingress, wait_until

HOST, ATTACKED = "a.test", "b.test"
MARK = Mark(2, "×")
SECONDS = 3.0
_CLIENTS, _PAUSE = 4, 0.004
_DOWNLOAD = 8 << 20
_GET = f"GET / HTTP/1.1\r\nHost: {ATTACKED}\r\n\r\n".encode()
_UNREAD = _GET.replace(b"GET /", f"GET /big/{_DOWNLOAD}".encode())
_HALF = _GET[:-2] + b"X: "
_POST = _GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 1000\r\n\r\n")

FLOODS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "rapid resets": lambda: attacks.resets(ATTACKED, 50_000),
    "CONTINUATION without end": lambda: attacks.continuations(ATTACKED, 20_000),
    "empty CONTINUATION": lambda: attacks.empty_continuations(ATTACKED, 50_000),
    "SETTINGS": lambda: attacks.settings(500_000),
    "PING": lambda: attacks.pings(500_000),
    "PRIORITY": lambda: attacks.priorities(500_000),
    "WINDOW_UPDATE": lambda: attacks.window_updates(500_000),
    "empty DATA": lambda: attacks.empty_data(ATTACKED, 50_000),
    "128 requests, headers by reference": lambda: attacks.bombs(ATTACKED, 128),
    "128 downloads, unread": lambda: attacks.downloads(ATTACKED, f"/big/{_DOWNLOAD}", 128),
    "100,000 headers": lambda: attacks.many_headers(ATTACKED, 100_000),
    "a header of 1 MiB": lambda: attacks.many_headers(ATTACKED, 1, 1 << 20),
    "an extension of a chunk of 64 MiB": lambda: attacks.chunk_extensions(ATTACKED, 1, 64 << 20),
    "pipelined requests": lambda: attacks.pipelined(ATTACKED, 100_000),
}
"""What one connection sends, which is opened again where Envoy closes it, ten times a second at most."""

_ENDING = "15,000 connections, closed at once"

CROWDS: Mapping[str, Callable[[Address], attacks.Crowd]] = {
    "15,000 connections, idle": lambda address: attacks.Crowd(address, 15_000, rate=5_000),
    "15,000 connections, idle, again": lambda address: attacks.Crowd(address, 15_000, rate=5_000),
    "1,000 headers, a byte a second": lambda address: attacks.Crowd(address, 1_000, _HALF, trickle=b"y" * 100, pause=1, rate=500),
    "1,000 bodies, a byte a second": lambda address: attacks.Crowd(address, 1_000, _POST, trickle=b"y" * 100, pause=1, rate=500),
    "1,000 requests of honest clients": lambda address: attacks.Crowd(address, 1_000, _GET, rate=500),
    "200 downloads over HTTP/1, unread": lambda address: attacks.Crowd(address, 200, _UNREAD, deaf=True, receive_buffer=4_096, rate=100),
}
"""Connections that are opened and closed at that rate."""
_QUIET, _BUSY = "nothing", "a program that only uses a core"


@dataclass(slots=True)
class Seen:
    """What the other clients saw: seconds of each request, and how many were not answered with 200."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


ALL = (_QUIET, _BUSY, *FLOODS, *CROWDS, _ENDING)


async def measure(names: Sequence[str] = ALL, seconds: float = SECONDS) -> Table:
    """A row for each attack."""
    columns = (
        "attack",
        "p99, ms",
        "another's, ms",
        "before, ms",
        "ratio",
        "mark",
        "",
        "failed",
        "Envoy's CPU, % of a core",
        "its memory, MB more",
    )
    table = Table("Other clients while one attacks", columns)
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as one, tempfile.TemporaryDirectory(prefix="xds-bench-") as two:
        async with Site(Path(one)) as site, Site(Path(two)) as another:
            await asyncio.gather(_started(site), _started(another))
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as attacker:
                attacker.submit(_attack, _QUIET, site.http, 0).result()
                first = _gave_way(site, another)
                for name in names:
                    table.add(name, *await _row(site, another, attacker, name, seconds))
    table.note = (
        f"{_CLIENTS} clients; {seconds:g} s without an attack, as long while another Envoy is attacked, and while theirs is. The ratio is "
        f"of the last two. Memory: the most during the attack. They and Envoy had {'' if first else 'no '}precedence over other programs."
    )
    return table


def _gave_way(site: Site, another: Site) -> bool:
    """Give the first core to the Envoy that is asked, the last one to all others; and precedence to what is measured, where allowed."""
    first, last = _cores()
    measured = [os.getpid(), *(each.pid for each in site.processes if each.name == "web"), site.envoy.process.pid]
    pids = [os.getpid(), *(each.pid for each in (*another.processes, *site.processes))]
    try:
        for pid in pids:
            for thread in (int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()):
                os.sched_setaffinity(thread, first if pid == site.envoy.process.pid else last)
                if pid in measured:
                    os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def _cores() -> tuple[set[int], set[int]]:
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, {cores[-1]}


async def _started(site: Site) -> None:
    """An Envoy before two applications, each a process of its own: an attack on one does not make the other slow."""
    unlimited = {"nginx.ingress.kubernetes.io/proxy-body-size": "0"}
    for name, host in (("attacked", ATTACKED), ("web", HOST)):
        address = ("127.0.0.1", site.ports.take())
        words = [sys.executable, "examples/apps.py", "http", "--name", name, "--port", str(address[1])]
        await site.run_process(Process(name, ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *words], site.path))
        await wait_until(partial(_answers, address), "the application")
        site.folder.write(f"{name}.yaml", *backend(name, address), ingress(name, host, {"/": (name, 80)}, unlimited))
    # What Envoy and the applications write about each request of an attack would be read by this process, which measures.
    site.folder.write("keys.yaml", config_map("keys", {"disable-access-log": "true"}))
    await site.start_control_plane("--configmap", "default/keys")
    await site.start_envoy(bootstrap=["--max-connections=16000"])


async def _answers(address: Address) -> bool:
    return (await fetch(address, host=HOST)).status == 200


async def _row(site: Site, another: Site, attacker: ProcessPoolExecutor, name: str, seconds: float) -> list[str]:
    async def attacked(address: Address) -> tuple[Seen, float, float]:
        """What clients of `site` see meanwhile; the part of a core and the megabytes that its Envoy takes."""
        await asyncio.wrap_future(attacker.submit(_prepare, name, address))
        pid = site.envoy.process.pid
        used, held, begun = cpu_of(pid), memory(pid), time.monotonic()
        attack = asyncio.wrap_future(attacker.submit(_attack, name, address, seconds))
        watched = asyncio.create_task(_most_memory(pid, attack))
        seen = await _asked(site.http, attack)
        return seen, (cpu_of(pid) - used) / (time.monotonic() - begun), await watched - held

    before = await _asked(site.http, asyncio.create_task(asyncio.sleep(seconds)))
    elsewhere, *_ = await attacked(another.http)
    during, used, more = await attacked(site.http)
    slow, others, usual = (quantile(each.seconds, 0.99) * 1000 for each in (during, elsewhere, before))
    failed = str(before.failed + elsewhere.failed + during.failed)
    ratio = marked(slow / others, "×", MARK)
    return [number(slow), number(others), number(usual), *ratio, failed, number(used * 100), number(more)]


async def _asked(address: Address, while_: asyncio.Future[None]) -> Seen:
    """What clients see until that has ended."""
    seen = Seen()

    async def client() -> None:
        while not while_.done():
            async with await Http1.open(address) as connection:
                for _ in itertools.takewhile(lambda _: not while_.done(), range(50)):
                    begun = time.monotonic()
                    answer = await connection.request(host=HOST)
                    seen.seconds.append(time.monotonic() - begun)
                    seen.failed += answer.status != 200
                    await asyncio.sleep(_PAUSE)

    async def stubborn() -> None:
        while not while_.done():
            try:
                await client()
            except (OSError, EOFError, TimeoutError):
                seen.failed += 1

    await asyncio.gather(*(stubborn() for _ in range(_CLIENTS)))
    await while_
    return seen


async def _most_memory(pid: int, while_: asyncio.Future[None]) -> float:
    most = memory(pid)
    while not while_.done():
        most = max(most, memory(pid))
        await asyncio.sleep(0.05)
    return most


_prepared: list[attacks.Crowd] = []
"""What the process of the attacker has opened before others are looked at."""


def _prepare(name: str, address: Address) -> None:
    os.sched_setaffinity(0, _cores()[1])
    if name == _ENDING:
        _prepared.append(attacks.Crowd(address, 15_000).__enter__())


def _attack(name: str, address: Address, seconds: float) -> None:
    """Attack for so many seconds; in a process of its own."""
    end = time.monotonic() + seconds
    if name == _BUSY:
        while time.monotonic() < end:
            pass
    elif name in CROWDS:
        with CROWDS[name](address) as crowd:
            crowd.last(end - time.monotonic())
    elif name in FLOODS:
        while (left := end - time.monotonic()) > 0:
            attacks.flood(attacks.connected(address), FLOODS[name](), seconds=left)
            time.sleep(min(0.1, max(end - time.monotonic(), 0)))
    else:
        while _prepared:
            _prepared.pop().close()
        time.sleep(max(end - time.monotonic(), 0))


if __name__ == "__main__":
    print(description(), end="\n\n")
    print(asyncio.run(measure(sys.argv[1:] or ALL)))
