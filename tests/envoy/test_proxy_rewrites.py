"""proxy-redirect-* and proxy-cookie-*: what a backend says of its own address, as clients see it."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.envoy.harness import Obeying, Site, Tls, asking, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

WEB = {"/": ("web", 80)}
MOVED = {"proxy-redirect-from": "/old", "proxy-redirect-to": "/new"}
KEYS = {"proxy-cookie-path": '/ "/; Secure; SameSite=None"', "proxy-cookie-domain": r"~\.internal$ example.com", "hsts": "false"}


@pytest.fixture(scope="module")
def web() -> Obeying:
    return Obeying()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, web: Obeying) -> Site:
    to = await shared_site.run(web)
    judge = await shared_site.run(Obeying())
    signin = {"auth-url": f"http://127.0.0.1:{judge[1]}/", "auth-signin": "http://out.test/old"}
    shared_site.folder.write(
        "all.yaml",
        *backend("web", to),
        config_map("controller", KEYS),
        ingress("moved", "moved.test", WEB, {**MOVED, "upstream-vhost": "inner.test"}),
        ingress("signin", "signin.test", WEB, {"proxy-redirect-from": "http://out.test/", "proxy-redirect-to": "/x/", **signin}),
        ingress("relative", "relative.test", WEB, {**MOVED, "relative-redirects": "true"}),
        ingress("usual", "usual.test", WEB),
        ingress("without", "without.test", WEB, {"proxy-cookie-path": "off", "proxy-cookie-domain": "off"}),
        ingress("shorter", "shorter.test", WEB, {"proxy-cookie-path": "/long/ /"}),
    )
    await shared_site.start("--configmap", "default/controller")
    return shared_site


@pytest.mark.parametrize(("tls", "scheme"), [(None, "http"), (Tls("moved.test"), "https")])
async def test_a_path_is_completed_by_what_the_client_asked_for(site: Site, web: Obeying, tls: Tls | None, scheme: str) -> None:
    forged = [*asking(302, ("Location", "/old/a")), ("X-Xds-Rewrites-Host", "evil.test")]
    got = await site.get("/q", host="Moved.Test:8443", tls=tls, headers=forged)
    assert got.header("location") == f"{scheme}://moved.test/new/a"
    assert "host: inner.test" in web.heads[-1].lower()
    assert "x-xds" not in web.heads[-1].lower()


async def test_a_header_of_a_client_says_nothing_about_the_host(site: Site, web: Obeying) -> None:
    forged = [*asking(302, ("Location", "/old/a")), ("X-Xds-Rewrites-Host", "evil.test")]
    got = await site.get("/q", host="relative.test", headers=forged)
    assert (got.header("location"), "x-xds" in web.heads[-1].lower()) == ("/new/a", False)


async def test_what_an_authentication_service_makes_of_a_request_stays(site: Site) -> None:
    refused = await site.get("/", host="signin.test", headers=asking(401))
    assert (refused.status, refused.header("location")) == (302, "http://out.test/old?rd=http://signin.test%2F")


@pytest.mark.parametrize(
    ("host", "cookies"),
    [
        ("usual.test", ["a=b; Path=/; Secure; SameSite=None; Domain=example.com", "c=d; HttpOnly"]),
        ("without.test", ["a=b;Path=/;Domain=x.internal", "c=d; HttpOnly"]),
        ("shorter.test", ["a=b; Path=/; Domain=example.com", "c=d; HttpOnly"]),
    ],
)
async def test_a_key_holds_where_no_annotation_says_otherwise(site: Site, host: str, cookies: list[str]) -> None:
    asked = asking(200, ("Set-Cookie", "a=b;Path=/;Domain=x.internal"), ("Set-Cookie", "c=d; HttpOnly"))
    assert (await site.get("/", host=host, headers=asked)).all("set-cookie") == cookies
