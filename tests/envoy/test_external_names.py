"""Services of type ExternalName while things change, beside a name server that is slow, or silent: no request is dropped for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests import quick_yaml
from tests.envoy.harness import NameServer, Site, Traffic, backend, config_map, disturbances, ingress, resolving, service, wait_until
from tests.envoy.harness.dns import AAAA, A
from tests.envoy.harness.manifests import Manifest

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

SLOW = 0.3
"""Seconds: some hundred requests of a `Traffic`."""


def away(name: str, host: str, port: int) -> Manifest:
    found = service(name)
    found["spec"] = {"type": "ExternalName", "externalName": host, "ports": [{"port": 80, "targetPort": port}]}
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["DELTA_GRPC", "GRPC"])
async def wire(request: pytest.FixtureRequest) -> str:
    """How Envoy speaks xDS."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def names(wire: str) -> NameServer:
    """Envoy's name server, one for each wire."""
    assert wire
    return NameServer({f"{name}.example": ["127.0.0.1"] for name in ("one", "two", "late")}, {"silent.example"}, delay=SLOW)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, names: NameServer, wire: str) -> AsyncIterator[Site]:
    """Applications behind names and behind a Service of pods; one name is never answered."""
    async with Site(tmp_path_factory.mktemp("site")) as found:
        await started(found, names, wire)
        yield found
        for envoy in found.envoys:
            assert await disturbances(envoy) == {}


async def started(site: Site, names: NameServer, wire: str) -> None:
    for name in ("one", "two"):
        _, port = await site.run(HttpApp(name))
        site.folder.write(f"{name}.yaml", away(name, f"{name}.example", port))
    site.folder.write("pods.yaml", *backend("pods", await site.run(HttpApp("pods"))))
    site.folder.write("silent.yaml", away("silent", "silent.example", 80))
    site.folder.write("keys.yaml", config_map("keys", {}))
    site.folder.write("mute.yaml", ingress("mute", "mute.test", {"/": ("silent", 80)}))
    site.folder.write("ingress.yaml", ingress("a", "a.test", {"/": ("one", 80)}))
    await site.start_control_plane("--configmap", "default/keys")
    bootstrap = quick_yaml.safe_load(await site.control_plane.bootstrap())
    bootstrap["dynamic_resources"]["ads_config"]["api_type"] = wire
    await site.static_envoy(resolving(bootstrap, await site.run(names)))
    await site.until_answered("/", "one", host="a.test")


async def clusters_of(site: Site, service: str) -> dict[str, str]:
    """Name → connect time-out of the clusters of a Service that are in use."""
    found = (await site.envoy.config_dump())["ClustersConfigDump"]["dynamic_active_clusters"]
    ours = [entry["cluster"] for entry in found if entry["cluster"]["name"].startswith(f"default/{service}/")]
    return {cluster["name"]: cluster["connect_timeout"] for cluster in ours}


async def test_a_policy_that_changes_keeps_the_clusters_name_and_loses_no_request(site: Site) -> None:
    """By annotations and by the ConfigMap. Envoy warms the changed cluster while the old one serves."""
    (name,) = await clusters_of(site, "one")
    async with Traffic(site.http, host="a.test") as traffic:
        for timeout, key in ((7, ""), (8, ""), (0, "9"), (0, "10"), (0, "")):
            asked = {"proxy-connect-timeout": timeout} if timeout else {}
            site.folder.write("ingress.yaml", ingress("a", "a.test", {"/": ("one", 80)}, asked))
            site.folder.write("keys.yaml", config_map("keys", {"proxy-connect-timeout": key} if key else {}))

            async def changed(expected: str = f"{timeout or key or 5}s") -> bool:
                return await clusters_of(site, "one") == {name: expected}

            await wait_until(changed, f"the cluster with {timeout or key} s")
            await traffic.flows()
    assert traffic.answers().keys() == {(200, "one")}


async def test_two_ingresses_may_ask_for_the_same_service_by_different_policies(site: Site) -> None:
    both = ingress("b", "b.test", {"/": ("two", 80)}, {"proxy-connect-timeout": 6}), ingress("c.d", "c.test", {"/": ("two", 80)})
    site.folder.write("both.yaml", *both)
    for host in ("b.test", "c.test"):
        await site.until_answered("/", "two", host=host)
    assert await clusters_of(site, "two") == {"default/two/80@default/b": "6s", "default/two/80@default/c_d": "5s"}
    site.folder.remove("both.yaml")
    await site.until_status("/", 404, host="c.test")


async def test_a_path_that_is_pointed_at_a_name_loses_no_request(site: Site) -> None:
    """From pods to a name, to another name, and back: Envoy accepts clusters only once they are warm, and routes follow that."""
    site.folder.write("moving.yaml", ingress("moving", "moving.test", {"/": ("pods", 80)}))
    await site.until_answered("/", "pods", host="moving.test")
    async with Traffic(site.http, host="moving.test") as traffic:
        for to in ("one", "two", "pods", "two", "one", "pods"):
            site.folder.write("moving.yaml", ingress("moving", "moving.test", {"/": (to, 80)}))
            await traffic.until_answered(to)
    assert traffic.answers().keys() == {(200, name) for name in ("pods", "one", "two")}


async def test_a_service_that_becomes_a_name_and_back_loses_no_request(site: Site) -> None:
    pods = backend("changing", await site.run(HttpApp("as-pods")))
    _, port = await site.run(HttpApp("as-name"))
    site.folder.write("changing.yaml", *pods)
    site.folder.write("changing-ingress.yaml", ingress("changing", "changing.test", {"/": ("changing", 80)}))
    await site.until_answered("/", "as-pods", host="changing.test")
    async with Traffic(site.http, host="changing.test") as traffic:
        for objects, app in (([away("changing", "late.example", port), *pods[1:]], "as-name"), (pods, "as-pods")) * 2:
            site.folder.write("changing.yaml", *objects)
            await traffic.until_answered(app)
    assert traffic.answers().keys() == {(200, "as-pods"), (200, "as-name")}


async def test_a_name_server_that_is_silent_is_asked_once_a_lookup(site: Site, names: NameServer) -> None:
    """So that an Envoy which starts beside it waits for one second, not for fifty; a question that is sent again keeps its number."""
    asked = [question for question in names.questions if question[0] == "silent.example"]
    assert {kind for _, kind, _ in asked} == {A, AAAA}
    assert len(asked) == len(set(asked))
    assert (await site.get("/", host="mute.test")).status == 503


async def test_a_path_at_a_name_that_is_never_answered_holds_up_nobody_else(site: Site, names: NameServer) -> None:
    site.folder.write("silence.yaml", ingress("silence", "silence.test", {"/": ("silent", 80), "/pods": ("pods", 80)}))
    await site.until_answered("/pods", "pods", host="silence.test")
    async with Traffic(site.http, "/pods", host="silence.test") as traffic:
        assert (await site.get("/", host="silence.test")).status == 503
        assert "silent.example" in names.asked
        site.folder.write("after.yaml", ingress("after", "after.test", {"/": ("pods", 80)}))
        await site.until_answered("/", "pods", host="after.test")
    assert traffic.answers().keys() == {(200, "pods")}
    site.folder.remove("silence.yaml")
    site.folder.remove("after.yaml")


async def test_clusters_of_names_and_of_pods_come_and_go_side_by_side(site: Site) -> None:
    """Clusters of the DNS, of pods, and both after a restart of the management server."""
    site.folder.write("awaited.yaml", away("awaited", "late.example", (await site.run(HttpApp("awaited")))[1]))
    site.folder.write("awaited-ingress.yaml", ingress("awaited", "awaited.test", {"/": ("awaited", 80)}))
    await site.until_answered("/", "awaited", host="awaited.test")
    for restart in (False, True):
        if restart:
            await site.control_plane.kill()
            await site.control_plane.start()
        for name in ("three", "four"):
            site.folder.write(f"{name}.yaml", *backend(name, await site.run(HttpApp(name))))
            site.folder.write(f"{name}-ingress.yaml", ingress(name, f"{name}.test", {"/": (name, 80)}))
            await site.until_answered("/", name, host=f"{name}.test")
        site.folder.remove("three-ingress.yaml")
        await site.until_status("/", 404, host="three.test")

        async def gone() -> bool:
            return not await clusters_of(site, "three")

        await wait_until(gone, "the cluster of a host that is gone to go")
        assert (await site.get("/", host="awaited.test")).app == "awaited"
        site.folder.remove("four-ingress.yaml")
        await site.until_status("/", 404, host="four.test")
