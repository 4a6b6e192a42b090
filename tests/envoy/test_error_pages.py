"""custom-http-errors through a real Envoy: whose page the client gets, what its Service is asked, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import HttpApp, StreamServer
from tests.envoy.harness import Http2, RawHttp, Response, Site, Tls, WebSocket, config_map, endpoint_slice, ingress, service
from xds.nginx.error_pages import LARGEST_BODY, LARGEST_PAGE

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
CLOSED_PORT = ("127.0.0.1", 9)
PATIENCE = 120
BYTES = b"\x00\xff\\0\\\\\x00\r\n" + bytes(range(256))


class Pages:
    """A Service of pages. It answers `page` with the status that the header X-Page asks for, and keeps what it was asked last."""

    def __init__(self) -> None:
        self.line = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.asked = 0
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
            self.headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
            self.body = await reader.readexactly(int(self.headers.get("content-length", 0)))
            self.asked += 1
            await asyncio.sleep(float(self.headers.get("x-page-after", 0)))
            status, _, size = self.headers.get("x-page", "200").partition(" ")
            page = b"page" if not size else BYTES if size == "bytes" else b"p" * int(size)
            lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(page)}", "Set-Cookie: a=1", "Set-Cookie: b=2", "Server: pages"]
            lines += [f"Strict-Transport-Security: {own}"] if (own := self.headers.get("x-page-hsts")) else []
            writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if self.line.startswith("HEAD ") else page))


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, pages: Pages) -> Site:
    site = shared_site
    site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]))
    site.folder.write("pages.yaml", service("pages"), endpoint_slice("pages", [await site.run(pages)]))
    await site.start_control_plane()
    usual = {"custom-http-errors": "403,404,413,500,502,503", "default-backend": "pages"}
    others: Mapping[str, Mapping[str, str]] = {
        "a": usual,
        "rewrite": {**usual, "rewrite-target": "/status/404"},
        "denied": {**usual, "denylist-source-range": "0.0.0.0/0"},
        "small": {**usual, "proxy-body-size": "5"},
        "cors": {**usual, "enable-cors": "true"},
        "local": {**usual, "disable-proxy-intercept-errors": "true", "proxy-body-size": "5"},
        "nobody": {"custom-http-errors": "404"},
        "unreachable": {**usual, "default-backend": "dead"},
        "none": {**usual, "default-backend": "empty"},
        "loop": {**usual, "default-backend": "itself"},
        "plain": {},
    }
    for name, written in others.items():
        site.folder.write(f"{name}.yaml", ingress(name, f"{name}.test", WEB, written))
    site.folder.write("dead.yaml", service("dead"), endpoint_slice("dead", [CLOSED_PORT]), service("empty"))
    site.folder.write("itself.yaml", service("itself"), endpoint_slice("itself", [("127.0.0.1", site.http[1])]))
    site.folder.write("to-dead.yaml", ingress("to-dead", "to-dead.test", {"/": ("dead", 80)}, usual))
    site.folder.write("to-empty.yaml", ingress("to-empty", "to-empty.test", {"/": ("empty", 80)}, {"custom-http-errors": "503"}))
    await site.start_envoy()
    await site.until_status("/", 200, host="plain.test")
    return site


def is_page(answer: Response) -> bool:
    return (answer.status, answer.body) == (200, b"page")


async def until_closed(site: Site, sent: bytes) -> bytes:
    """All that comes after these bytes, until Envoy closes the connection."""
    reader, writer = await asyncio.open_connection(*site.http)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        received = await reader.read()
    writer.close()
    return received


async def test_the_service_of_pages_is_asked_as_in_ingress_nginx(site: Site, pages: Pages) -> None:
    sent = {"Accept": "text/css", "X-Service-Name": "forged", "X-Scheme": "forged", "Cookie": "a=b", "X-Forwarded-For": "192.0.2.1"}
    answer = await site.get("/a/status/404?x=1&y=%20", host="a.test", method="PUT", headers=list(sent.items()), body=BYTES)
    assert is_page(answer)
    assert answer.headers.count(("Set-Cookie", "a=1")) == answer.headers.count(("Set-Cookie", "b=2")) == 1
    assert "pages" not in dict(answer.headers).get("Server", "")
    assert pages.line == "PUT /?x=1&y=%20 HTTP/1.1"
    assert pages.body == BYTES
    got = pages.headers
    assert got.pop("x-request-id")
    assert got == {
        "host": "a.test",
        "accept": "text/css",
        "cookie": "a=b",
        "content-length": str(len(BYTES)),
        "x-scheme": "forged",
        "x-code": "404",
        "x-format": "text/css",
        "x-original-uri": "/a/status/404?x=1&y=%20",
        "x-namespace": "default",
        "x-ingress-name": "a",
        "x-service-name": "web",
        "x-service-port": "80",
        "x-forwarded-for": "127.0.0.1",
        **{name: value for name, value in got.items() if name.startswith("x-passages-")},
    }


async def test_the_status_line_is_that_of_the_page(site: Site) -> None:
    asked = b"GET /status/404 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
    received = await until_closed(site, asked)
    assert b"HTTP/1.1 200 OK\r\n" in received


async def test_other_statuses_and_other_hosts_are_as_ever(site: Site, pages: Pages) -> None:
    before = pages.asked
    for host, status in (("a.test", 418), ("a.test", 200), ("plain.test", 404), ("plain.test", 503)):
        answer = await site.get(f"/status/{status}", host=host)
        assert (answer.status, answer.app) == (status, "web")
    assert pages.asked == before


async def test_a_rewritten_path_is_told_as_it_was(site: Site, pages: Pages) -> None:
    assert is_page(await site.get("/x/y", host="rewrite.test"))
    assert pages.headers["x-original-uri"] == "/x/y"


async def test_head_has_the_length_of_the_page_and_no_body(site: Site, pages: Pages) -> None:
    answer = await site.get("/status/404", host="a.test", method="HEAD")
    assert (answer.status, answer.body, dict(answer.headers)["Content-Length"]) == (200, b"", "4")
    assert pages.line.startswith("HEAD ")


@pytest.mark.parametrize(
    ("host", "code"), [("denied.test", "403"), ("to-dead.test", "502")], ids=["an access rule", "a backend that cannot be reached"]
)
async def test_what_is_answered_here_is_replaced_as_well(site: Site, pages: Pages, host: str, code: str) -> None:
    assert is_page(await site.get("/x", host=host))
    assert pages.headers["x-code"] == code


@pytest.mark.parametrize("tls", [Tls("a.test"), None], ids=["https", "http"])
async def test_a_page_binds_no_browser_to_https(site: Site, tls: Tls | None) -> None:
    page, other = [await site.get(f"/status/{status}", host="a.test", tls=tls) for status in (404, 201)]
    assert is_page(page)
    bound = "max-age=31536000; includeSubDomains" if tls else None
    assert [each.header("strict-transport-security") for each in (page, other)] == [None, bound]
    assert [each.header("x-xds-untold") for each in (page, other)] == [None, None]


@pytest.mark.parametrize("tls", [Tls("a.test"), None], ids=["https", "http"])
async def test_a_page_may_bind_browsers_to_https_itself(site: Site, tls: Tls | None) -> None:
    page = await site.get("/status/404", host="a.test", headers=[("X-Page-Hsts", "max-age=7")], tls=tls)
    assert is_page(page)
    assert (page.header("strict-transport-security"), page.header("x-xds-untold")) == ("max-age=7", None)


async def test_the_page_has_no_headers_of_its_location(site: Site) -> None:
    answer = await site.get("/status/404", host="cors.test", headers=[("Origin", "https://a.test")])
    assert is_page(answer)
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


async def test_answers_of_backends_stay_where_they_are_not_intercepted(site: Site, pages: Pages) -> None:
    answer = await site.get("/status/404", host="local.test")
    assert (answer.status, answer.app) == (404, "web")
    assert not [name for name, _ in answer.headers if name.lower().startswith("x-xds-")]
    assert is_page(await site.get("/", host="local.test", method="POST", body=b"too long"))
    assert pages.headers["x-code"] == "413"


@pytest.mark.parametrize(("host", "status"), [("nobody.test", 404), ("none.test", 404), ("unreachable.test", 502), ("to-empty.test", 404)])
async def test_without_a_service_of_pages_the_page_is_nginxs(site: Site, host: str, status: int) -> None:
    target = "/" if host == "to-empty.test" else "/status/404"
    answer = await site.get(target, host=host)
    assert (answer.status, b"<center>nginx</center>" in answer.body) == (status, True)


@pytest.mark.parametrize("status", ["404", "503", "302"])
async def test_an_error_of_the_service_of_pages_is_passed_on(site: Site, pages: Pages, status: str) -> None:
    before = pages.asked
    answer = await site.get("/status/404", host="a.test", headers=[("X-Page", status)])
    assert (answer.status, answer.body, pages.asked) == (int(status), b"page", before + 1)


async def test_a_service_of_pages_that_leads_back_here_is_asked_once(site: Site) -> None:
    """The page is the answer to `/` of the same host, which is the backend's; were it an error, no page would be asked for again."""
    answer = await site.get("/status/404", host="loop.test")
    assert (answer.status, answer.app, answer.json()["path"]) == (200, "web", "/")
    told = {"X-Code": "404", "X-Original-Uri": "/", "X-Ingress-Name": "loop"}
    again = await site.get("/status/404", host="loop.test", headers=list(told.items()))
    assert (again.status, again.app) == (404, "web")


async def test_bodies_are_bounded(site: Site, pages: Pages) -> None:
    assert is_page(await site.get("/status/404", host="a.test", method="POST", body=b"x" * LARGEST_BODY))
    assert len(pages.body) == LARGEST_BODY
    assert is_page(await site.get("/status/404", host="a.test", method="POST", body=b"x" * (LARGEST_BODY + 1)))
    assert (pages.body, pages.line) == (b"", "POST / HTTP/1.1")
    assert (await site.get("/status/404", host="a.test", headers=[("X-Page", "200 bytes")])).body == BYTES
    answer = await site.get("/status/404", host="a.test", headers=[("X-Page", f"200 {LARGEST_PAGE + 70_000}")])
    assert answer.body == b"p" * LARGEST_PAGE


async def test_a_large_answer_of_the_backend_is_replaced_piece_by_piece(site: Site) -> None:
    large = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    address = await site.run(RawHttp(large))
    site.folder.write("large.yaml", service("large"), endpoint_slice("large", [address]))
    annotations = {"custom-http-errors": "404", "default-backend": "pages"}
    site.folder.write("to-large.yaml", ingress("to-large", "large.test", {"/": ("large", 80)}, annotations))
    assert is_page(await site.until_status("/", 200, host="large.test"))
    received = await until_closed(site, b"GET / HTTP/1.1\r\nHost: large.test\r\nConnection: close\r\n\r\n")
    assert received.partition(b"\r\n\r\n")[2] == b"page"


async def test_a_backend_whose_error_never_ends_keeps_no_page_back(site: Site) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\nbegun")
        await reader.read()

    address = await site.run(StreamServer(endless))
    site.folder.write("endless.yaml", service("endless"), endpoint_slice("endless", [address]))
    annotations = {"custom-http-errors": "404", "default-backend": "pages"}
    site.folder.write("to-endless.yaml", ingress("to-endless", "endless.test", {"/": ("endless", 80)}, annotations))
    assert is_page(await asyncio.wait_for(site.until_status("/", 200, host="endless.test"), PATIENCE))


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("host", ["denied.test", "to-empty.test", "small.test", "to-dead.test"])
async def test_a_body_that_does_not_end_keeps_no_page_back(site: Site, host: str, framing: str) -> None:
    """The client has sent a part of its body, and waits."""
    part = b"a\r\n0123456789\r\n" if "chunked" in framing else b"0123456789"
    received = await until_closed(site, f"POST / HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n".encode() + part)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split()[1] == (b"404" if host == "to-empty.test" else b"200")
    assert body == b"page" or b"<center>nginx</center>" in body


async def test_websockets_pass_and_their_refusal_is_replaced(site: Site, pages: Pages) -> None:
    async with await WebSocket.open(site.http, host="a.test") as socket:
        await socket.send(b"hello" * 20_000)
        assert (await socket.receive())[1] == b"hello" * 20_000
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert is_page(await site.get("/status/404", host="a.test", headers=list(upgrade.items())))
    assert not {"connection", "upgrade"} & pages.headers.keys()


async def test_pages_come_while_the_table_changes(site: Site, pages: Pages) -> None:
    """The scripts are made anew with each table, and those that wait for a page go on."""
    site.folder.write("slow.yaml", ingress("slow", "slow.test", WEB, {"custom-http-errors": "404", "default-backend": "pages"}))
    await site.until_status("/status/404", 200, host="slow.test")
    asking = [asyncio.create_task(site.get("/status/404", host="slow.test", headers=[("X-Page-After", "1")])) for _ in range(20)]
    for number in range(10):
        site.folder.write("change.yaml", ingress("change", "change.test", {f"/{number}": ("web", 80)}, {"custom-http-errors": "404"}))
        await site.until_status(f"/{number}", 200, host="change.test")
    site.folder.remove("change.yaml")
    assert all(map(is_page, await asyncio.gather(*asking)))


async def test_over_http2_as_well(site: Site, pages: Pages) -> None:
    async with await Http2.open(site.http) as connection:
        answer = await connection.request("POST", "/status/404", host="a.test", body=b"body")
    assert (answer.status, answer.body, pages.body) == (200, b"page", b"body")


@pytest.mark.asyncio(loop_scope="function")
async def test_a_service_of_pages_may_be_of_type_external_name(tmp_path: Path) -> None:
    """Both that of all and that of an Ingress, for pages and in place of a Service that cannot be reached."""
    pages, of_all = Pages(), Pages()
    async with Site(tmp_path) as site:
        for name, app in (("pages", pages), ("all", of_all)):
            address, port = await site.run(app)
            found = service(name)
            found["spec"] = {"type": "ExternalName", "externalName": address, "ports": [{"port": 80, "targetPort": port}]}
            site.folder.write(f"{name}.yaml", found)
        site.folder.write("keys.yaml", config_map("keys", {"custom-http-errors": "404"}))
        site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]))
        own = {"custom-http-errors": "410", "default-backend": "pages"}
        site.folder.write("a.yaml", ingress("a", "a.test", {"/": ("web", 80), "/none": ("nothing", 80)}, own))
        site.folder.write("b.yaml", ingress("b", "b.test", {"/": ("web", 80)}))
        await site.start("--configmap", "default/keys", "--default-backend-service", "default/all")
        assert is_page(await site.until_status("/status/410", 200, host="a.test"))
        assert (pages.headers["x-code"], pages.headers["host"], of_all.asked) == ("410", "a.test", 0)
        assert is_page(await site.get("/none", host="a.test"))
        assert (pages.headers["x-code"], pages.headers["x-service-name"]) == ("503", "nothing")
        asked = pages.asked
        assert is_page(await site.get("/status/404", host="b.test"))
        assert (of_all.headers["x-code"], pages.asked) == ("404", asked)


@pytest.mark.asyncio(loop_scope="function")
async def test_statuses_of_the_config_map_are_for_the_service_of_all(tmp_path: Path) -> None:
    """Without that Service nginx has no page for them: 404 becomes 500, for what no path takes as well."""
    pages = Pages()
    async with Site(tmp_path) as site:
        site.folder.write("keys.yaml", config_map("keys", {"custom-http-errors": "404,302"}))
        site.folder.write("web.yaml", service("web"), endpoint_slice("web", [await site.run(HttpApp("web"))]))
        site.folder.write("pages.yaml", service("pages"), endpoint_slice("pages", []))
        site.folder.write("a.yaml", ingress("a", "a.test", {"/a": ("web", 80)}, {"default-backend": "pages"}))
        await site.start("--configmap", "default/keys", "--default-backend-service", "default/pages")
        await site.until_status("/a/status/404", 500, host="a.test")
        assert [(await site.get("/", host=host)).status for host in ("a.test", "unknown.test")] == [500, 500]
        site.folder.write("pages.yaml", service("pages"), endpoint_slice("pages", [await site.run(pages)]))
        assert is_page(await site.until_status("/a/status/404", 200, host="a.test"))
        assert (pages.headers["x-ingress-name"], pages.headers["x-service-name"]) == ("a", "web")
        assert is_page(await site.get("/a/status/302", host="a.test"))
        asked = pages.asked
        assert is_page(await site.get("/", host="unknown.test", headers=[("X-Page", "404")])) is False
        assert pages.asked == asked + 2
        assert not {"x-ingress-name", "x-namespace", "x-service-name", "x-service-port"} & pages.headers.keys()
