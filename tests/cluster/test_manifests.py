"""What deploy/ has is valid to a real API server: every overlay, and the chart with the values that people choose."""

from __future__ import annotations

import pytest

from tests import quick_yaml
from tests.cluster.harness import Cluster, Helm
from tests.envoy.harness.process import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="package")

PODS = False
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
OVERLAYS = sorted(each.name for each in (DEPLOY / "overlays").iterdir())
VALUES = (
    "",
    "--set mode=loadbalancer",
    "--set mode=nodeport --set envoy.service.nodePorts.http=0",
    "--set mode=none",
    "--set certgen.enabled=false --set networkPolicy.enabled=false --set podDisruptionBudget.enabled=false",
    "--set ingressClass.create=false --set controlPlane.replicas=1 --set nameOverride=other",
    "--set-string config.proxy-body-size=8m --set-string tcp.9000=default/lines:80 --set-string udp.53=default/dns:53",
    "--set-json 'controlPlane.extraArgs=[\"--default-ssl-certificate=default/wildcard\"]' --set ingressClass.default=true",
)


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_an_overlay_is_valid(cluster: Cluster, overlay: str) -> None:
    """Strictly (no unknown field) and without a warning. The namespace is made, for its labels say which pods it takes."""
    made = await cluster.kubectl(f"kustomize {DEPLOY / 'overlays' / overlay}")
    objects = [*quick_yaml.safe_load_all(made)]
    await cluster.kube.apply(*(each for each in objects if each["kind"] == "Namespace"))
    applied = await cluster.kubectl("apply --dry-run=server --validate=strict --warnings-as-errors -f -", stdin=made)
    assert len(applied.splitlines()) == len(objects)


@pytest.mark.parametrize("values", VALUES, ids=lambda values: values or "defaults")
async def test_the_chart_is_valid_with_values(cluster: Cluster, helm: Helm, values: str) -> None:
    await helm(f"lint --strict {CHART} {values}")
    made = await helm(f"template chart {CHART} -n default {values}")
    await cluster.kubectl("apply --dry-run=server --validate=strict --warnings-as-errors -f -", stdin=made)
