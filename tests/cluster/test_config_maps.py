"""ConfigMaps that annotations name, as people change them with kubectl: what Envoy answers follows."""

from __future__ import annotations

import json

import pytest

from tests.cluster.harness import SPACE, Cluster
from tests.envoy.harness import Response, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

HOST = "headed.test"


async def allow(cluster: Cluster, **data: str | None) -> None:
    """Change keys of the ConfigMap of the controller; None takes one away."""
    patch = json.dumps({"data": {name.replace("_", "-"): value for name, value in data.items()}})
    await cluster.kubectl(f"patch configmap xds-config -n {SPACE} --type=merge -p='{patch}'")


async def until_header(cluster: Cluster, value: str) -> None:
    async def look() -> Response:
        response = await cluster.get("/", host=HOST)
        assert (response.status, response.header("X-Team")) == (200, value)
        return response

    await wait_until(look, f"X-Team: {value}")


async def test_headers_follow_the_config_map_that_is_named(cluster: Cluster) -> None:
    await cluster.deploy("headed")
    await allow(cluster, global_allowed_response_headers="X-Team")
    await cluster.kubectl("create namespace elsewhere")
    await cluster.kubectl("create configmap headers --from-literal=X-Team=first")
    await cluster.kubectl("create configmap headers -n elsewhere --from-literal=X-Team=elsewhere")
    named = "nginx.ingress.kubernetes.io/custom-headers"
    try:
        await cluster.kubectl(f"create ingress headed --class=nginx --rule={HOST}/*=headed:80 --annotation={named}=default/headers")
        await until_header(cluster, "first")
        await cluster.kubectl("""patch configmap headers --type=merge -p='{"data": {"X-Team": "second"}}'""")
        await until_header(cluster, "second")
        await cluster.kubectl("delete configmap headers")
        await cluster.until_status(503, host=HOST)
        await cluster.kubectl("create configmap headers --from-literal=X-Team=third")
        await until_header(cluster, "third")
        await cluster.kubectl(f"annotate ingress headed --overwrite {named}=elsewhere/headers")
        await cluster.until_status(503, host=HOST)
        await allow(cluster, allow_cross_namespace_resources="true")
        await until_header(cluster, "elsewhere")
    finally:
        await allow(cluster, global_allowed_response_headers=None, allow_cross_namespace_resources=None)
        await cluster.kubectl("delete ingress headed")
        await cluster.kubectl("delete configmap headers --ignore-not-found")
        await cluster.kubectl("delete namespace elsewhere --wait=false")
