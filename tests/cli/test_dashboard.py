"""`xds dashboard`: the page is opened where it is; with `cluster`, and as a plugin of kubectl, behind a tunnel."""

from __future__ import annotations

import http.server
import os
import signal
import stat
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import Say
from tests.envoy.harness.process import ROOT, environment

KUBECTL = """#!/bin/sh
printf '%s\\n' "$@" > {folder}/asked
echo $$ > {folder}/pid
echo "Forwarding from 127.0.0.1:4711 -> 18002"
echo "Forwarding from [::1]:4711 -> 18002"
{then}
"""
BROWSER = """#!/bin/sh
echo "$@" >> {folder}/opened
"""


class Page(http.server.BaseHTTPRequestHandler):
    software = "xds"

    def version_string(self) -> str:
        return self.software

    def do_HEAD(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers as the dashboard does."""
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    return found


def test_the_page_of_this_machine_is_opened(say: Say, port: int, opened: list[str]) -> None:
    said = say("dashboard", f"--dashboard-address=127.0.0.1:{port}")
    assert said == (0, f"http://127.0.0.1:{port}/\n", "")
    assert opened == [f"http://127.0.0.1:{port}/"]


def test_what_is_no_dashboard_is_not_opened(say: Say, port: int, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Page, "software", "nginx")
    for address in (f"127.0.0.1:{port}", "127.0.0.1:1"):
        said = say("dashboard", "--dashboard-address", address)
        assert said.code == 1
        assert said.err.startswith(f"xds dashboard: there is no page at {address}: start `xds up` or `xds serve` there, or name")
    assert opened == []


def test_wrong_words_are_wrong_usage(say: Say) -> None:
    assert say("dashboard", "--dashboard-address=off").code == 2
    assert say("dashboard", "--dashboard-address=unix:/x").code == 2
    assert (
        say("dashboard", "here").err == "xds dashboard: 'here' is no argument of xds dashboard; `xds dashboard --help` lists its flags.\n"
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a kubectl that tells what it was asked, and a browser that tells what it was to open."""
    for name, text in (("kubectl", KUBECTL), ("browser", BROWSER)):
        program = tmp_path / name
        program.write_text(text.format(folder=tmp_path, then="exit 7"))
        program.chmod(stat.S_IRWXU)
    return f"{tmp_path}:{os.environ['PATH']}"


def started(path: str, program: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"import sys; from xds.__main__ import {program}; sys.exit({program}())", *words]
    env = environment({"PATH": path, "BROWSER": f"{path.partition(':')[0]}/browser"})
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("program", "words", "asked"),
    [
        ("main", ["dashboard", "cluster"], ["--namespace=ingress-xds", "port-forward", "deployment/xds", ":18002"]),
        (
            "main",
            ["dashboard", "cluster", "--dashboard-address=:4000"],
            ["--namespace=ingress-xds", "port-forward", "deployment/xds", ":4000"],
        ),
        ("kubectl", ["dashboard"], ["--namespace=ingress-xds", "port-forward", "deployment/xds", ":18002"]),
        (
            "kubectl",
            ["-n", "edge", "--context=one", "--deployment", "front-xds", "dashboard"],
            ["--namespace=edge", "--context=one", "port-forward", "deployment/front-xds", ":18002"],
        ),
    ],
)
def test_that_of_a_cluster_is_opened_behind_a_tunnel(path: str, tmp_path: Path, program: str, words: list[str], asked: list[str]) -> None:
    out, err = (running := started(path, program, *words)).communicate(timeout=60)
    assert (running.returncode, out, err) == (7, "http://127.0.0.1:4711/\n", "")  # kubectl ended, and says why itself
    assert (tmp_path / "asked").read_text().split() == asked
    assert (tmp_path / "opened").read_text() == "http://127.0.0.1:4711/\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_tunnel_ends_with_the_command(path: str, tmp_path: Path, number: signal.Signals) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(folder=tmp_path, then="exec sleep 300"))
    running = started(path, "main", "dashboard", "cluster")
    assert running.stdout is not None
    assert running.stdout.readline() == "http://127.0.0.1:4711/\n"
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_kubectl_it_says_so(tmp_path: Path) -> None:
    for program, words, name in (("main", ["dashboard", "cluster"], "xds dashboard"), ("kubectl", ["dashboard"], "kubectl xds")):
        _, err = started(str(tmp_path), program, *words).communicate(timeout=60)
        assert err == f"{name}: kubectl cannot be started: No such file or directory.\n"
