"""Where Envoy by itself is stricter than nginx, or has a limit that nginx has not: headers that HTTP/2 forbids, many and large headers,
a Content-Length beside chunks. What cannot be had stands in docs/differences.md, and is held here as well."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Http1, Http2, RawHttp, RawHttp2, Response, Site, backend, config_map, fetch, ingress, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

KIB = 1 << 10
SIZES = {"one-of-90": (90, 1), "one-of-250": (250, 1), "twelve-of-20": (20, 12)}
"""Headers of answers, in KiB, and how many of them: more than Envoy takes by itself, and less than the 256 KiB of here."""
TOO_LARGE = {"one-of-257": (257, 1), "thirteen-of-20": (20, 13)}
ASKED, ASKED_TOO_MUCH = [(31, 1), (10, 3)], [(33, 1), (10, 4), (20, 7)]
"""Headers of requests, in KiB, and how many of them."""
HUGE = {"huge": (500, 1), "five-of-100": (100, 5)}
FORBIDDEN = [("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("te", "gzip"), ("transfer-encoding", "chunked"), ("X-Upper", "1")]
"""Headers that HTTP/2 forbids, and that clients and backends send nevertheless."""


def long_headers(size: int, count: int) -> list[tuple[str, str]]:
    return [(f"x-long-{index}", "x" * (size * KIB - 20)) for index in range(count)]


def answer(*headers: tuple[str, str], body: bytes = b"ok", status: str = "200 OK") -> bytes:
    """A response of an HTTP/1 backend."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
LENGTH = ("Content-Length", "2")
ODD = {
    "length-and-chunks": answer(("Content-Length", "99"), ("Transfer-Encoding", "chunked"), body=CHUNKS),
    "no-length-204": answer(("Content-Length", "0"), body=b"", status="204 No Content"),
    "no-reason": answer(LENGTH, status="200"),
    "high-value": answer(("X-High", "\xe9"), LENGTH),
    "odd-names": answer(("x_under", "1"), ("x.dot", "2"), LENGTH),
    "redirect-302": answer(("Location", "/own"), LENGTH, status="302 Own"),
    "refused-403": answer(("Location", "/own"), LENGTH, status="403 Own"),
    "page-200": answer(("Location", "/own"), LENGTH),
    "status-600": answer(LENGTH, status="600 Own"),
}
"""What backends send against the rules and nginx passes, and Envoy as well."""
REFUSED = {
    "length-204": answer(LENGTH, status="204 No Content"),
    "chunked-204": answer(("Transfer-Encoding", "chunked"), body=CHUNKS, status="204 No Content"),
    "two-lengths": answer(LENGTH, LENGTH),
    "no-colon": b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
    "control": answer(("X-Control", "a\x01b"), LENGTH),
    "status-199": answer(LENGTH, status="199 Odd"),
}
"""What nginx passes and Envoy cannot be made to: docs/differences.md."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def raw() -> RawHttp:
    return RawHttp()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rpc() -> RawHttp2:
    long = {f"/{name}": long_headers(*size) for name, size in (SIZES | TOO_LARGE | HUGE).items()}
    many = {"/many": [(f"x-{index}", "1") for index in range(900)]}
    forbidden = {f"/{name}": [(name, value)] for name, value in FORBIDDEN}
    return RawHttp2({path: [(":status", "200"), *headers] for path, headers in (long | many | forbidden).items()})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, raw: RawHttp, rpc: RawHttp2) -> Site:
    folder = shared_site.folder
    apps = {"app": HttpApp("app"), "raw": raw, "rpc": rpc}
    long = {name: answer(*long_headers(*size), LENGTH) for name, size in (SIZES | TOO_LARGE | HUGE).items()}
    many = {"many": answer(*((f"X-{index}", "1") for index in range(900)), LENGTH)}
    apps |= {name: RawHttp(text, close=name in REFUSED) for name, text in (long | many | ODD | REFUSED).items()}
    for name, app in apps.items():
        folder.write(f"{name}.yaml", *backend(name, await shared_site.run(app)))
    answers = {f"/{name}": (name, 80) for name in long | many | ODD | REFUSED}
    folder.write(
        "ingresses.yaml",
        ingress("app", "app.test", {"/": ("app", 80)}),
        ingress("raw", "raw.test", {"/": ("raw", 80)} | answers),
        ingress("rpc", "rpc.test", {"/": ("rpc", 80)}, {"backend-protocol": "GRPC"}),
        ingress("large", "large.test", {f"/{name}": (name, 80) for name in HUGE}, {"proxy-buffer-size": "600k"}),
        ingress("wild", "*.wild.test", {"/": ("raw", 80)}),
        *(
            ingress(
                host.partition(".")[0], host, {"/": ("nobody" if host == "nobody.test" else "app", 80)}, notes | {"proxy-body-size": "10"}
            )
            for host, (notes, _) in LIMITED.items()
        ),
        ingress("unlimited", "unlimited.test", {"/": ("app", 80)}, {"permanent-redirect": "https://a.test", "proxy-body-size": "0"}),
        ingress("bytes", "bytes.test", {"/": ("app", 80)}, {"proxy-body-size": "10b"}),
        ingress("large-rpc", "large-rpc.test", {"/": ("rpc", 80)}, {"proxy-buffer-size": "1m", "backend-protocol": "GRPC"}),
    )
    await shared_site.start()
    return shared_site


async def until_held(rpc: RawHttp2) -> None:
    """Wait until one request waits for its answer."""

    async def look() -> bool:
        return rpc.held == 1

    await wait_until(look, "a request for /held")


async def ask_http_2(address: Address, target: str, *, host: str, headers: list[tuple[str, str]] | None = None) -> int:
    """The status of one request over HTTP/2; 0 where the stream is reset or the connection ends."""
    async with await Http2.open(address, strict=False) as connection:
        try:
            return (await connection.request(target=target, host=host, headers=headers or [])).status
        except ConnectionError:
            return 0


@pytest.mark.parametrize(
    "header",
    [
        *FORBIDDEN,
        ("proxy-connection", "keep-alive"),
        ("upgrade", "websocket"),
        ("x-control", "a\x01b"),
        ("x-line", "a\r\nb"),
        ("a space", "1"),
        ("content-length", "many"),
        (":unknown", "1"),
    ],
    ids=lambda header: header[0],
)
async def test_a_request_that_http_2_forbids_ends_alone(site: Site, rpc: RawHttp2, header: tuple[str, str]) -> None:
    async with await Http2.open(site.http, strict=False) as connection:
        neighbour = asyncio.create_task(connection.request(target="/held", host="rpc.test"))
        await until_held(rpc)
        with pytest.raises(ConnectionError, match="stream was reset"):
            await connection.request(host="app.test", headers=[header])
        rpc.let_go()
        assert (await neighbour).status == 200
        assert (await connection.request(host="app.test")).app == "app"


@pytest.mark.parametrize("header", FORBIDDEN, ids=lambda header: header[0])
async def test_an_answer_that_http_2_forbids_ends_alone(site: Site, rpc: RawHttp2, header: tuple[str, str]) -> None:
    neighbour = asyncio.create_task(site.get("/held", host="rpc.test"))
    await until_held(rpc)
    asked = len(rpc.heads)
    assert (await site.get(f"/{header[0]}", host="rpc.test", method="POST", body=b"x")).status == 502
    rpc.let_go()
    assert ((await neighbour).status, len(rpc.heads)) == (200, asked + 1)


@pytest.mark.parametrize("host", ["raw.test", "rpc.test"])
@pytest.mark.parametrize("size", ASKED)
async def test_requests_with_large_headers_pass(site: Site, size: tuple[int, int], host: str) -> None:
    headers = long_headers(*size)
    assert (await site.get("/", host=host, headers=headers)).status == 200
    assert await ask_http_2(site.http, "/", host=host, headers=headers) == 200


@pytest.mark.parametrize("host", ["raw.test", "rpc.test"])
@pytest.mark.parametrize("size", SIZES, ids=SIZES)
async def test_answers_with_large_headers_pass(site: Site, size: str, host: str) -> None:
    response = await site.get(f"/{size}", host=host)
    assert (response.status, [pair for pair in response.headers if pair[0].startswith("x-long")]) == (200, long_headers(*SIZES[size]))
    assert await ask_http_2(site.http, f"/{size}", host=host) == 200


@pytest.mark.parametrize("size", ASKED_TOO_MUCH)
async def test_requests_with_headers_beyond_the_limit_are_400(site: Site, size: tuple[int, int]) -> None:
    headers = long_headers(*size)
    refused = await site.get("/", host="raw.test", headers=headers)
    assert (refused.status, "<center>Request Header Or Cookie Too Large</center>" in refused.text) == (400, True)
    assert await ask_http_2(site.http, "/", host="raw.test", headers=headers) == 0


@pytest.mark.parametrize("host", ["raw.test", "rpc.test"])
@pytest.mark.parametrize("size", TOO_LARGE)
async def test_answers_with_headers_beyond_the_limit_are_502(site: Site, size: str, host: str) -> None:
    assert (await site.get(f"/{size}", host=host)).status == 502


async def test_a_larger_proxy_buffer_size_raises_the_limit(site: Site) -> None:
    """One header that large cannot come over HTTP/2."""
    for host, size in (("large.test", "huge"), ("large.test", "five-of-100"), ("large-rpc.test", "five-of-100")):
        response = await site.get(f"/{size}", host=host)
        assert [pair for pair in response.headers if pair[0].startswith("x-long")] == long_headers(*HUGE[size])
        assert (await site.get(f"/{size}", host=host.replace("large-", "").replace("large", "raw"))).status == 502
    assert (await site.get("/huge", host="large-rpc.test")).status == 502


async def test_many_headers_pass_in_every_direction(site: Site) -> None:
    headers = [(f"x-{index}", "1") for index in range(900)]
    for host in ("raw.test", "rpc.test"):
        response = await site.get("/many", host=host, headers=headers)
        assert (response.status, len([name for name, _ in response.headers if name.lower().startswith("x-")])) == (200, 900)
        assert await ask_http_2(site.http, "/many", host=host, headers=headers) == 200
        assert (await site.get("/", host=host, headers=headers + headers)).status == 400


async def test_many_and_large_cookies_pass_over_http_2(site: Site, raw: RawHttp) -> None:
    """Each may come as a header of its own; Envoy joins them, and could count them otherwise than other headers."""
    cookies = [("cookie", f"a{index}={'x' * 20}") for index in range(900)]
    assert await ask_http_2(site.http, "/", host="raw.test", headers=cookies) == 200
    assert b"a899=" in raw.heads[-1]


async def test_a_url_beyond_the_limit_is_400(site: Site) -> None:
    assert (await site.get("/?" + "y" * 34 * KIB, host="raw.test")).status == 400


@pytest.mark.parametrize("size", [9, 31])
async def test_long_urls_pass(site: Site, raw: RawHttp, size: int) -> None:
    target = "/?" + "y" * size * KIB
    assert (await site.get(target, host="raw.test")).status == 200
    assert await ask_http_2(site.http, target, host="raw.test") == 200
    assert await ask_http_2(site.http, target, host="rpc.test") == 200


@pytest.mark.parametrize("name", ODD)
async def test_answers_that_bend_the_rules_pass(site: Site, name: str) -> None:
    response = await site.get(f"/{name}", host="raw.test")
    status = int(name[-3:]) if name[-3:].isdigit() else 200
    assert (response.status, response.body) == (status, b"" if status == 204 else b"ok")


@pytest.mark.parametrize("name", REFUSED)
async def test_answers_that_envoy_cannot_take_are_502(site: Site, name: str) -> None:
    assert (await site.get(f"/{name}", host="raw.test")).status == 502


@pytest.mark.parametrize("name", ["redirect-302", "refused-403", "page-200"])
async def test_a_websocket_that_is_answered_with_a_page(site: Site, name: str) -> None:
    """It passes, but for the body of an answer that is neither 101 nor an error: that becomes a page of Envoy's."""
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "a" * 22 + "==")]
    response = await site.get(f"/{name}", host="raw.test", headers=headers)
    assert (response.status, response.header("location")) == (int(name[-3:]), "/own")
    assert (response.body == b"ok") == (name == "refused-403")


METHODS = {"TRACE": 405, "PROPFIND": 200, "get": 400, "GeT": 400, "F.O": 400, "G3T": 400}


@pytest.mark.parametrize("http2", [False, True], ids=["http-1", "http-2"])
async def test_trace_is_not_allowed_and_what_nginx_takes_for_no_method_is_400(site: Site, http2: bool) -> None:
    async def ask(method: str) -> Response:
        async with await (Http2.open(site.http) if http2 else Http1.open(site.http)) as connection:
            return await connection.request(method, host="raw.test")

    answers = {method: await ask(method) for method in METHODS}
    assert {method: answer.status for method, answer in answers.items()} == METHODS
    assert "405 Not Allowed" in answers["TRACE"].text
    assert "400 Bad Request" in answers["get"].text


async def test_a_method_that_no_standard_knows_passes_over_http_2_only(site: Site) -> None:
    assert (await site.get("/", host="raw.test", method="FOO")).status == 400
    async with await Http2.open(site.http) as connection:
        assert (await connection.request("FOO", host="raw.test")).status == 200


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["raw.test", "app.test"], 400),
        (["raw.test", "raw.test"], 400),
        (["x,a.wild.test"], 400),
        ([""], 400),
        (["."], 400),
        ([":80"], 400),
        (["a..b"], 400),
        (["a..wild.test"], 400),
        (["a..b:80"], 400),
        (["a/b"], 400),
        ([], 400),
        (["raw.test."], 200),
        (["raw.test:81"], 200),
        (["a.wild.test"], 200),
        (["a.b.wild.test"], 404),
        (["[::1]"], 404),
        (["[::1]:80"], 404),
        (["unknown.test"], 404),
    ],
    ids=str,
)
async def test_what_is_no_host_is_400(site: Site, hosts: list[str], status: int) -> None:
    async with await Http1.open(site.http) as connection:
        assert (await connection.request(headers=[("Host", host) for host in hosts])).status == status


async def test_over_http_2_what_is_no_host_is_400_too(site: Site) -> None:
    async with await Http2.open(site.http) as connection:
        hosts = ("a..b", ".", "a..wild.test", "a,b", "unknown.test", "raw.test")
        assert [(await connection.request(host=host)).status for host in hosts] == [400, 400, 400, 400, 404, 200]


@pytest.mark.parametrize("target", ["/a#b", "/a#", "/a#b?c", "/a#b#c"])
async def test_what_follows_a_hash_sign_is_cut_off(site: Site, raw: RawHttp, target: str) -> None:
    assert (await site.get(target, host="raw.test")).status == 200
    assert raw.heads[-1].startswith(b"GET /a HTTP/1.1\r\n")
    assert await ask_http_2(site.http, target, host="raw.test") == 200
    assert raw.heads[-1].startswith(b"GET /a HTTP/1.1\r\n")


LIMITED = {
    "redirect.test": ({"permanent-redirect": "https://elsewhere.test"}, 301),
    "temporal.test": ({"temporal-redirect": "https://elsewhere.test"}, 302),
    "https.test": ({"force-ssl-redirect": "true"}, 308),
    "closed.test": ({"auth-url": "http:///check"}, 503),
    "nobody.test": ({}, 503),
}
"""Hosts whose answer Envoy makes by itself, with their annotations and statuses; bodies may have 10 bytes."""


@pytest.mark.parametrize("host", LIMITED)
async def test_a_body_over_the_limit_is_413_before_anything_else(site: Site, host: str) -> None:
    statuses = [(await site.get("/", host=host, method="PUT", body=b"x" * size)).status for size in (0, 10, 11)]
    assert statuses == [LIMITED[host][1], LIMITED[host][1], 413]


async def test_where_bodies_have_no_limit_a_redirect_has_none_either(site: Site) -> None:
    assert (await site.get("/", host="unlimited.test", method="PUT", body=b"x" * (2 << 20))).status == 301


async def test_a_size_whose_unit_nginx_does_not_have_has_no_effect(site: Site) -> None:
    sizes = (11, 1 << 20, (1 << 20) + 1)
    assert [(await site.get("/", host="bytes.test", method="PUT", body=b"x" * size)).status for size in sizes] == [200, 200, 413]


async def test_the_configmap_raises_the_limit_of_requests(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`steady` does not see this Envoy: the key is read when the listeners are made."""
    async with Site(tmp_path_factory.mktemp("larger")) as other:
        other.folder.write("config.yaml", config_map("larger", {"large-client-header-buffers": "8 64k"}, namespace="ingress-nginx"))
        other.folder.write("raw.yaml", ingress("raw", "raw.test", {"/": ("raw", 80)}), *backend("raw", await other.run(RawHttp())))
        await other.start("--configmap", "ingress-nginx/larger")
        for size in HUGE.values():
            assert (await fetch(other.http, host="raw.test", headers=long_headers(*size))).status == 200
        assert await ask_http_2(other.http, "/", host="raw.test", headers=long_headers(*HUGE["five-of-100"])) == 200
