"""Cookie affinity: a client stays with its endpoint, through changes of the endpoints, and canaries keep theirs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from email.utils import mktime_tz, parsedate_tz

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import (
    Response,
    Site,
    Tls,
    backend,
    endpoint_slice,
    endpoint_slices,
    ingress,
    make_certificate,
    secret_tls,
    service,
)
from tests.envoy.harness.waiting import wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

COOKIE = "INGRESSCOOKIE"
PERSISTENT = {"affinity": "cookie", "affinity-mode": "persistent"}
WEB = {"/": ("web", 80)}
PATHS = {"/": ("web", 80), "/app": ("web", 80)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apps(shared_site: Site) -> dict[str, Address]:
    return {name: await shared_site.run(HttpApp(name)) for name in ("one", "two", "three", "four", "next")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, apps: dict[str, Address]) -> AsyncIterator[Site]:
    write = shared_site.folder.write
    affine = {"affinity": "cookie"}
    all_attributes = affine | {
        "session-cookie-name": "sid",
        "session-cookie-expires": "3600",
        "session-cookie-max-age": "3600",
        "session-cookie-domain": "full.test",
        "session-cookie-path": "/app",
        "session-cookie-samesite": "None",
        "session-cookie-conditional-samesite-none": "true",
    }
    write("certificate.yaml", secret_tls("cert", make_certificate(["full.test"])))
    write("web.yaml", service("web"), service("moving"))
    for name in ("web", "moving"):
        write(f"endpoints-{name}.yaml", *endpoint_slices(name, [apps[a] for a in ("one", "two", "three")]))
    write("next.yaml", *backend("next", apps["next"]))
    write(
        "ingresses.yaml",
        ingress("balanced", "balanced.test", PATHS, affine),
        ingress("persistent", "persistent.test", PATHS, PERSISTENT),
        ingress("kept-out", "kept-out.test", WEB, affine | {"whitelist-source-range": "10.0.0.0/8"}),
        ingress("kept-out-p", "kept-out-p.test", WEB, PERSISTENT | {"whitelist-source-range": "10.0.0.0/8"}),
        ingress("moving", "moving.test", {"/": ("moving", 80)}, PERSISTENT),
        ingress("moving-balanced", "moving-balanced.test", {"/": ("moving", 80)}, affine),
        ingress("full", "full.test", WEB, all_attributes | {"ssl-redirect": "false"}, tls={"cert": ["full.test"]}),
        *(
            part
            for host, mode, more in (("c-b", affine, {}), ("c-p", PERSISTENT, {}), ("c-l", affine, {"affinity-canary-behavior": "legacy"}))
            for part in (
                ingress(host, f"{host}.test", WEB, mode),
                ingress(f"{host}-next", f"{host}.test", {"/": ("next", 80)}, {"canary": "true", "canary-by-header": "X-Canary"} | more),
            )
        ),
    )
    await shared_site.start()
    yield shared_site


def cookie_of(response: Response, name: str = COOKIE) -> str:
    """The cookie that a response sets, as a request sends it; "" where it sets none."""
    found = [value for value in response.all("set-cookie") if value.startswith(f"{name}=")]
    assert len(found) <= 1
    return found[0].partition(";")[0] if found else ""


def sent(*cookies: str, **headers: str) -> Sequence[tuple[str, str]]:
    return [("Cookie", "; ".join(cookies)), *((name.replace("_", "-"), value) for name, value in headers.items())]


@pytest.mark.parametrize("host", ["balanced.test", "persistent.test"])
async def test_a_client_stays_with_its_endpoint_and_clients_are_spread(site: Site, host: str) -> None:
    who = {}
    for _ in range(30):
        response = await site.get("/x", host=host)
        who[cookie_of(response)] = response.app
    assert "" not in who
    assert set(who.values()) == {"one", "two", "three"}
    for cookie, app in who.items():
        response = await site.get("/x", host=host, headers=sent("other=1", cookie, "more=2"))
        assert (response.app, cookie_of(response)) == (app, "")


@pytest.mark.parametrize("host", ["balanced.test", "persistent.test"])
async def test_the_cookie_tells_nobody_an_address(site: Site, host: str, apps: dict[str, Address]) -> None:
    value = cookie_of(await site.get("/", host=host)).partition("=")[2]
    assert len(value.partition("|")[0]) in (32, 36), "32 hexadecimal digits, or a UUID"
    assert not any(str(port) in value.replace("-", "") and address in value for address, port in apps.values())


@pytest.mark.parametrize("host", ["kept-out.test", "kept-out-p.test"])
async def test_who_is_kept_out_gets_no_cookie(site: Site, host: str) -> None:
    response = await site.get("/", host=host)
    assert response.status == 403
    assert response.header("set-cookie") is None


async def test_what_a_client_makes_up_is_hashed_or_replaced(site: Site) -> None:
    for value in ("foreign", "1700000000.123.45.678|0123456789abcdef0123456789abcdef"):
        balanced = await site.get("/", host="balanced.test", headers=sent(f"{COOKIE}={value}"))
        assert (balanced.status, cookie_of(balanced)) == (200, "")
        persistent = await site.get("/", host="persistent.test", headers=sent(f"{COOKIE}={value}"))
        assert persistent.status == 200
        assert cookie_of(persistent)
    assert cookie_of(await site.get("/", host="balanced.test", headers=sent(f"{COOKIE}=")))


async def test_the_path_of_the_cookie_is_that_of_the_location(site: Site) -> None:
    for target, path in (("/x", "/"), ("/app/x", "/app")):
        assert (
            (await site.get(target, host="balanced.test"))
            .header(
                "set-cookie",
            )
            .endswith(f"; Path={path}; HttpOnly")
        )


async def test_all_attributes(site: Site) -> None:
    before = time.time()
    first, *attributes = ((await site.get("/", host="full.test", tls=Tls("full.test"))).header("set-cookie") or "").split("; ")
    assert first.startswith("sid=")
    expires = attributes.pop(0)
    assert attributes == ["Max-Age=3600", "Domain=full.test", "Path=/app", "Secure", "HttpOnly", "SameSite=None"]
    date = parsedate_tz(expires.removeprefix("Expires="))
    assert date
    assert before + 3599 <= mktime_tz(date) <= time.time() + 3600
    plain = (await site.get("/", host="full.test")).header("set-cookie") or ""
    assert "Secure" not in plain


@pytest.mark.parametrize(
    ("agent", "kept"),
    [
        ("curl/8", True),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/90.0.0.0 Safari/537.36", True),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/55.0.0.0 Safari/537.36", False),
        ("Mozilla/5.0 (iPad; CPU OS 12_4 like Mac OS X) AppleWebKit/605.1.15", False),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 Version/12.1 Safari/605.1.15", False),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/537.36 Chrome/90.0 Safari/537.36", True),
    ],
)
async def test_browsers_that_would_discard_the_cookie_get_it_without_same_site(site: Site, agent: str, kept: bool) -> None:
    response = await site.get("/", host="full.test", headers=[("User-Agent", agent)])
    assert ("SameSite=None" in (response.header("set-cookie") or "")) is kept


async def test_endpoints_come_and_go(site: Site, apps: dict[str, Address]) -> None:
    """persistent: nobody moves but the clients of an endpoint that is gone. balanced: nobody gets another cookie."""

    async def now(names: Sequence[str]) -> None:
        site.folder.write("endpoints-moving.yaml", *endpoint_slices("moving", [apps[a] for a in names]))

        async def all_seen() -> bool:
            return {(await site.get("/", host="moving.test")).app for _ in range(3 * len(names))} == set(names)

        await wait_until(all_seen, f"requests to reach {names} and nobody else")

    clients = {}
    for _ in range(12):
        response = await site.get("/", host="moving.test")
        clients[cookie_of(response)] = response.app
    balanced = cookie_of(await site.get("/", host="moving-balanced.test"))
    await now(["one", "two", "three", "four"])
    for cookie, app in clients.items():
        response = await site.get("/", host="moving.test", headers=sent(cookie))
        assert (response.app, cookie_of(response)) == (app, "")
    await now(["two", "three", "four"])
    for cookie, app in clients.items():
        response = await site.get("/", host="moving.test", headers=sent(cookie))
        if app == "one":
            assert response.app != "one"
            again = await site.get("/", host="moving.test", headers=sent(cookie_of(response)))
            assert (again.app, cookie_of(again)) == (response.app, "")
        else:
            assert (response.app, cookie_of(response)) == (app, "")
    answers = [await site.get("/", host="moving-balanced.test", headers=sent(balanced)) for _ in range(6)]
    assert len({response.app for response in answers}) == 1
    assert not any(cookie_of(response) for response in answers)
    site.folder.write("endpoints-moving.yaml", endpoint_slice("moving", []))
    assert not cookie_of(await site.until_status("/", 503, host="moving.test"))


@pytest.mark.parametrize("host", ["c-b.test", "c-p.test"])
async def test_a_client_of_a_canary_stays_there_and_one_of_the_primary_too(site: Site, host: str) -> None:
    canary = cookie_of(first := await site.get("/", host=host, headers=[("X-Canary", "always")]))
    assert (first.app, bool(canary)) == ("next", True)
    for headers in (sent(canary), sent(canary, X_Canary="never")):
        response = await site.get("/", host=host, headers=headers)
        assert (response.app, cookie_of(response)) == ("next", "")
    primary = cookie_of(first := await site.get("/", host=host))
    for headers in (sent(primary), sent(primary, X_Canary="always")):
        response = await site.get("/", host=host, headers=headers)
        assert (response.app, cookie_of(response)) == (first.app, "")


async def test_a_legacy_canary_judges_each_request(site: Site) -> None:
    first = await site.get("/", host="c-l.test", headers=[("X-Canary", "always")])
    assert (first.app, cookie_of(first)) == ("next", "")
    assert (await site.get("/", host="c-l.test", headers=sent("other=1"))).app != "next"


async def test_an_endpoint_that_terminates_hands_its_clients_on(site: Site, apps: dict[str, Address]) -> None:
    """As where it is gone: ingress-nginx knows ready endpoints only."""
    slices = endpoint_slices("web", [apps[a] for a in ("one", "two", "three")])
    clients = {}
    for _ in range(12):
        response = await site.get("/", host="persistent.test")
        clients[response.app] = cookie_of(response)
    for piece in slices:
        if [port["port"] for port in piece["ports"]] == [apps["one"][1]]:
            for endpoint in piece["endpoints"]:
                endpoint["conditions"] = {"ready": False, "serving": True, "terminating": True}
    site.folder.write("endpoints-web.yaml", *slices)

    async def moved() -> bool:
        response = await site.get("/", host="persistent.test", headers=sent(clients["one"]))
        assert response.status == 200
        return response.app != "one" and bool(cookie_of(response))

    await wait_until(moved, "clients of the endpoint to be answered by another one")
    for app in ("two", "three"):
        response = await site.get("/", host="persistent.test", headers=sent(clients[app]))
        assert (response.app, cookie_of(response)) == (app, "")
