"""Headers of a ConfigMap, on whatever an Ingress answers; and what is closed without it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, backend, config_map, ingress, make_certificate, secret_tls, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

NAMED = {"custom-headers": "default/headers"}
VALUES = {"X-Team": '100% of $host, "quoted"; grüße', "Cache-Control": "no-store", "X-Request-Id": ""}
CERTIFICATE = make_certificate(["tls.test"])


def one(name: str, annotations: dict[str, object] | None = None, to: str = "web", **more: Any) -> dict[str, Any]:
    return ingress(name, f"{name}.test", {"/": (to, 80)}, annotations, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    allowed = {"global-allowed-response-headers": ", ".join(VALUES)}
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        service("nobody"),
        config_map("controller", allowed),
        config_map("headers", VALUES),
        secret_tls("cert", CERTIFICATE),
        one("plain", NAMED),
        one("nobody", NAMED, "nobody"),
        one("moved", {**NAMED, "permanent-redirect": "https://elsewhere.test"}),
        one("tls", NAMED, tls={"cert": ["tls.test"]}),
        one("closed", {"custom-headers": "default/none", "permanent-redirect": "https://elsewhere.test"}),
        ingress("mixed", "mixed.test", {"/admin": ("web", 80)}, {"custom-headers": "default/none"}),
        ingress("mixed-open", "mixed.test", {"/": ("web", 80)}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="plain.test")
    return shared_site


@pytest.mark.parametrize(("host", "status"), [("plain", 200), ("nobody", 503), ("moved", 301), ("tls", 308)])
async def test_whatever_is_answered_has_the_headers(site: Site, host: str, status: int) -> None:
    answer = await site.get("/x", host=f"{host}.test")
    team = (answer.header("X-Team") or "").encode("latin-1").decode()
    assert (answer.status, team, answer.header("Cache-Control")) == (status, VALUES["X-Team"], "no-store")


async def test_the_headers_are_there_over_tls_too(site: Site) -> None:
    answer = await site.get("/x", host="tls.test", tls=Tls("tls.test"))
    assert (answer.status, answer.header("Cache-Control")) == (200, "no-store")


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
async def test_what_is_closed_is_closed_before_any_redirect(site: Site, method: str) -> None:
    answer = await site.get("/x", host="closed.test", method=method)
    assert (answer.status, answer.header("X-Team"), answer.header("Location")) == (503, None, None)


@pytest.mark.parametrize("target", ["/admin", "/admin/x", "/%61dmin", "//admin", "/x/../admin", "/admin%2Fx", "/%2fadmin", "/x/..%2fadmin"])
async def test_a_path_that_is_closed_is_closed_in_every_spelling(site: Site, target: str) -> None:
    assert (await site.get("/open", host="mixed.test")).app == "web"
    assert (await site.get(target, host="mixed.test")).status in (400, 503)
