"""What a request costs the proxy, in microseconds of its CPU: ours beside a bare Envoy and nginx, and ours with parts taken out.

    python -m bench.request_price            seven minutes: both tables
    python -m bench.request_price 1          the comparison with one host only
    python -m bench.request_price 1 on       that with the access log only, in a minute; `off` without

The proxy has one worker, pinned to a core of its own; wrk and the backend share another one. wrk asks over 32 connections, HTTP/1.1 with
keep-alive. Needs wrk and nginx; the row with Lua needs nginx' Lua module (Debian packages wrk, nginx, libnginx-mod-http-lua).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

from bench import proxies
from bench.machine import cpu_of_threads, description
from bench.proxies import Json, without, without_fields, without_filters
from bench.table import Mark, Table, marked, number
from tests.envoy.harness import Ports
from tests.envoy.harness.envoy import envoy_binary
from xds.nginx.feature import FilterPlace

HOSTS = (1, 1_000)
MARKS = {True: Mark(1.25, "×"), False: Mark(1.15, "×")}
"""With our access log, and without, beside the bare Envoy that treats paths, ids and names of headers as we do."""
BARE, LIKE_OURS, OURS = "Envoy, bare", "Envoy, bare, treating path, id and case as ours", "ours"
NGINX, LUA = "nginx", "nginx with a Lua balancer and ingress-nginx' log line"
_START = 120.0
"""Seconds in which a proxy must answer."""
_CONNECTIONS = 32
_ASKING = """
local n, i = {n}, 0
request = function()
  i = (i + 1) % n
  return "GET / HTTP/1.1\\r\\nHost: web-" .. i .. ".example.com\\r\\nUser-Agent: bench\\r\\n\\r\\n"
end
"""
"""What wrk runs for each request: one host after the other."""

PARTS: Sequence[tuple[str, Callable[[Json], None]]] = (
    ("our log line (Envoy's own instead)", proxies.with_plain_log),
    ("any log line", without_fields("access_log")),
    ("retry-on by method", proxies.without_request_header("x-envoy-retry-on")),
    ("x-forwarded-port", without_filters("forwarded-port")),
    ("the loop guard", without_filters("loop")),
    ("refused methods", without_filters("methods")),
    ("chains of filters in the route", without_filters(*(place.value for place in FilterPlace))),
    ("headers that clients may not send", without_filters("untrusted")),
    ("the note of the arrival", without_filters("envoy.http.early_header_mutation.header_mutation")),
    ("the case of headers", without_fields("http_protocol_options.header_key_format")),
    ("normalisation of paths", without_fields("normalize_path", "merge_slashes", "path_with_escaped_slashes_action")),
    ("pages of errors", without_fields("local_reply_config")),
)
"""What is taken out of our configuration, one after the other."""


class Missing(Exception):
    """A program that is needed is not installed; the text says which."""


def show(bench: str, *tables: Callable[[], object]) -> int:
    """Make and print these tables of a bench, one after the other. Its exit code is 1, after a sentence, where a program is missing."""
    print(description(), flush=True)
    try:
        for table in tables:
            print(f"\n{table()}", flush=True)
    except Missing as error:
        print(f"bench.{bench}: {error}", file=sys.stderr)
        return 1
    return 0


Asking = Callable[[int, int], int]
"""Sends requests to a port of this machine for some seconds, and counts them. Raises AssertionError where an answer was not 200."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs: the process whose CPU counts (of nginx its worker), and its port."""

    pid: int
    port: int


def cores() -> tuple[set[int], set[int]]:
    """The core of the proxy, and those of all others; the same where there is only one."""
    have = sorted(os.sched_getaffinity(0))
    return {have[0]}, set(have[1:]) or {have[0]}


@contextmanager
def _running(arguments: Sequence[str], folder: Path, port: int, cores: set[int], *, answers: bool) -> Iterator[int]:
    """A process on some cores, whose output goes into a file as it would in a container; ended by its id."""
    with (folder / "output").open("wb") as output:
        pin = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores)))]
        process = subprocess.Popen([*pin, *arguments], stdout=output, stderr=subprocess.STDOUT)
    try:
        _until_answered(process, port, folder, answers=answers)
        yield process.pid
    finally:
        process.terminate()
        process.wait(120)


def _until_answered(process: subprocess.Popen[bytes], port: int, folder: Path, *, answers: bool) -> None:
    end = time.monotonic() + _START
    asked = Request(f"http://127.0.0.1:{port}/", headers={"Host": "web-0.example.com"})
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if not answers:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            with urlopen(asked, timeout=5) as response:
                if response.status == 200:
                    return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not answer:\n{(folder / 'output').read_text(errors='replace')[-2000:]}")


@contextmanager
def envoy(config: Json, port: int, *, answers: bool = True) -> Iterator[Proxy]:
    """An Envoy with this configuration and one worker, which `answers` 200 to a plain GET or refuses it."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        folder = Path(name)
        path = folder / "envoy.json"
        path.write_text(json.dumps({key: value for key, value in config.items() if key != "admin"}))
        arguments = [envoy_binary(), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
        with _running(arguments, folder, port, cores()[0], answers=answers) as pid:
            yield Proxy(pid, port)


@contextmanager
def nginx(write: Callable[[Path], str], port: int, cores: set[int], *, answers: bool = True) -> Iterator[Proxy]:
    """An nginx with one worker; `write` makes its configuration for a folder."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(write(folder))
        arguments = ["nginx", "-p", name, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        with _running(arguments, folder, port, cores, answers=answers) as pid:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            yield Proxy(int(children[0]), port)


def by_wrk(n: int, scheme: str = "http") -> Asking:
    """Requests to `n` hosts in turn, over HTTP/1.1 connections that are kept."""

    def ask(port: int, seconds: int) -> int:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(_ASKING.format(n=n))
            script.flush()
            said = beside(["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", script.name, f"{scheme}://127.0.0.1:{port}/"], seconds)
        found = re.search(r"(\d+) requests in", said)
        assert found, said
        assert "Non-2xx" not in said, said
        return int(found[1])

    return ask


def beside(arguments: Sequence[str], seconds: int) -> str:
    """What a program prints that runs for some seconds beside the proxy, on other cores."""
    pin = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores()[1])))]
    return subprocess.run([*pin, *arguments], capture_output=True, text=True, check=True, timeout=seconds + 120).stdout


def price(proxy: Proxy, ask: Asking, seconds: int) -> float:
    """Microseconds of the proxy's CPU for a request, over some seconds of them."""
    used = cpu_of_threads(proxy.pid)
    count = ask(proxy.port, seconds)
    return (cpu_of_threads(proxy.pid) - used) * 1e6 / max(1, count)


def in_turns(running: Mapping[str, Proxy], ask: Asking, *, seconds: int, rounds: int) -> dict[str, list[float]]:
    """The price of each proxy in each of some rounds, in which they take turns, so that a busy moment meets all alike.

    A first second of each, which finds caches empty, does not count where it is measured more than once.
    """
    for proxy in running.values() if rounds > 1 else ():
        price(proxy, ask, 1)
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, proxy in running.items():
            found[name].append(price(proxy, ask, seconds))
    return found


def times(found: Sequence[float], base: Sequence[float]) -> float:
    """The median of what one costs beside another in the same round."""
    return statistics.median(each / other for each, other in zip(found, base, strict=True))


def prices(running: Mapping[str, Proxy], n: int, *, seconds: int, rounds: int) -> dict[str, float]:
    """The median price of each proxy."""
    return {name: statistics.median(each) for name, each in in_turns(running, by_wrk(n), seconds=seconds, rounds=rounds).items()}


def compared(n: int, *, log: bool, seconds: int, rounds: int) -> dict[str, list[float]]:
    """Prices of all proxies that can run here, with `n` hosts, round by round."""
    ports, names = Ports(), proxies.hosts(n)
    mine, others = cores()
    with contextlib.ExitStack() as stack:
        back = stack.enter_context(nginx(lambda folder: proxies.answering_nginx(backend, folder), backend := ports.take(), others)).port
        running = {}
        for name, as_ours in ((BARE, False), (LIKE_OURS, True)):
            port = ports.take()
            running[name] = stack.enter_context(envoy(proxies.bare_envoy(port, back, names, as_ours=as_ours, log=log), port))
        port = ports.take()
        config = proxies.ours(port, ports.take(), back, names)
        running[OURS] = stack.enter_context(envoy(config if log else without(config, without_fields("access_log")), port))
        for name, lua in ((NGINX, False), (LUA, True)):
            if not lua or _has_lua():
                port = ports.take()
                write = lambda folder, port=port, lua=lua: proxies.nginx(port, back, names, folder, lua=lua, log=log)  # noqa: E731
                running[name] = stack.enter_context(nginx(write, port, mine))
        stack.callback(ports.release)
        return in_turns(running, by_wrk(n), seconds=seconds, rounds=rounds)


def measure(sizes: Sequence[int] = HOSTS, logs: Sequence[bool] = (True, False), *, seconds: int = 1, rounds: int = 7) -> Table:
    """The comparison. Raises Missing."""
    need_programs()
    table = Table(
        "A request, µs of the proxy's CPU",
        ("proxy", "hosts", "log", "µs", "× bare", "× like ours", "mark", ""),
        note=f"Medians of {rounds} rounds of {seconds} s, in turns: of prices, and of what a price is beside another of its round. "
        f"One worker, {_CONNECTIONS} connections.",
    )
    for n in sizes:
        for log in logs:
            found = compared(n, log=log, seconds=seconds, rounds=rounds)
            for name, each in found.items():
                ratio = times(each, found[LIKE_OURS])
                mark = marked(ratio, "", MARKS[log])[1:] if name == OURS else ("–", "–")
                of_bare, cost = f"{times(each, found[BARE]):.2f}", number(statistics.median(each))
                table.add(name, f"{n:,}", "on" if log else "off", cost, of_bare, f"{ratio:.2f}", *mark)
    if not _has_lua():
        table.note += " nginx' Lua module is not installed, so its row is missing."
    return table


def measure_parts(*, seconds: int = 3, rounds: int = 3) -> Table:
    """Ours with one part after the other taken out; what each saved. Raises Missing."""
    need_programs()
    table = Table(
        "Our configuration with one part after the other taken out, µs of CPU a request",
        ("without", "µs", "saved"),
        note=f"The median of {rounds} rounds of {seconds} s; one host, one path. Each row has none of what the rows above it name.",
    )
    named = (("nothing: as it is", lambda _: None), *PARTS)

    def taken_out(count: int, port: int, https_port: int, backend: int) -> Json:
        config = proxies.ours(port, https_port, backend, proxies.hosts(1))
        for _, change in named[:count]:
            config = without(config, change)
        return config

    made = {name: partial(taken_out, n) for n, (name, _) in enumerate(named, 1)}
    found = prices_of_envoys(made, seconds=seconds, rounds=rounds)
    before: float | None = None
    for name, cost in found.items():
        table.add(name, number(cost), "" if before is None else f"{before - cost:.1f}")
        before = cost
    return table


def prices_of_envoys(made: Mapping[str, Callable[[int, int, int], Json]], *, seconds: int, rounds: int) -> dict[str, float]:
    """The price of a request through each of these Envoys beside each other: configurations by name, from three ports.

    These are Envoy's for http and https, and that of the backend.
    """
    ports = Ports()
    with contextlib.ExitStack() as stack:
        stack.callback(ports.release)
        backend = ports.take()
        stack.enter_context(nginx(lambda folder: proxies.answering_nginx(backend, folder), backend, cores()[1]))
        running = {}
        for name, configuration in made.items():
            port = ports.take()
            running[name] = stack.enter_context(envoy(configuration(port, ports.take(), backend), port))
        return prices(running, 1, seconds=seconds, rounds=rounds)


def _has_lua() -> bool:
    return all(module.exists() for module in proxies.LUA_MODULES)


def need_programs() -> None:
    """Raise Missing where a program is not installed."""
    if missing := [program for program in ("wrk", "nginx", "taskset") if shutil.which(program) is None]:
        raise Missing(f"{' and '.join(missing)} cannot be found; on Debian: apt-get install wrk nginx util-linux")


def main(size: str = "", log: str = "") -> int:
    """Print both tables, or a sentence where something is missing."""
    logs = {"on": (True,), "off": (False,)}.get(log, (True, False))
    first = partial(measure, [int(size)] if size else HOSTS, logs)
    return show("request_price", first, *([] if size else [measure_parts]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
