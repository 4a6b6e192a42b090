"""What metrics of requests cost: CPU of Envoy for each request, its memory, and the time of a scrape.

    python -m bench.metrics           two minutes: both tables
    python -m bench.metrics 1000      the table about memory and scrapes with so many hosts

The price of a request is measured as `bench.request_price` does it, with the access log. Needs wrk and nginx.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from bench import proxies
from bench.machine import cpu_of, memory
from bench.proxies import Json
from bench.request_price import cores, need_programs, nginx, prices_of_envoys, show
from bench.table import Table, number
from tests.envoy.harness import Ports
from tests.envoy.harness.envoy import envoy_binary
from xds.config import Flags
from xds.render.bootstrap import bootstrap
from xds.request_metrics import STATISTICS, STATS_PATH

HOSTS = (1_000,)
METHODS = ("GET", "POST", "PUT")
"""Each host is asked with each of them, so that it has so many sets of labels."""
_ALL = tuple(name for each in STATISTICS for name in each.shows)
COUNTED: Mapping[str, tuple[str, ...] | None] = {
    "nothing": None,
    "requests alone": _ALL,
    "and their sizes": tuple(name for name in _ALL if not name.endswith(("size", "sent"))),
    "and their time": tuple(name for name in _ALL if name not in ("request_size", "response_size", "request_duration_seconds")),
    "everything": (),
}
"""What is counted → the metrics that are excluded; None for no metrics at all."""
_FLUSHED = 6.0
"""Seconds after which Envoy's workers have passed on what they counted."""
_START = 120.0


def configuration(excluded: tuple[str, ...] | None, port: int, https_port: int, backend: int, hosts: int = 1) -> Json:
    """Our Envoy as a file, which counts what is not excluded."""
    flags = {} if excluded is None else {"enable_metrics": True, "exclude_socket_metrics": excluded}
    return proxies.ours(port, https_port, backend, proxies.hosts(hosts), **flags)


def measure_price(names: Sequence[str] = tuple(COUNTED), *, seconds: int = 3, rounds: int = 5) -> Table:
    """The price of a request by what is counted. Raises Missing."""
    need_programs()
    table = Table(
        "Counting, µs of Envoy's CPU a request",
        ("counted", "µs", "more"),
        note=f"The median of {rounds} rounds of {seconds} s; one host, one path, with the access log.",
    )
    found = prices_of_envoys({name: partial(configuration, COUNTED[name]) for name in names}, seconds=seconds, rounds=rounds)
    for name, cost in found.items():
        table.add(name, number(cost), "" if name == "nothing" else f"{cost - found['nothing']:+.1f}")
    return table


def measure(sizes: Sequence[int] = HOSTS, *, methods: Sequence[str] = METHODS) -> Table:
    """Memory and scrapes with so many hosts, each of which was asked. Raises Missing."""
    need_programs()
    table = Table(
        "Memory and scrapes",
        ("what", "hosts", "sets of labels", "without", "counting"),
        note="MB (10⁶ bytes) resident. Envoy has one worker: each further one adds its own part of each histogram.",
    )
    for n in sizes:
        for asked in dict.fromkeys((tuple(methods[:1]), tuple(methods))):
            without, counting = _at(n, asked, excluded=None), _at(n, asked, excluded=())
            for what in counting:
                unit = "s" if "seconds" in what else "MB"
                cells = [f"{number(each[what])} {unit}" if what in each else "–" for each in (without, counting)]
                table.add(what.removesuffix(", seconds"), f"{n:,}", f"{n * len(asked):,}", *cells)
    return table


def _at(n: int, methods: Sequence[str], *, excluded: tuple[str, ...] | None) -> dict[str, float]:
    """What one Envoy with so many hosts takes, after a request to each with each method."""
    ports = Ports()
    with contextlib.ExitStack() as stack:
        stack.callback(ports.release)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xds-bench-")))
        back = stack.enter_context(nginx(lambda f: proxies.answering_nginx(backend, f), backend := ports.take(), cores()[1])).port
        port, admin = ports.take(), ports.take()
        config = configuration(excluded, port, ports.take(), back, n) | {"admin": _admin(admin)}
        if excluded is not None:
            _with_statistics(config, folder / "stats.sock", admin)
        pid = stack.enter_context(_envoy(config, folder))
        _ask(port, n, methods)
        time.sleep(_FLUSHED)
        found = {"Envoy": memory(pid)}
        if excluded is not None:
            found |= _scraped(folder, admin, ports.take())
            found["Envoy, after scrapes"] = memory(pid)
        return found


def _with_statistics(config: Json, socket: Path, admin: int) -> None:
    """Add to a configuration what the bootstrap has for `xds metrics`."""
    whole = bootstrap(Flags(stats_address=f"unix:{socket}", admin_address=f"127.0.0.1:{admin}"))
    (listener,) = whole["static_resources"]["listeners"]
    config["static_resources"]["listeners"].append(listener)
    config["static_resources"]["clusters"] += [each for each in whole["static_resources"]["clusters"] if each["name"] == "xds_admin"]
    config |= {key: whole[key] for key in ("stats_config", "stats_eviction_interval")}


def _admin(port: int) -> Json:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


@contextmanager
def _envoy(config: Json, folder: Path) -> Iterator[int]:
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    command = [envoy_binary(), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    with _running(command, folder / "envoy.log") as pid:
        yield pid


@contextmanager
def _running(command: Sequence[str], output: Path) -> Iterator[int]:
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _ask(port: int, n: int, methods: Sequence[str]) -> None:
    """One request to each host with each method, over one connection."""
    end = time.monotonic() + _START
    while True:
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            client.connect()
            break
        except OSError:
            assert time.monotonic() < end, "Envoy does not answer"
            time.sleep(0.1)
    for method in methods:
        for host in proxies.hosts(n):
            client.request(method, "/", headers={"Host": host})
            response = client.getresponse()
            response.read()
            assert response.status == 200, response.status
    client.close()


def _scraped(folder: Path, admin: int, port: int) -> dict[str, float]:
    """A scrape: Envoy's part of it, which is its main thread's, and that of `xds metrics`."""
    begun = time.perf_counter()
    with urlopen(f"http://127.0.0.1:{admin}{STATS_PATH}") as page:
        size = len(page.read())
    found = {"Envoy's page, seconds": time.perf_counter() - begun, "Envoy's page": size / 1e6}
    command = [
        sys.executable,
        "-m",
        "xds",
        "metrics",
        f"--stats-address=unix:{folder / 'stats.sock'}",
        f"--metrics-address=127.0.0.1:{port}",
    ]
    with _running(command, folder / "metrics.log") as pid:
        _until_healthy(port)
        used, begun = cpu_of(pid), time.perf_counter()
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            size = len(page.read())
        found |= {"a scrape, seconds": time.perf_counter() - begun, "CPU of xds metrics for it, seconds": cpu_of(pid) - used}
        found |= {"the page for Prometheus": size / 1e6, "xds metrics": memory(pid)}
    return found


def _until_healthy(port: int) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/healthz"):
            return
        time.sleep(0.1)
    raise AssertionError("xds metrics does not answer")


def main(*sizes: str) -> int:
    """Print both tables, or with sizes the second one; or a sentence where something is missing."""
    second = partial(measure, [int(size) for size in sizes] or HOSTS)
    return show("metrics", *([] if sizes else [measure_price]), second)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
