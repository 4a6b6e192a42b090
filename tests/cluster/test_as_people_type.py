"""What people do with kubectl, and what Envoy answers then."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import Address
from tests.cluster.harness import HTTP, HTTPS, NODE, SPACE, Cluster
from tests.envoy.harness import Certificate, Http1, Tcp, Tls, Traffic, Udp, disturbances, fetch, make_certificate, run, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

PRE_STOP = 15
"""Seconds that pods go on serving after they were deleted: far longer than it takes until Envoy knows."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def web(cluster: Cluster) -> str:
    """An application with two pods, behind web.test, that tests leave as it is."""
    await cluster.deploy("web", replicas=2)
    await cluster.kubectl("create ingress web --class=nginx --rule=web.test/*=web:80")
    await cluster.until_answered("web", host="web.test")
    return "web"


async def test_what_is_deployed_exposed_and_named_by_an_ingress_answers(cluster: Cluster, web: str) -> None:
    assert (await cluster.get("/a/path?q=1", host="web.test")).json()["path"] == "/a/path?q=1"
    await cluster.until_pods_are_endpoints(web, 2)


@pytest.mark.usefixtures("steady")
async def test_what_is_scaled_up_to_nothing_and_back_answers_by_the_pods_that_there_are(cluster: Cluster, web: str) -> None:
    await cluster.deploy("scaled")
    await cluster.kubectl("create ingress scaled --class=nginx --rule=scaled.test/*=scaled:80")
    await cluster.until_answered("scaled", host="scaled.test")
    await cluster.kubectl("scale deployment scaled --replicas=5")
    await cluster.kubectl("rollout status deployment scaled --timeout=110s")
    await cluster.until_pods_are_endpoints("scaled", 5)
    await cluster.kubectl("scale deployment scaled --replicas=0")
    await cluster.until_status(503, host="scaled.test")
    await cluster.kubectl("scale deployment scaled --replicas=1")
    await cluster.until_answered("scaled", host="scaled.test")
    await cluster.until_pods_are_endpoints("scaled", 1)


@pytest.mark.usefixtures("steady")
async def test_a_rollout_under_traffic_loses_no_request(cluster: Cluster) -> None:
    """All pods are replaced, twice. Each one's server closes its port and its connections at the end of the pod's preStop hook.

    The second rollout comes of a changed template: kubectl refuses two restarts within one second, and the first may take less.
    """
    await cluster.deploy("rolled", replicas=3, pre_stop=PRE_STOP)
    await cluster.kubectl("create ingress rolled --class=nginx --rule=rolled.test/*=rolled:80")
    await cluster.until_answered("rolled", host="rolled.test")
    seen = set(await cluster.until_pods_are_endpoints("rolled", 3))
    async with Traffic(HTTP, host="rolled.test") as traffic:
        for change in ("rollout restart deployment rolled", "set env deployment rolled ROUND=second"):
            await cluster.kubectl(change)
            await cluster.kubectl("rollout status deployment rolled --timeout=110s")
            now = set(await cluster.until_pods_are_endpoints("rolled", 3))
            assert not now & seen
            seen |= now
        await cluster.until_pods_have_ended("rolled", 3)
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "rolled")}


async def test_scaling_down_under_traffic_loses_no_request(cluster: Cluster) -> None:
    """Of six pods five are to end at once: more than there are tries, so nothing new may be sent to them while they serve on."""
    await cluster.deploy("shrunk", replicas=6, pre_stop=PRE_STOP)
    await cluster.kubectl("create ingress shrunk --class=nginx --rule=shrunk.test/*=shrunk:80")
    await cluster.until_answered("shrunk", host="shrunk.test")
    await cluster.until_pods_are_endpoints("shrunk", 6)
    async with Traffic(HTTP, host="shrunk.test") as traffic:
        await cluster.kubectl("scale deployment shrunk --replicas=1")
        await cluster.until_pods_are_endpoints("shrunk", 1)
        await cluster.until_pods_have_ended("shrunk", 1)
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "shrunk")}


async def test_a_pod_that_ends_without_a_warning_under_traffic_loses_no_request(cluster: Cluster) -> None:
    """What reaches it after its end is tried at another pod."""
    await cluster.deploy("killed", replicas=3)
    await cluster.kubectl("create ingress killed --class=nginx --rule=killed.test/*=killed:80")
    await cluster.until_answered("killed", host="killed.test")
    before = await cluster.until_pods_are_endpoints("killed", 3)
    found = await cluster.kube.get("pods -l app=killed")
    async with Traffic(HTTP, host="killed.test") as traffic:
        await cluster.kubectl(f"delete pod {found['items'][0]['metadata']['name']} --force --grace-period=0")
        assert await cluster.until_pods_are_endpoints("killed", 3) != before
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "killed")}


@pytest.mark.usefixtures("steady")
async def test_a_service_that_is_deleted_and_made_again_answers_again(cluster: Cluster, web: str) -> None:
    await cluster.deploy("again")
    await cluster.kubectl("create ingress again --class=nginx --rule=again.test/*=again:80")
    await cluster.until_answered("again", host="again.test")
    async with Traffic(HTTP, host="web.test") as traffic:
        await cluster.kubectl("delete service again")
        await cluster.until_status(503, host="again.test")
        await cluster.kubectl("expose deployment again --port=80 --target-port=8080")
        await cluster.until_answered("again", host="again.test")
    assert traffic.answers().keys() == {(200, web)}


async def test_an_ingress_that_changes_its_class_is_taken_over_and_let_go(cluster: Cluster, web: str) -> None:
    other = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "other"}}
    await cluster.kube.apply(other | {"spec": {"controller": "example.test/other"}})
    await cluster.kubectl(f"create ingress moving --class=other --rule=moving.test/*={web}:80")
    for _ in range(2):
        await cluster.kubectl("""patch ingress moving -p '{"spec":{"ingressClassName":"nginx"}}'""")
        await cluster.until_answered(web, host="moving.test")
        await cluster.kubectl("""patch ingress moving -p '{"spec":{"ingressClassName":"other"}}'""")
        await cluster.until_status(404, host="moving.test")


@pytest.mark.usefixtures("steady")
async def test_a_namespace_that_is_deleted_takes_its_hosts_along_and_nobody_else(cluster: Cluster, web: str) -> None:
    await cluster.kubectl("create namespace team")
    await cluster.deploy("theirs", space="team")
    await cluster.kubectl("create ingress theirs -n team --class=nginx --rule=theirs.test/*=theirs:80")
    await cluster.until_answered("theirs", host="theirs.test")
    async with Traffic(HTTP, host="web.test") as traffic:
        await cluster.kubectl("delete namespace team --timeout=110s")
        await cluster.until_status(404, host="theirs.test")
    assert traffic.answers().keys() == {(200, web)}

    async def gone() -> bool:
        return not any(name.startswith("team/") for name in await cluster.envoy.clusters())

    await wait_until(gone, "the clusters of the namespace to go")


async def test_a_certificate_that_is_rotated_is_shown_to_who_comes_next_and_drains_nobody(
    cluster: Cluster, web: str, tmp_path: Path
) -> None:
    first, second = make_certificate(["tls.test"]), make_certificate(["tls.test"])
    command = f"create secret tls tls --cert={tmp_path}/tls.crt --key={tmp_path}/tls.key"
    _write(tmp_path, first)
    await cluster.kubectl(command)
    await cluster.kubectl(f"create ingress tls --class=nginx --rule=tls.test/*={web}:80,tls=tls")
    await _until_shown(first, "tls.test")
    before = await disturbances(cluster.envoy)
    async with await Http1.open(HTTPS, tls=Tls(sni="tls.test")) as connection:
        _write(tmp_path, second)
        renewed = await cluster.kubectl(f"{command} --dry-run=client -o yaml")
        await cluster.kubectl("replace -f -", stdin=renewed)
        await _until_shown(second, "tls.test")
        assert (await connection.request(host="tls.test")).app == web
    assert await disturbances(cluster.envoy) == before


async def test_http_is_sent_to_https_where_there_is_a_certificate_that_came_after_the_ingress(
    cluster: Cluster, web: str, tmp_path: Path
) -> None:
    await cluster.kubectl(f"create ingress late --class=nginx --rule=late.test/*={web}:80,tls=late")
    await cluster.until_status(308, host="late.test")
    certificate = make_certificate(["late.test"])
    _write(tmp_path, certificate)
    await cluster.kubectl(f"create secret tls late --cert={tmp_path}/tls.crt --key={tmp_path}/tls.key")
    await _until_shown(certificate, "late.test")


async def test_tcp_and_udp_ports_follow_their_config_maps(cluster: Cluster) -> None:
    await cluster.deploy("lines", kind="tcp")
    await cluster.deploy("more-lines", kind="tcp")
    await cluster.deploy("grams", kind="udp")
    await _edit(cluster, "xds-tcp-services", {"9000": "default/lines:80"})
    await _edit(cluster, "xds-udp-services", {"53": "default/grams:80"})
    await _until_says((NODE, 9000), "lines: hello")

    async def answered() -> bool:
        async with await Udp.open((NODE, 53)) as client:
            return await client.ask(b"hello", tries=1) == b"grams: hello"

    await wait_until(answered, "the UDP port to answer")
    await _edit(cluster, "xds-tcp-services", {"9000": "default/more-lines:80", "9001": "default/lines:80"})
    await _until_says((NODE, 9000), "more-lines: hello")
    await _until_says((NODE, 9001), "lines: hello")
    await _edit(cluster, "xds-tcp-services", {"9000": None, "9001": None})
    await _edit(cluster, "xds-udp-services", {"53": None})

    async def closed() -> bool:
        return set(await cluster.envoy.listeners()) == {"http", "https"}

    await wait_until(closed, "the ports to be closed")


async def _edit(cluster: Cluster, name: str, entries: dict[str, str | None]) -> None:
    """What an editor would save; None takes an entry out."""
    await cluster.kubectl(f"patch configmap {name} -n {SPACE} --type=merge -p '{json.dumps({'data': entries})}'")


def _write(folder: Path, certificate: Certificate) -> None:
    (folder / "tls.crt").write_bytes(certificate.cert_pem)
    (folder / "tls.key").write_bytes(certificate.key_pem)


async def _until_shown(certificate: Certificate, host: str) -> None:
    async def look() -> bool:
        async with await Http1.open(HTTPS, tls=Tls(sni=host)) as connection:
            return connection.certificate == certificate.x509

    await wait_until(look, f"{host} to show its certificate")


async def _until_says(address: Address, line: str) -> None:
    async def look() -> bool:
        async with await Tcp.open(address) as client:
            return await client.ask("hello") == line

    await wait_until(look, f"port {address[1]} to say {line!r}")


async def test_a_default_backend_outside_of_the_watched_namespace_answers(cluster: Cluster) -> None:
    """For an Envoy of its own, on other ports; and its endpoints are followed."""
    await cluster.kubectl("create namespace fallback")
    await cluster.deploy("fallback", space="fallback")
    flags = [*await cluster.another_class("narrow"), "--watch-namespace=default", "--default-backend-service=fallback/fallback"]
    async with (
        cluster.replica(*flags, "--http-port=8081", "--https-port=8444") as narrow,
        cluster.another_envoy(await narrow.bootstrap("envoy-narrow")),
    ):

        async def answers(status: int) -> bool:
            found = await fetch((NODE, 8081), host="nobody.test")
            assert found.status == status, f"{found.status} {found.body[:200]!r}"
            return found.app == ("fallback" if status == 200 else "")

        await wait_until(lambda: answers(200), "the default backend to answer")
        await cluster.kubectl("scale deployment fallback -n fallback --replicas=0")
        await wait_until(lambda: answers(404), "the built-in 404")


async def test_exported_ingresses_are_judged(cluster: Cluster, web: str) -> None:
    """`kubectl get ingresses -A -o yaml | xds check -`, and the same with all kinds, as docs/migrate.md has it."""
    note = "nginx.ingress.kubernetes.io/use-regexp=true"
    await cluster.kubectl(f"create ingress exported --class=nginx --annotation={note} --rule=exported.test/*={web}:80")
    exported = await cluster.kubectl("get ingresses --all-namespaces -o yaml")
    judge = [sys.executable, "-m", "xds", "check", "-"]
    _, said, _ = await run(judge, stdin=exported.encode())
    assert "use-regexp is no annotation of ingress-nginx (did you mean use-regex?)" in said
    assert "come from a cluster, without its Services" in said
    kinds = "ingresses,ingressclasses,services,endpointslices"
    _, said, _ = await run(judge, stdin=(await cluster.kubectl(f"get {kinds} --all-namespaces -o yaml")).encode())
    assert "use-regexp is no annotation" in said
    assert "without its Services" not in said
    assert "kind: Secret" in await cluster.kubectl("get secrets --all-namespaces --field-selector type!=helm.sh/release.v1 -o yaml")
    await cluster.kubectl("delete ingress exported")
