"""location-snippet and server-snippet of the ConfigMap, through a real Envoy."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
KEYS = {
    "annotations-risk-level": "Critical",
    "allow-snippet-annotations": "true",
    "location-snippet": "more_set_headers 'X-C: all'; add_header X-All location always; if ($http_x_gone) { return 410; }",
    "server-snippet": "if ($http_x_bad) { return 403; } location = /all { return 200 all; } location /secret { deny all; }",
}
OWN = {"configuration-snippet": "if ($http_x_own) { return 418; }"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        ingress("plain", "plain.test", WEB),
        ingress("own", "own.test", WEB, {"configuration-snippet": "more_set_headers 'X-C: own'; if ($http_x_own) { return 418; }"}),
        ingress("off", "off.test", WEB, {"app-root": "/app", "from-to-www-redirect": "true"}),
        ingress("server", "own.test", {"/b": ("web", 80)}, {"server-snippet": "location = /own { return 200 own; }"}),
    )
    shared_site.folder.write("keys.yaml", config_map("controller", KEYS))
    await shared_site.start("--configmap", "default/controller", "--default-backend-service", "default/web")
    await shared_site.until_answered("/", "web", host="plain.test")
    return shared_site


@pytest.mark.parametrize("host", ["plain.test", "own.test"])
async def test_they_hold_for_every_ingress(site: Site, host: str) -> None:
    got = await site.get("/", host=host)
    assert (got.status, got.header("X-C"), got.header("X-All")) == (200, "all", "location")
    assert (await site.get("/", host=host, headers=[("X-Gone", "1")])).status == 410
    assert (await site.get("/b/c", host=host, headers=[("X-Bad", "1")])).status == 403
    assert (await site.get("/all", host=host)).text == "all"
    assert [(await site.get(path, host=host)).status for path in ("/secret", "/secret/x", "//secret", "/%73ecret")] == [403] * 4


async def test_the_snippets_of_an_ingress_stand_before_them(site: Site) -> None:
    assert (await site.get("/own", host="own.test")).text == "own"
    assert (await site.get("/", host="own.test", headers=[("X-Own", "1"), ("X-Gone", "1")])).status == 418
    assert (await site.get("/own", host="plain.test")).status == 200


async def test_what_is_answered_before_nginx_looks_for_a_location_has_no_headers_of_locations(site: Site) -> None:
    for got in (await site.get("/", host="off.test"), await site.get("/x", host="www.off.test"), await site.get("/healthz", host="x.test")):
        assert got.status in (302, 308, 200)
        assert (got.header("X-C"), got.header("X-All")) == (None, None)
    assert (await site.get("/x", host="off.test")).header("X-All") == "location"


async def test_they_hold_for_hosts_that_no_ingress_has(site: Site) -> None:
    await held_for_all_other_hosts(site)
    site.folder.write("rest.yaml", *backend("rest", await site.run(HttpApp("rest"))), ingress("rest", "", {}, OWN, default=("rest", 80)))
    await site.until_answered("/", "rest", host="nobody.test")
    await held_for_all_other_hosts(site)
    assert (await site.get("/", host="nobody.test", headers=[("X-Own", "1"), ("X-Gone", "1")])).status == 418


async def held_for_all_other_hosts(site: Site) -> None:
    got = await site.get("/", host="nobody.test")
    assert (got.status, got.header("X-C"), got.header("X-All")) == (200, "all", "location")
    assert (await site.get("/", host="nobody.test", headers=[("X-Gone", "1")])).status == 410
    assert (await site.get("/b/c", host="nobody.test", headers=[("X-Bad", "1")])).status == 403
    assert (await site.get("/all", host="nobody.test")).text == "all"
    assert [(await site.get(path, host="nobody.test")).status for path in ("/secret", "/secret/x", "//secret", "/%73ecret")] == [403] * 4
    assert (await site.get("/healthz", host="nobody.test")).status == 200


async def test_one_that_may_protect_and_is_not_translated_closes_hosts_that_no_ingress_has(site: Site) -> None:
    site.folder.remove("rest.yaml")
    await site.until_answered("/", "web", host="nobody.test")
    site.folder.write("keys.yaml", config_map("controller", KEYS | {"server-snippet": "deny nobody;"}))
    await site.until_status("/", 503, host="nobody.test")
    assert (await site.get("/", host="plain.test")).status == 503
