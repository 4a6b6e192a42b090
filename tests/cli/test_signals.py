"""Signals at every moment of a command's life: an exit code that is documented, and no traceback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.envoy.harness import ControlPlane, Folder, Ports, ingress
from tests.envoy.harness.process import ROOT, Process, environment
from tests.envoy.harness.waiting import wait_until

# Runs `xds` as the command line does, and sends itself a signal as soon as the import of a module begins, or when the process is ending.
DRIVER = """
import importlib.abc, os, runpy, signal, sys, threading
when, number, *words = sys.argv[1:]
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == when:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
if when == "the end":
    threading._register_atexit(lambda: os.kill(os.getpid(), int(number)))
sys.argv = ["xds", *words]
runpy.run_module("xds", run_name="__main__")
"""
FOLDER = str(ROOT / "examples" / "quickstart")
WORDS = {
    "help": ["help"],
    "bootstrap": ["bootstrap"],
    "translate": ["translate", FOLDER],
    "check": ["check", FOLDER],
    "explain": ["explain", "http://localhost/", FOLDER],
    "status": ["status", "--debug-address=127.0.0.1:1"],
    "history": ["history", "--debug-address=127.0.0.1:1"],
    "serve": ["serve", f"--manifests={FOLDER}"],
    "up": ["up", FOLDER],
    "certgen": ["certgen", "--apiserver-host=http://127.0.0.1:1"],
}
MODULES = {
    "help": ["xds.config", "xds.cli.manual"],
    "bootstrap": ["xds.config", "xds.cli.bootstrap", "yaml"],
    "translate": ["xds.cli.translate", "xds.offline", "re2"],
    "check": ["xds.cli.check", "xds.nginx", "rich.console"],
    "explain": ["xds.cli.explain", "xds.explain.document"],
    "status": ["xds.cli.live", "grpc", "betterproto2"],
    "history": ["xds.cli.history", "grpc"],
    "serve": ["xds.cli.serve", "asyncio", "grpc", "xds.app", "aiohttp"],
    "up": ["xds.cli.up", "grpc", "xds.app"],
    "certgen": ["xds.cli.certgen", "cryptography"],
}


def interrupted(when: str, number: int, words: Sequence[str]) -> tuple[int, str]:
    """Exit code, and what was said on standard error."""
    command = [sys.executable, "-c", DRIVER, when, str(number), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "when"), [(command, module) for command, modules in MODULES.items() for module in ["xds.cli", *modules]]
)
def test_ctrl_c_while_a_command_begins_ends_it_with_130_and_says_nothing(command: str, when: str) -> None:
    assert interrupted(when, signal.SIGINT, WORDS[command]) == (130, "")


@pytest.mark.parametrize("command", ["help", "bootstrap", "translate", "check", "explain"])
def test_ctrl_c_while_a_command_ends_prints_no_traceback(command: str) -> None:
    code, said = interrupted("the end", signal.SIGINT, WORDS[command])
    assert code == 130
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["check", "serve", "up"])
def test_other_signals_end_a_command_that_begins_at_once_and_in_silence(command: str, number: int) -> None:
    assert interrupted("xds.config", number, WORDS[command]) == (-number, "")


class Serving(ControlPlane):
    """`xds serve`, started by another program: `nohup`, for one."""

    def __init__(self, tmp_path: Path, ports: Ports, *before: str, flags: Sequence[str] = ()) -> None:
        super().__init__(Folder(tmp_path / "manifests").path, tmp_path, ports, flags)
        self.process = Process("xds-signals", [*before, *self.process.arguments], tmp_path)

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    async def ended(self) -> int:
        """Exit code; fails where something was said that is no line of the log."""

        async with asyncio.timeout(120):
            code = await self.process.wait()
        assert "Traceback" not in self.process.report()
        return code


@pytest.fixture
def ports() -> Iterator[Ports]:
    found = Ports()
    yield found
    found.release()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_server_ends_in_order(number: int, tmp_path: Path, ports: Ports) -> None:
    serving = await Serving(tmp_path, ports).start(deadline=120)
    serving.send(number)
    assert await serving.ended() == 0


async def test_under_nohup_a_terminal_that_goes_changes_nothing(tmp_path: Path, ports: Ports) -> None:
    serving = await Serving(tmp_path, ports, "nohup").start(deadline=120)
    serving.send(signal.SIGHUP)
    assert (await serving.get("/readyz")).status == 200
    assert serving.process.running
    assert await serving.stop() == 0


async def test_a_second_signal_ends_the_grace_period_and_the_end_stays_orderly(tmp_path: Path, ports: Ports) -> None:
    serving = await Serving(tmp_path, ports, flags=["--shutdown-grace-period=1000"]).start(deadline=120)
    serving.send(signal.SIGTERM)
    assert (await serving.get("/readyz")).status == 200
    serving.send(signal.SIGINT)
    assert await serving.ended() == 0


async def test_changes_are_served_in_the_grace_period(tmp_path: Path, ports: Ports) -> None:
    serving = await Serving(tmp_path, ports, flags=["--shutdown-grace-period=1000"]).start(deadline=120)
    serving.send(signal.SIGTERM)
    Folder(tmp_path / "manifests").write("web.yaml", ingress("web", "web.example", {"/": ("web", 80)}))

    async def taken() -> bool:
        return 'xds_objects{kind="Ingress"} 1' in (await serving.get("/metrics")).text

    await wait_until(taken, "the Ingress to be taken over")
    serving.send(signal.SIGTERM)
    assert await serving.ended() == 0


async def test_a_server_that_cannot_start_does_not_wait_for_its_grace_period(tmp_path: Path, ports: Ports) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        serving = Serving(tmp_path, ports, flags=["--shutdown-grace-period=1000", f"--xds-address={address}"])
        await serving.start(ready=False)
        assert await serving.ended() == 1
