"""Several replicas of the control plane, and who is let in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.cluster.harness import NODE, SPACE, Cluster
from tests.envoy.harness import Envoy, Tls, make_certificate, run, wait_until
from tests.envoy.harness.control_plane import XDS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]


async def test_an_envoy_of_another_replica_holds_the_same_versions(cluster: Cluster, tmp_path: Path) -> None:
    """The generated certificate included. Both Envoys are new: one that took a filter chain in goes on telling the old version."""
    await cluster.deploy("copied")
    certificate = make_certificate(["copied.test"])
    (tmp_path / "tls.crt").write_bytes(certificate.cert_pem)
    (tmp_path / "tls.key").write_bytes(certificate.key_pem)
    await cluster.kubectl(f"create secret tls copied --cert={tmp_path}/tls.crt --key={tmp_path}/tls.key")
    await cluster.kubectl("create ingress copied --class=nginx --rule=copied.test/*=copied:80,tls=copied")
    await cluster.until_answered("copied", host="copied.test", tls=Tls(sni="copied.test"))
    async with (
        cluster.replica() as other,
        cluster.another_envoy(await cluster.control_plane.bootstrap("envoy-2")) as ours,
        cluster.another_envoy(await other.bootstrap("envoy-3")) as theirs,
    ):

        async def alike() -> bool:
            held = await ours.versions()
            assert held == await theirs.versions()
            assert "default/copied" in held["secret"]
            assert "default/copied/80" in held["cluster"]
            return True

        await wait_until(alike, "both Envoys to hold the same")


async def test_a_refused_edit_leaves_what_was_valid_on_the_envoys_of_every_replica_also_of_one_that_comes_later(cluster: Cluster) -> None:
    """The last valid form is in the record that replicas share. The Event says so; another object of the name is left out."""
    await cluster.deploy("edited")
    create = "create ingress edited --class=nginx --rule=edited.test/*=edited:80"
    refused = "nginx.ingress.kubernetes.io/connection-proxy-header=upgrade"
    await cluster.kubectl(create)
    await cluster.until_answered("edited", host="edited.test")
    async with cluster.another_envoy(await cluster.control_plane.bootstrap("envoy-2")) as ours:
        before = await ours.versions()
        await cluster.kubectl(f"annotate ingress edited {refused}")

        async def said() -> bool:
            shown = (await cluster.kubectl("describe ingress edited")).partition("Events:")[2]
            return "what was valid before stays in effect" in " ".join(shown.split())

        await wait_until(said, "the Event")
        assert await ours.versions() == before
        async with cluster.replica() as other, cluster.another_envoy(await other.bootstrap("envoy-3")) as theirs:

            async def alike() -> bool:
                held = await theirs.versions()
                assert "default/edited/80" in held["cluster"]
                assert held == await ours.versions()
                return True

            await wait_until(alike, "the Envoy of the later replica to hold the same")
        await cluster.kubectl("delete ingress edited")
        await cluster.kubectl(f"{create} --annotation={refused}")

        async def gone() -> bool:
            return "default/edited/80" not in (await ours.versions())["cluster"]

        await wait_until(gone, "the other Ingress of that name to be left out")
    await cluster.kubectl("delete ingress edited")


async def test_a_leader_that_is_killed_is_replaced_and_the_next_one_writes_status(cluster: Cluster) -> None:
    """Its lease lasts longer than a busy machine may keep it from renewing it."""
    flags = [*await cluster.another_class("elected"), "--election-ttl", "12s"]
    async with cluster.replica(*flags) as first:
        await first.process.line("leader:")
        async with cluster.replica(*flags) as second:
            await cluster.kubectl("create ingress elected-1 --class=elected --rule=elected.test/*=nobody:80")
            await cluster.until_address("elected-1", NODE)
            assert not [line for line in second.process.stderr if "leader:" in line]
            await first.kill()
            await cluster.kubectl("create ingress elected-2 --class=elected --rule=elected.test/*=nobody:80")
            await cluster.until_address("elected-2", NODE)
            holder = (await cluster.kube.get(f"lease leader-elected -n {SPACE}"))["spec"]["holderIdentity"]
            assert holder in await second.process.line("leader:")


async def test_the_certificates_that_certgen_makes_let_an_envoy_in_and_nobody_without(cluster: Cluster, tmp_path: Path) -> None:
    """As the Job of deploy/base makes them, with its rights: three Secrets, which stay as they are when it runs again."""
    kubeconfig = await cluster.account("xds-certgen")
    seen = []
    for _ in range(2):
        code, _, err = await run([*XDS, "certgen", "--kubeconfig", str(kubeconfig), "--secrets-namespace", SPACE])
        assert code == 0, err
        made = await cluster.kube.get(f"secrets -n {SPACE} xds-ca xds-server xds-client")
        seen.append([each["metadata"]["resourceVersion"] for each in made["items"]])
    assert seen[0] == seen[1]
    server, client = [await tls_flags(cluster, name, tmp_path) for name in ("xds-server", "xds-client")]
    async with cluster.replica(*server, "--xds-client-names", "xds-envoy") as guarded:
        address = "{}:{}".format(*guarded.xds)
        asked = ["--xds-address", address, "--node-id", "envoy-3", "--admin-address", "127.0.0.1:9901"]
        code, bootstrap, err = await run([*XDS, "bootstrap", *asked, *client, "--xds-server-name", "xds"])
        assert code == 0, err
        async with cluster.another_envoy(bootstrap) as envoy:
            assert (await envoy.listeners()).keys() == {"http", "https"}
        code, bare, err = await run([*XDS, "bootstrap", *asked])
        assert code == 0, err
        stranger = Envoy(bare, cluster.folder, cluster.ports)
        try:
            await stranger.start(ready=False)

            async def refused() -> bool:
                return (await stranger.stats("^cluster.xds_cluster"))["cluster.xds_cluster.upstream_cx_destroy"] > 0

            await wait_until(refused, "an Envoy without a certificate to be refused")
            assert not await stranger.listeners()
        finally:
            await stranger.stop()


async def tls_flags(cluster: Cluster, name: str, folder: Path) -> list[str]:
    """Write the files of a Secret, as a volume would, and return the flags that name them."""
    secret = await cluster.kube.get(f"secret -n {SPACE} {name}")
    flags = []
    for flag, key in (("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt")):
        file = folder / f"{name}-{key}"
        file.write_bytes(base64.b64decode(secret["data"][key]))
        flags += [f"--xds-tls-{flag}", str(file)]
    return flags
