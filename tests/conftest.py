"""Options of the whole suite."""

from __future__ import annotations

import pytest

from tests.exploring import load_profile

load_profile()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten by the tests that read them."""
    parser.addoption("--update-golden", action="store_true", help="write what comes out into tests/golden/*.yaml, and read the diff")
