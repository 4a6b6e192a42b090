"""What a request costs Envoy in instructions, which a busy machine does not change: two runs differ by one percent at most.

    python -m bench.instructions                   three minutes: ours beside a bare Envoy, and each part of ours by itself taken out
    python -m bench.instructions features          four minutes: each feature on a path that uses it
    python -m bench.instructions features limit    the rows with this word only

Counted by valgrind's callgrind in Envoy's worker thread, over requests one after the other on one connection, from a backend on loopback.
What the kernel does is not counted; it is the same for all of them. Needs valgrind and nginx (Debian packages of these names).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import feature_price, proxies
from bench.proxies import Json, without, without_fields
from bench.request_price import PARTS, Missing, cores, nginx, show
from bench.table import Table
from tests.envoy.harness import Ports
from tests.envoy.harness.envoy import envoy_binary

_REQUESTS, _BEFORE = 300, 50
"""How many are counted, and how many come before, so that what is made once is there."""
_START = 120.0
"""Seconds in which Envoy must answer: valgrind makes it fifty times slower."""
_ASKED = b"GET / HTTP/1.1\r\nHost: web-0.example.com\r\nUser-Agent: bench\r\n\r\n"
_WHOLE = re.compile(rb"HTTP/1\.1 200 .*?\r\ncontent-length: 2\r\n(?:.*?\r\n)?\r\n..", re.DOTALL | re.IGNORECASE)
"""The answer of the backend (`proxies.answering_nginx`)."""
_SHORT, _BELOW_SECOND = 9, 999
"""The most milliseconds of the requests that a logger writes, the next one those that are longer; under valgrind each request is."""
_MORE = 3_600_000
"""Milliseconds more, for which no request here lasts."""
WITHOUT_LOG, WITH_LOG = "without the log", "with the log"
LIKE_OURS, OURS = "Envoy, bare, treating path, id and case as ours", "ours"
SLOWER = f"{OURS}, {WITH_LOG}, for a backend that takes 10 ms to a second"
Make = Callable[[int, int, int], Json]
"""A configuration, from Envoy's ports for http and https and that of the backend."""


def count(config: Json, port: int, requests: int = _REQUESTS) -> float:
    """Instructions of the worker thread for a request that the backend answers with 200."""
    with tempfile.TemporaryDirectory(prefix="xds-bench-") as name:
        folder = Path(name)
        (folder / "envoy.json").write_text(json.dumps(_short({key: value for key, value in config.items() if key != "admin"})))
        with _counted(folder) as process, contextlib.closing(_connected(process, port, folder)) as client:
            _ask(client, _BEFORE)
            _control(process, "--instr=on")
            _ask(client, _BEFORE)
            _control(process, "--zero")
            _ask(client, requests)
            _control(process, "--dump")
        return max(map(_total, folder.glob("counts*"))) / requests


def _short(config: Json) -> Json:
    """The same, where requests count as short for the log however long valgrind makes them."""
    for limit in (_SHORT, _BELOW_SECOND):
        config = _limited(_limited(config, limit, limit + _MORE), limit + 1, limit + 1 + _MORE)
    return config


def _slower(config: Json) -> Json:
    """The same, where they count as those of a backend that takes 10 ms to a second."""
    return _limited(_limited(config, _SHORT, 0), _SHORT + 1, 1)


def _limited(config: Json, old: int, new: int) -> Json:
    """With another limit of durations in the loggers' filters."""
    text = re.sub(rf'("duration_filter": {{[^}}]*"default_value": ){old}\b', rf"\g<1>{new}", json.dumps(config))
    changed: Json = json.loads(text)
    return changed


@contextmanager
def _counted(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
    envoy = [envoy_binary(), "-c", f"{folder}/envoy.json", "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([*valgrind, *envoy], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def _connected(process: subprocess.Popen[bytes], port: int, folder: Path) -> socket.socket:
    """A connection on which a request was answered."""
    end = time.monotonic() + _START
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            client = socket.create_connection(("127.0.0.1", port), timeout=_START)
            _ask(client, 1)
            return client
        time.sleep(0.1)
    raise AssertionError(f"Envoy does not answer:\n{(folder / 'output').read_text(errors='replace')[-2000:]}")


def _ask(client: socket.socket, requests: int) -> None:
    for _ in range(requests):
        client.sendall(_ASKED)
        answer = b""
        while not _WHOLE.fullmatch(answer):
            piece = client.recv(1 << 16)
            answer += piece
            if not piece or len(answer) > 1 << 14:
                raise OSError(f"not the answer of the backend: {answer[:200]!r}")


def _control(process: subprocess.Popen[bytes], what: str) -> None:
    subprocess.run(["callgrind_control", what, str(process.pid)], check=True, capture_output=True, timeout=_START)


def _total(counts: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", counts.read_text(errors="replace"), re.MULTILINE)
    return int(found[1]) if found else 0


def counts(made: Mapping[str, Make]) -> dict[str, float]:
    """The count of each of these configurations, one after the other. Raises Missing."""
    if missing := [program for program in ("valgrind", "nginx") if shutil.which(program) is None]:
        raise Missing(f"{' and '.join(missing)} cannot be found; on Debian: apt-get install valgrind nginx")
    ports = Ports()
    with contextlib.ExitStack() as stack:
        stack.callback(ports.release)
        backend = ports.take()
        stack.enter_context(nginx(lambda folder: proxies.answering_nginx(backend, folder), backend, cores()[1]))
        port, https_port = ports.take(), ports.take()
        return {name: count(configuration(port, https_port, backend), port) for name, configuration in made.items()}


def ours(port: int, https_port: int, backend: int, *changes: Callable[[Json], None]) -> Json:
    """Our configuration for one host, after changes of its connection manager."""
    config = proxies.ours(port, https_port, backend, proxies.hosts(1))
    for change in changes:
        config = without(config, change)
    return config


def bare(port: int, _https_port: int, backend: int, *, log: bool) -> Json:
    """The Envoy that ours is compared with."""
    return proxies.bare_envoy(port, backend, proxies.hosts(1), as_ours=True, log=log)


def measure() -> Table:
    """Ours beside a bare Envoy. Raises Missing."""
    silent = without_fields("access_log")
    made: dict[str, Make] = {
        f"{LIKE_OURS}, {WITH_LOG}": partial(bare, log=True),
        f"{OURS}, {WITH_LOG}": ours,
        SLOWER: lambda *where: _slower(ours(*where)),
        f"{LIKE_OURS}, {WITHOUT_LOG}": partial(bare, log=False),
        f"{OURS}, {WITHOUT_LOG}": lambda *where: ours(*where, silent),
    }
    table = Table(
        "A request, instructions of Envoy", ("proxy", "instructions", "× like ours"), note=f"{_REQUESTS} requests each; one host."
    )
    found = counts(made)
    for name, each in found.items():
        log = WITHOUT_LOG if name.endswith(WITHOUT_LOG) else WITH_LOG
        table.add(name, f"{each:,.0f}", f"{each / found[f'{LIKE_OURS}, {log}']:.2f}")
    return table


def measure_parts(parts: Sequence[tuple[str, Callable[[Json], None]]] = PARTS) -> Table:
    """Each part of ours by itself taken out. Raises Missing."""
    table = Table(
        "Our configuration without one part, instructions of Envoy a request",
        ("without", "instructions", "saved"),
        note="Each row lacks this part alone. Rows about the log lack nothing else; all others have no log.",
    )
    silent = without_fields("access_log")
    made: dict[str, Make] = {"nothing: as it is": ours, "any log": lambda *where: ours(*where, silent)}
    for name, change in parts:
        changes = (change,) if "log line" in name else (silent, change)
        made[name] = lambda *where, changes=changes: ours(*where, *changes)  # type: ignore[misc]
    found = counts(made)
    whole, without_log, *_ = found.values()
    for name, each in found.items():
        base = whole if "log" in name or each is whole else without_log
        table.add(name, f"{each:,.0f}", "" if each is whole else f"{base - each:,.0f}")
    return table


def measure_features(names: Sequence[str] = tuple(feature_price.FEATURES)) -> Table:
    """Each of these features on a path that uses it. Raises Missing."""
    table = Table("A feature in use, instructions of Envoy a request", ("feature", "instructions", "more", "×"), note="One host, no log.")
    nothing = feature_price.NOTHING
    found = counts({name: partial(feature_price.configuration, feature_price.FEATURES[name]) for name in dict.fromkeys((nothing, *names))})
    for name, each in found.items():
        table.add(name, f"{each:,.0f}", f"{each - found[nothing]:,.0f}", f"{each / found[nothing]:.2f}")
    return table


def main(what: str = "", word: str = "") -> int:
    """Print the tables, or a sentence where something is missing."""
    if what == "features":
        return show("instructions", lambda: measure_features([name for name in feature_price.FEATURES if word in name]))
    return show("instructions", measure, measure_parts)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
