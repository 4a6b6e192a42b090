"""enable-cors, as a browser sees it: preflights answered before everything else, and headers on every response to an admitted origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Http1, RawHttp, Response, Site, Tls, backend, ingress, make_certificate, secret_tls, service, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

WEB = {"/": ("web", 80)}
LIST = "https://site.test, https://*.site.test:8443"
EVERYBODY: Mapping[str, object] = {"enable-cors": True}
SOME: Mapping[str, object] = {"enable-cors": True, "cors-allow-origin": LIST, "cors-allow-methods": "PUT", "cors-expose-headers": "X-E"}
CERTIFICATE = make_certificate(["tls.test"])
OWN = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://backend.test\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n"
HOSTS = (
    ingress("everybody", "everybody.test", WEB, EVERYBODY),
    ingress("some", "some.test", WEB, SOME),
    ingress("cookies", "cookies.test", WEB, {"enable-cors": True, "cors-allow-credentials": False}),
    ingress("own", "own.test", {"/": ("own", 80)}, EVERYBODY),
    ingress("tls", "tls.test", WEB, SOME, tls={"cert": ["tls.test"]}),
    ingress("away", "away.test", WEB, EVERYBODY | {"permanent-redirect": "https://elsewhere.test/"}),
    ingress("closed", "closed.test", WEB, EVERYBODY | {"auth-url": "http:///check"}),
    ingress("empty", "empty.test", {"/": ("empty", 80)}, EVERYBODY),
    ingress("dead", "dead.test", {"/": ("dead", 80)}, EVERYBODY | {"proxy-connect-timeout": 1}),
    ingress("app-root", "root.test", WEB, EVERYBODY | {"app-root": "/app"}),
    ingress("paths", "paths.test", {"/with": ("web", 80)}, EVERYBODY, created="2025-01-01T00:00:00Z"),
    ingress("paths-too", "paths.test", {"/without": ("web", 80)}, created="2024-01-01T00:00:00Z"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    """A site whose hosts were there without CORS before."""
    apps = await shared_site.run(HttpApp("web")), await shared_site.run(RawHttp(OWN))
    dead = shared_site.ports.take()
    shared_site.folder.write("apps.yaml", *backend("web", apps[0]), *backend("own", apps[1]), *backend("dead", ("127.0.0.1", dead)))
    shared_site.folder.write("more.yaml", secret_tls("cert", CERTIFICATE), service("empty"))
    plain = [made | {"metadata": {**made["metadata"], "annotations": {}}} for made in HOSTS]
    shared_site.folder.write("hosts.yaml", *plain)
    await shared_site.start()
    shared_site.folder.write("hosts.yaml", *HOSTS)

    async def changed() -> bool:
        return (await shared_site.get("/with", host="paths.test", method="OPTIONS")).status == 204

    await wait_until(changed, "the annotations to be in effect")
    return shared_site


async def asked(site: Site, host: str, origin: str | None = "https://site.test", target: str = "/", **more: Any) -> Response:
    return await site.get(target, host=host, headers=[("Origin", origin)] if origin is not None else [], **more)


def cors(response: Response) -> dict[str, str]:
    """The CORS headers of a response, each of which is there once: their names without the prefix, in lower case."""
    found = [(name.lower(), value) for name, value in response.headers if name.lower().startswith("access-control-")]
    assert len(dict(found)) == len(found)
    return {name.removeprefix("access-control-"): value for name, value in found}


ALL = {
    "allow-origin": "*",
    "allow-credentials": "true",
    "allow-methods": "GET, PUT, POST, DELETE, PATCH, OPTIONS",
    "allow-headers": "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
    "max-age": "1728000",
}


@pytest.mark.parametrize("origin", [None, "https://site.test", "null"])
async def test_where_every_origin_may_read_each_response_has_the_headers(site: Site, origin: str | None) -> None:
    response = await asked(site, "everybody.test", origin)
    assert (response.status, response.app, cors(response)) == (200, "web", ALL)
    missing = await asked(site, "everybody.test", origin, "/status/404")
    assert (missing.status, missing.app, cors(missing)) == (404, "web", ALL)


@pytest.mark.parametrize("origin", [None, "https://site.test"])
async def test_a_preflight_is_answered_and_the_connection_goes_on(site: Site, origin: str | None) -> None:
    headers = [("Origin", origin)] if origin else []
    async with await Http1.open(site.http) as connection:
        for _ in range(2):
            answer = await connection.request("OPTIONS", "/", host="everybody.test", headers=headers)
            assert (answer.status, answer.body, cors(answer)) == (204, b"", ALL)
            assert not {"content-type", "content-length", "transfer-encoding"} & {name.lower() for name, _ in answer.headers}
        assert (await connection.request("GET", "/", host="everybody.test")).app == "web"


async def test_headers_of_the_backend_are_replaced_and_others_stay(site: Site) -> None:
    response = await asked(site, "own.test")
    assert cors(response) == ALL
    assert response.header("vary") == "Accept"


async def test_without_credentials_nothing_is_said_of_them(site: Site) -> None:
    assert cors(await asked(site, "cookies.test")) == {name: value for name, value in ALL.items() if name != "allow-credentials"}


@pytest.mark.parametrize("origin", ["https://site.test", "https://SITE.test", "https://a.site.test:8443", "https://-.site.test:8443"])
async def test_an_origin_of_the_list_is_admitted_by_its_name(site: Site, origin: str) -> None:
    expected = ALL | {"allow-origin": origin, "allow-methods": "PUT", "expose-headers": "X-E"}
    response, preflight = await asked(site, "some.test", origin), await asked(site, "some.test", origin, method="OPTIONS")
    assert (response.app, cors(response)) == ("web", expected)
    assert (preflight.status, preflight.body, cors(preflight)) == (204, b"", expected)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "http://site.test",
        "https://site.test:8443",
        "https://site.test.evil.test",
        "https://xsite.test",
        "https://sitextest",
        "https://site.test, https://site.test",
        "https://a.site.test",
        "https://a.b.site.test:8443",
        "https://.site.test:8443",
        "https://a.site.test:84430",
    ],
)
async def test_others_are_served_as_if_there_were_no_cors(site: Site, origin: str | None) -> None:
    for method in ("GET", "OPTIONS"):
        response = await asked(site, "some.test", origin, method=method)
        assert (response.app, response.json()["method"], cors(response)) == ("web", method, {})


async def test_a_redirect_to_https_tells_origins_apart_as_well(site: Site) -> None:
    admitted = ALL | {"allow-origin": "https://site.test", "allow-methods": "PUT", "expose-headers": "X-E"}
    for origin, expected in (("https://site.test", admitted), ("https://evil.test", {})):
        redirect = await asked(site, "tls.test", origin, "/x")
        assert (redirect.status, redirect.header("location"), cors(redirect)) == (308, "https://tls.test/x", expected)
    tls = Tls("tls.test")
    response = await asked(site, "tls.test", tls=tls)
    assert (response.app, cors(response)) == ("web", admitted)
    assert response.header("strict-transport-security")
    preflights = [await asked(site, "tls.test", method="OPTIONS", tls=each) for each in (None, tls)]
    assert [(each.status, cors(each)) for each in preflights] == [(204, admitted)] * 2


@pytest.mark.parametrize(("host", "status"), [("away.test", 301), ("empty.test", 503), ("dead.test", 502)], ids=lambda value: str(value))
async def test_what_is_answered_here_has_the_headers_and_lets_preflights_pass(site: Site, host: str, status: int) -> None:
    response, preflight = await asked(site, host), await asked(site, host, method="OPTIONS")
    assert (response.status, response.app, cors(response)) == (status, "", ALL)
    assert (preflight.status, cors(preflight)) == (204, ALL)


async def test_what_is_closed_has_no_headers_and_answers_no_preflight(site: Site) -> None:
    """As a location that ingress-nginx denies: it answers nothing but 503."""
    for method in ("GET", "OPTIONS"):
        response = await asked(site, "closed.test", method=method)
        assert (response.status, response.app, cors(response)) == (503, "", {})


async def test_app_root_comes_before_the_location(site: Site) -> None:
    for method in ("GET", "OPTIONS"):
        redirect = await asked(site, "root.test", method=method)
        assert (redirect.status, redirect.header("location"), cors(redirect)) == (302, "http://root.test/app", {})


async def test_paths_of_other_ingresses_are_as_they_were(site: Site) -> None:
    assert cors(await asked(site, "paths.test", target="/with")) == ALL
    for target in ("/without", "/neither"):
        assert cors(await asked(site, "paths.test", target=target)) == {}
        assert (await asked(site, "paths.test", target=target, method="OPTIONS")).status != 204
