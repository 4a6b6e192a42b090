"""Who the client is behind a proxy: X-Forwarded-For of proxies that are believed, as lists and backends see it."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, ingress, secret_tls
from tests.envoy.harness.tls import make_certificate

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CERTIFICATE = make_certificate(["tls.test"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        secret_tls("cert", CERTIFICATE),
        config_map("controller", {"enable-real-ip": "true", "proxy-real-ip-cidr": "127.0.0.0/8, 10.0.0.0/8"}),
        ingress("open", "open.test", {"/": ("web", 80)}),
        ingress("tls", "tls.test", {"/": ("web", 80)}, tls={"cert": ["tls.test"]}),
        ingress("listed", "listed.test", {"/": ("web", 80)}, {"allowlist-source-range": "192.0.2.1"}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        ([], "127.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.9, 192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        (["192.0.2.9", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.9, 192.0.2.8", "192.0.2.7,192.0.2.1"], "192.0.2.1"),
        (["192.0.2.9", "192.0.2.8", "junk", "192.0.2.1", "10.1.2.3"], "192.0.2.1"),
        (["10.0.0.7, 10.1.2.3"], "10.0.0.7"),
        (["2001:db8::1"], "2001:db8::1"),
        (["junk"], "127.0.0.1"),
        (["junk, 10.1.2.3"], "10.1.2.3"),
        (["192.0.2.1:555"], "192.0.2.1"),
        (["192.0.2.9:1, 192.0.2.1:2, 10.1.2.3:3"], "192.0.2.1"),
        (["192.0.2.1, junk"], "127.0.0.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["192.0.2.9, 192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["[2001:db8::1]"], "127.0.0.1"),
        (["192.0.2.1, [2001:db8::1]"], "127.0.0.1"),
        (["192.0.2.1, [2001:db8::1], 10.1.2.3"], "10.1.2.3"),
        (["192.0.2.9, [2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1:80"], "2001:db8::1:80"),
        (["2001:db8::1, 10.1.2.3:4711"], "2001:db8::1"),
        (["2001:db8::1,192.0.2.1:4711"], "192.0.2.1"),
        (["fe80::1%lo"], "127.0.0.1"),
        (["192.0.2.1, fe80::1%lo"], "127.0.0.1"),
        ([f"{'192.0.2.9, ' * 18}192.0.2.1"], "192.0.2.1"),
        ([f"{'192.0.2.9, ' * 19}192.0.2.1"], "192.0.2.1"),
        ([f"{'192.0.2.9,' * 500}192.0.2.1"], "192.0.2.1"),
        (["1," * 30 + "192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        (["junk, " * 40 + "192.0.2.1"], "192.0.2.1"),
        (["ÿ,é" * 40 + ", 192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1" + ", 10.1.2.3" * 12], "192.0.2.1"),
        ([f"{'192.0.2.9, ' * 40}10.1.2.3:99"], "192.0.2.9"),
    ],
)
async def test_the_client_is_the_last_address_that_is_no_trusted_proxy(site: Site, sent: list[str], client: str) -> None:
    headers = [("X-Forwarded-For", each) for each in sent]
    answer = await site.get("/", host="open.test", headers=headers)
    assert (answer.received("X-Real-IP"), answer.received("X-Forwarded-For")) == ([client], [client])
    asked = ",".join(sent) if sent and sent[0].count(",") >= 5 else re.sub(", *", ", ", ", ".join(sent))
    assert answer.received("X-Original-Forwarded-For") == [each for each in [asked] if each]
    assert answer.received("x-xds-forwarded-for") == []
    assert (await site.get("/", host="listed.test", headers=headers)).status == (200 if client == "192.0.2.1" else 403)


async def test_a_client_cannot_say_that_it_came_by_https(site: Site) -> None:
    answer = await site.get("/", host="tls.test", headers=[("X-Forwarded-Proto", "https"), ("x-xds-forwarded-for", "192.0.2.1")])
    assert answer.status == 308
