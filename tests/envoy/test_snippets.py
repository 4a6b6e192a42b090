"""Snippets through a real Envoy: what clients and backends see of it, and what stays closed."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

SNIPPETS = {
    "always": 'add_header X-A "50% of \\"$host\\"; \\x41" always; add_header X-Ns $namespace/$ingress_name/$service_name always;',
    "usual": "add_header X-A $request_method; expires 1h;",
    "more": "more_set_headers -s 404 'X-Lost: yes'; more_set_headers 'Content-Type: text/x-own'; more_clear_headers 'X-App*';",
    "variables": "more_set_headers 'X-V: $arg_b|$cookie_c|$scheme|$remote_addr|$http_x_none|$uri|$is_args$args';",
    "request": "proxy_set_header X-User $http_x_claim; proxy_set_header Accept ''; proxy_set_header Host in.test; "
    "proxy_set_header X-B %REQ(x)%;",
    "answers": (
        'if ($uri = /body) { return 200 \'from $remote_addr: {"a": "$arg_a"}\'; } if ($uri = /gone) { return 410; } '
        "if ($uri = /teapot) { return 418; } if ($uri = /no) { return 405; } if ($uri = /empty) { return 204; } "
        "if ($uri = /fields) { return 431; } if ($uri = /none) { return 200 '[$ssl_protocol$content_type]'; } "
        "rewrite ^/ask/(.*)$ /find?q=$1 redirect; rewrite ^/only/(.*)$ /find?q=$1? redirect; "
        "if ($request_uri ~ ^/from/([a-z]+)/(.*)$) { return 301 /to/$2/$1; } "
        "if ($http_x_tenant ~* ^([a-z]+)-) { return 302 https://$1.test$request_uri; } "
        "if ($host ~ ^(.+)[.]answers[.]test$) { return 308 https://$server_name/$1$request_uri; } "
        "rewrite ^/old/(.*)/(.*)$ /$2/$1 redirect; rewrite ^/cut/(.*)$ https://e.test/$1? permanent;"
    ),
    "rewrites": "rewrite ^/a/(.*)$ /b/$1 break; return 418;",
    "addresses": "deny 127.0.0.0/8; allow all;",
    "lets-in": "if ($uri = /public) { return 200 public; } allow 127.0.0.0/8; deny all;",
    "closed": "auth_request /check; more_set_headers 'X-A: b';",
}

SERVER = """
more_set_headers "X-Both: server" "X-Server: yes";
if ($http_x_bad) { return 403; }
location = /healthy { default_type text/plain; return 200 "fine"; }
location /inner { deny all; }
location ~* \\.php$ { return 404; }
location /nobody { auth_basic on; }
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    allowed = {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true"}
    made = [ingress(name, f"{name}.test", {"/": ("web", 80)}, {"configuration-snippet": text}) for name, text in SNIPPETS.items()]
    made += [
        ingress("wild", "*.answers.test", {"/": ("web", 80)}, {"configuration-snippet": SNIPPETS["answers"]}),
        ingress("nameless", "", {"/nameless": ("web", 80)}, {"configuration-snippet": "add_header X-Name $server_name;"}),
        ingress("server", "server.test", {"/": ("web", 80)}, {"server-snippet": SERVER}),
        ingress("inner", "server.test", {"/inner/deep": ("web", 80)}, {"configuration-snippet": "more_set_headers 'X-Both: location';"}),
        ingress("shut", "shut.test", {"/a": ("web", 80)}, {"server-snippet": "auth_basic on;"}),
        ingress("shut-too", "shut.test", {"/b": ("web", 80)}),
    ]
    shared_site.folder.write("all.yaml", *backend("web", app), config_map("controller", allowed), *made)
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="always.test")
    return shared_site


async def test_values_are_text_but_for_variables(site: Site) -> None:
    answer = await site.get("/", host="always.test")
    assert answer.header("X-A") == '50% of "always.test"; \\x41'
    assert answer.header("X-Ns") == "default/always/web"


async def test_add_header_and_expires_hold_for_the_usual_statuses(site: Site) -> None:
    answer = await site.get("/", host="usual.test")
    assert (answer.header("X-A"), answer.header("Cache-Control")) == ("GET", "max-age=3600")
    assert (answer.header("Expires") or "").endswith(" GMT")
    answer = await site.get("/status/404", host="usual.test")
    assert (answer.status, answer.header("X-A"), answer.header("Cache-Control"), answer.header("Expires")) == (404, None, None, None)


async def test_more_set_headers_replaces_and_heeds_the_status(site: Site) -> None:
    answer = await site.get("/", host="more.test")
    assert (answer.header("Content-Type"), answer.header("X-Lost"), answer.header("X-App")) == ("text/x-own", None, None)
    assert (await site.get("/status/404", host="more.test")).header("X-Lost") == "yes"


async def test_variables_stand_for_what_they_do_in_nginx(site: Site) -> None:
    answer = await site.get("/p?a=1&B=2&b=3", host="variables.test", headers=[("cookie", "x=y; C=d; c=e")])
    assert answer.header("X-V") == "2|d|http|127.0.0.1||/p|?a=1&B=2&b=3"
    assert (await site.get("/p", host="variables.test")).header("X-V") == "||http|127.0.0.1||/p|"


@pytest.mark.parametrize("claims", [[], ["me"]])
async def test_a_client_cannot_send_what_a_snippet_sets(site: Site, claims: list[str]) -> None:
    sent = [("x-user", "root"), ("accept", "text/html"), *(("x-claim", claim) for claim in claims)]
    answer = await site.get("/", host="request.test", headers=sent)
    got = [answer.received(name) for name in ("x-user", "accept", "host", "x-b")]
    assert got == [claims, [], ["in.test"], ["%REQ(x)%"]]


@pytest.mark.parametrize(
    ("path", "status", "body", "location"),
    [
        ("/body?a=b", 200, 'from 127.0.0.1: {"a": "b"}', None),
        ("/none", 200, "[]", None),
        ("/teapot", 418, "", None),
        ("/empty", 204, "", None),
        ("/old/x/y?q=1", 302, None, "http://answers.test/y/x?q=1"),
        ("/cut/x/y?q=1", 301, None, "https://e.test/x/y"),
        ("/ask/x", 302, None, "http://answers.test/find?q=x"),
        ("/ask/x?y=1", 302, None, "http://answers.test/find?q=x&y=1"),
        ("/only/x?y=1", 302, None, "http://answers.test/find?q=x"),
        ("/from/a/b?c=d", 301, None, "http://answers.test/to/b?c=d/a"),
        ("/from/A/b", 200, None, None),
    ],
)
async def test_what_is_answered_here(site: Site, path: str, status: int, body: str | None, location: str | None) -> None:
    answer = await site.get(path, host="answers.test")
    assert (answer.status, answer.header("Location")) == (status, location)
    assert body is None or answer.body.decode() == body


async def test_what_an_if_has_found_may_stand_in_an_address(site: Site) -> None:
    by_header = await site.get("/a?b", host="answers.test", headers=[("X-Tenant", "ACME-1")])
    assert (by_header.status, by_header.header("Location")) == (302, "https://ACME.test/a?b")
    for host in ("www", "WWW"):
        by_host = await site.get("/a?b", host=f"{host}.Answers.test:8080")
        assert (by_host.status, by_host.header("Location")) == (308, f"https://*.answers.test/{host}/a?b")


async def test_the_server_of_all_other_hosts_has_the_name_that_nginx_gives_it(site: Site) -> None:
    assert (await site.get("/nameless", host="other.test")).header("X-Name") == "_"


@pytest.mark.parametrize(
    ("path", "title"), [("/gone", "410 Gone"), ("/no", "405 Not Allowed"), ("/fields", "431 Request Header Fields Too Large")]
)
async def test_a_status_without_a_text_has_the_page_of_nginx(site: Site, path: str, title: str) -> None:
    answer = await site.get(path, host="answers.test")
    assert f"<title>{title}</title>" in answer.body.decode()
    assert answer.header("Content-Type") == "text/html"


async def test_a_rewrite_gives_the_backend_another_path_and_ends_the_steps(site: Site) -> None:
    assert (await site.get("/a/x?q=1", host="rewrites.test")).json()["path"] == "/b/x?q=1"
    assert (await site.get("/c", host="rewrites.test")).status == 418


@pytest.mark.parametrize(
    ("host", "path", "status"), [("addresses", "/", 403), ("lets-in", "/", 200), ("lets-in", "/public", 200), ("closed", "/", 503)]
)
async def test_whom_nginx_keeps_out_is_kept_out(site: Site, host: str, path: str, status: int) -> None:
    assert (await site.get(path, host=f"{host}.test")).status == status


@pytest.mark.parametrize(
    ("path", "status", "app", "both"),
    [
        ("/", 200, "web", "server"),
        ("/inner/deep/x", 200, "web", "location"),
        ("/inner/x", 403, "", "server"),
        ("/inner%2Fx", 403, "", "server"),
        ("/%69nner", 403, "", "server"),
        ("/%2Finner", 403, "", "server"),
        ("/x/..%2Finner", 400, "", None),
        ("/a.PHP", 404, "", "server"),
        ("/a.php%35", 200, "web", "server"),
        ("/nobody/x", 503, "", None),
        ("/healthyx", 200, "web", "server"),
    ],
)
async def test_a_server_snippet_holds_for_the_whole_host(site: Site, path: str, status: int, app: str, both: str | None) -> None:
    answer = await site.get(path, host="server.test")
    assert (answer.status, answer.app, answer.header("X-Both")) == (status, app, both)


async def test_what_a_server_snippet_answers_before_there_is_a_location_binds_no_browser_to_https(site: Site) -> None:
    refused = await site.get("/", host="server.test", headers=[("X-Bad", "1")], tls=Tls("server.test"))
    passed = await site.get("/", host="server.test", tls=Tls("server.test"))
    assert [(each.status, each.header("strict-transport-security")) for each in (refused, passed)] == [
        (403, None),
        (200, "max-age=31536000; includeSubDomains"),
    ]


async def test_a_location_of_a_server_snippet_answers_by_itself(site: Site) -> None:
    answer = await site.get("/healthy", host="server.test")
    assert (answer.status, answer.header("Content-Type"), answer.body, answer.header("X-Server")) == (200, "text/plain", b"fine", "yes")
    assert (await site.get("/healthy", host="server.test", headers=[("x-bad", "1")])).status == 403


@pytest.mark.parametrize("path", ["/a", "/b", "/"])
async def test_a_host_is_closed_where_its_snippet_keeps_somebody_out(site: Site, path: str) -> None:
    assert (await site.get(path, host="shut.test")).status == 503
