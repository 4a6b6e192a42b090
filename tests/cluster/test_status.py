"""What people see of their Ingresses: an address, and Events."""

from __future__ import annotations

import json

import pytest

from tests.cluster.harness import NODE, SPACE, Cluster, complaints, role_for
from tests.envoy.harness import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


@pytest.mark.parametrize("may_list_pods", [True, False], ids=["with the right", "without the right"])
async def test_an_address_is_taken_out_when_the_last_replica_ends_if_that_was_asked_for_and_is_allowed(
    cluster: Cluster, may_list_pods: bool
) -> None:
    """Whether a replica is the last one is told by the pods, of which this process pretends to be one.

    The right is what `controlPlane.updateStatusOnShutdown` of the chart adds, and the patch in docs/install.md.
    """
    name = f"cleared-{may_list_pods}".lower()
    await cluster.deploy(name)
    (pod,) = (await cluster.kube.get(f"pods -l app={name}"))["items"]
    flags = [*await cluster.another_class(name), "--pod-namespace=default", f"--pod-name={pod['metadata']['name']}"]
    await cluster.kubectl(f"create serviceaccount {name} -n {SPACE}")
    added = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}] if may_list_pods else []
    roles = await cluster.roles()
    at_home = [role | {"rules": role["rules"] + added} for role in roles if role["kind"] == "Role"]
    await cluster.kube.apply(*role_for(name, f"leader-{name}", roles), *role_for(name, f"leader-{name}", at_home, home="default"))
    flags += ["--kubeconfig", str(await cluster.account(name))]
    await cluster.kubectl(f"create ingress {name} --class={name} --rule=cleared.test/*=nobody:80")
    async with cluster.replica(*flags, "--update-status-on-shutdown=true") as replica:
        await cluster.until_address(name, NODE)
    assert await cluster.address(name) == ("" if may_list_pods else NODE)
    assert may_list_pods is not any('"list" on pods' in each for each in complaints(replica.process))


async def test_a_published_service_outside_of_the_watched_namespace_gives_its_address_with_the_deployed_rights(cluster: Cluster) -> None:
    flags = [*await cluster.another_class("outside"), "--watch-namespace=default"]
    await cluster.kubectl("create namespace edge")
    await cluster.kubectl("create service externalname outside -n edge --external-name=edge.example.com")
    await cluster.kubectl("create ingress outside --class=outside --rule=outside.test/*=nobody:80")
    async with cluster.replica(*flags, "--publish-status-address=", "--publish-service=edge/outside") as replica:
        await cluster.until_address("outside", "edge.example.com")
    assert complaints(replica.process) == []


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
