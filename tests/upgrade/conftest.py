"""The fixtures of tests/envoy, which these tests start from as well."""

from tests.envoy.conftest import pytest_runtest_makereport, site

__all__ = ["pytest_runtest_makereport", "site"]
