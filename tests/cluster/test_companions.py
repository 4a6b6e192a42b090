"""What other controllers make beside an Ingress, played as cert-manager and ExternalDNS document it. See examples/."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from examples.apps import APPS, Address
from tests import quick_yaml
from tests.cluster.harness import HTTP, HTTPS, NODE, Cluster
from tests.envoy.harness import Response, Tls, Traffic, fetch, make_certificate, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

EXAMPLES = Path(__file__).parents[2] / "examples"
HOST = "www.example.com"
TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
CHALLENGE = f"/.well-known/acme-challenge/{TOKEN}"
KEY = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
ROUNDS = 10
"""How often the validation server of a certificate authority follows a redirect."""


class Solver:
    """cert-manager's solver of a challenge: one path, for one host."""

    def __init__(self, name: str) -> None:
        app = web.Application()
        app.router.add_get(CHALLENGE, self._solve)
        self._runner = web.AppRunner(app)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, and return where."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return host, port

    async def stop(self) -> None:
        """Close what listens and every connection."""
        await self._runner.cleanup()

    async def _solve(self, request: web.Request) -> web.Response:
        return web.Response(text=KEY, status=200 if request.host == HOST else 404)


async def validated(target: str = CHALLENGE) -> Response:
    """What a certificate authority gets: it begins on port 80, follows redirects and trusts every certificate."""
    url = f"http://{HOST}{target}"
    for _ in range(ROUNDS):
        parts = urlsplit(url)
        assert parts.netloc == HOST, url
        encrypted = parts.scheme == "https"
        answer = await fetch(HTTPS if encrypted else HTTP, parts.path, host=HOST, tls=Tls(sni=HOST) if encrypted else None)
        if answer.status not in (301, 302, 307, 308):
            return answer
        url = answer.header("location") or ""
    raise AssertionError(f"more than {ROUNDS} redirects")


async def until_validated() -> None:
    async def look() -> bool:
        answer = await validated()
        assert (answer.status, answer.body) == (200, KEY.encode()), answer
        return True

    await wait_until(look, "the challenge to be solved")


def example(name: str) -> list[Any]:
    """The objects of a file of examples/."""
    return list(quick_yaml.safe_load_all((EXAMPLES / name).read_text().replace("TOKEN", TOKEN)))


async def begin_challenge(cluster: Cluster, *objects: Any) -> None:
    """What cert-manager does when a certificate is due: a pod, its Service, and an Ingress beside that of the application."""
    labels = {"acme.cert-manager.io/http01-solver": "true"}
    container = {"name": "acmesolver", "image": "apps/acme-solver", "ports": [{"containerPort": 8089}]}
    meta = {"name": "cm-acme-http-solver", "labels": labels}
    await cluster.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}, *objects)
    await until_validated()


async def end_challenge(cluster: Cluster) -> None:
    await cluster.kubectl("delete ingress,service,pod -l acme.cert-manager.io/http01-solver=true --wait=false")


async def issue(cluster: Cluster) -> bytes:
    """Write a new certificate into the Secret that the Ingress names, and return it."""
    made = make_certificate([HOST])
    data = {"tls.crt": made.cert_pem.decode(), "tls.key": made.key_pem.decode()}
    meta = {"name": "site-tls", "annotations": {"cert-manager.io/issuer-name": "letsencrypt-prod"}}
    await cluster.kube.apply({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta, "stringData": data})
    return made.cert_pem


async def until_trusted(cluster: Cluster, roots: bytes) -> None:
    await cluster.until_answered("site", host=HOST, tls=Tls(sni=HOST, roots=roots))


async def test_cert_manager_gets_a_certificate_and_renews_it_while_the_site_answers(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(APPS, "acme-solver", Solver)
    await cluster.deploy("site")
    await cluster.kube.apply(*example("cert-manager/ingress.yaml"))
    try:
        await cluster.until_status(308, host=HOST)
        await begin_challenge(cluster, *example("cert-manager/solver.yaml"))
        await until_trusted(cluster, await issue(cluster))
        await end_challenge(cluster)
        async with Traffic(HTTPS, host=HOST, tls=Tls(sni=HOST)) as traffic:
            await begin_challenge(cluster, *example("cert-manager/solver.yaml"))
            await until_trusted(cluster, await issue(cluster))
            await end_challenge(cluster)
            await cluster.until_answered("site", host=HOST, target=CHALLENGE, tls=Tls(sni=HOST))
        assert traffic.answers().keys() == {(200, "site")}
    finally:
        await end_challenge(cluster)
        await cluster.kubectl("delete ingress,service,deployment site --ignore-not-found")
        await cluster.kubectl("delete secret site-tls --ignore-not-found")


def records(ingresses: list[dict[str, Any]]) -> dict[str, set[str]]:
    """What ExternalDNS writes: each host of a rule or of its annotation, and the addresses of the status."""
    found: dict[str, set[str]] = {}
    for each in ingresses:
        annotated = each["metadata"].get("annotations", {}).get("external-dns.alpha.kubernetes.io/hostname", "")
        hosts = [rule["host"] for rule in each["spec"].get("rules", ()) if rule.get("host")]
        addresses = {entry["ip"] for entry in each.get("status", {}).get("loadBalancer", {}).get("ingress", ()) if "ip" in entry}
        for host in (*hosts, *filter(None, annotated.split(","))):
            found.setdefault(host, set()).update(addresses)
    return found


async def test_external_dns_finds_the_address_and_the_names_lead_to_the_application(cluster: Cluster) -> None:
    await cluster.deploy("shop")
    await cluster.kube.apply(*example("external-dns/ingress.yaml"))
    try:
        await cluster.until_address("shop", NODE)
        written = records([await cluster.kube.get("ingress shop")])
        assert written == {"shop.example.com": {NODE}, "shop.example.org": {NODE}}
        for host, (address,) in written.items():
            await cluster.until_answered("shop", host=host)
            assert (await fetch((address, 80), "/", host=host)).app == "shop"
    finally:
        await cluster.kubectl("delete ingress,service,deployment shop --ignore-not-found")
