"""Keys of the ConfigMap that concern all requests: they take effect while the connections of clients stay."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Response, Site, backend, config_map, ingress
from tests.envoy.harness.waiting import wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

HOST = "a.test"
VARIABLES = """
args best_http_host connection content_length content_type document_uri host hostname http_host http_x_y https is_args msec
pass_access_scheme pass_port pass_server_port query_string realip_remote_addr remote_addr remote_port req_id request request_id
request_method request_uri scheme server_addr server_name server_port server_protocol ssl_cipher ssl_client_escaped_cert
ssl_client_fingerprint ssl_client_i_dn ssl_client_s_dn ssl_client_serial ssl_client_v_end ssl_client_v_start ssl_protocol
ssl_server_name the_real_ip time_iso8601 time_local uri arg_a cookie_b namespace ingress_name service_name service_port
proxy_upstream_name proxy_add_x_forwarded_for
"""
"""Those of a request and its Ingress."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> AsyncIterator[Site]:
    """Redirects are there to see that they have the headers of all responses."""
    shared_site.folder.write("app.yaml", *backend("web", await shared_site.run(HttpApp("web"))))
    moved = ingress("moved", "moved.test", {"/": ("web", 80)}, {"permanent-redirect": "https://e.test"})
    shared_site.folder.write("web.yaml", ingress("web", HOST, {"/": ("web", 80)}), moved)
    shared_site.folder.write("keys.yaml", config_map("keys", {}))
    await shared_site.start("--configmap", "default/keys")
    yield shared_site


async def keep_connected(site: Site, keys: dict[str, str], header: str, value: str | None, **asked: str) -> Response:
    """Change the ConfigMap, and wait until the responses on one connection have the header with that value."""
    async with await Http1.open(site.http) as connection:
        site.folder.write("keys.yaml", config_map("keys", keys))

        async def look() -> Response | None:
            response = await connection.request(target="/big/5000", host=HOST, headers=list(asked.items()))
            return response if response.header(header) == value else None

        return await wait_until(look, f"{header}: {value}")


async def test_headers_of_all_responses_follow_their_config_map(site: Site) -> None:
    site.folder.write("added.yaml", config_map("added", {"X-Added": "one $http_host", "Connection": "close"}))
    keys = {"add-headers": "default/added"}
    await keep_connected(site, keys, "x-added", f"one {HOST}")
    assert (await site.get("/", host="moved.test")).header("x-added") == "one moved.test"
    assert (await site.get("/", host="nobody.test")).header("x-added") == "one nobody.test"
    site.folder.write("added.yaml", config_map("added", {"X-Added": "two"}))
    await keep_connected(site, keys, "x-added", "two")
    site.folder.remove("added.yaml")
    await keep_connected(site, keys, "x-added", None)


async def test_headers_for_all_backends(site: Site) -> None:
    variables = {"User": "$remote_user", "Tenant": "$arg_tenant", "X-Own": "$http_x_own", "X-Request-ID": "$req_id"}
    values = {"X-Set": "$request_uri", "X-Real-IP": "6.6.6.6", "X-Empty": "", "Host": "evil.test"} | variables
    site.folder.write("set.yaml", config_map("set", values))
    site.folder.write("keys.yaml", config_map("keys", {"proxy-set-headers": "default/set"}))

    async def look() -> Response | None:
        response = await site.get("/x?y", host=HOST, headers=[(name, "client") for name in ("X-Empty", "X-Set", "User", "Tenant", "X-Own")])
        return response if response.received("x-set") == ["/x?y"] else None

    response = await wait_until(look, "the header at the backend")
    assert response.received("x-real-ip") == ["6.6.6.6"]
    assert [response.received(name) for name in ("x-empty", "user", "tenant", "x-own")] == [[], [], [], ["client"]]
    assert len(response.received("x-request-id")) == 1
    assert response.received("host") == [HOST]


async def test_headers_for_all_may_have_what_is_known_of_the_ingress_and_of_the_connection(site: Site) -> None:
    """The first value is that of ingress-nginx' own documentation."""
    of = {"X-Request-Start": "t=${msec}", "X-Of": "$namespace/$ingress_name/$service_name:$service_port", "X-Line": "$request"}
    site.folder.write(
        "of.yaml", config_map("of", of), config_map("by", {"X-By": "$upstream_addr of $proxy_upstream_name", "X-Ns": "$namespace"})
    )
    site.folder.write("keys.yaml", config_map("keys", {"proxy-set-headers": "default/of", "add-headers": "default/by"}))

    async def look() -> Response | None:
        response = await site.get("/x?y", host=HOST)
        return response if response.received("x-of") == ["default/web/web:80"] else None

    response = await wait_until(look, "the header at the backend")
    assert re.fullmatch(r"t=[0-9]{10}\.[0-9]{3}", response.received("x-request-start")[0])
    assert response.received("x-line") == ["GET /x?y HTTP/1.1"]
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+ of default-web-80", response.header("x-by") or "")
    nowhere = await site.get("/", host="nobody.test")
    assert (nowhere.header("x-by"), nowhere.header("x-ns")) == ("of", None)


async def test_envoy_takes_every_variable_in_headers_for_all(site: Site) -> None:
    of_request = VARIABLES.split()
    of_response = [*of_request, "status", "upstream_status", "upstream_addr", "upstream_cache_status", "sent_http_x", "upstream_http_x"]
    for key, names, begin in (("proxy-set-headers", of_request, "X-R-"), ("add-headers", of_response, "X-A-")):
        data = {begin + name.replace("_", "-"): f"<${{{name}}}>" for name in names}
        site.folder.write("every.yaml", config_map("every", data))
        site.folder.write("keys.yaml", config_map("keys", {key: "default/every"}))

        async def look(key: str = key) -> Response | None:
            response = await site.get("/x?a=1", host=HOST, headers=[("X-Y", "y"), ("Cookie", "b=2")])
            there = response.received("X-R-uri") if key == "proxy-set-headers" else [response.header("X-A-uri")]
            return response if there == ["</x>"] else None

        response = await wait_until(look, f"{key} with every variable")
    assert [response.header(f"X-A-{name}") for name in ("status", "upstream-status", "server-name")] == ["<200>", "<200>", f"<{HOST}>"]
    assert [response.header(f"X-A-{name}") for name in ("arg-a", "cookie-b", "http-x-y", "https")] == ["<1>", "<2>", "<y>", "<>"]
    nowhere = await site.get("/", host="nobody.test")
    assert [nowhere.header(f"X-A-{name}") for name in ("status", "upstream-status", "upstream-addr")] == ["<404>", "<>", "<>"]


async def test_headers_that_clients_do_not_get(site: Site) -> None:
    assert (await site.get("/", host=HOST)).header("content-type")
    await keep_connected(site, {"hide-headers": "Content-Type, nothing"}, "content-type", None)


async def test_responses_are_compressed_for_clients_that_take_it(site: Site) -> None:
    types = "application/octet-stream text/plain"
    both = {"use-gzip": "true", "gzip-types": types, "enable-brotli": "true", "brotli-types": types}
    found = await keep_connected(site, both, "content-encoding", "gzip", **{"Accept-Encoding": "gzip"})
    assert len(gzip.decompress(found.body)) == 5000
    assert found.header("vary") == "Accept-Encoding"
    for accepted, encoding in (("gzip, br", "br"), ("br", "br"), ("gzip;q=0", None), ("identity", None), ("br;q=0.5, gzip", "gzip")):
        response = await site.get("/big/5000", host=HOST, headers=[("Accept-Encoding", accepted)])
        assert response.header("content-encoding") == encoding, accepted
    small = await site.get("/big/10", host=HOST, headers=[("Accept-Encoding", "gzip, br")])
    assert small.header("content-encoding") is None
    only_gzip = {"use-gzip": "true", "gzip-types": "text/css *"}
    await keep_connected(site, only_gzip, "content-encoding", "gzip", **{"Accept-Encoding": "gzip, br"})
    await keep_connected(site, {}, "content-encoding", None, **{"Accept-Encoding": "gzip, br"})


async def test_responses_are_no_larger_than_nginx_makes_them(site: Site) -> None:
    types = "application/octet-stream text/plain"
    keys = {"use-gzip": "true", "gzip-types": types, "enable-brotli": "true", "brotli-types": types}
    of_envoy = await keep_connected(site, keys, "content-encoding", "gzip", **{"Accept-Encoding": "gzip"})
    zlib_1 = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    assert len(of_envoy.body) <= len(zlib_1.compress(gzip.decompress(of_envoy.body)) + zlib_1.flush(zlib.Z_SYNC_FLUSH) + zlib_1.flush())
    await keep_connected(site, {}, "content-encoding", None, **{"Accept-Encoding": "gzip, br"})


async def test_a_backend_sees_what_was_requested_and_a_client_its_server(site: Site) -> None:
    site.folder.write("keys.yaml", config_map("keys", {"proxy-add-original-uri-header": "true", "allow-backend-server-header": "true"}))

    async def look() -> Response | None:
        response = await site.get("/x?y", host=HOST)
        return response if response.received("x-original-uri") == ["/x?y"] else None

    assert "Python" in ((await wait_until(look, "X-Original-Uri")).header("server") or "")
