"""ssl-redirect: who is sent from http to https, and where exactly (nginx 4.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import (
    Http1,
    Http2,
    Site,
    Tls,
    config_map,
    endpoint_slice,
    ingress,
    make_certificate,
    secret_tls,
    service,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
CHALLENGE = "/.well-known/acme-challenge/"


def solver(host: str, token: str) -> dict[str, object]:
    """The Ingress that cert-manager makes for an HTTP-01 challenge, beside the one of the host."""
    paths = {CHALLENGE + token: ("cm-acme-http-solver", 8089)}
    annotations = {"whitelist-source-range": "0.0.0.0/0,::/0"}
    found: dict[str, object] = ingress(f"cm-acme-{token}", host, paths, annotations, path_type="ImplementationSpecific")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redirecting(shared_site: Site) -> AsyncIterator[Site]:
    """Hosts with and without tls; each test that changes something has hosts of its own."""
    site = shared_site
    certificate = make_certificate(["tls.test", "off.test", "shared.test", "*.wild.test"])
    site.folder.write(
        "web.yaml",
        *(service("web"), service("cm-acme-http-solver", 8089), secret_tls("all", certificate)),
        endpoint_slice("web", [await site.run(HttpApp("web"))]),
        endpoint_slice("cm-acme-http-solver", [await site.run(HttpApp("solver"))]),
    )
    site.folder.write(
        "hosts.yaml",
        ingress("tls", "tls.test", WEB | {"/deep": ("web", 80)}, tls={"all": ["tls.test"]}),
        ingress("off", "off.test", WEB, {"ssl-redirect": "false"}, tls={"all": ["off.test"]}),
        ingress("plain", "plain.test", WEB),
        ingress("away", "away.test", WEB, {"permanent-redirect": "HTTPS://else.test/a/", "permanent-redirect-code": "308"}),
        ingress("forced", "forced.test", WEB, {"force-ssl-redirect": "true"}),
        ingress("missing", "missing.test", WEB, tls={"missing": ["missing.test"]}),
        ingress("unlisted", "unlisted.test", WEB, tls={"all": ["else.test"]}),
        ingress("shared", "shared.test", {"/a": ("web", 80)}, tls={"all": ["shared.test"]}),
        ingress("shared-too", "shared.test", {"/b": ("web", 80)}),
        ingress("wild", "*.wild.test", WEB, tls={"all": ["*.wild.test"]}),
        ingress("below", "below.wild.test", WEB),
        ingress("gone", "gone.test", {"/": ("no-such-service", 80)}, tls={"all": ["gone.test"]}),
    )
    await site.start("--configmap", "default/ingress")
    yield site


@pytest.mark.parametrize(
    ("host", "target", "location"),
    [
        ("tls.test", "/", "https://tls.test"),
        ("tls.test", "/a", "https://tls.test/a"),
        ("tls.test", "/a/", "https://tls.test/a"),
        ("tls.test", "/a/b/?q=1&r=2", "https://tls.test/a/b/?q=1&r=2"),
        ("tls.test", "/a?q=/", "https://tls.test/a?q="),
        ("tls.test", "/?q=1", "https://tls.test/?q=1"),
        ("tls.test", "/a?", "https://tls.test/a?"),
        ("tls.test", "/a%20b%2Fc/%C3%BC", "https://tls.test/a%20b%2Fc/%C3%BC"),
        ("tls.test", "/a%25%7Bb", "https://tls.test/a%25%7Bb"),
        ("tls.test", "/%REQ(x)%", "https://tls.test/%REQ(x)%"),
        ("tls.test", "/deep/down/", "https://tls.test/deep/down"),
        ("tls.test:80", "/a", "https://tls.test/a"),
        ("tls.test:8080", "/", "https://tls.test"),
        ("TLS.test", "/a", "https://TLS.test/a"),
        ("Tls.Test:8080", "/a", "https://Tls.Test/a"),
        ("tls.test.", "/a", "https://tls.test/a"),
        ("any.wild.test", "/a", "https://any.wild.test/a"),
        ("below.wild.test", "/a", "https://below.wild.test/a"),
        ("forced.test", "/a/", "https://forced.test/a"),
        ("missing.test", "/a", "https://missing.test/a"),
        ("unlisted.test", "/a", "https://unlisted.test/a"),
        ("shared.test", "/a", "https://shared.test/a"),
        ("shared.test", "/b", "https://shared.test/b"),
        ("shared.test", "/neither", "https://shared.test/neither"),
        ("gone.test", "/a", "https://gone.test/a"),
    ],
)
async def test_http_is_redirected_to_the_same_address_on_https(redirecting: Site, host: str, target: str, location: str) -> None:
    answer = await redirecting.get(target, host=host)
    assert (answer.status, answer.all("location")) == (308, [location])


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [("off.test", "/", 200), ("plain.test", "/", 200), ("unknown.test", "/", 404), ("a.b.wild.test", "/", 404)],
)
async def test_http_is_answered_where_the_host_has_no_tls_or_does_not_want_it(
    redirecting: Site, host: str, target: str, status: int
) -> None:
    answer = await redirecting.get(target, host=host)
    assert (answer.status, answer.header("location")) == (status, None)


@pytest.mark.parametrize("host", ["tls.test", "off.test", "forced.test", "missing.test", "below.wild.test"])
async def test_https_is_never_redirected(redirecting: Site, host: str) -> None:
    answer = await redirecting.get("/a/", host=host, tls=Tls(host))
    assert (answer.status, answer.app, answer.json()["path"]) == (200, "web", "/a/")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_every_method_is_redirected(redirecting: Site, method: str) -> None:
    answer = await redirecting.get("/a", host="tls.test", method=method)
    assert (answer.status, answer.header("location")) == (308, "https://tls.test/a")


async def test_an_address_with_a_last_slash_keeps_it(redirecting: Site) -> None:
    answer = await redirecting.get("/b", host="away.test")
    assert (answer.status, answer.all("location")) == (308, ["https://else.test/a/"])


async def test_the_page_is_that_of_nginx(redirecting: Site) -> None:
    answer = await redirecting.get("/", host="tls.test")
    assert answer.header("content-type") == "text/html"
    assert "<h1>308 Permanent Redirect</h1>" in answer.text


@pytest.mark.parametrize("said", ["https", "HTTPS", "https,http", "wss"])
async def test_a_client_cannot_claim_to_have_come_by_https(redirecting: Site, said: str) -> None:
    answer = await redirecting.get("/a", host="tls.test", headers=[("X-Forwarded-Proto", said), ("X-Forwarded-Host", "evil.test")])
    assert (answer.status, answer.header("location")) == (308, "https://tls.test/a")


async def test_http2_without_tls_is_redirected_too_whatever_scheme_it_names(redirecting: Site) -> None:
    async with await Http2.open(redirecting.http) as connection:
        for scheme in ("http", "https"):
            answer = await connection.request(target="/a/", host="tls.test", scheme=scheme)
            assert (answer.status, answer.header("location")) == (308, "https://tls.test/a")


async def test_an_absolute_request_target_is_redirected_to_its_own_host(redirecting: Site) -> None:
    async with await Http1.open(redirecting.http) as connection:
        answer = await connection.request(target="http://tls.test/a/", host="plain.test")
    assert (answer.status, answer.header("location")) == (308, "https://tls.test/a")


async def test_the_solver_of_an_acme_challenge_answers_on_http_beside_a_host_with_tls(redirecting: Site) -> None:
    site = redirecting
    site.folder.write("acme.yaml", ingress("acme", "acme.test", WEB, tls={"acme-tls": ["acme.test"]}))
    await site.until_status(CHALLENGE + "token", 308, host="acme.test")
    site.folder.write("solver.yaml", solver("acme.test", "token"))
    answer = await site.until_answered(CHALLENGE + "token", "solver", host="acme.test")
    assert answer.json()["path"] == CHALLENGE + "token"
    assert (await site.get(CHALLENGE + "other", host="acme.test")).status == 308
    assert (await site.get("/", host="acme.test")).status == 308
    assert (await site.get("/", host="acme.test", tls=Tls("acme.test"))).app == "web"
    assert not [line for line in site.control_plane.process.stderr if "Ingress default/cm-acme-token" in line]
    site.folder.remove("solver.yaml")
    await site.until_status(CHALLENGE + "token", 308, host="acme.test")


async def test_a_host_is_redirected_from_the_moment_it_has_tls_until_it_has_none(redirecting: Site) -> None:
    site = redirecting
    for tls, status in (({"all": ["late.test"]}, 308), (None, 200), ({"all": ["late.test"]}, 308)):
        site.folder.write("late.yaml", ingress("late", "late.test", WEB, tls=tls))
        await site.until_status("/", status, host="late.test")


async def test_the_configmap_sets_status_exceptions_and_whether_at_all(redirecting: Site) -> None:
    site = redirecting
    held = await site.envoy.versions()

    async def until(keys: dict[str, str], expected: dict[tuple[str, str], int]) -> None:
        site.folder.write("configmap.yaml", config_map("ingress", keys))

        async def look() -> bool:
            found = {(host, path): (await site.get(path, host=host)).status for host, path in expected}
            assert found == expected
            return True

        await wait_until(look, f"these answers with {keys}: {expected}")

    await until({"http-redirect-code": "301"}, {("tls.test", "/deep"): 301, ("plain.test", "/"): 200})
    await until({"no-tls-redirect-locations": "/other,/deep"}, {("tls.test", "/deep/x"): 200, ("tls.test", "/x"): 308})
    await until({"ssl-redirect": "false"}, {("tls.test", "/"): 200, ("forced.test", "/"): 308})
    await until({"force-ssl-redirect": "true"}, {("plain.test", "/"): 308, ("off.test", "/"): 308})
    await until({}, {("tls.test", "/"): 308, ("plain.test", "/"): 200, ("tls.test", "/deep"): 308, ("off.test", "/"): 200})
    assert (await site.envoy.versions())["listener"] == held["listener"]
