"""TLS: which certificate is served to whom, what a bad one does, and what a renewed one leaves alone."""

from __future__ import annotations

import base64
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from examples.apps import HttpApp
from tests.envoy.harness import (
    Certificate,
    Http1,
    Http2,
    RawHttp,
    Resetting,
    Site,
    Tls,
    WebSocket,
    endpoint_slice,
    ingress,
    make_certificate,
    secret,
    secret_tls,
    service,
    wait_until,
)
from tests.envoy.harness.tls import DAY, NOW

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

HSTS = "max-age=31536000; includeSubDomains"
WEB = {"/": ("web", 80)}

CERTIFICATES = {
    "first": make_certificate(["first.test"]),
    "second": make_certificate(["second.test"], key="rsa"),
    "two-hosts": make_certificate(["one.shared.test", "two.shared.test"]),
    "wildcard": make_certificate(["*.wild.test"]),
    "inside": make_certificate(["inside.wild.test"]),
    "unlisted": make_certificate(["other.test", "Unlisted.test"]),
    "expired": make_certificate(["expired.test"], not_before=NOW - 30 * DAY, not_after=NOW - DAY),
    "soon": make_certificate(["soon.test"], not_after=NOW + 3.5 * DAY),
    "of-another": make_certificate(["another.test"]),
}
BROKEN = {
    "mismatched": {"tls.crt": CERTIFICATES["first"].cert_pem, "tls.key": make_certificate(["first.test"]).key_pem},
    "garbage": {"tls.crt": b"\0\xff garbage", "tls.key": CERTIFICATES["first"].key_pem},
    "cut-off": {"tls.crt": CERTIFICATES["first"].cert_pem, "tls.key": CERTIFICATES["first"].key_pem[:90]},
    "keyless": {"tls.crt": CERTIFICATES["first"].cert_pem},
}
SERVED = {
    "first.test": "first",
    "second.test": "second",
    "one.shared.test": "two-hosts",
    "two.shared.test": "two-hosts",
    "any.wild.test": "wildcard",
    "inside.wild.test": "inside",
    "unlisted.test": "unlisted",
    "expired.test": "expired",
    "soon.test": "soon",
    "FIRST.test": "first",
    "first.test.": "first",
    "One.Shared.test.": "two-hosts",
    "any.wild.test.": "wildcard",
    "inside.wild.test.": "inside",
    "unknown.test.": "",
    "plain.test": "",
    "unknown.test": "",
    "wild.test": "",
    "mismatched.test": "",
    "garbage.test": "",
    "cut-off.test": "",
    "keyless.test": "",
    "missing.test": "",
    "of-another.test": "",
    "no-secret.test": "",
}
"""Server name → the Secret whose certificate is served; "" for the default certificate."""
NO_HOSTS = ("unknown.test", "unknown.test.", "wild.test")
HOSTS = [host for host in SERVED if host not in NO_HOSTS and host != "any.wild.test" and host.islower() and not host.endswith(".")]


def write_hosts(site: Site) -> None:
    """All hosts of SERVED with their Secrets."""
    for name, certificate in CERTIFICATES.items():
        site.folder.write(f"secret-{name}.yaml", secret_tls(name, certificate))
    for name, data in BROKEN.items():
        site.folder.write(f"secret-{name}.yaml", secret(name, data, kind="kubernetes.io/tls"))
    by_host = {host: name for host, name in SERVED.items() if name and host in HOSTS} | {f"{name}.test": name for name in BROKEN}
    by_host |= {"*.wild.test": "wildcard", "missing.test": "missing", "of-another.test": "of-another"}
    objects = {host: ingress(f"h{number}", host, WEB, tls={name: [host]}) for number, (host, name) in enumerate(by_host.items())}
    objects["unlisted.test"]["spec"]["tls"] = [{"secretName": "second"}, {"secretName": "unlisted"}]
    objects["no-secret.test"] = ingress("no-secret", "no-secret.test", WEB)
    objects["no-secret.test"]["spec"]["tls"] = [{"hosts": ["no-secret.test"]}]
    site.folder.write("hosts.yaml", *objects.values(), ingress("plain", "plain.test", WEB))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tls_site(shared_site: Site) -> AsyncIterator[Site]:
    """One Envoy for nearly all tests of this module; each that changes something has hosts of its own."""
    site = shared_site
    site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]))
    write_hosts(site)
    await site.start()
    yield site


async def certificate_of(site: Site, host: str | None) -> x509.Certificate:
    """What is served to a client that names this host."""
    async with await Http1.open(site.https, tls=Tls(host)) as connection:
        return connection.certificate


async def until_served(site: Site, host: str | None, certificate: Certificate) -> None:
    """Wait until new connections to the host see this certificate."""

    async def look() -> bool:
        return await certificate_of(site, host) == certificate.x509

    await wait_until(look, f"{host} to be served under another certificate")


def is_generated(found: x509.Certificate) -> bool:
    """Whether it is the certificate that was made at the start."""
    (common,) = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return common.value == "Kubernetes Ingress Controller Fake Certificate"


@pytest.mark.parametrize(("host", "name"), SERVED.items())
async def test_the_server_name_selects_the_certificate_and_the_host_answers_under_it(tls_site: Site, host: str, name: str) -> None:
    async with await Http1.open(tls_site.https, tls=Tls(host)) as connection:
        found = connection.certificate
        answer = await connection.request(host=host)
    assert found == CERTIFICATES[name].x509 if name else is_generated(found)
    assert (answer.status, answer.app) == ((404, "") if host in NO_HOSTS else (200, "web"))


async def test_the_default_certificate_is_like_that_of_ingress_nginx(tls_site: Site) -> None:
    found = await certificate_of(tls_site, None)
    assert found.subject.rfc4514_string() == "CN=Kubernetes Ingress Controller Fake Certificate,O=Acme Co"
    assert found.issuer == found.subject
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert names == ["ingress.local"]
    assert isinstance(found.public_key(), rsa.RSAPublicKey)
    assert 365 <= (found.not_valid_after_utc - found.not_valid_before_utc).days <= 366


async def test_requests_are_routed_by_host_whatever_the_server_name_was(tls_site: Site) -> None:
    async with await Http1.open(tls_site.https, tls=Tls("first.test")) as connection:
        assert (await connection.request(host="second.test")).received("host") == ["second.test"]
        assert (await connection.request(host="plain.test")).app == "web"
        assert (await connection.request(host="unknown.test")).status == 404
    async with await Http1.open(tls_site.https, tls=Tls(None)) as connection:
        assert (await connection.request(host="first.test:443")).received("host") == ["first.test:443"]


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("spdy/1",), None)],
)
@pytest.mark.parametrize("host", ["first.test", "plain.test"])
async def test_http2_is_preferred_and_http1_spoken_with_those_who_do_not_ask(
    tls_site: Site, offered: tuple[str, ...], agreed: str | None, host: str
) -> None:
    async with await Http1.open(tls_site.https, tls=Tls(host, offered)) as connection:
        assert connection.alpn == agreed


async def test_http2_requests_for_several_hosts_share_a_connection(tls_site: Site) -> None:
    async with await Http2.open(tls_site.https, tls=Tls("one.shared.test")) as connection:
        for host in ("one.shared.test", "two.shared.test"):
            answer = await connection.request(host=host, scheme="https")
            assert (answer.app, answer.received("x-forwarded-proto")) == ("web", ["https"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("host", ["first.test", "second.test", None])
async def test_tls_1_2_and_1_3_are_spoken(tls_site: Site, version: ssl.TLSVersion, host: str | None) -> None:
    async with await Http1.open(tls_site.https, tls=Tls(host, minimum=version, maximum=version)) as connection:
        assert connection.tls_version == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("host", ["first.test", None])
async def test_what_is_older_than_tls_1_2_is_refused(tls_site: Site, version: ssl.TLSVersion, host: str | None) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        await Http1.open(tls_site.https, tls=Tls(host, minimum=version, maximum=version))
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mismatched", "does not belong to the first certificate"),
        ("garbage", "is no PEM certificate chain"),
        ("cut-off", "is no PEM private key"),
        ("keyless", "has no tls.key"),
        ("missing", "does not exist"),
        ("of-another", 'is for another.test, not for "of-another.test"'),
    ],
)
async def test_the_log_says_why_a_host_is_served_under_the_default_certificate(tls_site: Site, name: str, why: str) -> None:
    line = await tls_site.control_plane.process.line(f"Secret default/{name} ")
    for part in ("hosts.yaml", "spec.tls[0].secretName", why, f'"{name}.test"', "is served with the default certificate"):
        assert part in line


@pytest.mark.parametrize(("name", "what"), [("expired", "has expired"), ("soon", "expires in 3 days")])
async def test_the_log_says_that_a_certificate_expires(tls_site: Site, name: str, what: str) -> None:
    line = await tls_site.control_plane.process.line(f"Secret default/{name} data[tls.crt]:")
    assert f"The certificate {what}; it is still served." in line
    assert "WARNING" in line


async def updates(site: Site) -> dict[str, int]:
    """What Envoy did to its listeners so far."""
    found = await site.envoy.stats("^listener_manager.(listener_|lds.update_(attempt|success|rejected)|total_listeners_draining)")
    return {name.removeprefix("listener_manager."): count for name, count in found.items()}


async def test_a_renewed_secret_reaches_new_connections_and_touches_no_listener(tls_site: Site) -> None:
    site, old, new = tls_site, make_certificate(["renewed.test"]), make_certificate(["renewed.test"])
    site.folder.write("secret-renewed.yaml", secret_tls("renewed", old))
    site.folder.write("renewed.yaml", ingress("renewed", "renewed.test", WEB, tls={"renewed": ["renewed.test"]}))
    await until_served(site, "renewed.test", old)
    async with (
        await Http1.open(site.https, tls=Tls("renewed.test")) as open_before,
        await WebSocket.open(site.https, host="renewed.test", tls=Tls("renewed.test")) as websocket,
    ):
        assert open_before.certificate == old.x509
        before, held = await updates(site), await site.envoy.versions()
        site.folder.write("secret-renewed.yaml", secret_tls("renewed", new))
        await until_served(site, "renewed.test", new)
        assert await updates(site) == before
        now = await site.envoy.versions()
        assert {kind: now[kind] for kind in ("listener", "route", "cluster")} == {
            kind: held[kind] for kind in ("listener", "route", "cluster")
        }
        assert {name for name in now["secret"] if now["secret"][name] != held["secret"][name]} == {"default/renewed"}
        answer = await open_before.request(host="renewed.test")
        assert (answer.app, answer.header("connection")) == ("web", None)
        assert await websocket.ask(b"still here") == b"still here"


async def test_a_certificate_for_a_new_host_changes_the_listener_in_place_and_ends_no_connection(tls_site: Site) -> None:
    site, certificate = tls_site, make_certificate(["new.test"])
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(await Http1.open(site.https, tls=Tls(host))) for host in ("first.test", "any.wild.test", None)
        ]
        websocket = await stack.enter_async_context(await WebSocket.open(site.https, host="second.test", tls=Tls("second.test")))
        before = await updates(site)
        site.folder.write("new.yaml", ingress("new", "new.test", WEB, tls={"new": ["new.test"]}), secret_tls("new", certificate))
        await until_served(site, "new.test", certificate)
        assert await differences(site, before) == {"listener_modified": 1, "listener_in_place_updated": 1}
        site.folder.remove("new.yaml")

        async def gone() -> bool:
            return is_generated(await certificate_of(site, "new.test"))

        await wait_until(gone, "the certificate of the removed host to be gone")
        assert await differences(site, before) == {"listener_modified": 2, "listener_in_place_updated": 2}
        for connection in others:
            answer = await connection.request(host="plain.test")
            assert (answer.app, answer.header("connection")) == ("web", None)
        assert await websocket.ask(b"still here") == b"still here"


class Clients:
    """Connections to one host over https: a websocket, one that is kept alive, and one of HTTP/2."""

    def __init__(self, site: Site, host: str, sni: str | None = None) -> None:
        self._site, self._host, self._tls = site, host, Tls(sni or host)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self._websocket = await enter(await WebSocket.open(self._site.https, host=self._host, tls=self._tls))
        self._http1 = await enter(await Http1.open(self._site.https, tls=self._tls))
        self._http2 = await enter(await Http2.open(self._site.https, tls=self._tls))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def assert_undisturbed(self) -> None:
        """Each is answered, and none is asked to end."""
        assert await self._websocket.ask(b"still here") == b"still here"
        answer = await self._http1.request(host=self._host)
        assert (answer.app, answer.header("connection")) == ("web", None)
        assert (await self._http2.request(host=self._host, scheme="https")).app == "web"
        assert not self._http2.goaway.is_set()


async def until_nothing_drains(site: Site) -> None:
    """Wait until the drain of what has gone is over: whoever was to be ended has been ended."""

    async def look() -> bool:
        found = await site.envoy.stats("^listener_manager.total_(filter_chains|listeners)_draining$")
        return not any(found.values())

    await wait_until(look, "the end of the drain")


async def test_hosts_that_come_move_and_go_under_certificates_end_no_connection_of_the_others(tls_site: Site) -> None:
    """`grown` is served under one certificate all the time, on which others come and go: exact names and a wildcard."""
    site = tls_site
    names = ["grown.test", "joins.test", "*.joins.test"]
    shared, own, dotted = make_certificate(names), make_certificate(["joins.test", "*.joins.test"]), "grown.test."
    site.folder.write("secret-grown.yaml", secret_tls("grown", shared), secret_tls("joins", own))
    site.folder.write("grown.yaml", ingress("grown", "grown.test", WEB, tls={"grown": ["grown.test"]}))
    await until_served(site, "grown.test", shared)
    async with (
        Clients(site, "grown.test") as grown,
        Clients(site, "grown.test", dotted) as by_dot,
        Clients(site, "first.test") as first,
        Clients(site, "plain.test") as on_default,
    ):
        await until_nothing_drains(site)
        before = await updates(site)
        certificates = [("grown", shared), ("joins", own), ("grown", shared), ("joins", own)]
        for turn, (secret_name, certificate) in enumerate(certificates, 1):
            for number, host in enumerate(names[1:]):
                site.folder.write(f"joins-{number}.yaml", ingress(f"joins-{number}", host, WEB, tls={secret_name: [host]}))
                await until_served(site, host.replace("*", "any"), certificate)
                assert await certificate_of(site, "grown.test") == shared.x509
            found = await differences(site, before)
            assert (found["listener_modified"], found["listener_in_place_updated"]) == (2 * turn, 2 * turn)
        site.folder.remove("joins-0.yaml")
        site.folder.remove("joins-1.yaml")
        await site.until_status("/", 404, host="any.joins.test")
        await until_nothing_drains(site)
        for clients in (grown, by_dot, first, on_default):
            await clients.assert_undisturbed()


@pytest.mark.asyncio(loop_scope="function")
async def test_the_first_certificate_and_the_last_that_goes_end_no_connection_of_the_default_one(site: Site) -> None:
    certificate = make_certificate(["only.test"])
    site.folder.write(
        "web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]), ingress("plain", "plain.test", WEB)
    )
    await site.start()
    async with Clients(site, "plain.test") as clients:
        before = await updates(site)
        for turn in (1, 2):
            site.folder.write("only.yaml", ingress("only", "only.test", WEB, tls={"only": ["only.test"]}), secret_tls("only", certificate))
            await until_served(site, "only.test", certificate)
            site.folder.remove("only.yaml")

            async def gone() -> bool:
                return is_generated(await certificate_of(site, "only.test"))

            await wait_until(gone, "the only certificate to be gone")
            assert await differences(site, before) == {"listener_modified": 2 * turn, "listener_in_place_updated": 2 * turn}
        await until_nothing_drains(site)
        await clients.assert_undisturbed()


async def differences(site: Site, before: dict[str, int]) -> dict[str, int]:
    """How many changes of listeners there were, and how many of them in place (Envoy counts these twice)."""
    now = await updates(site)
    return {name: now[name] - before[name] for name in ("listener_modified", "listener_in_place_updated")}


async def test_a_secret_that_breaks_keeps_its_certificate_and_one_that_goes_harms_its_host_only(tls_site: Site) -> None:
    site, certificate, renewed = tls_site, make_certificate(["healed.test"]), make_certificate(["healed.test"])
    site.folder.write("healed.yaml", ingress("healed", "healed.test", WEB, tls={"healed": ["healed.test"]}))
    await site.until_status("/", 308, host="healed.test")

    async def on_default() -> bool:
        return is_generated(await certificate_of(site, "healed.test"))

    async with await Http1.open(site.https, tls=Tls("first.test")) as other:
        site.folder.write("secret-healed.yaml", secret_tls("healed", certificate))
        await until_served(site, "healed.test", certificate)
        site.folder.write("secret-healed.yaml", secret("healed", BROKEN["mismatched"]))
        await site.control_plane.process.line("the certificate that it held before stays in place")
        assert await certificate_of(site, "healed.test") == certificate.x509
        site.folder.remove("secret-healed.yaml")
        await wait_until(on_default, "the default certificate for healed.test")
        assert (await site.get("/", host="healed.test", tls=Tls("healed.test"))).app == "web"
        assert await certificate_of(site, "first.test") == CERTIFICATES["first"].x509
        site.folder.write("secret-healed.yaml", secret_tls("healed", renewed))
        await until_served(site, "healed.test", renewed)
        assert (await other.request(host="first.test")).app == "web"
    await site.control_plane.process.line("no longer: ")


async def test_a_host_moves_to_another_secret(tls_site: Site) -> None:
    site, before, after = tls_site, make_certificate(["moved.test"]), make_certificate(["moved.test", "else.test"])
    site.folder.write("secret-moved.yaml", secret_tls("before", before), secret_tls("after", after))
    for name, certificate in (("before", before), ("after", after), ("before", before)):
        site.folder.write("moved.yaml", ingress("moved", "moved.test", WEB, tls={name: ["moved.test"]}))
        await until_served(site, "moved.test", certificate)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hsts_site(tls_site: Site) -> Site:
    """A host that answers in every way."""
    own = RawHttp(b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n")
    paths = {"/": "web", "/own": "own-hsts", "/reset": "resetting", "/gone": "gone"}
    tls_site.folder.write(
        "hsts.yaml",
        ingress("hsts", "hsts.test", {path: (name, 80) for path, name in paths.items()}),
        ingress("hsts-moved", "hsts.test", {"/moved": ("web", 80)}, {"permanent-redirect": "http://else.test/"}),
        ingress("hsts-small", "hsts.test", {"/small": ("web", 80)}, {"proxy-body-size": "1"}),
        *(service(name) for name in ("own-hsts", "resetting", "gone")),
        endpoint_slice("own-hsts", [await tls_site.run(own)]),
        endpoint_slice("resetting", [await tls_site.run(Resetting())]),
    )
    await tls_site.until_answered("/", "web", host="hsts.test")
    return tls_site


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("hsts.test", "/", 200),
        ("hsts.test", "/status/404", 404),
        ("hsts.test", "/own", 200),
        ("hsts.test", "/reset", 502),
        ("hsts.test", "/gone", 503),
        ("hsts.test", "/moved", 301),
        ("hsts.test", "/small", 413),
        ("unknown.test", "/", 404),
    ],
)
async def test_hsts_is_said_once_on_https_whatever_the_answer_is_and_never_on_http(
    hsts_site: Site, host: str, path: str, status: int
) -> None:
    body = b"four" if path == "/small" else b""
    secure = await hsts_site.get(path, host=host, tls=Tls(host), body=body)
    assert (secure.status, secure.all("strict-transport-security")) == (status, [HSTS])
    plain = await hsts_site.get(path, host=host, body=body)
    assert (plain.status, plain.all("strict-transport-security")) == (status, ["max-age=1"] if path == "/own" else [])


async def test_the_health_check_has_no_hsts_as_in_nginx(hsts_site: Site) -> None:
    answer = await hsts_site.get("/healthz", host="unknown.test", tls=Tls("unknown.test"))
    assert (answer.status, answer.all("strict-transport-security")) == (200, [])


async def test_hsts_is_said_where_a_request_cannot_even_be_read(hsts_site: Site) -> None:
    async with await Http1.open(hsts_site.https, tls=Tls("hsts.test")) as connection:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = await connection.receive()
    assert (answer.status, answer.all("strict-transport-security")) == (400, [HSTS])


async def test_no_private_key_is_in_a_log_or_on_an_admin_page(tls_site: Site) -> None:
    site, certificate = tls_site, make_certificate(["leak.test"])
    as_text = certificate.key_pem.decode().replace("\n", "\n    ")
    site.folder.write_text("broken.yaml", f"kind: Secret\nstringData:\n  tls.key: |\n    {as_text}\n\t{as_text}: [")
    await site.control_plane.process.line("broken.yaml")
    page = await site.envoy.ask("/config_dump?include_eds") + await site.envoy.ask("/certs")
    said = {process.name: "\n".join([*process.stdout, *process.stderr]) for process in site.processes} | {"admin": page}
    assert base64.b64encode(CERTIFICATES["first"].cert_pem).decode() in page
    keys = [
        certificate.key_pem,
        *(found.key_pem for found in CERTIFICATES.values()),
        *(data.get("tls.key", b"") for data in BROKEN.values()),
    ]
    secrets = {line.decode() for key in keys for line in key.splitlines() if line} | {
        base64.b64encode(key).decode()[:60] for key in keys if key
    }
    assert any("PRIVATE KEY" in found for found in secrets)
    assert {(name, found) for name, text in said.items() for found in secrets if found in text} == set()


@pytest.mark.asyncio(loop_scope="function")
async def test_the_default_certificate_outlives_a_restart_in_the_state_folder_until_a_secret_replaces_it(
    site: Site, tmp_path: Path
) -> None:
    state, standard = tmp_path / "state", make_certificate(["*.standard.test"])
    site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]), ingress("web", "a.test", WEB))
    flags = ("--state-dir", str(state), "--default-ssl-certificate", "default/standard")
    await site.start(*flags)
    await site.control_plane.process.line("Secret default/standard: --default-ssl-certificate: the Secret does not exist")
    made = await certificate_of(site, "a.test")
    assert is_generated(made)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in state.iterdir()} == {"default.crt": 0, "default.key": 0}

    await site.control_plane.stop()
    await site.start_control_plane(*flags)
    second = await site.start_envoy()
    assert await certificate_of(site, "a.test") == made
    held = await second.versions()
    assert held["secret"] == (await site.envoy.versions())["secret"]

    site.folder.write("standard.yaml", secret_tls("standard", standard))
    for host in ("a.test", "unknown.test", None):
        await until_served(site, host, standard)
    assert (await second.versions())["listener"] == held["listener"]
    site.folder.write("standard.yaml", secret("standard", BROKEN["mismatched"]))
    await site.control_plane.process.line("the certificate that it held before stays in place")
    assert await certificate_of(site, None) == standard.x509
    site.folder.remove("standard.yaml")

    async def generated() -> bool:
        return await certificate_of(site, None) == made

    await wait_until(generated, "the generated certificate to be back")
