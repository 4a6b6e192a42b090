"""Addresses that nothing may be sent to, through a real Envoy: those that objects of an API server name, and those that
a name turns out to resolve to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests import quick_yaml
from tests.envoy.harness import (
    NameServer,
    Resetting,
    Site,
    WebSocket,
    endpoint_slice,
    ingress,
    resolving,
    service,
    wait_until,
)
from tests.kube.scripted import Scripted, serving

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

EXCEPTED = "127.0.0.9"
BAD = {
    "loopback.example": ["127.0.0.1"],
    "loopback-six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "unspecified.example": ["0.0.0.0"],
    "metadata.example": ["169.254.169.254"],
    "link-local.example": ["fe80::1"],
    "multicast.example": ["224.0.0.1"],
}
GOOD = {"good.example": [EXCEPTED], "mixed.example": [EXCEPTED, "127.0.0.1"]}
PLURALS = {"Ingress": "ingresses", "Service": "services", "EndpointSlice": "endpointslices", "IngressClass": "ingressclasses"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kube() -> AsyncIterator[Scripted]:
    async with serving() as found:
        yield found


def apply(kube: Scripted, *manifests: dict[str, object]) -> None:
    """Put objects into the API server."""
    for manifest in manifests:
        body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
        meta = dict(body.pop("metadata"))  # type: ignore[call-overload]
        kube.store.put(PLURALS[str(manifest["kind"])], meta.pop("name"), meta.pop("namespace"), metadata=meta, **body)
    kube.wake()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hidden() -> Resetting:
    """What listens on loopback, and counts who connects."""
    return Resetting(at_once=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(shared_site: Site, hidden: Resetting) -> int:
    """The port of an application on the excepted address, and of the secret one on all others of loopback."""
    _, number = await shared_site.run(HttpApp("good"), EXCEPTED)
    await shared_site.run(hidden, "127.0.0.1", number)
    return number


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_cluster(shared_site: Site, kube: Scripted, port: int) -> Site:
    """A control plane with an API server, and an Envoy that resolves names as a stranger likes."""
    apply(kube, {"kind": "IngressClass", "metadata": {"name": "nginx", "namespace": ""}, "spec": {"controller": "k8s.io/ingress-nginx"}})
    for name in (*BAD, *GOOD):
        short = name.partition(".")[0]
        apply(kube, service(short, 0, external_name=name), ingress(short, f"{short}.test", {"/": (short, port)}))
    apply(kube, service("slices"), ingress("slices", "slices.test", {"/": ("slices", 80)}))
    apply(kube, endpoint_slice("slices", [("127.0.0.1", port), (EXCEPTED, port)]))
    flags = ("--apiserver-host", kube.url, "--allowed-endpoints", f"{EXCEPTED}/32", "--update-status=false", "--disable-sync-events")
    await shared_site.start_control_plane(*flags, from_folder=False)
    bootstrap = quick_yaml.safe_load(await shared_site.control_plane.bootstrap())
    await shared_site.static_envoy(resolving(bootstrap, await shared_site.run(NameServer(BAD | GOOD))))
    await shared_site.until_answered("/", "good", host="good.test")
    return shared_site


async def resolved(site: Site, short: str, port: int) -> None:
    """Wait until Envoy knows addresses of a name."""

    async def look() -> bool:
        return bool((await site.envoy.clusters()).get(f"default/{short}/{port}@default/{short}"))

    await wait_until(look, f"{short}.example to be resolved")


@pytest.mark.parametrize("name", BAD)
async def test_a_name_that_resolves_to_an_address_of_the_node_is_refused_before_it_is_connected(
    in_cluster: Site, hidden: Resetting, port: int, name: str
) -> None:
    short = name.partition(".")[0]
    await resolved(in_cluster, short, port)
    answers = [await in_cluster.get("/", host=f"{short}.test") for _ in range(3)]
    assert [(answer.status, b"503 Service Temporarily Unavailable" in answer.body) for answer in answers] == [(503, True)] * 3
    stats = await in_cluster.envoy.stats(f"cluster.default/{short}/")
    assert stats[f"cluster.default/{short}/{port}@default/{short}.rbac.denied"] == 3
    assert stats.get(f"cluster.default/{short}/{port}@default/{short}.upstream_cx_total", 0) == 0
    assert hidden.hits == 0


async def test_one_bad_address_among_good_ones_refuses_its_share_and_is_never_connected(
    in_cluster: Site, hidden: Resetting, port: int
) -> None:
    await resolved(in_cluster, "mixed", port)
    assert {(await in_cluster.get("/", host="mixed.test")).status for _ in range(20)} == {200, 503}
    assert hidden.hits == 0


async def test_a_websocket_is_judged_as_any_request(in_cluster: Site, hidden: Resetting, port: int) -> None:
    await resolved(in_cluster, "loopback", port)
    async with await WebSocket.open(in_cluster.http, host="good.test") as websocket:
        assert await websocket.ask(b"x") == b"x"
    with pytest.raises(AssertionError, match="503"):
        await WebSocket.open(in_cluster.http, host="loopback.test")
    assert hidden.hits == 0


async def test_endpoints_that_are_written_by_hand_are_judged_before_envoy_hears_of_them(in_cluster: Site, port: int) -> None:
    assert (await in_cluster.envoy.clusters())["default/slices/80"] == [f"{EXCEPTED}:{port}"]
    assert {(await in_cluster.get("/", host="slices.test")).app for _ in range(4)} == {"good"}


async def test_only_clusters_of_names_pay_for_it(in_cluster: Site) -> None:
    dumped = (await in_cluster.envoy.config_dump())["ClustersConfigDump"]["dynamic_active_clusters"]
    filtered = {one["cluster"]["name"].split("/")[1] for one in dumped if "upstream_rbac" in str(one)}
    assert filtered == {name.partition(".")[0] for name in (*BAD, *GOOD)}
