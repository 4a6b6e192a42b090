"""The API server, etcd's past, the network or the control plane go away: what is served stays served, and nothing is missed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.harness import API, HTTP, NODE, SPACE, Cluster, complaints, cut, mend
from tests.envoy.harness import Traffic, run, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package"), pytest.mark.usefixtures("steady")]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def app(cluster: Cluster) -> str:
    """An application behind stays.test, which is there the whole time, and goes.test, which each test deletes."""
    await cluster.deploy("steadfast", replicas=2)
    await cluster.kubectl("create ingress stays --class=nginx --rule=stays.test/*=steadfast:80")
    await cluster.until_answered("steadfast", host="stays.test")
    return "steadfast"


@pytest_asyncio.fixture(loop_scope="package")
async def goes(cluster: Cluster, app: str) -> AsyncIterator[str]:
    """An Ingress for goes.test; the test deletes it, and makes one for comes.test."""
    await cluster.kubectl(f"create ingress goes --class=nginx --rule=goes.test/*={app}:80")
    await cluster.until_answered(app, host="goes.test")
    yield "goes"
    await cluster.kubectl("delete ingress comes")
    await cluster.until_status(404, host="comes.test")


async def test_an_api_server_that_is_killed_costs_no_request_and_what_changed_meanwhile_is_taken_over(
    cluster: Cluster, app: str, goes: str
) -> None:
    async with Traffic(HTTP, host="stays.test") as traffic:
        await cluster.kube.kill_api_server()
        await change_elsewhere(cluster, app, goes)
        await traffic.flows()
        assert (await cluster.get(host="goes.test")).app == app
        assert (await cluster.control_plane.get("/readyz")).status == 200
        await cluster.kube.start_api_server()
        await until_changed(cluster, app)
    assert traffic.answers().keys() == {(200, app)}
    await cluster.until_address("comes", NODE)
    assert complaints(cluster.control_plane.process) == []


async def test_an_etcd_that_forgot_the_past_leaves_nothing_lost_and_nothing_stale(cluster: Cluster, app: str, goes: str) -> None:
    """The version that we know of is gone (410): all is listed anew, and what vanished meanwhile has to be missed."""
    async with Traffic(HTTP, host="stays.test") as traffic:
        await cluster.kube.kill_api_server()
        await change_elsewhere(cluster, app, goes)
        await cluster.kube.compact()
        asked = len(cluster.kube.audit())
        await cluster.kube.start_api_server(watch_cache=False)
        await until_changed(cluster, app)
        assert "ingresses" in listed_by_us(cluster, asked)
    assert traffic.answers().keys() == {(200, app)}
    await cluster.kube.kill_api_server()
    await cluster.kube.start_api_server()


async def test_a_control_plane_that_is_killed_costs_no_request_and_drains_nothing(cluster: Cluster, app: str, goes: str) -> None:
    async with Traffic(HTTP, host="stays.test") as traffic:
        await cluster.control_plane.kill()
        await cluster.kubectl(f"delete ingress {goes}")
        await cluster.kubectl(f"create ingress comes --class=nginx --rule=comes.test/*={app}:80")
        await traffic.flows()
        await cluster.control_plane.start()
        await until_changed(cluster, app)
        await traffic.flows()
    assert traffic.answers().keys() == {(200, app)}


async def test_a_control_plane_that_ends_and_begins_again_costs_no_request_and_drains_nothing(cluster: Cluster, app: str) -> None:
    async with Traffic(HTTP, host="stays.test") as traffic:
        for _ in range(2):
            assert await cluster.control_plane.stop() == 0
            await traffic.flows()
            await cluster.control_plane.start()
            await until_connected(cluster)
            await traffic.flows()
    assert traffic.answers().keys() == {(200, app)}


async def test_a_network_that_swallows_packets_is_noticed_and_mends_by_itself(cluster: Cluster, app: str, goes: str) -> None:
    """Nothing is closed and nobody answers; the connections to the API server are given up all the same."""
    assert await connections_to_api(cluster)
    async with Traffic(HTTP, host="stays.test", clients=1) as traffic:
        cut()
        try:
            await change_elsewhere(cluster, app, goes)

            async def given_up() -> bool:
                return not await connections_to_api(cluster)

            await wait_until(given_up, "the dead connections to be given up")
            assert (await cluster.get(host="goes.test")).app == app
        finally:
            mend()
        await until_changed(cluster, app)
    assert traffic.answers().keys() == {(200, app)}


async def change_elsewhere(cluster: Cluster, app: str, goes: str) -> None:
    """What happens while we are away: an Ingress is deleted, another one is made, a setting is changed."""
    async with cluster.kube.other_api_server():
        await cluster.kubectl(f"delete ingress {goes}", other=True)
        await cluster.kubectl(f"create ingress comes --class=nginx --rule=comes.test/*={app}:80", other=True)


async def until_changed(cluster: Cluster, app: str) -> None:
    """Wait until that is how Envoy answers."""
    await cluster.until_answered(app, host="comes.test")
    await cluster.until_status(404, host="goes.test")


def listed_by_us(cluster: Cluster, after: int) -> set[str]:
    """What the control plane has listed since so many requests."""
    # Who was not authenticated has no name.
    user = f"system:serviceaccount:{SPACE}:xds"
    ours = [each for each in cluster.kube.audit()[after:] if each["user"].get("username") == user]
    return {each["objectRef"]["resource"] for each in ours if each["verb"] == "list"}


async def until_connected(cluster: Cluster) -> None:
    """Wait until Envoy has a control plane."""

    async def look() -> bool:
        return (await cluster.envoy.stats("connected_state"))["control_plane.connected_state"] == 1

    await wait_until(look, "Envoy to be connected")


async def connections_to_api(cluster: Cluster) -> list[str]:
    """The open connections of the control plane to the API server, as the kernel has them."""
    code, out, err = await run(["ss", "--tcp", "--numeric", "--processes", "--no-header", "state", "established", "dst", API])
    assert code == 0, err
    return [line for line in out.splitlines() if re.search(rf"\bpid={cluster.control_plane.process.pid}\b", line)]
