"""The page of `man xds`: generated, complete, and nothing in it is taken for a request of roff."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xds.cli.arguments import COMMANDS
from xds.cli.man_page import page
from xds.config import flags

FILE = Path(__file__).parents[2] / "docs" / "xds.1"


def test_the_file_is_as_generated() -> None:
    assert FILE.read_text() == page()


def test_it_has_every_command_and_every_flag() -> None:
    text = page().replace("\\-", "-")
    assert [command.name for command in COMMANDS.values() if not re.search(rf"(?m)^\.B {command.name}\b", text)] == []
    assert [flag.name for flag in flags() if flag.name not in text] == []


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff")
def test_groff_finds_no_fault_and_shows_hyphens_that_can_be_copied() -> None:
    shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-P-c", str(FILE)], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stderr == ""
    assert "--http-port" in shown.stdout
