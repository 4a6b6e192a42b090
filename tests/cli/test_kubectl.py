"""`kubectl xds`: what is carried into the server's pod, and what runs here."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xds.cli.kubectl import asks_a_server, carried, split

IN_POD = ["kubectl", "--namespace=ingress-xds", "exec", "deployment/xds", "--", "xds"]


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "ingress", "default/web", "--wait"],
        ["history", "-o", "json"],
        ["check", "--live"],
        ["explain", "https://a.test/", "live"],
    ],
)
def test_what_asks_a_server_is_carried_to_it(words: list[str]) -> None:
    assert asks_a_server(words)
    assert carried({}, words) == [*IN_POD, *words]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["help"],
        ["check", "manifests"],
        ["explain", "live"],
        ["explain", "https://a.test/", "manifests"],
        ["status", "--debug-address", "127.0.0.1:18001"],
        ["status", "--debug-address=off"],
        ["status", "--help"],
    ],
)
def test_everything_else_runs_here(words: list[str]) -> None:
    assert not asks_a_server(words)


def test_flags_of_kubectl_stand_in_front() -> None:
    given, words = split(["-n", "edge", "--context=one", "--deployment", "front-xds", "status", "-n", "2"])
    assert words == ["status", "-n", "2"]
    assert carried(given, words) == ["kubectl", "--namespace=edge", "--context=one", "exec", "deployment/front-xds", "--", "xds", *words]


def test_a_flag_without_its_value_is_left_to_the_command() -> None:
    assert split(["-n"]) == ({}, ["-n"])


def test_the_plugin_becomes_kubectl_with_its_exit_code(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    kubectl.chmod(stat.S_IRWXU)
    done = plugin(f"{tmp_path}:{os.environ['PATH']}", "status", "--output", "json")
    assert (done.returncode, done.stdout.split()) == (7, [*IN_POD[1:], "status", "--output", "json"])


def test_without_kubectl_it_says_so(tmp_path: Path) -> None:
    done = plugin(str(tmp_path), "status")
    assert (done.returncode, done.stderr) == (1, "kubectl xds: kubectl cannot be started: No such file or directory.\n")


def test_what_runs_here_has_its_own_exit_code(tmp_path: Path) -> None:
    done = plugin(str(tmp_path), "check", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("xds check: ")


def plugin(path: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from xds.__main__ import kubectl; sys.exit(kubectl())", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path})
