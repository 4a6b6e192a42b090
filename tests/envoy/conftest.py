"""The fixtures that tests through a real Envoy start from, and the logs of a test that failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.envoy.harness import Site, disturbances

SITE = pytest.StashKey[Site]()


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A Site in which nothing runs yet; whatever the test starts in it is ended."""
    async with Site(tmp_path) as found:
        request.node.stash[SITE] = found
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A Site for all tests of a module; they run in one event loop: `pytestmark = pytest.mark.asyncio(loop_scope="module")`."""
    async with Site(tmp_path_factory.mktemp("site")) as found:
        request.node.stash[SITE] = found
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def steady(shared_site: Site) -> AsyncIterator[None]:
    """After the test, no Envoy of the module's Site has changed a listener, drained a connection or rejected anything."""
    yield
    for envoy in shared_site.envoys:
        assert await disturbances(envoy) == {}


@pytest.fixture
async def steady_site(site: Site) -> AsyncIterator[Site]:
    """A Site of the test's own, with the same promise."""
    yield site
    for envoy in site.envoys:
        assert await disturbances(envoy) == {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test said."""
    report = yield
    if report.failed:
        found = (node.stash.get(SITE, None) for node in item.listchain())
        report.sections += [("processes", site.report()) for site in found if site]
    return report
