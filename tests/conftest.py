"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("xds", deadline=None, print_blob=True)  # a busy machine is no failure
settings.register_profile("ci", settings.get_profile("xds"), derandomize=True)  # a change is judged by itself, not by what luck finds today
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "xds"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten by the tests that read them."""
    parser.addoption("--update-golden", action="store_true", help="write what comes out into tests/golden/*.yaml, and read the diff")
