"""The examples of the property tests in `make test` do not depend on anything but the test."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import EXPLORES


def _drawn() -> list[str]:
    found: list[str] = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(st.text())
    def draw(text: str) -> None:
        found.append(text)

    draw()
    return found


@pytest.mark.skipif(EXPLORES, reason="make explore draws from all there is")
def test_what_is_drawn_does_not_depend_on_what_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _drawn()
    (tmp_path / "module_with_words.py").write_text("WORDS = " + repr([f"word {number}" for number in range(500)]))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("module_with_words")
    assert _drawn() == before
