"""proxy_ssl_name and its siblings in a configuration-snippet, as an endpoint sees the handshake."""

from __future__ import annotations

import ssl

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, ingress, make_certificate
from tests.envoy.harness.tls import server_context

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]

WEB = {"/": ("web", 80)}
HTTPS = {"backend-protocol": "HTTPS"}
ALLOWED = {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true"}
SNIPPETS = {
    "named": "proxy_ssl_server_name on; proxy_ssl_name inner.test;",
    "silent": "proxy_ssl_name inner.test;",
    "other": "grpc_ssl_server_name on; grpc_ssl_name inner.test;",
    "ciphers": "proxy_ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;",
}


async def test_an_endpoint_is_sent_the_name_and_offered_the_ciphers_of_the_snippet(site: Site) -> None:
    seen: list[str | None] = []
    context = server_context(make_certificate(["inner.test"]))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    made = [ingress(name, f"{name}.test", WEB, {**HTTPS, "configuration-snippet": text}) for name, text in SNIPPETS.items()]
    made.append(ingress("weak", "weak.test", WEB, {**HTTPS, "configuration-snippet": "proxy_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;"}))
    site.folder.write("all.yaml", *backend("web", await site.run(HttpApp("web", tls=context))), config_map("controller", ALLOWED), *made)
    await site.start("--configmap", "default/controller")
    for name, sent in (("named", "inner.test"), ("silent", None), ("other", None), ("ciphers", None)):
        assert (await site.get("/", host=f"{name}.test")).app == "web"
        assert (name, seen[-1]) == (name, sent)
    assert (await site.get("/", host="weak.test")).status == 502
