"""proxy-ssl-*: TLS to endpoints with a certificate of ours, and theirs verified, each way over connections of its own."""

from __future__ import annotations

import asyncio
import itertools
import ssl

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, ingress, make_ca, make_certificate, secret, wait_until
from tests.envoy.harness.tls import Certificate, server_context

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CA, OTHER_CA = make_ca("One"), make_ca("Other")
SERVER, CLIENT = make_certificate(["inner.test", "*.deep.inner.test"], ca=CA), make_certificate(["client"], ca=CA)
HTTPS = {"backend-protocol": "HTTPS"}
SECRET = HTTPS | {"proxy-ssl-secret": "default/inner"}
VERIFIED = SECRET | {"proxy-ssl-verify": "on", "proxy-ssl-name": "inner.test"}
BAD_GATEWAY = 502


def inner(authority: Certificate) -> dict[str, object]:
    return secret("inner", {"ca.crt": authority.cert_pem, "tls.crt": CLIENT.cert_pem, "tls.key": CLIENT.key_pem})


def host(site: Site, name: str, annotations: dict[str, str], to: str = "web") -> None:
    site.folder.write(f"host-{name}.yaml", ingress(name, f"{name}.test", {"/": (to, 80)}, annotations))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    """`web` takes any client; `strict` only those with a certificate of the authority."""
    write = shared_site.folder.write
    strict = server_context(SERVER)
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=CA.cert_pem.decode())
    write("web.yaml", *backend("web", await shared_site.run(HttpApp("web", tls=server_context(SERVER)))))
    write("strict.yaml", *backend("strict", await shared_site.run(HttpApp("strict", tls=strict))))
    write("inner.yaml", inner(CA), secret("other", {"ca.crt": OTHER_CA.cert_pem}))
    host(shared_site, "plain", HTTPS)
    host(shared_site, "verified", VERIFIED)
    host(shared_site, "below", VERIFIED | {"proxy-ssl-name": "any.deep.inner.test"})
    host(shared_site, "misnamed", VERIFIED | {"proxy-ssl-name": "outer.test"})
    host(shared_site, "nameless", SECRET | {"proxy-ssl-verify": "on"})
    host(shared_site, "distrusted", VERIFIED | {"proxy-ssl-secret": "default/other"})
    host(shared_site, "shown", SECRET, "strict")
    host(shared_site, "hidden", HTTPS, "strict")
    host(shared_site, "ciphers", SECRET | {"proxy-ssl-ciphers": "ECDHE-ECDSA-AES256-SHA:ECDHE+AESGCM:AES128-SHA:AES256-SHA"})
    await shared_site.start()
    await shared_site.until_answered("/", "web", host="verified.test")
    return shared_site


@pytest.mark.parametrize("name", ["plain", "verified", "below", "ciphers"])
async def test_an_endpoint_that_is_as_it_should_be_answers(site: Site, name: str) -> None:
    assert (await site.get("/", host=f"{name}.test")).app == "web"


@pytest.mark.parametrize("name", ["misnamed", "nameless", "distrusted"])
async def test_an_endpoint_with_another_name_or_authority_gets_no_request(site: Site, name: str) -> None:
    """Idle connections of the hosts that do not verify are there, to the same endpoint, and are not used."""
    for _ in range(3):
        assert (await site.get("/", host="plain.test")).app == "web"
        assert (await site.get("/", host=f"{name}.test")).status == BAD_GATEWAY


async def test_the_certificate_is_shown_where_one_is_named(site: Site) -> None:
    assert (await site.get("/", host="shown.test")).app == "strict"
    assert (await site.get("/", host="hidden.test")).status == BAD_GATEWAY


async def test_another_authority_holds_for_new_connections_and_changes_no_cluster(site: Site) -> None:
    async def changes() -> int:
        return sum((await site.envoy.stats("^cluster_manager.cluster_(added|modified|removed)$")).values())

    host(site, "rotated", VERIFIED | {"proxy-ssl-server-name": "on"})
    await site.until_answered("/", "web", host="rotated.test")
    before = await changes()
    site.folder.write("inner.yaml", inner(OTHER_CA), secret("other", {"ca.crt": OTHER_CA.cert_pem}))

    numbers = itertools.count(5, 5)

    async def refused() -> bool:
        """More requests at once than ever before: one at least needs a new connection."""
        answers = await asyncio.gather(*(site.get("/sleep/0.3", host="rotated.test") for _ in range(next(numbers))))
        return BAD_GATEWAY in {answer.status for answer in answers}

    await wait_until(refused, "the other authority")
    assert await changes() == before
    site.folder.write("inner.yaml", inner(CA), secret("other", {"ca.crt": OTHER_CA.cert_pem}))
    await site.until_answered("/", "web", host="rotated.test")


async def test_without_its_secret_a_host_is_closed_and_no_key_is_in_a_log(site: Site) -> None:
    host(site, "missing", VERIFIED | {"proxy-ssl-secret": "default/none"})
    await site.until_status("/", 503, host="missing.test")
    await site.control_plane.process.line("proxy-ssl-secret names Secret default/none, which does not exist; its paths answer 503")
    assert "PRIVATE KEY" not in site.report()
