"""HTTP/1.0, 1.1 and 2 from clients, websockets and other upgrades, every method, large and slow messages (nginx 4.16)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp, StreamServer
from tests.envoy.harness import Http1, Http2, RawHttp, Site, Tls, WebSocket, backend, fetch, ingress, request_bytes

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

HOST = "app.test"
MEBIBYTE = 1 << 20


class Switching:
    """A backend that takes every upgrade that is asked for, and then sends back whatever comes."""

    def __init__(self) -> None:
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        kind = head.partition("upgrade: ")[2].partition("\r\n")[0]
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {kind}\r\n\r\n".encode())
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


class Dripping:
    """A backend that answers in five pieces with 0.5 s between them."""

    def __init__(self) -> None:
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for piece in (b"a", b"b", b"c", b"d", b"e"):
            await asyncio.sleep(0.5)
            writer.write(piece)
            await writer.drain()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def early() -> RawHttp:
    return RawHttp(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, early: RawHttp) -> AsyncIterator[Site]:
    apps: dict[str, Any] = {
        "app": HttpApp("app"),
        "nameless": HttpApp("nameless"),
        "switching": Switching(),
        "dripping": Dripping(),
        "http-1-0": RawHttp(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end", close=True),
        "early-hints": early,
    }
    for name, app in apps.items():
        shared_site.folder.write(f"{name}.yaml", *backend(name, await shared_site.run(app)))
    short = {"proxy-read-timeout": 2, "proxy-send-timeout": 2, "proxy-connect-timeout": 1, "proxy-next-upstream-tries": 1}
    shared_site.folder.write(
        "ingresses.yaml",
        ingress("app", HOST, {"/": ("app", 80)} | {f"/{name}": (name, 80) for name in apps if name not in ("app", "dripping")}),
        ingress("nameless", "", {"/": ("nameless", 80)}),
        ingress("short", HOST, {"/dripping": ("dripping", 80), "/short": ("app", 80)}, short),
        ingress("unlimited", HOST, {"/unlimited": ("app", 80)}, {"proxy-body-size": 0}),
        ingress("slow", HOST, {"/slow/switching": ("switching", 80)}, {"limit-rate": 1, "proxy-buffering": "on"}),
        ingress("eight", HOST, {"/eight": ("app", 80)}, {"proxy-body-size": "8m"}),
    )
    await shared_site.start()
    yield shared_site


async def test_http_1_0_is_answered_and_its_connection_closed(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        response = await connection.request(target="/chunked/2", host=HOST, version="1.0")
        assert (response.status, response.header("transfer-encoding"), len(response.body)) == (200, None, 2 * 65536)
        assert await connection.ended()


async def test_http_1_0_may_keep_its_connection(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        for _ in range(2):
            response = await connection.request(host=HOST, version="1.0", headers=[("Connection", "keep-alive")])
            assert (response.app, response.header("connection")) == ("app", "keep-alive")


async def test_http_1_0_without_a_host_is_for_the_rules_without_a_host(site: Site) -> None:
    """The health checks of many load balancers ask so; nginx gives them to its default server."""
    response = await fetch(site.http, version="1.0")
    assert (response.status, response.app) == (200, "nameless")
    assert (await fetch(site.http, "/healthz", version="1.0")).status == 200


async def test_what_is_no_request_is_400_and_ends_the_connection(site: Site) -> None:
    heads = ["GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: a b", "nonsense", "GET / HTTP/1.1\r\nHost: a\r\nno colon"]

    async def ask(head: str) -> tuple[int, bool]:
        async with await Http1.open(site.http) as connection:
            await connection.send(f"{head}\r\n\r\n".encode())
            return (await connection.receive()).status, await connection.ended()

    assert await asyncio.gather(*(ask(head) for head in heads)) == [(400, True)] * len(heads)


async def test_a_backend_may_speak_http_1_0(site: Site) -> None:
    response = await site.get("/http-1-0", host=HOST)
    assert (response.status, response.version, response.body) == (200, "1.1", b"until the end")


async def test_requests_may_be_pipelined_and_a_client_may_close(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        one = f"GET /1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        await connection.send((one + one.replace("/1", "/2").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).encode())
        first, second = [await connection.receive() for _ in range(2)]
        assert [r.json()["path"] for r in (first, second)] == ["/1", "/2"]
        assert (first.header("connection"), second.header("connection")) == (None, "close")
        assert await connection.ended()


async def test_http_2_is_spoken_without_tls_to_clients_that_begin_with_it(site: Site) -> None:
    async with await Http2.open(site.http) as connection:
        answers = await asyncio.gather(*(connection.request(target=f"/{number}", host=HOST) for number in range(100)))
        assert [(answer.status, answer.json()["path"]) for answer in answers] == [(200, f"/{number}") for number in range(100)]
        posted = await connection.request("POST", "/", host=HOST, body=b"x" * 300_000)
        assert posted.json()["body_length"] == 300_000


async def test_over_tls_the_client_chooses_between_http_2_and_1(site: Site) -> None:
    async with await Http2.open(site.https, tls=Tls(HOST)) as h2:
        assert (await h2.request(host=HOST, scheme="https")).app == "app"
    for alpn, agreed in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
        async with await Http1.open(site.https, tls=Tls(HOST, alpn)) as connection:
            assert connection.alpn == agreed
    assert (await site.get("/", host=HOST, tls=Tls(HOST))).app == "app"


@pytest.mark.parametrize("tls", [None, Tls(HOST)], ids=["http", "https"])
async def test_a_websocket_passes_with_messages_of_every_length(site: Site, tls: Tls | None) -> None:
    """Together they are more than the largest body that a request may have: a websocket has none."""
    address: Address = site.https if tls else site.http
    async with await WebSocket.open(address, "/some/ws", host=HOST, tls=tls) as websocket:
        for size in (0, 1, 125, 126, 70_000, MEBIBYTE, MEBIBYTE):
            assert await websocket.ask(b"x" * size) == b"x" * size


async def test_a_websocket_lives_while_something_is_said_and_ends_in_silence(site: Site) -> None:
    """Its time-out, see `ingress("short", …)`, is three seconds: one to connect and two of silence."""

    async def ended(websocket: WebSocket) -> None:
        with pytest.raises((EOFError, ConnectionError)):
            await websocket.receive()

    async with (
        await WebSocket.open(site.http, "/short/ws", host=HOST) as silent,
        await WebSocket.open(site.http, "/short/ws", host=HOST) as talking,
    ):
        end = asyncio.create_task(ended(silent))
        while not end.done():
            assert await talking.ask(b"still here") == b"still here"
            await asyncio.sleep(0.3)
        await end
        assert await talking.ask(b"still here") == b"still here"


@pytest.mark.parametrize("kind", ["websocket", "SPDY/3.1", "tcp"])
async def test_protocols_that_pass_ingresses_can_be_switched_to(site: Site, kind: str) -> None:
    """kubectl exec and docker attach, through dashboards and Rancher, ask for the latter two."""
    async with await Http1.open(site.http) as connection:
        response = await connection.request(target="/switching", host=HOST, headers=[("Connection", "Upgrade"), ("Upgrade", kind)])
        assert (response.status, (response.header("upgrade") or "").lower()) == (101, kind.lower())
        await connection.send(b"anything at all\x00\xff")
        assert await connection.reader.readexactly(17) == b"anything at all\x00\xff"


@pytest.mark.parametrize("kind", ["websocket", "SPDY/3.1", "tcp"])
async def test_what_they_carry_is_no_body_and_has_neither_its_limit_nor_its_pace(site: Site, kind: str) -> None:
    """At 1 KiB a second an hour would not do for what is sent here."""
    sent = bytes(range(256)) * 4 * 3072
    async with await Http1.open(site.http) as connection:
        response = await connection.request(
            target="/slow/switching", host=HOST, headers=[("Connection", "keep-alive, Upgrade"), ("Upgrade", kind)]
        )
        assert response.status == 101

        async def send() -> None:
            for at in range(0, len(sent), MEBIBYTE):
                await connection.send(sent[at : at + MEBIBYTE])

        _, received = await asyncio.gather(send(), connection.reader.readexactly(len(sent)))
        assert received == sent


@pytest.mark.parametrize("headers", [[("Upgrade", "websocket")], [("Upgrade", "TLS/1.2"), ("Connection", "Upgrade")]])
async def test_the_word_of_an_upgrade_alone_lets_no_large_body_pass(site: Site, headers: list[tuple[str, str]]) -> None:
    response = await site.get("/", host=HOST, method="POST", headers=headers, body=b"x" * (MEBIBYTE + 1))
    assert response.status == 413


@pytest.mark.parametrize("kind", ["h2c", "TLS/1.2", "HTTP/2.0", "foo", "s", "wss, irc/6.9"])
async def test_an_upgrade_that_is_only_offered_is_not_taken_and_does_no_harm(site: Site, kind: str) -> None:
    """Java's clients and curl --http2 offer some of them with every request."""
    headers = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", kind), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]
    response = await site.get("/", host=HOST, headers=headers)
    assert (response.status, response.app, response.received("upgrade")) == (200, "app", [])


@pytest.mark.parametrize("method", ["PROPFIND", "MKCOL", "REPORT", "PURGE", "QUERY"])
async def test_methods_of_webdav_and_others_are_passed_on(site: Site, early: RawHttp, method: str) -> None:
    """QUERY has a Content-Type, as its RFC wants it; Envoy answers 400 to one without."""
    async with await Http1.open(site.http) as connection:
        response = await connection.request(method, "/early-hints", host=HOST, headers=[("Content-Type", "text/plain")])
        assert response.status in (103, 200)
    assert early.heads[-1].startswith(f"{method} /early-hints HTTP/1.1\r\n".encode())


async def test_nobody_is_given_a_tunnel(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(b"CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n")
        assert (await connection.receive("CONNECT")).status in (400, 404, 405)


async def test_an_informational_answer_does_not_hide_the_final_one(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(f"GET /early-hints HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        statuses = [(await connection.receive()).status]
        while statuses[-1] < 200:
            statuses.append((await connection.receive()).status)
    assert statuses[-1] == 200


@pytest.mark.parametrize(("path", "size"), [("/eight", 5 * MEBIBYTE), ("/eight", 8 * MEBIBYTE), ("/unlimited", 20 * MEBIBYTE)])
async def test_a_large_body_passes_where_it_may(site: Site, path: str, size: int) -> None:
    response = await site.get(path, host=HOST, method="PUT", body=b"x" * size)
    assert (response.status, response.json()["body_length"]) == (200, size)


async def test_a_body_beyond_a_raised_limit_is_too_large(site: Site) -> None:
    """Envoy says so while the body is still on its way, and reads no more of it."""
    async with await Http1.open(site.http) as connection:
        size = 8 * MEBIBYTE + 1
        sending = asyncio.create_task(connection.send(request_bytes("PUT", "/eight", host=HOST, body=b"x" * size)))
        assert (await connection.receive("PUT")).status == 413
        with contextlib.suppress(ConnectionError):
            await sending


@pytest.mark.parametrize("target", ["/big/30000000", "/chunked/300"])
async def test_a_large_response_comes_whole(site: Site, target: str) -> None:
    response = await site.get(target, host=HOST)
    assert (response.status, len(response.body)) == (200, 30_000_000 if "big" in target else 300 * 65536)


async def test_a_response_may_take_longer_than_the_read_timeout_as_long_as_it_goes_on(site: Site) -> None:
    assert (await site.get("/dripping", host=HOST)).body == b"abcde"


async def test_no_limit_of_envoys_own_cuts_a_long_request(site: Site) -> None:
    """What stands in the configuration, for what would take minutes to show: a route's default would be 15 s, a stream's 5 minutes."""
    dump = await site.envoy.config_dump()
    (table,) = dump["RoutesConfigDump"]["dynamic_route_configs"]
    forwarding = [r["route"] for host in table["route_config"]["virtual_hosts"] for r in host["routes"] if "route" in r]
    assert {route["timeout"] for route in forwarding} == {"0s"}
    assert not any("max_stream_duration" in route for route in forwarding)
    idle = {int(route["idle_timeout"].rstrip("s")) for route in forwarding}
    assert idle == {3, 3 * (5 + 60)}
    managers = list(connection_managers(dump["ListenersConfigDump"]))
    assert len(managers) == 2
    for manager in managers:
        assert manager["stream_idle_timeout"] == "0s"
        assert "request_timeout" not in manager
        assert set(manager["common_http_protocol_options"]) <= {"idle_timeout", "max_headers_count", "headers_with_underscores_action"}


def connection_managers(found: Any) -> Any:
    """Every HttpConnectionManager in a piece of a config dump."""
    if isinstance(found, dict):
        if str(found.get("@type", "")).endswith(".HttpConnectionManager"):
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for item in found:
            yield from connection_managers(item)
