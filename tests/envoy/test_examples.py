"""The Ingresses of examples/, with something small in the place of each project."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from aiohttp import web

from examples.apps import Address, HttpApp
from tests import quick_yaml
from tests.envoy.harness import (
    GrpcEcho,
    Http1,
    NameServer,
    Site,
    Tls,
    WebSocket,
    config_map,
    endpoint_slice,
    endpoint_slices,
    grpc_call,
    make_certificate,
    resolving,
    secret,
    secret_tls,
    server_context,
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
    bootstrap = quick_yaml.safe_load(await site.control_plane.bootstrap("envoy-1"))
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


LARGE = 3 << 20
"""Bytes of an upload that ingress-nginx refuses without an annotation."""


async def uploaded(site: Site, target: str, host: str) -> tuple[str, int]:
    """The application that took a large upload, and how much it got."""
    async with await Http1.open(site.https, tls=Tls(sni=host)) as client:
        answer = await client.request("PUT", target, host=host, body=b"x" * LARGE)
    assert answer.status == 200, answer
    return answer.app, answer.json()["body_length"]


async def test_nextcloud_is_found_at_the_addresses_that_clients_know(site: Site) -> None:
    host = "cloud.example.com"
    nextcloud = await site.run(HttpApp("nextcloud"))
    copied(site, "nextcloud/ingress.yaml")
    allowed = config_map("controller", {"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"})
    site.folder.write("nextcloud.yaml", service("nextcloud", 8080), endpoint_slice("nextcloud", [nextcloud]), allowed)
    site.folder.write("secret.yaml", secret_tls("nextcloud-tls", make_certificate([host])))
    await site.start("--configmap", "default/controller")
    tls = Tls(sni=host)
    await site.until_answered("/apps/files", "nextcloud", host=host, tls=tls)
    for name in ("webfinger", "nodeinfo"):
        found = await site.get(f"/.well-known/{name}?resource=x", host=host, tls=tls)
        assert found.json()["path"] == f"/index.php/.well-known/{name}?resource=x"
    moved = [await site.get(f"/.well-known/{name}", host=host, tls=tls) for name in ("carddav", "caldav")]
    assert [(each.status, each.header("location")) for each in moved] == [(301, f"https://{host}/remote.php/dav")] * 2
    closed = {path: (await site.get(path, host=host, tls=tls)).status for path in ("/data/x", "/config/config.php", "/occ", "/console.php")}
    assert set(closed.values()) == {403}, closed
    assert await uploaded(site, "/remote.php/dav/files/me/film", host) == ("nextcloud", LARGE)


async def test_gitlab_takes_uploads_and_its_registry_images(site: Site) -> None:
    web, registry = "gitlab.example.com", "registry.example.com"
    gitlab, images = await site.run(HttpApp("gitlab"), "127.0.0.9"), await site.run(HttpApp("images"))
    # Its Service's own address is asked (service-upstream), where the application is at a port of its own here.
    site.folder.write_text("ingress.yaml", (EXAMPLES / "gitlab/ingress.yaml").read_text().replace("8181", str(gitlab[1])))
    name = "gitlab-webservice-default"
    site.folder.write("gitlab.yaml", service(name, gitlab[1], cluster_ip=gitlab[0]), endpoint_slice(name, [gitlab]))
    site.folder.write("registry.yaml", service("gitlab-registry", 5000), endpoint_slice("gitlab-registry", [images]))
    site.folder.write("secrets.yaml", *(secret_tls(f"{host.partition('.')[0]}-tls", make_certificate([host])) for host in (web, registry)))
    await site.start()
    await site.until_answered("/users/sign_in", "gitlab", host=web, tls=Tls(sni=web))
    assert await uploaded(site, "/group/project.git/git-receive-pack", web) == ("gitlab", LARGE)
    assert await uploaded(site, "/v2/group/project/blobs/uploads/1", registry) == ("images", LARGE)
    async with await WebSocket.open(site.https, "/-/cable/ws", host=web, tls=Tls(sni=web)) as cable:
        assert await cable.ask(b"subscribe") == b"subscribe"


async def test_harbor_is_several_services_under_one_host(site: Site) -> None:
    host = "harbor.example.com"
    copied(site, "harbor/ingress.yaml")
    for name in ("harbor-core", "harbor-portal"):
        site.folder.write(f"{name}.yaml", service(name), endpoint_slice(name, [await site.run(HttpApp(name))]))
    site.folder.write("secret.yaml", secret_tls("harbor-ingress", make_certificate([host])))
    await site.start()
    tls = Tls(sni=host)
    await site.until_answered("/harbor/projects", "harbor-portal", host=host, tls=tls)
    answered = {path: (await site.get(path, host=host, tls=tls)).app for path in ("/api/v2.0/ping", "/service/token", "/v2/", "/c/login")}
    assert set(answered.values()) == {"harbor-core"}, answered
    assert await uploaded(site, "/v2/library/image/blobs/uploads/1", host) == ("harbor-core", LARGE)


async def test_rancher_has_a_host_without_paths(site: Site) -> None:
    host = "rancher.example.com"
    copied(site, "rancher/ingress.yaml")
    site.folder.write("rancher.yaml", service("rancher"), endpoint_slice("rancher", [await site.run(HttpApp("rancher"))]))
    site.folder.write("secret.yaml", secret_tls("tls-rancher-ingress", make_certificate([host])))
    await site.start()
    tls = Tls(sni=host)
    await site.until_answered("/", "rancher", host=host, tls=tls)
    shell = "/k8s/clusters/local/api/v1/namespaces/default/pods/web/exec/ws"
    async with await WebSocket.open(site.https, shell, host=host, tls=tls) as websocket:
        assert await websocket.ask(b"ls") == b"ls"
    assert (await site.get("/dashboard", host=host)).status == 308


async def test_prometheus_is_behind_a_password(site: Site) -> None:
    host = "prometheus.example.com"
    copied(site, "prometheus/ingress.yaml")
    prometheus = await site.run(HttpApp("prometheus"))
    site.folder.write(
        "prometheus.yaml", service("prometheus-k8s", {"web": 9090}), endpoint_slice("prometheus-k8s", [prometheus], port_name="web")
    )
    site.folder.write("secret.yaml", secret("basic-auth", {"auth": b"ann:$apr1$saltsalt$HIDXe7D36X22w1CH4M1cQ.\n"}))
    await site.start_control_plane()
    await site.start_beside_authz()
    asked = await site.until_status("/graph", 401, host=host)
    assert asked.header("www-authenticate") == 'Basic realm="Authentication Required"'
    given = {word: base64.b64encode(f"ann:{word}".encode()).decode() for word in ("open sesame", "wrong")}
    statuses = {
        word: (await site.get("/graph", host=host, headers=[("Authorization", f"Basic {text}")])).status for word, text in given.items()
    }
    assert statuses == {"open sesame": 200, "wrong": 401}


async def test_the_kubernetes_dashboard_speaks_tls_and_is_under_a_path(site: Site) -> None:
    host, name = "k8s.example.com", "kubernetes-dashboard-kong-proxy"
    copied(site, "kubernetes-dashboard/ingress.yaml")
    kong = await site.run(HttpApp("kong", tls=server_context(make_certificate(["kong"]))))
    certificate = make_certificate([host])
    site.folder.write("kong.yaml", service(name, 443), endpoint_slice(name, [kong]), secret_tls("kubernetes-dashboard-certs", certificate))
    await site.start()
    tls = Tls(sni=host, roots=certificate.cert_pem)
    await site.until_answered("/dashboard/", "kong", host=host, tls=tls)
    sent = ["/dashboard", "/dashboard/", "/dashboard/api/v1/pod?ns=a"]
    assert [(await site.get(path, host=host, tls=tls)).json()["path"] for path in sent] == ["/", "/", "/api/v1/pod?ns=a"]
    assert (await site.get("/dashboard/", host=host)).status == 308
