"""The Ingresses of examples/, with something small in the place of each project."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml
from aiohttp import web

from examples.apps import Address, HttpApp
from tests.envoy.harness import (
    GrpcEcho,
    NameServer,
    Site,
    Tls,
    WebSocket,
    endpoint_slice,
    endpoint_slices,
    grpc_call,
    make_certificate,
    resolving,
    secret_tls,
    service,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]

EXAMPLES = Path(__file__).parents[2] / "examples"


def copied(site: Site, *names: str) -> None:
    """Give the management server these files of examples/."""
    for name in names:
        site.folder.write_text(name.replace("/", "-"), (EXAMPLES / name).read_text())


class OAuth2Proxy:
    """As much of oauth2-proxy as an Ingress sees: who has the cookie is let in; the login is that of nobody, and always succeeds."""

    def __init__(self) -> None:
        app = web.Application()
        app.router.add_get("/oauth2/auth", self._auth)
        app.router.add_get("/oauth2/start", self._start)
        app.router.add_get("/oauth2/callback", self._callback)
        self._runner = web.AppRunner(app)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, on a free port if `port` is 0, and return where."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        found: Address = self._runner.addresses[0][:2]
        return found

    async def stop(self) -> None:
        """Close what listens and every connection."""
        await self._runner.cleanup()

    async def _auth(self, request: web.Request) -> web.Response:
        if request.cookies.get("_oauth2_proxy") != "a-session":
            return web.Response(status=401)
        return web.Response(status=202, headers={"X-Auth-Request-User": "ada", "X-Auth-Request-Email": "ada@example.com"})

    async def _start(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/oauth2/callback?state=" + quote(request.query["rd"], safe="")})

    async def _callback(self, request: web.Request) -> web.Response:
        cookie = "_oauth2_proxy=a-session; Path=/; HttpOnly; Secure"
        return web.Response(status=302, headers={"Location": request.query["state"], "Set-Cookie": cookie})


async def test_oauth2_proxy_lets_in_who_has_logged_in_and_leads_back_to_the_page_that_was_asked_for(site: Site) -> None:
    host = "dashboard.example.com"
    dashboard, proxy = await site.run(HttpApp("dashboard")), await site.run(OAuth2Proxy())
    names = await site.run(NameServer({host: ["127.0.0.1"]}))
    await site.start_control_plane()
    # Here https is not on port 443, which the example may leave out.
    text = (EXAMPLES / "oauth2-proxy/ingress.yaml").read_text()
    asked = '"https://$host/oauth2/auth"'
    assert asked in text
    site.folder.write_text("ingress.yaml", text.replace(asked, f'"https://$host:{site.https[1]}/oauth2/auth"'))
    site.folder.write("secret.yaml", secret_tls("dashboard-tls", make_certificate([host])))
    site.folder.write("dashboard.yaml", service("dashboard"), endpoint_slice("dashboard", [dashboard]))
    site.folder.write("proxy.yaml", service("oauth2-proxy", 4180), endpoint_slice("oauth2-proxy", [proxy]))
    bootstrap = yaml.safe_load(await site.control_plane.bootstrap("envoy-1"))
    await site.static_envoy(resolving(bootstrap, names))
    tls, page = Tls(sni=host), "/boards/7?tab=b&x=1"
    begin = await site.until_status(page, 302, host=host, tls=tls)
    where = urlsplit(begin.header("location") or "")
    assert (where.scheme, where.netloc, where.path) == ("https", host, "/oauth2/start")
    assert parse_qs(where.query)["rd"] == [page]
    started = await site.get(f"{where.path}?{where.query}", host=host, tls=tls)
    back = await site.get(started.header("location") or "", host=host, tls=tls)
    cookie = (back.header("set-cookie") or "").partition(";")[0]
    let_in = await site.get(back.header("location") or "", host=host, tls=tls, headers=[("Cookie", cookie)])
    assert (let_in.app, let_in.json()["path"]) == ("dashboard", page)
    assert let_in.received("x-auth-request-user") == ["ada"]
    forged = [("Cookie", "_oauth2_proxy=b"), ("X-Auth-Request-User", "ada")]
    assert (await site.get(page, host=host, tls=tls, headers=forged)).status == 302
    assert (await site.get(page, host=host)).status == 308


async def test_argo_cd_speaks_tls_itself_through_passthrough(site: Site) -> None:
    host = "argocd.example.com"
    own = make_certificate([host])
    server = await site.run(GrpcEcho("argocd", own), "127.0.0.9")
    copied(site, "argo-cd/passthrough.yaml")
    ports = {"http": 80, "https": server[1]}
    site.folder.write("argocd.yaml", service("argocd-server", ports, cluster_ip=server[0]), endpoint_slice("argocd-server", [server]))
    await site.start("--enable-ssl-passthrough")
    await site.until_status("/", 308, host=host)
    assert await grpc_call(site.https, b"login", host=host, roots=own.cert_pem) == b"argocd: login"


async def test_argo_cd_has_a_host_for_the_page_and_one_for_grpc_where_tls_ends_here(site: Site) -> None:
    page, line = "argocd.example.com", "grpc.argocd.example.com"
    certificates = {page: make_certificate([page]), line: make_certificate([line])}
    web_page, command_line = await site.run(HttpApp("page")), await site.run(GrpcEcho("line"))
    copied(site, "argo-cd/terminated.yaml")
    site.folder.write(
        "argocd.yaml",
        service("argocd-server", {"http": 80, "https": 443}),
        endpoint_slice("argocd-server", [web_page], port_name="http", name="argocd-http"),
        endpoint_slice("argocd-server", [command_line], port_name="https", name="argocd-https"),
        secret_tls("argocd-server-http-tls", certificates[page]),
        secret_tls("argocd-server-grpc-tls", certificates[line]),
    )
    await site.start()
    await site.until_answered("/applications", "page", host=page, tls=Tls(sni=page, roots=certificates[page].cert_pem))
    assert await grpc_call(site.https, b"version", host=line, roots=certificates[line].cert_pem) == b"line: version"
    assert {(await site.get("/", host=host)).status for host in certificates} == {308}


async def test_grafana_is_under_a_path_that_is_taken_off(site: Site) -> None:
    host = "monitoring.example.com"
    grafana = await site.run(HttpApp("grafana"))
    copied(site, "grafana/ingress.yaml")
    site.folder.write("grafana.yaml", service("grafana"), endpoint_slice("grafana", [grafana]))
    await site.start()
    await site.until_answered("/grafana/", "grafana", host=host)
    sent = ["/grafana", "/grafana/", "/grafana/d/uid/board?orgId=1", "/grafana/public/build/app.js"]
    seen = [(await site.get(path, host=host)).json()["path"] for path in sent]
    assert seen == ["/", "/", "/d/uid/board?orgId=1", "/public/build/app.js"]
    async with await WebSocket.open(site.http, "/grafana/api/live/ws", host=host) as live:
        await live.send(b"subscribe")
        assert await live.receive() == (1, b"subscribe")
    assert (await site.get("/", host=host)).status == 404


async def test_keycloak_is_told_its_own_address_and_a_login_stays_with_its_server(site: Site) -> None:
    host = "keycloak.example.com"
    servers = [await site.run(HttpApp(f"keycloak-{number}")) for number in range(3)]
    copied(site, "keycloak/ingress.yaml")
    slices = endpoint_slices("keycloak", servers)
    site.folder.write("keycloak.yaml", service("keycloak", 8080), *slices, secret_tls("keycloak-tls", make_certificate([host])))
    await site.start()
    tls = Tls(sni=host)
    first = await site.until_status("/realms/master", 200, host=host, tls=tls)
    told = {name: first.received(f"x-forwarded-{name}") for name in ("proto", "host", "port")}
    assert told == {"proto": ["https"], "host": [host], "port": ["443"]}
    cookie = [("Cookie", (first.header("set-cookie") or "").partition(";")[0])]
    assert cookie[0][1].startswith("KC_ROUTE=")
    again = {(await site.get("/realms/master", host=host, tls=tls, headers=cookie)).app for _ in range(12)}
    without = {(await site.get("/realms/master", host=host, tls=tls)).app for _ in range(12)}
    assert again == {first.app}
    assert len(without) == 3


async def test_a_grpc_server_without_tls_answers_clients_that_speak_tls(site: Site) -> None:
    host = "grpc.example.com"
    certificate = make_certificate([host])
    greeter = await site.run(GrpcEcho("greeter"))
    copied(site, "grpc/ingress.yaml")
    slices = endpoint_slice("greeter", [greeter])
    site.folder.write("greeter.yaml", service("greeter"), slices, secret_tls("greeter-tls", certificate))
    await site.start()
    await site.until_status("/", 308, host=host)
    assert await grpc_call(site.https, b"hello", host=host, roots=certificate.cert_pem) == b"greeter: hello"
