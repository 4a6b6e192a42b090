"""One cluster for all tests in here, and what its processes said where a test failed."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.harness import FOR_PODS, NEEDED, Cluster, Helm, NotPermitted, missing, own_network
from tests.envoy.harness import disturbances, wait_until

CLUSTER = pytest.StashKey[Cluster]()


@functools.cache
def why_not(*programs: str) -> str:
    """Why there can be no cluster with these programs here; "" where there can."""
    if why := missing(*programs):
        return why
    try:
        with own_network():
            return ""
    except NotPermitted as refused:
        return str(refused)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests for one reason, which is one line of the summary. A module that gets by without pods says so: `PODS = False`."""
    module = item.getparent(pytest.Module)
    pods = getattr(module.obj if module else None, "PODS", True)
    if why := why_not(*NEEDED, *(FOR_PODS if pods else ())):
        pytest.skip(why)


@pytest.fixture(scope="package")
def in_network() -> Iterator[None]:
    """A network namespace for the tests in here."""
    with own_network():
        yield


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def cluster(in_network: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Everything, running, for all tests in here: `pytestmark = pytest.mark.asyncio(loop_scope="package")`."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    request.session.stash[CLUSTER] = found
    async with found:
        yield found
    del request.session.stash[CLUSTER]


@pytest.fixture
def helm(cluster: Cluster, tmp_path: Path) -> Helm:
    """helm, for who has it."""
    if why := missing("helm"):
        pytest.skip(why)
    return Helm(cluster.kube.kubeconfig, tmp_path)


@pytest_asyncio.fixture(loop_scope="package")
async def steady(cluster: Cluster) -> AsyncIterator[None]:
    """During the test, no Envoy changes a listener, drains a connection or rejects anything."""

    async def at_rest() -> list[dict[str, int]]:
        found = [await disturbances(envoy) for envoy in cluster.envoys]
        assert not any(name.endswith("_draining") for each in found for name in each), found
        return found

    before = await wait_until(at_rest, "what earlier tests closed to have drained")
    yield
    assert [await disturbances(envoy) for envoy in cluster.envoys] == before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test said."""
    report = yield
    found = item.session.stash.get(CLUSTER, None)
    if report.failed and found:
        report.sections.append(("processes", found.report()))
    return report
