"""What a backend is told of a request, what a client is told of a response, and what of either goes on as it was (nginx 4.9)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Http1, Http2, RawHttp, RawHttp2, Site, Tls, backend, fetch, ingress, request_bytes
from xds.render.untrusted import OF_ENVOY

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

ANSWER = (
    b"HTTP/1.1 200 Just Fine\r\nServer: Secret/1.0\r\nX-oDD-cASE: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\n"
    b"X-Powered-By: something\r\nX-Accel-Redirect: /internal\r\nX-Accel-Expires: 3\r\nX-Accel-Buffering: no\r\nX-Accel-Limit-Rate: 9\r\n"
    b"X-Accel-Charset: utf-8\r\nX-Pad: 1\r\nX-Accel-Other: 1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def raw() -> RawHttp:
    return RawHttp(ANSWER)


@pytest.fixture(scope="module")
def rpc() -> RawHttp2:
    return RawHttp2()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, raw: RawHttp, rpc: RawHttp2) -> Site:
    """Listening on all addresses of both families."""
    grpc = {"backend-protocol": "GRPC"}
    shared_site.folder.write("rpc.yaml", ingress("rpc", "rpc.test", {"/": ("rpc", 80)}, grpc), *backend("rpc", await shared_site.run(rpc)))
    shared_site.folder.write("raw.yaml", ingress("raw", "raw.test", {"/": ("raw", 80)}), *backend("raw", await shared_site.run(raw)))
    shared_site.folder.write("app.yaml", ingress("app", "app.test", {"/": ("app", 80)}))
    shared_site.folder.write("service.yaml", *backend("app", await shared_site.run(HttpApp("app"))))
    await shared_site.start("--listen-address", "::")
    return shared_site


def lines(head: bytes) -> list[tuple[str, str]]:
    """The headers of a request as they came."""
    pairs = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return [(name, value) for name, _, value in pairs]


def told(head: bytes) -> dict[str, str]:
    """The headers of a request by their names in lower case."""
    return {name.lower(): value for name, value in lines(head)}


async def test_a_backend_is_told_who_asks_and_how_and_nothing_else(site: Site, raw: RawHttp) -> None:
    await site.get("/a?b=c", host="raw.test:8080")
    assert raw.heads[-1].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    received = told(raw.heads[-1])
    assert UUID.fullmatch(received.pop("x-request-id"))
    assert received == {
        "host": "raw.test:8080",
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "raw.test:8080",
        "x-forwarded-port": str(site.http[1]),
        "x-forwarded-proto": "http",
        "x-forwarded-scheme": "http",
        "x-scheme": "http",
    }


async def test_a_request_over_tls_is_one_to_port_443_whatever_the_listener_has(site: Site) -> None:
    response = await site.get("/", host="app.test", tls=Tls("app.test"))
    expected = {"X-Forwarded-Port": "443", "X-Forwarded-Proto": "https", "X-Forwarded-Scheme": "https", "X-Scheme": "https"}
    assert {name: response.received(name) for name in expected} == {name: [value] for name, value in expected.items()}


async def test_a_client_of_the_other_family_is_known_by_its_address(site: Site) -> None:
    response = await fetch(("::1", site.http[1]), host="app.test")
    assert (response.received("X-Real-IP"), response.received("X-Forwarded-For")) == (["::1"], ["::1"])


async def test_what_a_client_says_of_itself_is_replaced_and_kept_under_other_names(site: Site) -> None:
    claims = [
        ("X-Forwarded-For", "203.0.113.7, 203.0.113.8"),
        ("X-Forwarded-Host", "bank.test"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Scheme", "https"),
        ("X-Real-IP", "203.0.113.9"),
    ]
    response = await site.get("/", host="app.test", headers=claims)
    assert {name: response.received(name) for name, _ in claims} == {
        "X-Forwarded-For": ["127.0.0.1"],
        "X-Forwarded-Host": ["app.test"],
        "X-Forwarded-Port": [str(site.http[1])],
        "X-Forwarded-Proto": ["http"],
        "X-Forwarded-Scheme": ["http"],
        "X-Scheme": ["http"],
        "X-Real-IP": ["127.0.0.1"],
    }
    assert response.received("X-Original-Forwarded-For") == ["203.0.113.7, 203.0.113.8"]
    assert response.received("X-Original-Forwarded-Host") == ["bank.test"]


@pytest.mark.parametrize("own", ["my-own", "01890a5d-ac96-774b-bcce-b302099a8057", "thirty-six characters, and no number"])
async def test_a_clients_request_id_is_kept(site: Site, own: str) -> None:
    """Also one that is as long as a UUID, in which Envoy keeps what it thinks of tracing unless told not to."""
    response = await site.get("/", host="app.test", headers=[("X-Request-ID", own)])
    assert response.received("X-Request-ID") == [own]


async def test_names_go_on_as_they_were_written_in_their_order_and_as_often(site: Site, raw: RawHttp) -> None:
    sent = [
        ("x-lower", "1"),
        ("X-uPPer-MIXED", "2"),
        ("X-Twice", "3"),
        ("X-Twice", "4"),
        ("AUTHORIZATION", "Basic eDp5"),
        ("cookie", "a=1; b=2"),
    ]
    await site.get("/", host="raw.test", headers=sent)
    assert [pair for pair in lines(raw.heads[-1]) if pair[0].lower() in {name.lower() for name, _ in sent}] == sent


CLAIMS = (
    *("Proxy", "with_underscore", "X.Dot", ".first", "last.", "a!b", "a~b", "a$", "a|b"),
    *("ssl-client-verify", "SSL-Client-Cert", "ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-other"),
    *("X-Original-Forwarded-For", "X-Original-Forwarded-Host", "X-Xds-Came-Back", "x-xds-peer", "X-Xds-Any"),
    *(name.title() for name in OF_ENVOY),
)
PASSING = (
    *("X-Envoy-Foo", "X-Envoy-Retry-Onward", "My-X-Envoy-Retry-On", "X-Original-URL", "X-Original-Method", "X-Auth-Request-Redirect"),
    *("X-Code", "Via", "Max-Forwards", "X-HTTP-Method-Override", "ssl-clients", "X-1", "-", "9"),
)


@pytest.mark.parametrize("http2", [False, True], ids=["http-1", "http-2"])
async def test_what_would_be_taken_for_an_order_or_for_a_proxys_word_does_not_come_through(site: Site, raw: RawHttp, http2: bool) -> None:
    """Each name alone, for what one of them does must not hide another; everything else passes."""
    came = set()
    async with await (Http2.open(site.http) if http2 else Http1.open(site.http)) as connection:
        for name in (*CLAIMS, *PASSING):
            headers = [(name.lower() if http2 else name, "5")]
            assert (await connection.request(host="raw.test", headers=headers)).status == 200
            came |= {name for value in [told(raw.heads[-1]).get(name.lower())] if value is not None}
    assert came == set(PASSING)


async def test_a_client_cannot_set_envoys_limits(site: Site) -> None:
    headers = [("X-Envoy-Upstream-Rq-Timeout-Ms", "1"), ("X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms", "1")]
    assert (await site.get("/sleep/0.2", host="app.test", headers=headers)).app == "app"


async def test_a_response_comes_as_the_backend_wrote_it_but_for_what_is_meant_for_the_proxy(site: Site) -> None:
    response = await site.get("/", host="raw.test")
    assert (response.status, response.reason, response.body) == (200, "Just Fine", b"ok")
    assert response.headers == [
        ("X-oDD-cASE", "1"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2; Path=/"),
        ("X-Powered-By", "something"),
        ("X-Accel-Other", "1"),
        ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("Content-Length", "2"),
    ]


async def test_nothing_says_who_answered_where_nobody_did(site: Site) -> None:
    response = await site.get("/", host="unknown.test")
    assert {name.lower() for name, _ in response.headers} == {"content-length", "content-type", "date"}


async def test_who_expects_to_be_asked_for_the_body_is_asked(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.receive("POST")).status == 100
        await connection.send(b"12345")
        response = await connection.receive("POST")
    assert (response.status, response.json()["body_length"], response.received("Expect")) == (200, 5, [])


@pytest.mark.parametrize("sizes", [[8000], [7000, 7000, 7000, 7000], [100] * 200], ids=["one-of-8k", "four-of-7k", "two-hundred"])
async def test_as_many_and_as_long_headers_as_nginx_takes_come_through(site: Site, raw: RawHttp, sizes: Sequence[int]) -> None:
    sent = [(f"X-Long-{index}", "x" * size) for index, size in enumerate(sizes)]
    assert (await site.get("/", host="raw.test", headers=sent)).status == 200
    assert [pair for pair in lines(raw.heads[-1]) if pair[0].startswith("X-Long-")] == sent


async def test_a_long_url_comes_through(site: Site, raw: RawHttp) -> None:
    target = "/" + "a" * 3000 + "?" + "b" * 4500
    assert (await site.get(target, host="raw.test")).status == 200
    assert raw.heads[-1].startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("te", ["gzip", "trailers", "trailers, deflate;q=0.5"])
async def test_hop_by_hop_headers_end_here(site: Site, raw: RawHttp, te: str) -> None:
    headers = [("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"), ("TE", te)]
    await site.get("/", host="raw.test", headers=headers)
    assert told(raw.heads[-1]).keys().isdisjoint({"connection", "keep-alive", "proxy-connection", "te"})


@pytest.mark.parametrize("headers", [[], [("te", "trailers")]])
async def test_a_backend_of_grpc_is_asked_for_trailers_whatever_its_client_says(
    site: Site, raw: RawHttp, rpc: RawHttp2, headers: list[tuple[str, str]]
) -> None:
    async with await Http2.open(site.http) as connection:
        for host in ("rpc.test", "raw.test"):
            await connection.request(host=host, headers=headers)
    assert rpc.heads[-1]["te"] == "trailers"
    assert "te" not in told(raw.heads[-1])


async def test_over_http_2_the_same_is_told(site: Site, raw: RawHttp) -> None:
    async with await Http2.open(site.http) as connection:
        await connection.request(host="raw.test", headers=[("x-own", "1"), ("cookie", "a=1"), ("cookie", "b=2")])
    received = told(raw.heads[-1])
    assert raw.heads[-1].startswith(b"GET / HTTP/1.1\r\n")
    expected = ("raw.test", "127.0.0.1", "http", str(site.http[1]), "a=1; b=2")
    assert tuple(received[n] for n in ("host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "cookie")) == expected


async def test_the_host_of_an_absolute_target_counts(site: Site, raw: RawHttp) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(request_bytes(target="http://raw.test/absolute", host="app.test"))
        assert (await connection.receive()).body == b"ok"
    assert raw.heads[-1].startswith(b"GET /absolute HTTP/1.1\r\n")
    assert told(raw.heads[-1])["host"] == "raw.test"
