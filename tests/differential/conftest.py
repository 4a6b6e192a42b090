"""The fixtures of tests through a real Envoy."""

from tests.envoy.conftest import pytest_runtest_makereport, shared_site

__all__ = ["pytest_runtest_makereport", "shared_site"]
