"""upstream-vhost and x-forwarded-prefix, as the backend sees them."""

from __future__ import annotations

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, ingress
from tests.envoy.harness.manifests import Manifest

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

WEB = {"/": ("web", 80)}
AWKWARD = r"/(it's|%41|a\)%|\x22)/(.*)"
"""A path with what could end an expression, or a format, if it stood there as it is."""


def rewriting(name: str, path: str, target: str, prefix: str) -> Manifest:
    """An Ingress whose path is a regular expression."""
    annotations = {"rewrite-target": target, "x-forwarded-prefix": prefix}
    return ingress(name, f"{name}.test", {path: ("web", 80)}, annotations, path_type="ImplementationSpecific")


HOSTS = (
    ingress("text", "text.test", WEB, {"upstream-vhost": "inner.test:8080"}),
    ingress("service", "service.test", WEB, {"upstream-vhost": "${service_name}.$namespace.svc:$service_port"}),
    ingress("host", "host.test", WEB, {"upstream-vhost": "$host.inner.test"}),
    ingress("header", "header.test", WEB, {"upstream-vhost": "$http_x_want"}),
    ingress("request", "request.test", WEB, {"upstream-vhost": "$scheme/$request_method/$remote_addr/$args"}),
    rewriting("prefix", "/app(/|$)(.*)", "/$2", "/app"),
    rewriting("groups", "/(a|b)(x)?/(.*)", "/$3", "/$1$2/$9"),
    rewriting("awkward", AWKWARD, "/$2", "$1"),
    rewriting("mixed", "/m/([a-z]+)/(.*)", "/$2", "/$1.$host/$scheme"),
    rewriting("unknown", "/u/(.*)", "/$1", "/$upstream_addr"),
    rewriting("moved", "/old/(.*)", "$scheme://new.test:81/$1", ""),
    rewriting("at-home", "/old(/|$)(.*)", "https://$host/new/$2", ""),
    ingress("response", "response.test", WEB, {"upstream-vhost": "$upstream_addr"}),
    ingress("marks", "marks.test", WEB, {"upstream-vhost": "a=(b*c)"}),
    rewriting("optional", "/o(x)?", "/", "$1"),
    ingress("as-it-is", "plain.test", {"/app": ("web", 80)}, {"x-forwarded-prefix": "/app"}),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    shared_site.folder.write("hosts.yaml", *backend("web", await shared_site.run(HttpApp("web"))), *HOSTS)
    await shared_site.start()
    return shared_site


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("text.test", "inner.test:8080"),
        ("service.test", "web.default.svc:80"),
        ("host.test", "host.test.inner.test"),
        ("header.test", "wanted.test"),
        ("request.test", "http/GET/127.0.0.1/a=b"),
        ("marks.test", "a=(b*c)"),
        ("response.test", "response.test:8123"),
    ],
)
async def test_the_backend_gets_the_host_that_is_written(site: Site, host: str, seen: str) -> None:
    response = await site.get("/x?a=b", host=f"{host}:8123", headers=[("X-Want", "wanted.test")])
    assert response.received("host") == [seen]
    assert response.received("x-forwarded-host") == [f"{host}:8123"]
    assert not [name for name, _ in response.json()["headers"] if name.lower().startswith("x-envoy-")]


async def test_where_the_host_comes_to_nothing_it_is_the_clients(site: Site) -> None:
    assert (await site.get("/", host="header.test")).received("host") == ["header.test"]


@pytest.mark.parametrize(
    ("host", "path", "rewritten", "prefix"),
    [
        ("prefix.test", "/app/x?a=b", "/x?a=b", ["/app"]),
        ("groups.test", "/a/y", "/y", ["/a/"]),
        ("groups.test", "/Bx/y/z?q=/a/", "/y/z?q=/a/", ["/Bx/"]),
        ("awkward.test", "/it's/y", "/y", ["it's"]),
        ("awkward.test", "/%2541/y", "/y", ["%2541"]),
        ("mixed.test", "/m/ab/y?q", "/y?q", ["/ab.mixed.test/http"]),
        ("unknown.test", "/u/y", "/y", []),
        ("optional.test", "/ox", "/", ["x"]),
        ("optional.test", "/o", "/", []),
        ("plain.test", "/app/x", "/app/x", []),
    ],
)
async def test_the_prefix_is_told_where_the_path_is_rewritten(site: Site, host: str, path: str, rewritten: str, prefix: list[str]) -> None:
    response = await site.get(path, host=host)
    assert (response.json()["path"], response.received("x-forwarded-prefix")) == (rewritten, prefix)


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("moved.test", "/old/a/b?x=1", "http://new.test:81/a/b?x=1"),
        ("moved.test", "/old/", "http://new.test:81/"),
        ("at-home.test", "/old", "https://at-home.test/new/"),
        ("at-home.test", "/OLD/a%20b?y", "https://at-home.test/new/a%20b?y"),
    ],
)
async def test_an_address_with_variables_is_redirected_to(site: Site, host: str, path: str, location: str) -> None:
    response = await site.get(path, host=f"{host}:8123")
    assert (response.status, response.header("location")) == (302, location)


async def test_a_prefix_of_the_client_is_replaced_where_there_is_one_to_tell(site: Site) -> None:
    sent = [("X-Forwarded-Prefix", "/client")]
    assert (await site.get("/app/x", host="prefix.test", headers=sent)).received("x-forwarded-prefix") == ["/app"]
    assert (await site.get("/app/x", host="plain.test", headers=sent)).received("x-forwarded-prefix") == ["/client"]
    assert (await site.get("/o", host="optional.test", headers=sent)).received("x-forwarded-prefix") == []
