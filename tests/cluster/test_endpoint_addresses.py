"""Addresses that nothing is sent to: what the API server takes from people, and where our own pods are."""

from __future__ import annotations

import pytest

from tests.cluster.harness import SPACE, Cluster
from tests.envoy.harness import endpoint_slice, ingress, service, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]


async def said(cluster: Cluster, *words: str) -> None:
    """Wait until the control plane has said a sentence with all of these."""

    async def look() -> bool:
        return any(all(word in line for word in words) for line in cluster.control_plane.process.stderr)

    await wait_until(look, f"a line with {words}")


async def test_a_pod_behind_a_service_of_our_own_namespace_is_no_backend_at_a_port_of_ours(cluster: Cluster) -> None:
    """The pod stands for one of the control plane, which runs beside the cluster here; it is one from when a slice says so."""
    number = cluster.control_plane.xds[1]
    await cluster.deploy("stand-in", port=number)
    await cluster.kubectl("create ingress stand-in --class=nginx --rule=stand-in.test/*=stand-in:80")
    await cluster.until_answered("stand-in", host="stand-in.test")
    (pod,) = await cluster.pod_addresses("stand-in")
    xds = service("xds", number, namespace=SPACE), endpoint_slice("xds", [(pod, number)], namespace=SPACE)
    await cluster.kube.apply(*xds)
    await said(cluster, "EndpointSlice default/stand-in-", "this program or its Envoy itself listens (--xds-address)")
    await cluster.until_status(503, host="stand-in.test")
    own = (await cluster.kube.get(f"service xds -n {SPACE}"))["spec"]["clusterIP"]
    named = ingress("by-service", "by-service.test", {"/": ("by-service", 80)})
    await cluster.kube.apply(service("by-service"), endpoint_slice("by-service", [(own, number)]), named)
    await said(cluster, "EndpointSlice default/by-service-1", "(--xds-address)")
    await cluster.until_status(503, host="by-service.test")
    await cluster.kubectl(f"delete endpointslice xds-1 -n {SPACE}")
    await cluster.until_answered("stand-in", host="stand-in.test")
    await cluster.kubectl(f"delete service xds -n {SPACE}")


@pytest.mark.parametrize(("name", "host"), [("here", "localhost"), ("metadata", "169.254.169.254")])
async def test_an_external_name_that_the_api_server_takes_is_refused_for_where_it_leads(cluster: Cluster, name: str, host: str) -> None:
    outside = f"outside-{name}"
    await cluster.kube.apply(service(outside, 80, external_name=host), ingress(outside, f"{outside}.test", {"/": (outside, 80)}))
    await said(cluster, f"Service default/{outside} spec.externalName", "which no endpoint may be")
    await cluster.until_status(503, host=f"{outside}.test")
