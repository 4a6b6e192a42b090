"""server-alias and from-to-www-redirect: who answers under which name, over http and https, and what stays as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, endpoint_slice, ingress, make_certificate, secret_tls, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def named(shared_site: Site) -> AsyncIterator[Site]:
    site = shared_site
    certificate = make_certificate(["shop.test", "store.test", "www.shop.test"])
    site.folder.write("web.yaml", service("web"), service("other"), secret_tls("shop", certificate))
    site.folder.write("web-1.yaml", endpoint_slice("web", [await site.run(HttpApp("web"))]))
    site.folder.write("other-1.yaml", endpoint_slice("other", [await site.run(HttpApp("other"))]))
    names = {"server-alias": "Store.test, *.shops.test, uncovered.test, other.test", "from-to-www-redirect": "true"}
    site.folder.write("shop.yaml", ingress("shop", "shop.test", WEB, names, tls={"shop": ["shop.test"]}))
    site.folder.write("other.yaml", ingress("other", "other.test", {"/": ("other", 80)}))
    await site.start()
    yield site


@pytest.mark.parametrize(
    ("host", "app"),
    [
        ("uncovered.test", "web"),
        ("UNCOVERED.test:8080", "web"),
        ("a.shops.test", "web"),
        ("a.b.shops.test", "web"),
        ("other.test", "other"),
    ],
)
async def test_an_alias_has_the_paths_of_its_host_and_takes_none_from_others(named: Site, host: str, app: str) -> None:
    answer = await named.get("/x", host=host)
    assert (answer.status, answer.app) == (200, app)


async def test_an_alias_is_redirected_to_https_where_the_certificate_of_its_host_is_valid_for_it(named: Site) -> None:
    covered = await named.get("/x", host="store.test")
    assert (covered.status, covered.header("location")) == (308, "https://store.test/x")
    answer = await named.get("/x", host="store.test", tls=Tls("store.test"))
    assert (answer.status, answer.app) == (200, "web")


async def test_www_is_redirected_without_what_locations_add(named: Site) -> None:
    plain = await named.get("/x/?q=1", host="www.shop.test")
    assert (plain.status, plain.header("location")) == (308, f"http://shop.test:{named.http[1]}/x/?q=1")
    root = await named.get("/", host="www.shop.test", tls=Tls("www.shop.test"))
    assert (root.status, root.header("location"), root.header("strict-transport-security")) == (308, "https://shop.test:443", None)


async def test_a_rule_takes_its_host_back_from_an_alias_and_leaves_it_again(named: Site) -> None:
    named.folder.write("late.yaml", ingress("late", "uncovered.test", {"/": ("other", 80)}))
    await named.until_answered("/", "other", host="uncovered.test")
    named.folder.remove("late.yaml")
    await named.until_answered("/", "web", host="uncovered.test")
