"""Which statistics an Envoy has of what the control plane sends it."""

from __future__ import annotations

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, ingress, wait_until

pytestmark = pytest.mark.envoy

_CLUSTER = "cluster.default/app/80."


async def test_a_cluster_has_few_statistics_before_its_first_request_and_those_of_traffic_after_it(site: Site) -> None:
    """Each takes a quarter of a kilobyte, and most clusters of an ingress have no traffic most of the time."""
    site.folder.write("app.yaml", *backend("app", await site.run(HttpApp("app"))), ingress("app", "app.test", {"/": ("app", 80)}))
    await site.start()

    async def found() -> dict[str, int]:
        return {name.removeprefix(_CLUSTER): value for name, value in (await site.envoy.stats(f"^{_CLUSTER}")).items()}

    before = await found()
    assert set(before) == {"max_host_weight", "membership_change", "membership_healthy", "membership_total"}
    assert before["membership_healthy"] == 1
    await site.until_answered("/", "app", host="app.test")

    async def counted() -> bool:
        return (await found()).get("upstream_rq_200") == 1

    await wait_until(counted, "the request to be counted")
    after = await found()
    assert {"upstream_rq_total", "upstream_cx_active", "upstream_cx_connect_fail", "upstream_rq_timeout"} < after.keys()
    assert not any(name.startswith(("lb_", "circuit_breakers", "update_")) for name in after)
    own = await site.envoy.stats("^cluster.xds_cluster.")
    assert own["cluster.xds_cluster.upstream_cx_active"] == 1
    assert "cluster.xds_cluster.update_success" in own
