"""block-cidrs, block-user-agents, block-referers: who gets 403 whatever is asked for, and that nobody is drained for it."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, backend, config_map, disturbances, ingress, make_certificate, secret_tls, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

KEYS = {
    "enable-real-ip": "true",
    "block-cidrs": "192.0.2.0/24",
    "block-user-agents": "~*bad,Exactly/1.0",
    "block-referers": "~*spam[.]test",
}
PATHS = [
    ("web.test", "/", 200),
    ("web.test", "/nowhere", 404),
    ("unknown.test", "/", 404),
    ("tls.test", "/", 308),
    ("moved.test", "/", 301),
    ("cors.test", "/", 200),
    ("listed.test", "/", 200),
    ("a.wild.test", "/", 200),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        secret_tls("cert", make_certificate(["tls.test"])),
        ingress("web", "web.test", {"/": ("web", 80)}, path_type="Exact"),
        ingress("tls", "tls.test", {"/": ("web", 80)}, tls={"cert": ["tls.test"]}),
        ingress("moved", "moved.test", {"/": ("web", 80)}, {"permanent-redirect": "https://a.example/"}),
        ingress("cors", "cors.test", {"/": ("web", 80)}, {"enable-cors": "true"}),
        ingress("listed", "listed.test", {"/": ("web", 80)}, {"allowlist-source-range": "0.0.0.0/0"}),
        ingress("wild", "*.wild.test", {"/": ("web", 80)}),
    )
    shared_site.folder.write("keys.yaml", config_map("controller", {"enable-real-ip": "true"}))
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="web.test")
    shared_site.folder.write("keys.yaml", config_map("controller", KEYS))
    await wait_until(lambda: refuses(shared_site), "the first refusal")
    return shared_site


async def refuses(site: Site) -> bool:
    return (await site.get("/", host="web.test", headers=[("User-Agent", "bad")])).status == 403


@pytest.mark.parametrize(("host", "path", "status"), PATHS)
@pytest.mark.parametrize(
    ("name", "value", "is_blocked"),
    [
        ("User-Agent", "a BADbot/2", True),
        ("User-Agent", "exactly/1.0", True),
        ("User-Agent", "Exactly/1.0 or so", False),
        ("Referer", "https://www.SPAM.test/x", True),
        ("Referer", "https://spam-test.example/", False),
        ("X-Forwarded-For", "192.0.2.7", True),
        ("X-Forwarded-For", "198.51.100.1", False),
    ],
)
async def test_whoever_is_blocked_gets_403_whatever_is_asked_for(
    site: Site, host: str, path: str, status: int, name: str, value: str, *, is_blocked: bool
) -> None:
    headers = [(name, value), ("Origin", "https://b.example"), ("Access-Control-Request-Method", "GET")]
    assert (await site.get(path, host=host, headers=headers)).status == (403 if is_blocked else status)
    if host == "tls.test":
        answer = await site.get(path, host=host, tls=Tls(host), headers=headers)
        assert (answer.status, "strict-transport-security" in {n.lower() for n, _ in answer.headers}) == (403 if is_blocked else 200, True)
    if host == "cors.test":
        assert (await site.get(path, host=host, method="OPTIONS", headers=headers)).status == (403 if is_blocked else 204)


async def test_a_change_of_the_lists_drains_nobody(site: Site) -> None:
    assert await disturbances(site.envoy) == {}
