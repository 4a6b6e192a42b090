"""The dispatcher: exit codes, and nothing but sentences on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import xds
from xds.cli import main
from xds.cli.arguments import COMMANDS, Parsed
from xds.config import Failure, UsageError

Install = Callable[[Callable[[Parsed], int]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a function in the place of `xds serve`."""

    def put(run: Callable[[Parsed], int]) -> None:
        module = ModuleType("xds.cli.serve")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "xds.cli.serve", module)

    monkeypatch.delenv("XDS_TRACEBACK", raising=False)
    return put


def failing(error: BaseException) -> Callable[[Parsed], int]:
    def run(_: Parsed) -> int:
        raise error

    return run


def test_a_command_gets_its_settings_and_gives_the_exit_code(install: Install) -> None:
    seen = []
    install(lambda parsed: seen.append(parsed) or 7)
    assert main(["serve", "--manifests=d", "--http-port=81"]) == 7
    assert seen[0].settings.http_port == 81


def test_notices_go_to_standard_error_before_the_command_runs(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(failing(Failure("the port is in use.")))
    assert main(["serve", "--manifests=d", "--sync-period=1m"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "xds serve: --sync-period has no effect: objects are watched; they are listed again only where a watch was lost.",
        "xds serve: the port is in use.",
    ]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no."), 2, "xds serve: no.\n"),
        (Failure("no."), 1, "xds serve: no.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_way_to_fail_has_its_exit_code(
    install: Install, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    install(failing(error))
    assert main(["serve", "--manifests=d"]) == code
    assert capsys.readouterr().err == said


def test_an_error_of_ours_is_one_line_without_a_traceback(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(failing(ZeroDivisionError("two\nlines")))
    assert main(["serve", "--manifests=d"]) == 1
    assert capsys.readouterr().err == (
        "xds serve: internal error: ZeroDivisionError: two lines; please report it, with what XDS_TRACEBACK=1 adds.\n"
    )


def test_the_traceback_is_there_for_those_who_ask(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDS_TRACEBACK", "1")
    install(failing(ZeroDivisionError("x")))
    main(["serve", "--manifests=d"])
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_help_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {command}" in printed for command in COMMANDS)


@pytest.mark.parametrize("words", [["serve", "--help"], ["serve", "-h"], ["help", "serve"], ["serve", "--http-port=81", "--help"]])
def test_help_of_a_command_shows_its_flags(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "--http-port PORT" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--version"], ["version"], ["serve", "--version"]])
def test_the_version_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out == f"xds {xds.__version__}\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("serv", "xds: unknown command 'serv'; did you mean serve?\n"),
        ("--zzz", "xds: unknown command '--zzz'; `xds help` lists the commands.\n"),
    ],
)
def test_an_unknown_command_ends_with_a_hint(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err == said


def test_wrong_usage_ends_with_two_and_prints_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--manifests=d", "--http-port=x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "xds serve: --http-port: 'x' is not a port number from 1 to 65535.\n"


def test_a_reader_that_goes_away_hears_no_complaint() -> None:
    """As in `xds version | true`: the pipe is closed before the first byte is written."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xds", "version"], stdout=writing, stderr=subprocess.PIPE, env=environment, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_a_sentence() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "xds", "version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"xds: the output cannot be written: No space left on device.\n")


@pytest.mark.parametrize("command", ["version", "check"])
def test_with_standard_output_closed_the_exit_code_is_left(command: str, tmp_path: Path) -> None:
    """No file that is opened later takes its place, into which an Envoy would write its log."""
    words = [command, *([str(tmp_path)] if command == "check" else [])]
    program = f"import os, sys; from xds.cli import main; code = main({words}); os.fstat(1); sys.exit(code)"
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("word", ["help", "serve"])
def test_what_a_terminal_cannot_show_is_escaped(word: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "xds", word, "--help"], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2026" in done.stdout


def test_help_imports_nothing_that_a_running_server_needs() -> None:
    """So that it is there at once."""
    program = "import sys; from xds.cli import main; main(['--help']); print([n for n in ('grpc', 'aiohttp', 'yaml') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_for_what_is_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "chek"]) == 2
    assert capsys.readouterr().err == "xds: unknown command 'chek'; did you mean check?\n"
    assert main(["help", "help"]) == 0
    assert main(["help", "--help"]) == 0
