"""Folders of running programs: who can open them, who has one, and that those of the dead go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xds.addresses import LONGEST_SOCKET_PATH
from xds.config import Failure
from xds.machine.private_folder import homes, private_folder, sockets

HOLDER = """
import os, sys, time
from xds.machine.private_folder import private_folder
with private_folder("up-1", os.environ) as folder:
    (folder / "envoy.yaml").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Short: the paths of sockets are."""
    return {"XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("r"))}


def holder(environment: dict[str, str]) -> tuple[subprocess.Popen[str], Path]:
    """Another program that has a folder, until its standard input ends."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert held.stdout is not None
    return held, Path(held.stdout.readline().strip())


def end(held: subprocess.Popen[str], number: int) -> None:
    held.send_signal(number)
    held.communicate(timeout=120)


def test_nobody_else_can_open_it_and_it_goes_at_the_end(environment: dict[str, str]) -> None:
    home = Path(environment["XDG_RUNTIME_DIR"], "xds")
    before = os.umask(0)
    try:
        with private_folder("up-8080", environment) as folder:
            assert folder == home / "up-8080"
            assert [path.stat().st_mode & 0o777 for path in (home, folder)] == [0o700, 0o700]
            (folder / "admin.sock").touch()
    finally:
        os.umask(before)
    assert list(home.iterdir()) == []


def test_what_a_killed_program_has_left_goes_and_what_a_living_one_has_stays(environment: dict[str, str]) -> None:
    dead, left = holder(environment)
    living, kept = holder(environment)
    try:
        assert (left.name, kept.name) == ("up-1", "up-1-2")
        end(dead, signal.SIGKILL)
        assert (left / "envoy.yaml").exists()
        with private_folder("up-9", environment) as mine:
            assert sorted(mine.parent.iterdir()) == [kept, mine]
            assert (kept / "envoy.yaml").exists()
    finally:
        end(living, signal.SIGKILL)


def test_a_program_that_is_stopped_is_not_dead(environment: dict[str, str]) -> None:
    stopped, kept = holder(environment)
    try:
        stopped.send_signal(signal.SIGSTOP)
        with private_folder("up-9", environment):
            assert (kept / "envoy.yaml").exists()
    finally:
        end(stopped, signal.SIGKILL)


def test_what_is_no_folder_stays(environment: dict[str, str], tmp_path: Path) -> None:
    """A link is never followed out of the folder, and never removed with what it leads to."""
    with private_folder("up-1", environment) as first:
        (tmp_path / "precious").touch()
        (first.parent / "link").symlink_to(tmp_path)
        (first.parent / "file").touch()
        with private_folder("up-2", environment):
            assert (tmp_path / "precious").exists()
            assert (first.parent / "file").exists()


@pytest.mark.parametrize("squatted", ["a link", "a file", "somebody else's"])
def test_a_place_that_somebody_took_first_is_left_to_him(squatted: str, environment: dict[str, str], tmp_path: Path) -> None:
    home = Path(environment["XDG_RUNTIME_DIR"], "xds")
    if squatted == "a link":
        home.symlink_to(tmp_path)
    elif squatted == "a file":
        home.touch()
    elif os.geteuid() == 0:
        home.mkdir()
        os.chown(home, 12345, 12345)
    else:
        pytest.skip("only root can give a folder away")
    with private_folder("up-1", environment) as folder:
        assert folder.parent in homes(environment)[1:]
        assert home not in folder.parents
    assert not [path for path in sockets("debug.sock", environment) if home in path.parents]


def test_a_folder_of_ours_that_others_could_open_is_closed_to_them(environment: dict[str, str]) -> None:
    home = Path(environment["XDG_RUNTIME_DIR"], "xds")
    home.mkdir()
    home.chmod(0o777)
    with private_folder("up-1", environment):
        assert home.stat().st_mode & 0o777 == 0o700


def test_a_place_too_deep_for_the_path_of_a_socket_is_passed_over(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with private_folder("up-65535", {"XDG_RUNTIME_DIR": str(deep)}) as folder:
        assert deep not in folder.parents
        assert len(os.fsencode(folder / "debug.sock")) <= LONGEST_SOCKET_PATH


def test_where_there_is_no_place_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.machine.private_folder.homes", lambda _: [Path("/dev/null/xds")])
    with (
        pytest.raises(Failure, match=r"^no folder can be made that only this user can open \(tried /dev/null/xds\): name one of yours"),
        private_folder("up-1", {}),
    ):
        pass


def test_what_is_a_socket_is_found_in_whichever_folder_it_is(environment: dict[str, str]) -> None:
    with private_folder("up-1", environment) as one, private_folder("up-2", environment) as other, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(other / "debug.sock"))
        (one / "debug.sock").touch()
        assert sockets("debug.sock", environment) == [other / "debug.sock"]


def test_places_are_asked_for_in_the_order_in_which_they_are_private() -> None:
    user = os.geteuid()
    assert homes({"XDG_RUNTIME_DIR": "/run/user/1", "TMPDIR": "/var/t"}) == [
        Path("/run/user/1/xds"),
        Path(f"/var/t/xds-{user}"),
        Path(f"/tmp/xds-{user}"),
    ]
    assert homes({"XDG_RUNTIME_DIR": "relative", "TMPDIR": "/tmp"}) == [Path(f"/tmp/xds-{user}")]


def test_where_nothing_can_be_written_there_are_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose file system is read-only: `xds status` asks the usual port there."""
    monkeypatch.setattr("xds.machine.private_folder.homes", lambda _: [Path("/dev/null/xds"), Path("/nowhere/xds")])
    assert sockets("debug.sock", {}) == []
