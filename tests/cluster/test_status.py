"""What people see of their Ingresses: an address, and Events."""

from __future__ import annotations

import json

import pytest

from tests.cluster.harness import NODE, Cluster
from tests.envoy.harness import wait_until

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="package")]


async def test_an_ingress_of_ours_shows_an_address_and_one_of_others_does_not(cluster: Cluster) -> None:
    await cluster.another_class("foreign")
    await cluster.kubectl("create ingress foreign --class=foreign --rule=shown.test/*=nobody:80")
    await cluster.kubectl("create ingress shown --class=nginx --rule=shown.test/*=nobody:80")
    await cluster.until_address("shown", NODE)
    assert await cluster.address("foreign") == ""
    writers = {each["user"]["username"] for each in cluster.kube.audit() if written(each, "foreign")}
    assert writers == {"admin"}


async def test_describe_shows_that_an_ingress_was_taken_over_and_what_has_no_effect(cluster: Cluster) -> None:
    annotation = "--annotation=nginx.ingress.kubernetes.io/proxy-connect-timeout=soon"
    await cluster.kubectl(f"create ingress described --class=nginx --rule=described.test/*=nobody:80 {annotation}")

    async def events() -> str:
        shown = (await cluster.kubectl("describe ingress described")).partition("Events:")[2]
        assert " Sync " in shown, shown
        assert "Warning" in shown, shown
        assert "proxy-connect-timeout" in shown, shown
        return shown

    assert "Normal" in await wait_until(events, "the Events")


async def test_an_address_stays_when_the_control_plane_ends(cluster: Cluster) -> None:
    await cluster.kubectl("create ingress staying --class=nginx --rule=staying.test/*=nobody:80")
    await cluster.until_address("staying", NODE)
    await cluster.control_plane.stop()
    try:
        assert await cluster.address("staying") == NODE
    finally:
        await cluster.control_plane.start()


async def test_an_address_is_taken_out_when_the_last_replica_ends_if_that_was_asked_for(cluster: Cluster) -> None:
    """Whether a replica is the last one is told by the pods, of which this process pretends to be one; that takes rights to read them."""
    await cluster.deploy("plane")
    (pod,) = (await cluster.kube.get("pods -l app=plane"))["items"]
    flags = [*await cluster.another_class("cleared"), "--kubeconfig", str(cluster.kube.kubeconfig), "--pod-namespace=default"]
    await cluster.kubectl("create ingress cleared --class=cleared --rule=cleared.test/*=nobody:80")
    async with cluster.replica(*flags, f"--pod-name={pod['metadata']['name']}", "--update-status-on-shutdown=true"):
        await cluster.until_address("cleared", NODE)
    assert await cluster.address("cleared") == ""


async def test_a_published_service_gives_its_address_and_another_one_when_that_changes(cluster: Cluster) -> None:
    flags = await cluster.another_class("published")
    await cluster.kubectl("create service loadbalancer published --tcp=80:80")
    await cluster.kubectl("create ingress published --class=published --rule=published.test/*=nobody:80")
    async with cluster.replica(*flags, "--publish-status-address=", "--publish-service=default/published"):
        for address in ("192.0.2.1", "192.0.2.2"):
            status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
            await cluster.kubectl(f"patch service published --subresource=status --type=merge -p '{status}'")
            await cluster.until_address("published", address)


def written(entry: dict[str, dict[str, str]], ingress: str) -> bool:
    """Whether a line of the audit log is about a write to this Ingress."""
    about = entry.get("objectRef", {})
    return about.get("resource") == "ingresses" and about.get("name") == ingress and str(entry["verb"]) not in ("get", "list", "watch")
