"""auth-tls-*: who comes to a host by the certificate of a client, what its backend reads of it, and that nobody else is disturbed."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Site, Tls, WebSocket, backend, ingress, make_ca, make_certificate, secret, secret_tls, wait_until
from tests.envoy.harness.http1 import Headers, Response
from tests.envoy.harness.http2 import Http2
from tests.envoy.harness.tls import NOW, Certificate
from tests.envoy.test_tls import Clients, differences, until_nothing_drains, updates
from xds.nginx.tls import USUAL, suites

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CA, OTHER_CA = make_ca("One"), make_ca("Other")
GOOD, REVOKED, STRANGE = make_certificate(["good"], ca=CA), make_certificate(["gone"], ca=CA), make_certificate(["good"], ca=OTHER_CA)
EXPIRED = make_certificate(["good"], ca=CA, not_before=NOW - datetime.timedelta(days=3), not_after=NOW - datetime.timedelta(days=1))
SERVER = make_certificate(["strict.test", "optional.test", "other.test", "turning.test"])
ASKED = {"auth-tls-secret": "default/one"}
NO_CERTIFICATE, BAD_CERTIFICATE = "No required SSL certificate was sent", "The SSL certificate error"


def behind(number: int) -> Certificate:
    """A client's certificate with so many between it and the authority, all of which the client shows."""
    signer, chain = CA, b""
    for level in range(number):
        signer = make_certificate([f"level {level}"], ca=signer, is_ca=True)
        chain = signer.cert_pem + chain
    leaf = make_certificate(["deep"], ca=signer)
    return Certificate(leaf.cert_pem + chain, leaf.key_pem)


def revoking(*gone: Certificate) -> bytes:
    """A list of revoked certificates, as PEM."""
    made = x509.CertificateRevocationListBuilder(CA.x509.subject, NOW, NOW + datetime.timedelta(days=30))
    for each in gone:
        number = each.x509.serial_number
        made = made.add_revoked_certificate(x509.RevokedCertificateBuilder(number, NOW).build())
    key = serialization.load_pem_private_key(CA.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def host(site: Site, name: str, annotations: dict[str, str], *, own: bool = True, paths: Sequence[str] = ("/",)) -> None:
    """An Ingress of its own for a host; with `own` under the certificate that several share."""
    tls = {"server": [name]} if own else None
    site.folder.write(f"host-{name}.yaml", ingress(name.strip("*."), name, dict.fromkeys(paths, ("web", 80)), annotations, tls=tls))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    write = shared_site.folder.write
    write("web.yaml", *backend("web", await shared_site.run(HttpApp("web"))))
    write("one.yaml", secret("one", {"ca.crt": CA.cert_pem}), secret("other", {"ca.crt": OTHER_CA.cert_pem}), secret_tls("server", SERVER))
    host(shared_site, "strict.test", ASKED)
    host(shared_site, "optional.test", ASKED | {"auth-tls-verify-client": "optional"})
    host(shared_site, "other.test", {"auth-tls-secret": "default/other"})
    host(shared_site, "plain.test", {}, own=False)
    host(shared_site, "default.test", ASKED, own=False)
    host(shared_site, "*.wild.test", {"auth-tls-secret": "default/other"}, own=False)
    host(shared_site, "lenient.test", ASKED | {"auth-tls-verify-client": "optional_no_ca"}, own=False)
    host(shared_site, "deep.test", ASKED | {"auth-tls-verify-depth": "2"}, own=False)
    await shared_site.start()
    await shared_site.until_answered("/", "web", host="strict.test", tls=Tls("strict.test", client=GOOD))
    return shared_site


async def ask(site: Site, host: str, client: Certificate | None, *, sni: str | None = "", headers: Headers = ()) -> Response:
    """One request over https, under the name of the host unless another one is given."""
    return await site.get("/", host=host, tls=Tls(host if sni == "" else sni, client=client), headers=headers)


def described(answer: Response) -> list[str]:
    """What the backend read of the client's certificate."""
    return [value for name in ("verify", "subject-dn", "issuer-dn", "cert") for value in answer.received(f"ssl-client-{name}")]


@pytest.mark.parametrize("name", ["strict.test", "default.test"])
@pytest.mark.parametrize(
    ("client", "why"), [(None, NO_CERTIFICATE), (STRANGE, BAD_CERTIFICATE), (EXPIRED, BAD_CERTIFICATE), (behind(2), BAD_CERTIFICATE)]
)
async def test_who_has_no_good_certificate_is_refused(site: Site, name: str, client: Certificate | None, why: str) -> None:
    answer = await ask(site, name, client)
    assert (answer.status, answer.header("content-type"), answer.text.count(why)) == (400, "text/html", 2)


@pytest.mark.parametrize(
    ("name", "client", "issuer"),
    [("strict.test", GOOD, "CN=One"), ("strict.test", behind(1), "CN=level 0"), ("deep.test", behind(2), "CN=level 1")],
)
async def test_the_backend_reads_what_was_validated_and_nothing_that_a_client_wrote(
    site: Site, name: str, client: Certificate, issuer: str
) -> None:
    forged = [("ssl-client-verify", "NONE"), ("SSL-Client-Subject-DN", "CN=root"), ("ssl-client-cert", "forged")]
    answer = await ask(site, name, client, headers=forged)
    assert described(answer) == ["SUCCESS", client.x509.subject.rfc4514_string(), issuer]


async def test_without_a_certificate_no_header_of_a_client_passes_where_it_is_optional(site: Site) -> None:
    forged = [("ssl-client-verify", "SUCCESS"), ("ssl-client-subject-dn", "CN=root"), ("ssl-client-cert", "forged")]
    for sni in ("", None, "unknown.test"):
        assert described(await ask(site, "optional.test", None, sni=sni, headers=forged)) == ["NONE"]
    assert described(await ask(site, "plain.test", GOOD, headers=forged)) == []
    assert described(await site.get("/", host="plain.test", headers=forged)) == []


@pytest.mark.parametrize(
    ("client", "found"), [(None, "NONE"), (GOOD, "SUCCESS"), (STRANGE, "FAILED:unable to verify the first certificate")]
)
async def test_a_lenient_host_lets_anybody_pass_and_says_who_was_validated(site: Site, client: Certificate | None, found: str) -> None:
    assert (await ask(site, "lenient.test", client)).received("ssl-client-verify") == [found]


@pytest.mark.parametrize("sni", ["other.test", "optional.test", "any.wild.test", "deep.test"])
@pytest.mark.parametrize("client", [GOOD, STRANGE, None])
async def test_a_certificate_for_another_host_counts_for_nothing(site: Site, sni: str, client: Certificate | None) -> None:
    """Each name has a chain that asks for certificates: under another authority, another rule, or another certificate of ours."""
    for name in ("strict.test", "STRICT.test:443"):
        assert (await ask(site, name, client, sni=sni)).status == 421
    async with await Http2.open(site.https, tls=Tls(sni, client=client)) as connection:
        assert (await connection.request(host="strict.test", scheme="https")).status == 421


@pytest.mark.parametrize("sni", ["x\n.wild.test", "x y.wild.test", "x_.wild.test", "strict.test\n.wild.test"])
async def test_no_odd_name_in_tls_leads_to_another_host(site: Site, sni: str) -> None:
    try:
        answer = await ask(site, "strict.test", STRANGE, sni=sni)
    except (OSError, ValueError):  # refused by one side or the other
        return
    assert answer.status in (400, 421)


@pytest.mark.parametrize("sni", [None, "plain.test", "unknown.test"])
async def test_who_names_no_host_with_a_certificate_was_not_asked_for_one(site: Site, sni: str | None) -> None:
    answer = await ask(site, "strict.test", GOOD, sni=sni)
    assert (answer.status, NO_CERTIFICATE in answer.text) == (400, True)
    assert (await ask(site, "plain.test", STRANGE, sni="strict.test")).app == "web"


async def test_names_below_a_wildcard_are_one_host_and_the_dot_of_the_root_changes_nothing(site: Site) -> None:
    assert (await ask(site, "b.wild.test", STRANGE, sni="a.wild.test")).app == "web"
    assert (await ask(site, "b.wild.test", GOOD, sni="a.wild.test")).status == 400
    assert (await ask(site, "strict.test", GOOD, sni="strict.test.")).app == "web"
    assert (await ask(site, "strict.test.", GOOD)).app == "web"


async def test_plain_http_is_redirected(site: Site) -> None:
    assert (await site.get("/", host="strict.test")).status == 308


async def test_what_is_revoked_is_refused_and_a_new_authority_reaches_new_connections_without_a_drain(site: Site) -> None:
    tls = Tls("strict.test", client=REVOKED)
    assert (await ask(site, "strict.test", REVOKED)).app == "web"
    await until_nothing_drains(site)
    before = await updates(site)
    async with await WebSocket.open(site.https, host="strict.test", tls=tls) as websocket:
        site.folder.write(
            "one.yaml",
            secret("one", {"ca.crt": CA.cert_pem, "ca.crl": revoking(REVOKED)}),
            secret("other", {"ca.crt": OTHER_CA.cert_pem}),
            secret_tls("server", SERVER),
        )
        await site.until_status("/", 400, host="strict.test", tls=tls)
        assert (await ask(site, "strict.test", GOOD)).app == "web"
        site.folder.write(
            "one.yaml",
            secret("one", {"ca.crt": OTHER_CA.cert_pem + CA.cert_pem}),
            secret("other", {"ca.crt": OTHER_CA.cert_pem}),
            secret_tls("server", SERVER),
        )
        await site.until_answered("/", "web", host="strict.test", tls=Tls("strict.test", client=STRANGE))
        assert await websocket.ask(b"still here") == b"still here"
    assert await updates(site) == before
    site.folder.write(
        "one.yaml", secret("one", {"ca.crt": CA.cert_pem}), secret("other", {"ca.crt": OTHER_CA.cert_pem}), secret_tls("server", SERVER)
    )
    await site.until_status("/", 400, host="strict.test", tls=Tls("strict.test", client=STRANGE))


async def test_a_host_begins_and_ceases_to_ask_and_nobody_else_is_disturbed(site: Site) -> None:
    """What is still open under the old rule does not outlive it: its next request is refused, and comes again."""
    host(site, "steady.test", {}, own=False)
    host(site, "turning.test", {})
    await site.until_answered("/", "web", host="turning.test", tls=Tls("turning.test"))
    async with Clients(site, "steady.test") as steady, await Http1.open(site.https, tls=Tls("strict.test", client=GOOD)) as strict:
        for _ in range(2):
            await until_nothing_drains(site)
            before = await updates(site)
            async with await Http1.open(site.https, tls=Tls("turning.test")) as old:
                assert (await old.request(host="turning.test")).app == "web"
                host(site, "turning.test", ASKED)
                await site.until_status("/", 400, host="turning.test", tls=Tls("turning.test"))
                assert (await old.request(host="turning.test")).status == 421
            found = await differences(site, before)
            assert (found["listener_modified"], found["listener_in_place_updated"]) == (1, 1)
            assert (await ask(site, "turning.test", GOOD)).app == "web"
            host(site, "turning.test", {})
            await site.until_answered("/", "web", host="turning.test", tls=Tls("turning.test"))
        await until_nothing_drains(site)
        await steady.assert_undisturbed()
        assert (await strict.request(host="strict.test")).app == "web"


async def test_an_authority_that_breaks_or_goes_closes_its_hosts_alone(site: Site) -> None:
    host(site, "broken.test", {"auth-tls-secret": "default/breaking"}, own=False)
    site.folder.write("breaking.yaml", secret("breaking", {"ca.crt": CA.cert_pem}))
    await site.until_answered("/", "web", host="broken.test", tls=Tls("broken.test", client=GOOD))
    site.folder.write("breaking.yaml", secret("breaking", {"ca.crt": b"nothing"}))
    await site.until_status("/", 403, host="broken.test", tls=Tls("broken.test", client=GOOD))
    assert (await site.get("/", host="broken.test")).status == 403
    await site.control_plane.process.line("a ca.crt that holds no PEM certificates; the whole host answers 403")
    site.folder.write("breaking.yaml", secret("breaking", {"ca.crt": CA.cert_pem}))
    await site.until_answered("/", "web", host="broken.test", tls=Tls("broken.test", client=GOOD))
    site.folder.remove("breaking.yaml")
    await site.until_status("/", 403, host="broken.test", tls=Tls("broken.test", client=GOOD))
    assert (await ask(site, "strict.test", GOOD)).app == "web"


async def test_the_catch_all_asks_for_certificates_as_well_and_hosts_of_their_own_do_not(site: Site) -> None:
    site.folder.write("all.yaml", ingress("all", None, {"/": ("web", 80)}, ASKED))
    await site.until_answered("/", "web", host="anything.test", tls=Tls("anything.test", client=GOOD))
    assert (await ask(site, "anything.test", None)).status == 400
    assert (await ask(site, "anything.test", GOOD, sni=None)).app == "web"
    assert (await ask(site, "anything.test", GOOD, sni="plain.test")).status == 421
    assert (await ask(site, "anything.test", STRANGE, sni="other.test")).status == 421
    assert (await ask(site, "plain.test", None)).app == "web"
    site.folder.remove("all.yaml")

    async def gone() -> bool:
        return (await ask(site, "anything.test", None)).status == 404

    await wait_until(gone, "the catch-all to be gone")


async def test_envoy_has_every_cipher_that_a_host_may_name_and_its_chain_is_its_own(site: Site) -> None:
    names = [*USUAL, *(f"ECDHE-{key}-AES{bits}-SHA" for key in ("RSA", "ECDSA") for bits in (128, 256))]
    names += [f"AES{bits}-{rest}" for bits, rest in ((128, "GCM-SHA256"), (256, "GCM-SHA384"), (128, "SHA"), (256, "SHA"))]
    assert suites(":".join(names)) == (tuple(names), ())
    host(site, "ciphers.test", {"ssl-ciphers": ":".join(names)}, own=False)
    host(site, "cipher.test", {"ssl-ciphers": "AES128-SHA"}, own=False)
    only_12 = Tls("ciphers.test", maximum=ssl.TLSVersion.TLSv1_2)
    await site.until_answered("/", "web", host="ciphers.test", tls=only_12)

    async def refused() -> bool:
        """The default certificate is RSA or EC; either way a client of today offers no RSA key exchange."""
        try:
            return (await site.get("/", host="cipher.test", tls=replace(only_12, sni="cipher.test"))).status == 0
        except OSError:
            return True

    await wait_until(refused, "the one cipher of cipher.test")
    assert (await site.get("/", host="cipher.test", tls=Tls("cipher.test"))).app == "web"
