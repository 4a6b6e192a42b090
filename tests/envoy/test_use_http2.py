"""use-http2: what clients may agree on over TLS."""

from __future__ import annotations

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Site, Tls, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]


@pytest.mark.parametrize(("written", "agreed"), [("true", "h2"), ("false", "http/1.1")])
async def test_clients_agree_on_what_the_config_map_lets_them(site: Site, written: str, agreed: str) -> None:
    site.folder.write("all.yaml", *backend("web", await site.run(HttpApp("web"))), ingress("web", "a.test", {"/": ("web", 80)}))
    site.folder.write("keys.yaml", config_map("keys", {"use-http2": written}))
    await site.start("--configmap", "default/keys")
    async with await Http1.open(site.https, tls=Tls("a.test", alpn=("h2", "http/1.1"))) as connection:
        assert connection.alpn == agreed
