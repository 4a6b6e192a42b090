"""What deploy/ has runs: an overlay, and the chart from its installation to its end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import NODE, SPACE, Cluster, Helm
from tests.deploy.test_docs import lines
from tests.envoy.harness import wait_until
from tests.envoy.harness.process import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="package")

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"


async def test_what_the_hostnetwork_overlay_makes_runs_and_its_nodes_become_the_status(cluster: Cluster) -> None:
    """Pods are admitted (Pod Security Standards of the namespace), the Job for certificates ends, and pods and nodes may be read."""
    await cluster.kubectl(f"apply -k {DEPLOY / 'overlays' / 'hostnetwork'}")
    try:
        await cluster.kubectl(f"rollout status deployment/xds -n {SPACE} --timeout=110s")
        await cluster.kubectl(f"rollout status daemonset/xds-envoy -n {SPACE} --timeout=110s")
        assert (await cluster.kube.get(f"daemonset xds-envoy -n {SPACE}"))["status"]["numberReady"] == 1
        (job,) = (await cluster.kube.get(f"jobs -n {SPACE}"))["items"]
        await cluster.kubectl(f"wait --for=condition=Complete job/{job['metadata']['name']} -n {SPACE} --timeout=110s")
        flags = [*await cluster.another_class("by-nodes"), "--publish-status-address="]
        await cluster.kubectl("create ingress by-nodes --class=by-nodes --rule=by-nodes.test/*=nobody:80")
        async with cluster.replica(*flags, *await arguments(cluster, "--envoy-pods=")):
            await cluster.until_address("by-nodes", NODE)
    finally:
        await cluster.kubectl(f"delete deployments,daemonsets,jobs,cronjobs,services,networkpolicies,pdb --all -n {SPACE}")
        await cluster.kubectl("delete validatingwebhookconfiguration xds")
        await cluster.kube.apply(*await cluster.deployed())


async def arguments(cluster: Cluster, beginning: str) -> list[str]:
    """Those of the deployed control plane that begin like this; one at least."""
    (container,) = (await cluster.kube.get(f"deployment xds -n {SPACE}"))["spec"]["template"]["spec"]["containers"]
    found = [each for each in container["args"] if each.startswith(beginning)]
    assert found
    return found


async def test_the_chart_is_installed_upgraded_rolled_back_and_leaves_nothing_behind(cluster: Cluster, helm: Helm, tmp_path: Path) -> None:
    """In a namespace of its own, beside what deploy/base made; an older version of the chart first."""
    values = "--set ingressClass.name=by-helm"
    everywhere = "get clusterroles,clusterrolebindings,ingressclasses -o name"
    before = await cluster.kubectl(everywhere)
    await helm(f"install ingress {older_chart(tmp_path)} -n by-helm --create-namespace {values} --wait --timeout 110s")
    assert (await deployment(cluster))["status"]["readyReplicas"] == 2
    first = image(await deployment(cluster))
    assert await cluster.kubectl(everywhere) != before
    await helm(f"upgrade ingress {CHART} -n by-helm {values} --set controlPlane.replicas=3 --wait --timeout 110s")
    assert (await deployment(cluster))["status"]["readyReplicas"] == 3
    assert image(await deployment(cluster)) != first
    await helm("rollback ingress 1 -n by-helm --wait --timeout 110s")
    assert (await deployment(cluster))["status"]["readyReplicas"] == 2
    assert image(await deployment(cluster)) == first
    await helm("uninstall ingress -n by-helm --wait --timeout 110s")
    kinds = "deployments,daemonsets,jobs,cronjobs,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,pdb"

    async def gone() -> bool:
        left = json.loads(await cluster.kubectl(f"get {kinds} -n by-helm -o json"))["items"]
        names = {f"{each['kind']}/{each['metadata']['name']}" for each in left}
        assert names <= {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}, names
        return True

    await wait_until(gone, "what the chart made to be gone")
    assert await cluster.kubectl(everywhere) == before


async def test_the_upgrade_that_operators_type_brings_values_that_the_older_chart_did_not_have(helm: Helm, tmp_path: Path) -> None:
    """And keeps those that were given: `--reuse-values` alone would take all others from the older chart, and templates find nothing."""
    (command,) = (line for line in lines(ROOT / "docs" / "operate.md") if re.fullmatch(r"helm upgrade xds deploy/chart [^=]*", line))
    try:
        await helm(f"install later {smaller_chart(tmp_path)} -n later --create-namespace --set ingressClass.name=later,mode=none")
        typed = command.removeprefix("helm ").replace("xds deploy/chart", f"later {CHART}").replace(SPACE, "later")
        await helm(typed)
        made = json.loads(await helm("get values later -n later --all -o json"))
        assert (made["ingressClass"]["name"], made["mode"]) == ("later", "none")
        assert made["metrics"]["port"] == 10254
    finally:
        await helm("uninstall later -n later --ignore-not-found")


async def deployment(cluster: Cluster) -> Any:
    """The control plane's Deployment."""
    (found,) = (await cluster.kube.get("deployments -n by-helm"))["items"]
    return found


def older_chart(folder: Path) -> Path:
    """The chart under an older version, with the images of that version."""
    copy = folder / "chart"
    shutil.copytree(CHART, copy)
    text = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(re.sub(r"(?m)^((?:appV|v)ersion:).*$", r"\1 0.0.1", text))
    return copy


def smaller_chart(folder: Path) -> Path:
    """An older chart, from a time when there were two values."""
    chart = folder / "smaller"
    (chart / "templates").mkdir(parents=True)
    shutil.copy(older_chart(folder) / "Chart.yaml", chart)
    (chart / "values.yaml").write_text("mode: hostnetwork\ningressClass: {name: nginx}\n")
    (chart / "templates" / "config.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: older}\ndata: {class: {{ .Values.ingressClass.name }}}\n"
    )
    return chart


def image(found: Any) -> str:
    """That of the control plane."""
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return str(container["image"])
