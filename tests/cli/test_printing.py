"""What commands print can steer no terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.cli.printing import show_json, text


@given(st.text(st.characters(codec=None)))
def test_a_line_has_no_character_that_steers(found: str) -> None:
    assert text(found).plain.isprintable()


@pytest.mark.parametrize("found", ["\x9b2J", "\x1b[2J", "\x7f", "\u202eevil", "\ud800", "\U000e0001", "a\nb\u2028c", "é 中 😀"])
def test_json_is_the_same_without_characters_that_steer(capsys: pytest.CaptureFixture[str], found: str) -> None:
    show_json({"x": found})
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert json.loads(printed) == {"x": found}
