"""What plays the kubelets goes on where the API server refuses something: else whichever tests come next have no pods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.harness import Cluster
from tests.envoy.harness import wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

BARRED = "request.namespace == 'default' && request.name.startsWith('barred')"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/binding"]}
API_VERSION = "admissionregistration.k8s.io/v1"
POLICY: list[dict[str, Any]] = [
    {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "barred"},
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "matchConditions": [{"name": "barred", "expression": BARRED}],
            "validations": [{"expression": "false", "message": "barred by a test"}],
        },
    },
    {
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "barred"},
        "spec": {"policyName": "barred", "validationActions": ["Deny"]},
    },
]
"""The API server gives no pod a node whose name begins with "barred"."""


async def test_a_pod_that_the_api_server_refuses_is_in_nobodys_way_and_runs_once_it_may(cluster: Cluster) -> None:
    await cluster.kube.apply(*POLICY)
    try:
        await cluster.kubectl("create deployment barred --image=apps/http --port=8080")

        async def refused() -> bool:
            return "barred by a test" in cluster.pods.report()

        async def another() -> bool:
            """The policy takes a moment to have an effect; until then pods get their nodes."""
            await cluster.kubectl("delete pods -l app=barred --wait=false")
            return await refused()

        await wait_until(another, "a pod to be refused")
        await cluster.deploy("allowed")
    finally:
        await cluster.kubectl("delete validatingadmissionpolicy,validatingadmissionpolicybinding barred")
    await cluster.kubectl("rollout status deployment barred --timeout=110s")
    await cluster.kubectl("delete service,deployment allowed")
    await cluster.kubectl("delete deployment barred")
