"""`kubectl xds`: what is carried into the server's pod, and what runs here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xds.cli.arguments import flags_of
from xds.cli.kubectl import asks_a_server, carried, split
from xds.config import Flag

ROOT = Path(__file__).parents[2]
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
    assert carried([], words) == [*IN_POD, *words]


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


def test_options_of_kubectl_stand_in_front() -> None:
    given, words = split(["-n", "edge", "--context=one", "--deployment", "front-xds", "status", "-n", "2"])
    assert words == ["status", "-n", "2"]
    assert carried(given, words) == ["kubectl", "--namespace=edge", "--context=one", "exec", "deployment/front-xds", "--", "xds", *words]


@pytest.mark.parametrize("option", ["-n edge", "-n=edge", "-nedge", "--namespace edge", "--namespace=edge"])
def test_an_option_is_written_in_all_ways_of_kubectl(option: str) -> None:
    assert split([*option.split(), "status"]) == ([("--namespace", "edge")], ["status"])


def test_options_of_kubectl_stand_behind_a_command_that_asks() -> None:
    given, words = split(["explain", "--context", "one", "https://a.test/", "live", "-A", "-o", "json", "-nedge"], behind=True)
    assert given == [("--context", "one"), ("--namespace", "edge")]
    assert words == ["explain", "https://a.test/", "live", "-o", "json"]
    assert split(["status", "--", "-n", "a"], behind=True) == ([], ["status", "--", "-n", "a"])


def test_an_option_that_kubectl_takes_several_times_is_passed_on_as_often() -> None:
    """Else somebody would ask as a member of one group, and not of the others."""
    given, words = split(["--as-group=one", "-n", "a", "--as-group", "two", "-n", "b", "status"])
    assert carried(given, words)[:4] == ["kubectl", "--namespace=b", "--as-group=one", "--as-group=two"]


def test_a_flag_without_its_value_is_left_to_the_command() -> None:
    assert split(["-n"]) == ([], ["-n"])
    assert split(["status", "-n"], behind=True) == ([], ["status", "-n"])


def test_no_option_of_kubectl_is_one_of_a_command_that_asks() -> None:
    """Else it could not stand behind that command."""
    own = {word for name in ("status", "history", "check", "explain", "dashboard") for flag in flags_of(name) for word in spelled(flag)}
    assert {word for word in own if split([word, "x"])[0]} == set()


def spelled(flag: Flag) -> list[str]:
    return [flag.name, *([f"-{flag.short}"] if flag.short else [])]


def test_the_plugin_becomes_kubectl_with_its_exit_code(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    kubectl.chmod(stat.S_IRWXU)
    done = plugin(f"{tmp_path}:{os.environ['PATH']}", "status", "--output", "json")
    assert (done.returncode, done.stdout.split()) == (7, [*IN_POD[1:], "status", "--output", "json"])


def test_the_plugin_takes_the_options_that_people_type_last(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    kubectl.chmod(stat.S_IRWXU)
    done = plugin(f"{tmp_path}:{os.environ['PATH']}", "check", "--live", "--context", "one", "-A")
    assert done.stdout.split() == ["--namespace=ingress-xds", "--context=one", *IN_POD[2:], "check", "--live"]


def test_an_option_that_names_a_cluster_is_refused_where_none_is_asked(tmp_path: Path) -> None:
    done = plugin(os.environ["PATH"], "--context=prod", "check", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kubectl xds: --context has no effect on check, which runs here and not in the server's pod.\n"


def test_its_help_has_the_options_of_kubectl() -> None:
    done = plugin(os.environ["PATH"], "help")
    assert done.returncode == 0
    assert "xds COMMAND" in done.stdout
    assert "--deployment and -n" in done.stdout


def test_without_kubectl_it_says_so(tmp_path: Path) -> None:
    done = plugin(str(tmp_path), "status")
    assert (done.returncode, done.stderr) == (1, "kubectl xds: kubectl cannot be started: No such file or directory.\n")


def test_what_runs_here_has_its_own_exit_code(tmp_path: Path) -> None:
    done = plugin(str(tmp_path), "check", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("xds check: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], ["status", ":4"]),
        (["status", "--context", "one", ""], ["ingress", "configmap", ":4"]),
        (["-n", "edge", "history", "--o"], ["--output", ":4"]),
        (["check", "-"], ["--live"]),
        (["explain", "https://a.test/", ""], ["live", ":0"]),
    ],
)
def test_kubectl_completes_the_words_of_the_plugin(words: list[str], expected: list[str], tmp_path: Path) -> None:
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("kubectl is not installed")
    for name, called in (("kubectl-xds", "kubectl"), ("kubectl_complete-xds", "kubectl_complete")):
        code = f"import sys; from xds.__main__ import {called}; sys.exit({called}())"
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c '{code}' \"$@\"\n")
        program.chmod(stat.S_IRWXU)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([kubectl, "__complete", "xds", *words], check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert set(expected) <= set(done.stdout.splitlines()), done


def plugin(path: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from xds.__main__ import kubectl; sys.exit(kubectl())", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path})
