"""Fixtures of the tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import site


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> site.Say:
    return site.speaker(capsys)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return site.write(tmp_path / "good", *site.good(site.certificate()))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return site.write(tmp_path / "good", *site.good(site.certificate()), *site.bad())
