"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure
settings.register_profile("xds", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", settings.get_profile("xds"), derandomize=True)  # a change is judged by itself, not by what luck finds today
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "xds"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are rewritten by the tests that read them."""
    parser.addoption("--update-golden", action="store_true", help="write what comes out into tests/golden/*.yaml, and read the diff")
