"""Help texts and docs/flags.md say what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds.cli import main
from xds.cli.arguments import COMMANDS, flags_of
from xds.cli.manual import command_help, flags_page, overview
from xds.config import flags

PAGE = Path(__file__).parents[2] / "docs" / "flags.md"


def test_the_page_of_flags_is_current() -> None:
    """If not: `make docs`."""
    assert PAGE.read_text(encoding="utf-8") == flags_page()


@pytest.mark.parametrize("flag", flags(), ids=lambda flag: flag.name)
def test_the_page_has_a_row_for_each_flag_with_its_variable(flag) -> None:
    rows = [line for line in flags_page().splitlines() if line.startswith((f"| `{flag.name}`", f"| `{flag.name} "))]
    assert len(rows) == 1
    assert flag.variable in rows[0]
    assert (flag.no_effect or flag.does) in rows[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_flag_of_the_command_in_a_hundred_columns(command: str) -> None:
    text = command_help(command)
    assert max(map(len, text.splitlines())) <= 100
    assert all(flag.name in text for flag in flags_of(command))


def test_the_overview_fits_a_hundred_columns() -> None:
    assert max(map(len, overview().splitlines())) <= 100


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_wide_as_the_terminal(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["help", *([command] if command else [])]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_help_of_history_reads_as_intended() -> None:
    assert command_help("history") == (
        "Usage: xds history [flags]\n"
        "\n"
        "Show the last changes: what caused them, what they touched, how long they took, and who rejected\n"
        "them.\n"
        "\n"
        "Management server:\n"
        "  --debug-address ADDRESS           Where the debug service, CSDS, reflection and channelz are\n"
        "                                    (docs/debug.md); off: nowhere. Plaintext, open to all who reach\n"
        "                                    it. auto: that of this user's `xds up`, else 127.0.0.1:18001.\n"
        "                                    (default auto)\n"
        "\n"
        "Output and help:\n"
        "  -o, --output text|json            Form of what is printed. (default text)\n"
        "  -h, --help                        Show the flags of the command.\n"
        "  --version                         Show the version."
    )


def test_defaults_that_depend_are_told_with_what_they_depend_on() -> None:
    assert "(default 8080)" in command_help("up")
    assert "`80`, `8080` in `xds up`" in flags_page()
    assert "(default $POD_NAME, else $HOSTNAME, else envoy)" in command_help("bootstrap")
    assert "`false, but true with --manifests`" in flags_page()
