"""Objects that change while requests come: nobody loses one, no listener is touched, and what did not change goes on."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import (
    Site,
    Traffic,
    WebSocket,
    backend,
    endpoint_slice,
    ingress,
    ingress_class,
    service,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

APPS = ("one", "two", "three", "stable")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apps(shared_site: Site) -> dict[str, Address]:
    return {name: await shared_site.run(HttpApp(name)) for name in APPS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, apps: dict[str, Address]) -> Site:
    """One host that no test touches, and Services for the others."""
    for name, address in apps.items():
        shared_site.folder.write(f"app-{name}.yaml", *backend(name, address))
    shared_site.folder.write("stable.yaml", ingress("stable", "stable.test", {"/": ("stable", 80)}))
    await shared_site.start("--state-dir", str(shared_site.path / "state"))
    return shared_site


def pods(*ready: Address, leaving: tuple[Address, ...] = ()) -> list[dict[str, Any]]:
    """The EndpointSlices of the Service `rolling`."""
    running = [endpoint_slice("rolling", [address], name=f"rolling-{address[1]}") for address in ready]
    return running + [endpoint_slice("rolling", [address], name=f"rolling-{address[1]}", terminating=True) for address in leaving]


async def hosts_of(site: Site, cluster: str) -> list[str] | None:
    return (await site.envoy.clusters()).get(cluster)


async def until_hosts_are(site: Site, cluster: str, *addresses: Address) -> None:
    """Wait until Envoy knows these endpoints of a cluster, in any order."""
    wanted = sorted(f"{host}:{port}" for host, port in addresses)

    async def look() -> bool:
        return sorted(await hosts_of(site, cluster) or ()) == wanted

    await wait_until(look, f"{cluster} to have the endpoints {wanted}")


async def test_a_rolling_update_loses_no_request(site: Site) -> None:
    """New pods come, old ones terminate, are taken out and end: with a request under way in an old one, and a websocket to it."""
    old, new = HttpApp("old"), HttpApp("new")
    at_old, at_new = await old.start(), await site.run(new)
    site.folder.write("rolling.yaml", ingress("rolling", "rolling.test", {"/": ("rolling", 80)}), service("rolling"))
    site.folder.write("rolling-pods.yaml", *pods(at_old))
    await site.until_answered("/", "old", host="rolling.test")
    async with Traffic(site.http, host="rolling.test") as traffic, await WebSocket.open(site.http, host="rolling.test") as websocket:
        site.folder.write("rolling-pods.yaml", *pods(at_old, at_new))
        await until_hosts_are(site, "default/rolling/80", at_old, at_new)
        under_way = asyncio.create_task(site.get("/sleep/1", host="rolling.test"))
        other = asyncio.create_task(site.get("/sleep/1", host="rolling.test"))
        await traffic.flows()
        site.folder.write("rolling-pods.yaml", *pods(at_new, leaving=(at_old,)))
        await traffic.until_answered("new")
        assert await websocket.ask(b"still there") == b"still there"
        assert {(await under_way).status, (await other).status} == {200}
        site.folder.write("rolling-pods.yaml", *pods(at_new))
        await until_hosts_are(site, "default/rolling/80", at_new)
        await old.stop()
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "old"), (200, "new")}


async def test_while_all_pods_terminate_those_that_still_serve_answer(site: Site) -> None:
    """As when the only pod is evicted before there is another: no request is lost, and the old pod gets none once there is a new one."""
    going, coming = HttpApp("going"), HttpApp("coming")
    at_going, at_coming = await going.start(), await site.run(coming)
    site.folder.write("last.yaml", ingress("last", "last.test", {"/": ("rolling", 80)}), service("rolling"))
    site.folder.write("rolling-pods.yaml", *pods(at_going))
    await site.until_answered("/", "going", host="last.test")
    async with Traffic(site.http, host="last.test") as traffic, await WebSocket.open(site.http, host="last.test") as websocket:
        site.folder.write("rolling-pods.yaml", *pods(leaving=(at_going,)))
        site.folder.write("marker.yaml", ingress("marker", "marker.test", {"/": ("one", 80)}))
        await site.until_answered("/", "one", host="marker.test")
        await traffic.flows()
        site.folder.write("rolling-pods.yaml", *pods(at_coming, leaving=(at_going,)))
        await traffic.until_answered("coming")
        assert await websocket.ask(b"still there") == b"still there"
        site.folder.write("rolling-pods.yaml", *pods(at_coming))
        await until_hosts_are(site, "default/rolling/80", at_coming)
        await going.stop()
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "going"), (200, "coming")}
    for name in ("last.yaml", "marker.yaml", "rolling-pods.yaml"):
        site.folder.remove(name)
    await site.until_status("/", 404, host="last.test")


async def test_an_endpoint_that_is_taken_out_at_once_loses_no_request(site: Site) -> None:
    """What an API server without terminating endpoints shows: the address is replaced, and the old pod ends."""
    first, second = HttpApp("first"), HttpApp("second")
    at_first, at_second = await first.start(), await site.run(second)
    site.folder.write("swapped.yaml", ingress("swapped", "swapped.test", {"/": ("swapped", 80)}), *backend("swapped", at_first))
    await site.until_answered("/", "first", host="swapped.test")
    async with Traffic(site.http, host="swapped.test") as traffic:
        site.folder.write("swapped.yaml", ingress("swapped", "swapped.test", {"/": ("swapped", 80)}), *backend("swapped", at_second))
        await traffic.until_answered("second")
        await first.stop()
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "first"), (200, "second")}


async def test_a_route_that_is_pointed_elsewhere_and_back_loses_no_request(site: Site) -> None:
    """The new cluster is there with its endpoints before the route, and the old one goes after it (O2, O3)."""
    site.folder.write("moving.yaml", ingress("moving", "moving.test", {"/": ("moving-one", 80)}))
    addresses = {name: await site.run(HttpApp(name)) for name in ("moving-one", "moving-two")}
    for name, address in addresses.items():
        site.folder.write(f"{name}.yaml", *backend(name, address))
    await site.until_answered("/", "moving-one", host="moving.test")
    async with Traffic(site.http, host="moving.test") as traffic:
        for to, away in (("moving-two", "moving-one"), ("moving-one", "moving-two")) * 3:
            site.folder.write("moving.yaml", ingress("moving", "moving.test", {"/": (to, 80)}))
            await traffic.until_answered(to)

            async def gone(cluster: str = f"default/{away}/80") -> bool:
                return await hosts_of(site, cluster) is None

            await wait_until(gone, f"the cluster of {away} to go")
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "moving-one"), (200, "moving-two")}


async def test_a_policy_that_changes_the_cluster_loses_no_request(site: Site) -> None:
    """Another connect time-out is another cluster (section 5), which replaces the one in use."""
    site.folder.write("policy.yaml", ingress("policy", "policy.test", {"/": ("three", 80)}))
    await site.until_answered("/", "three", host="policy.test")
    async with Traffic(site.http, host="policy.test") as traffic:
        for timeout in (7, 8, 9):
            changed = ingress("policy", "policy.test", {"/": ("three", 80)}, {"proxy-connect-timeout": timeout})
            site.folder.write("policy.yaml", changed)

            async def replaced(expected: str = f"{timeout}s") -> bool:
                found = (await site.envoy.config_dump())["ClustersConfigDump"]["dynamic_active_clusters"]
                ours = [c["cluster"] for c in found if c["cluster"]["name"].startswith("default/three/80")]
                return [c["connect_timeout"] for c in ours] == [expected]

            await wait_until(replaced, f"the cluster with {timeout} s")
            await traffic.flows()
    assert traffic.answers().keys() == {(200, "three")}


async def test_a_service_without_endpoints_answers_503_and_comes_back(site: Site, apps: dict[str, Address]) -> None:
    site.folder.write("empty.yaml", ingress("empty", "empty.test", {"/": ("empty", 80), "/stable": ("stable", 80)}), service("empty"))
    site.folder.write("empty-pods.yaml", endpoint_slice("empty", [apps["one"]]))
    await site.until_answered("/", "one", host="empty.test")
    for _ in range(2):
        site.folder.write("empty-pods.yaml", endpoint_slice("empty", [apps["one"]], ready=False))
        await site.until_status("/", 503, host="empty.test")
        assert (await site.get("/stable", host="empty.test")).app == "stable"
        site.folder.write("empty-pods.yaml", endpoint_slice("empty", [apps["two"]]))
        await site.until_answered("/", "two", host="empty.test")
    site.folder.remove("empty-pods.yaml")
    await site.until_status("/", 503, host="empty.test")
    site.folder.remove("empty.yaml")
    await site.until_status("/stable", 404, host="empty.test")


async def test_hosts_and_paths_come_and_go_beside_one_that_stays(site: Site) -> None:
    async with Traffic(site.http, host="stable.test", clients=2) as traffic:
        for turn in range(3):
            assert (await site.get("/", host="guest.test")).status == 404
            site.folder.write("guest.yaml", ingress("guest", "guest.test", {"/": ("one", 80)}))
            await site.until_answered("/path", "one", host="guest.test")
            site.folder.write("guest.yaml", ingress("guest", "guest.test", {"/": ("one", 80), "/path": ("two", 80)}))
            await site.until_answered("/path", "two", host="guest.test")
            assert (await site.get("/", host="guest.test")).app == "one", turn
            site.folder.remove("guest.yaml")
            await site.until_status("/path", 404, host="guest.test")
    assert traffic.answers().keys() == {(200, "stable")}


async def test_an_older_ingress_takes_a_path_over_and_gives_it_back(site: Site) -> None:
    site.folder.write("young.yaml", ingress("young", "claimed.test", {"/": ("one", 80)}, created="2025-01-01T00:00:00Z"))
    await site.until_answered("/", "one", host="claimed.test")
    async with Traffic(site.http, host="claimed.test") as traffic:
        site.folder.write("old.yaml", ingress("old", "claimed.test", {"/": ("two", 80)}, created="2024-01-01T00:00:00Z"))
        await traffic.until_answered("two")
        site.folder.remove("old.yaml")
        await traffic.until_answered("one")
    assert traffic.answers().keys() == {(200, "one"), (200, "two")}


async def test_the_catch_all_appears_and_disappears(site: Site) -> None:
    site.folder.write("catch-all.yaml", ingress("catch-all", "", {}, default=("one", 80)))
    await site.until_answered("/anything", "one", host="whoever.test")
    assert (await site.get("/", host="stable.test")).app == "stable"
    site.folder.remove("catch-all.yaml")
    await site.until_status("/anything", 404, host="whoever.test")


async def test_an_ingress_appears_and_disappears_with_its_class(site: Site) -> None:
    """At once, where ingress-nginx would wait for the Ingress itself to change (nginx 4.8)."""

    def of_class(name: str) -> None:
        site.folder.write("classed.yaml", ingress("classed", "classed.test", {"/": ("one", 80)}, ingress_class=name))

    of_class("later")
    site.folder.write("marker.yaml", ingress("marker", "marker.test", {"/": ("one", 80)}))
    await site.until_answered("/", "one", host="marker.test")
    assert (await site.get("/", host="classed.test")).status == 404
    site.folder.write("class.yaml", ingress_class("later"))
    await site.until_answered("/", "one", host="classed.test")
    site.folder.write("class.yaml", ingress_class("later", "example.test/other"))
    await site.until_status("/", 404, host="classed.test")
    of_class("nginx")
    await site.until_answered("/", "one", host="classed.test")
    of_class("later")
    await site.until_status("/", 404, host="classed.test")
    site.folder.write("class.yaml", ingress_class("later"))
    await site.until_answered("/", "one", host="classed.test")
    site.folder.remove("class.yaml")
    await site.until_status("/", 404, host="classed.test")


@pytest.mark.parametrize(
    "broken", ["kind: [", "", "kind: Ingress\nmetadata: nonsense\n", "\0\1\2"], ids=["yaml", "empty", "shape", "binary"]
)
async def test_a_file_that_is_broken_for_a_while_breaks_no_other(site: Site, broken: str) -> None:
    whole = ingress("fragile", "fragile.test", {"/": ("one", 80)})
    site.folder.write("fragile.yaml", whole)
    await site.until_answered("/", "one", host="fragile.test")
    async with Traffic(site.http, host="stable.test", clients=2) as traffic:
        site.folder.write_text("fragile.yaml", broken)
        site.folder.write("after.yaml", ingress("after", "after.test", {"/": ("two", 80)}))
        await site.until_answered("/", "two", host="after.test")
        site.folder.write("fragile.yaml", whole)
        await site.until_answered("/", "one", host="fragile.test")
        site.folder.remove("after.yaml")
        await site.until_status("/", 404, host="after.test")
    assert traffic.answers().keys() == {(200, "stable")}


async def test_what_a_file_held_before_it_became_unreadable_is_served_on(site: Site) -> None:
    site.folder.write("kept.yaml", ingress("kept", "kept.test", {"/": ("one", 80)}))
    await site.until_answered("/", "one", host="kept.test")
    async with Traffic(site.http, host="kept.test", clients=2) as traffic:
        site.folder.write_text("kept.yaml", "kind: [")
        await site.control_plane.process.line("kept.yaml")
        await traffic.flows()
        site.folder.write("kept.yaml", ingress("kept", "kept.test", {"/": ("two", 80)}))
        await traffic.until_answered("two")
    assert traffic.answers().keys() == {(200, "one"), (200, "two")}


async def test_an_object_that_envoy_could_not_take_concerns_nobody_else(site: Site) -> None:
    """Hosts, paths, ports and addresses beyond reason, all in one file with a good one."""
    site.folder.write(
        "unreasonable.yaml",
        ingress("bad-host", "exa mple.test", {"/": ("one", 80)}),
        ingress("bad-wildcard", "a.*.test", {"/": ("one", 80)}),
        ingress("bad-path", "unreasonable.test", {"no-slash": ("one", 80), "/\x01": ("one", 80), "/" + "x" * 5000: ("one", 80)}),
        ingress("bad-regex", "bad-regex.test", {"/(?!x)": ("one", 80), "/good": ("one", 80)}, {"use-regex": "true"}),
        ingress("good", "unreasonable.test", {"/good": ("one", 80), "/bad-address": ("bad-address", 80)}),
        service("bad-address"),
        endpoint_slice("bad-address", [("not-an-address", 80)], name="bad-address-1"),
        endpoint_slice("bad-address", [("127.0.0.1", 99999)], name="bad-address-2"),
    )
    await site.until_answered("/good", "one", host="unreasonable.test")
    assert (await site.get("/bad-address", host="unreasonable.test")).status == 503
    assert (await site.get("/good", host="bad-regex.test")).app == "one"
    site.folder.remove("unreasonable.yaml")
    await site.until_status("/good", 404, host="unreasonable.test")


async def test_an_edit_that_is_refused_loses_no_request_nor_does_a_restart_on_it(site: Site) -> None:
    """As in ingress-nginx the last valid form stays; unlike there also over a restart. What the edit would have protected is closed."""

    def write(annotations: dict[str, str], app: str) -> None:
        prefixed = {f"nginx.ingress.kubernetes.io/{name}": text for name, text in annotations.items()}
        site.folder.write("edited.yaml", ingress("edited", "edited.test", {"/": (app, 80)}, annotations=prefixed))

    async def until_logged(words: str, count: int = 1) -> None:
        async def look() -> bool:
            return sum("Ingress default/edited" in line and words in line for line in site.control_plane.process.stderr) >= count

        await wait_until(look, words)

    write({}, "one")
    await site.until_answered("/", "one", host="edited.test")
    async with Traffic(site.http, host="edited.test") as traffic:
        write({"connection-proxy-header": "upgrade"}, "two")
        await until_logged("what was valid before stays in effect")
        await traffic.flows()
        await site.control_plane.kill()
        await site.control_plane.start()
        await until_logged("what was valid before stays in effect", 2)
        await traffic.flows()
        write({"connection-proxy-header": "close"}, "two")
        await traffic.until_answered("two")
        write({"permanent-redirect": "no address"}, "one")
        await until_logged("permanent-redirect is 'no address'")
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "one"), (200, "two")}
    write({"permanent-redirect": "no address", "denylist-source-range": "192.0.2.0/24"}, "two")
    await site.until_status("/", 503, host="edited.test")
    write({"permanent-redirect": "no address"}, "one")
    await site.until_answered("/", "two", host="edited.test")
    site.folder.remove("edited.yaml")
    await site.until_status("/", 404, host="edited.test")


async def test_a_killed_control_plane_and_its_successor_are_not_noticed(site: Site) -> None:
    """Envoy keeps what it has; a new process over the same objects says the same, byte for byte, so nothing changes (L6, V3)."""
    site.folder.write("survivor.yaml", ingress("survivor", "survivor.test", {"/": ("two", 80)}))
    await site.until_answered("/", "two", host="survivor.test")
    before = await site.envoy.versions()
    assert before["secret"]
    async with Traffic(site.http, host="survivor.test") as traffic, await WebSocket.open(site.http, host="survivor.test") as websocket:
        assert await site.control_plane.kill() == -signal.SIGKILL
        await traffic.flows()
        await site.control_plane.start()

        async def connected() -> bool:
            return (await site.envoy.stats("^control_plane.connected_state$"))["control_plane.connected_state"] == 1

        await wait_until(connected, "Envoy to ask the new process")
        assert await site.envoy.versions() == before
        site.folder.write("survivor.yaml", ingress("survivor", "survivor.test", {"/": ("one", 80)}))
        await traffic.until_answered("one")
        assert await websocket.ask(b"still there") == b"still there"
    assert traffic.answers().keys() == {(200, "two"), (200, "one")}
    after = await site.envoy.versions()
    assert {kind: after[kind] for kind in ("listener", "secret")} == {kind: before[kind] for kind in ("listener", "secret")}
