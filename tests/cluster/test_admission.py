"""The validating webhook, asked by a real API server, with the certificate and the authority that certgen has made."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.harness import SPACE, Cluster
from tests.envoy.harness import run, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="package")

PORT = 8443
NAME = "xds"  # the rights of certgen are for the configuration of this name
CLASS = "admitted"
CONFIGURATION = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": NAME},
    "webhooks": [
        {
            "name": "validate.ingresses.example.test",
            "clientConfig": {"url": f"https://localhost:{PORT}/networking/v1/ingresses"},
            "rules": [
                {
                    "apiGroups": ["networking.k8s.io"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["ingresses"],
                }
            ],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
    ],
}


async def certgen(cluster: Cluster) -> str:
    """Run it with the rights that it has where it is deployed; returns what it prints."""
    account = str(await cluster.account("xds-certgen"))
    flags = ["--secrets-namespace", SPACE, "--xds-server-names", "localhost", "--webhook-configuration", NAME]
    code, out, err = await run([sys.executable, "-m", "xds", "certgen", "--kubeconfig", account, *flags])
    assert code == 0, err
    return out


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def flags(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[str]]:
    """Those of a replica that is asked. The API server asks nobody any more when the tests in here have ended."""
    folder: Path = tmp_path_factory.mktemp("webhook")
    await cluster.kube.apply(CONFIGURATION)
    assert f"ValidatingWebhookConfiguration {NAME} has the authority of the certificate." in await certgen(cluster)
    data = (await cluster.kube.get(f"secret xds-server -n {SPACE}"))["data"]
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes(base64.b64decode(data[name]))
    files = [f"--validating-webhook-certificate={folder}/tls.crt", f"--validating-webhook-key={folder}/tls.key"]
    try:
        yield [*await cluster.another_class(CLASS), f"--validating-webhook=localhost:{PORT}", *files]
    finally:
        await cluster.kubectl(f"delete validatingwebhookconfiguration {NAME}")
        await cluster.kubectl(f"delete secrets xds-ca xds-server xds-client -n {SPACE}")


async def until_refused(cluster: Cluster, command: str, why: str) -> None:
    """Wait until a command is refused: the API server learns of the webhook, and the replica of the last object, a moment after kubectl."""

    async def refused() -> bool:
        try:
            await cluster.kubectl(f"{command} --dry-run=server")
        except AssertionError as error:
            return re.search(why, str(error)) is not None
        return False

    await wait_until(refused, f"`{command}` to be refused")
    with pytest.raises(AssertionError, match=why):
        await cluster.kubectl(command)


def create(name: str, *more: str) -> str:
    return " ".join((f"create ingress {name} --class={CLASS} --rule={name}.test/*=nobody:80", *more))


async def test_what_can_only_be_an_error_is_refused_and_all_else_is_stored(cluster: Cluster, flags: list[str]) -> None:
    async with cluster.replica(*flags):
        await cluster.kubectl(create("fine"))
        taken = r"already belongs to Ingress default/(fine|late) .*which comes first"
        await until_refused(cluster, create("late", "--rule=fine.test/*=nobody:80"), taken)
        bad = create("bad", "--annotation=nginx.ingress.kubernetes.io/load-balance=nope")
        await until_refused(cluster, bad, r"load-balance is 'nope'.*the Ingress is left out")
        with pytest.raises(AssertionError, match="load-balance is 'nope'"):
            await cluster.kubectl("annotate ingress fine nginx.ingress.kubernetes.io/load-balance=nope")
        await cluster.kubectl("label ingress fine team=web")
        await cluster.kubectl("create ingress others --class=nginx --rule=fine.test/*=nobody:80")
        found = json.loads(await cluster.kubectl("get ingresses -o json"))["items"]
        assert {"fine", "others"} == {item["metadata"]["name"] for item in found} & {"fine", "late", "bad", "others"}
        await cluster.kubectl("delete ingress fine others")


async def test_what_the_api_server_names_is_judged_and_a_trial_as_well(cluster: Cluster, flags: list[str]) -> None:
    """The API server asks when it has made the name, and it asks about what is not to be stored (`--dry-run=server`)."""
    async with cluster.replica(*flags):
        await cluster.kubectl(create("first"))
        found = await cluster.kube.get("ingress first")
        unnamed = {**found, "metadata": {"generateName": "made-", "namespace": "default"}, "status": None}
        for options in ("", " --dry-run=server"):
            with pytest.raises(AssertionError, match="already belongs to Ingress default/"):
                await cluster.kube.kubectl(f"create -f -{options}", stdin=json.dumps(unnamed))
        await cluster.kubectl(create("tried", "--dry-run=server"))
        await cluster.kubectl("delete ingress first")


async def test_certgen_finds_nothing_to_do_the_second_time(cluster: Cluster, flags: list[str]) -> None:
    assert f"ValidatingWebhookConfiguration {NAME} is up to date." in await certgen(cluster)


async def test_without_a_control_plane_the_failure_policy_decides(cluster: Cluster, flags: list[str]) -> None:
    await until_refused(cluster, create("unseen"), "failed calling webhook")
    policy = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}])
    await cluster.kubectl(f"patch validatingwebhookconfiguration {NAME} --type=json -p '{policy}'")

    async def stored() -> bool:
        """The API server learns of the policy a moment after it has stored it."""
        await cluster.kubectl(create("unseen"))
        return True

    await wait_until(stored, "the Ingress to be stored")
    await cluster.kubectl("delete ingress unseen")
