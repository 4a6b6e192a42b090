"""Who may come by address: lists of an Ingress and of the ConfigMap, as a client sees them that comes from several addresses."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, ingress, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

HERE, ELSEWHERE = "127.0.0.0/8,::1", "192.0.2.0/24"


def one(name: str, annotations: dict[str, object], to: str = "web", **more: Any) -> dict[str, Any]:
    return ingress(name, f"{name}.test", {"/": (to, 80)}, annotations, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    allowed = {"whitelist-source-range": ELSEWHERE}
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        service("nobody"),
        config_map("controller", {**allowed, "denylist-source-range": "203.0.113.0/24"}),
        one("plain", {}),
        one("open", {"allowlist-source-range": HERE}),
        one("denied", {"allowlist-source-range": HERE, "denylist-source-range": "127.0.0.1"}),
        one("other", {"allowlist-source-range": "127.0.0.2"}),
        one("everybody", {"whitelist-source-range": "0.0.0.0/0,::/0"}),
        one("bad", {"whitelist-source-range": "127.0.0.1,"}),
        one("moved", {"permanent-redirect": "https://elsewhere.test"}),
        one("nobody", {}, "nobody"),
        one("crossed", {"enable-cors": "true"}),
        one("large", {"proxy-body-size": "1"}),
        ingress("mixed", "mixed.test", {"/admin": ("web", 80)}, {"allowlist-source-range": ELSEWHERE}),
        ingress("mixed-open", "mixed.test", {"/": ("web", 80)}, {"allowlist-source-range": HERE}),
        ingress("below", "below.test", {"/sub/": ("web", 80)}, {}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("plain", 403),
        ("open", 200),
        ("denied", 403),
        ("other", 403),
        ("everybody", 200),
        ("bad", 503),
        ("moved", 301),
        ("nobody", 503),
        ("crossed", 403),
        ("below", 403),
    ],
)
async def test_who_may_come(site: Site, host: str, status: int) -> None:
    answer = await site.get("/x", host=f"{host}.test", headers=[("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1")])
    assert answer.status == status
    if status >= 400:
        assert answer.header("Content-Type") == "text/html"
        assert b"<center>nginx</center>" in answer.body


async def test_what_comes_before_the_lists_is_answered_to_everybody(site: Site) -> None:
    preflight = [("Origin", "https://a.test"), ("Access-Control-Request-Method", "GET")]
    assert (await site.get("/", host="crossed.test", method="OPTIONS", headers=preflight)).status == 204
    assert (await site.get("/sub", host="below.test")).status == 301
    assert (await site.get("/", host="large.test", method="POST", body=b"22")).status == 413


async def test_pages_of_other_origins_may_read_that_they_are_not_let_in(site: Site) -> None:
    answer = await site.get("/", host="crossed.test", headers=[("Origin", "https://a.test")])
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (403, "*")


async def test_health_checks_and_unknown_hosts_are_not_under_the_list_of_the_config_map(site: Site) -> None:
    assert (await site.get("/healthz", host="unknown.test")).status == 200
    assert (await site.get("/", host="unknown.test")).status == 404


@pytest.mark.parametrize("target", ["/admin", "/admin/x", "/%61dmin", "//admin", "/x/../admin", "/admin%2Fx", "/%2fadmin", "/x/..%2fadmin"])
async def test_a_path_with_a_list_keeps_it_in_every_spelling(site: Site, target: str) -> None:
    assert (await site.get("/open", host="mixed.test")).app == "web"
    assert (await site.get(target, host="mixed.test")).status in (400, 403)


async def test_an_upgraded_connection_is_under_the_list_too(site: Site) -> None:
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")]
    assert (await site.get("/", host="plain.test", headers=upgrade)).status == 403
