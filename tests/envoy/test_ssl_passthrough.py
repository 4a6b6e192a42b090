"""ssl-passthrough: TLS goes to the backend as it is, and what begins or ends to pass through disturbs no other host."""

from __future__ import annotations

import ssl

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import (
    Http1,
    Site,
    Tls,
    WebSocket,
    backend,
    config_map,
    endpoint_slice,
    ingress,
    make_certificate,
    secret_tls,
    service,
    wait_until,
)
from tests.envoy.harness.tls import server_context
from tests.envoy.test_tls import Clients, certificate_of, differences, is_generated, until_nothing_drains, until_served, updates

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

PASS = {"ssl-passthrough": "true"}
OWN, OTHER, SECRET = make_certificate(["pass.test"]), make_certificate(["other.test"]), make_certificate(["pass.test"])
ALPN = "spoken-by-nobody-else"


class Backends:
    """A Service whose own address speaks TLS, while its endpoints speak plain http; and another that has endpoints alone."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def run(self) -> None:
        run = self.site.run
        self.own = await run(HttpApp("by-address", tls=server_context(OWN, alpn=[ALPN, "http/1.1"])), "127.0.0.9")
        self.web = await run(HttpApp("web"))
        self.other = await run(HttpApp("other", tls=server_context(OTHER)))
        self.site.folder.write("web.yaml", *backend("web", self.web))
        self.site.folder.write("pass.yaml", service("pass", self.own[1], cluster_ip=self.own[0]), endpoint_slice("pass", [self.web]))
        self.site.folder.write("other.yaml", *backend("other", self.other))

    def host(self, name: str, to: str = "pass", **more: object) -> None:
        """An Ingress of its own for a host that passes through."""
        port = self.own[1] if to == "pass" else 80
        self.site.folder.write(f"host-{name}.yaml", ingress(name.strip("*."), name, {"/": (to, port)}, PASS, **more))  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends(shared_site: Site) -> Backends:
    made, write = Backends(shared_site), shared_site.folder.write
    await made.run()
    made.host("pass.test", tls={"beside": ["pass.test"]})
    made.host("plain.pass.test")
    made.host("other.test", "other")
    made.host("*.wild.test")
    write("beside.yaml", secret_tls("beside", SECRET))
    write("web-host.yaml", ingress("web", "web.test", {"/": ("web", 80)}))
    write("tcp.yaml", config_map("tcp", {}))
    await shared_site.start("--enable-ssl-passthrough", "--tcp-services-configmap", "default/tcp")
    await shared_site.until_answered("/", "web", host="web.test")
    return made


@pytest.fixture
def site(backends: Backends) -> Site:
    return backends.site


async def is_reset(site: Site, host: str) -> bool:
    """Whether a client that names this host gets no TLS at all."""
    return bool(await fault(site, host))


async def fault(site: Site, host: str) -> str:
    """Why a client that names this host gets no TLS, as its library says it; "" where it gets TLS."""
    try:
        connection = await Http1.open(site.https, tls=Tls(host))
    except ssl.SSLError as error:
        return str(error.reason)
    except OSError as error:
        return type(error).__name__
    await connection.close()
    return ""


async def until_reset(site: Site, host: str) -> None:
    async def look() -> bool:
        return await is_reset(site, host)

    await wait_until(look, f"TLS of {host} to be reset")


@pytest.mark.parametrize("sni", ["pass.test", "PASS.test", "pass.test.", "plain.pass.test"])
async def test_the_backend_ends_tls_with_its_own_certificate_and_sees_what_the_client_sent(site: Site, sni: str) -> None:
    async with await Http1.open(site.https, tls=Tls(sni, (ALPN, "h2"))) as connection:
        assert (connection.certificate, connection.alpn) == (OWN.x509, ALPN)
        answer = await connection.request(target="/a//b?c", host="pass.test", headers=[("X-Forwarded-For", "192.0.2.1")])
        assert (answer.app, answer.json()["path"]) == ("by-address", "/a//b?c")
        assert {name.lower() for name, _ in answer.json()["headers"]} <= {"host", "x-forwarded-for"}
        assert answer.received("x-forwarded-for") == ["192.0.2.1"]
        assert (answer.header("strict-transport-security"), (await connection.request(host="pass.test")).app) == (None, "by-address")


async def test_a_client_that_trusts_the_backend_alone_is_satisfied_and_a_websocket_passes(site: Site) -> None:
    trusting = Tls("pass.test", roots=OWN.cert_pem)
    assert (await site.get("/", host="pass.test", tls=trusting)).app == "by-address"
    async with await WebSocket.open(site.https, host="pass.test", tls=trusting) as websocket:
        assert await websocket.ask(b"hello") == b"hello"


async def test_plain_http_goes_to_the_endpoints_or_to_https_as_without_it(site: Site) -> None:
    plain = await site.get("/x", host="plain.pass.test")
    assert (plain.app, plain.received("x-forwarded-proto")) == ("web", ["http"])
    assert (await site.get("/x", host="pass.test")).header("location") == "https://pass.test/x"


async def test_the_server_name_decides_whatever_the_host_header_says(site: Site) -> None:
    assert (await site.get("/", host="web.test", tls=Tls("pass.test"))).app == "by-address"
    for sni in ("web.test", None):
        async with await Http1.open(site.https, tls=Tls(sni)) as connection:
            assert is_generated(connection.certificate)
            answer = await connection.request(host="plain.pass.test")
            assert (answer.app, answer.received("x-forwarded-proto")) == ("web", ["https"])


async def test_hosts_are_passed_to_their_own_backends_and_wildcards_to_none(site: Site) -> None:
    assert await certificate_of(site, "other.test") == OTHER.x509
    assert (await site.get("/", host="other.test", tls=Tls("other.test"))).app == "other"
    assert is_generated(await certificate_of(site, "any.wild.test"))


async def test_a_connection_that_passed_through_has_a_line_in_the_access_log(site: Site) -> None:
    answer = await site.get("/" + "y" * 3000, host="other.test", tls=Tls("other.test"))
    assert answer.app == "other"
    line = await site.envoy.process.line(" TCP 200 ")
    assert line.startswith("[127.0.0.1] [")


async def test_a_host_begins_and_ends_to_pass_through_and_nobody_else_is_disturbed(backends: Backends, site: Site) -> None:
    certificate, steady = make_certificate(["turning.test"]), make_certificate(["steady.test"])
    tls = {"turning": ["turning.test"]}
    site.folder.write("turning-secret.yaml", secret_tls("turning", certificate), secret_tls("steady", steady))
    site.folder.write("steady.yaml", ingress("steady", "steady.test", {"/": ("web", 80)}, tls={"steady": ["steady.test"]}))
    site.folder.write("host-turning.test.yaml", ingress("turning.test", "turning.test", {"/": ("web", 80)}, tls=tls))
    await until_served(site, "turning.test", certificate)
    await until_served(site, "steady.test", steady)
    async with (
        Clients(site, "web.test") as on_default,
        Clients(site, "steady.test") as on_steady,
        await Http1.open(site.https, tls=Tls("pass.test")) as passed,
    ):
        assert (await passed.request(host="pass.test")).app == "by-address"
        await until_nothing_drains(site)
        before = await updates(site)
        for turn in (1, 2):
            backends.host("turning.test", tls=tls)
            await until_served(site, "turning.test", OWN)
            site.folder.write("host-turning.test.yaml", ingress("turning.test", "turning.test", {"/": ("web", 80)}, tls=tls))
            await until_served(site, "turning.test", certificate)
            found = await differences(site, before)
            assert (found["listener_modified"], found["listener_in_place_updated"]) == (2 * turn, 2 * turn)
        await until_nothing_drains(site)
        for clients in (on_default, on_steady):
            await clients.assert_undisturbed()
        assert (await passed.request(host="pass.test")).app == "by-address"
    site.folder.remove("host-turning.test.yaml")


async def test_without_endpoints_connections_are_reset_and_those_that_come_touch_no_listener(backends: Backends, site: Site) -> None:
    site.folder.write("later.yaml", *backend("later"))
    backends.host("later.test", "later")
    await until_reset(site, "later.test")
    before = await updates(site)
    site.folder.write("later.yaml", *backend("later", backends.other))
    await until_served(site, "later.test", OTHER)
    assert await updates(site) == before
    site.folder.write("later.yaml", *backend("later"))
    await until_reset(site, "later.test")
    assert await updates(site) == before


async def test_what_has_nowhere_to_go_is_reset_and_not_read(backends: Backends, site: Site) -> None:
    """Not under the certificate of the Secret beside it either: a client would hand over what it meant for the backend."""
    site.folder.write(
        "sub.yaml",
        ingress("sub", "sub.test", {"/sub": ("web", 80)}, PASS, tls={"sub": ["sub.test"]}),
        secret_tls("sub", make_certificate(["sub.test"])),
    )
    await until_reset(site, "sub.test")
    await site.control_plane.process.line('no rule of the host has the path "/"')
    site.folder.write("sub.yaml", ingress("sub", "sub.test", {"/sub": ("web", 80), "/": ("other", 80)}, PASS))
    await until_served(site, "sub.test", OTHER)
    site.folder.write("sub.yaml", ingress("sub", "sub.test", {"/": ("missing", 80)}, PASS))
    await until_reset(site, "sub.test")
    assert await fault(site, "sub.test") == "TLSV1_ALERT_INTERNAL_ERROR"
    assert (await site.get("/", host="web.test", tls=Tls("web.test"))).app == "web"


async def test_a_service_that_leads_back_is_refused(backends: Backends, site: Site) -> None:
    """Else one connection would become another one without end."""

    def lead_to(address: Address) -> None:
        host = ingress("loop", "loop.test", {"/": ("loop", 80)}, PASS)
        site.folder.write("loop.yaml", service("loop"), endpoint_slice("loop", [address]), host)

    stream = site.ports.take()
    site.folder.write("tcp.yaml", config_map("tcp", {str(stream): "default/other:80"}))
    for port in (site.https[1], stream):
        lead_to(backends.other)
        await until_served(site, "loop.test", OTHER)
        lead_to(("127.0.0.1", port))
        await until_reset(site, "loop.test")
        await site.control_plane.process.line("Service default/loop leads back to this Envoy")


async def test_nothing_was_rejected(site: Site) -> None:
    found = await site.envoy.stats("update_rejected$")
    assert found
    assert not any(found.values())
