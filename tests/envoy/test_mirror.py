"""Copies of requests, seen by who gets them and by who asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from examples.apps import HttpApp, StreamServer
from tests import quick_yaml
from tests.envoy.harness import (
    Http2,
    NameServer,
    Site,
    WebSocket,
    endpoint_slice,
    ingress,
    make_certificate,
    resolving,
    server_context,
    service,
    wait_until,
)
from tests.envoy.test_endpoint_addresses import BAD, EXCEPTED, apply
from tests.kube.scripted import Scripted, serving

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}
UNSAID = ("x-forwarded", "x-real", "x-original", "x-envoy", "x-request-id", "x-xds", "x-sent-from")
"""How headers begin that a copy has not, if its Host is an address."""


@dataclass(frozen=True)
class Copy:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Copies:
    """An HTTP/1 server that keeps what it was asked, and answers 500, or never."""

    def __init__(self, *, answers: bool = True) -> None:
        self.came: asyncio.Queue[Copy] = asyncio.Queue()
        self._answers = answers
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            while "transfer-encoding" in headers and (size := int(await reader.readline(), 16)):
                body += (await reader.readexactly(size + 2))[:-2]
            if "transfer-encoding" in headers:
                await reader.readline()
            self.came.put_nowait(Copy(line, headers, body))
            if self._answers:
                writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    async def next(self) -> Copy:
        return await asyncio.wait_for(self.came.get(), 30)


@pytest.fixture(scope="module")
def copies() -> Copies:
    return Copies()


@pytest.fixture(scope="module")
def silent() -> Copies:
    return Copies(answers=False)


@pytest.fixture(scope="module")
def secure() -> HttpApp:
    return HttpApp("secure", tls=server_context(make_certificate(["elsewhere.test"])))


@pytest.fixture(scope="module")
def looping() -> HttpApp:
    return HttpApp("looping")


@pytest.fixture(scope="module")
def aliased() -> HttpApp:
    return HttpApp("aliased")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, copies: Copies, silent: Copies, secure: HttpApp, looping: HttpApp, aliased: HttpApp) -> Site:
    web, to, never, tls = [await shared_site.run(app) for app in (HttpApp("web"), copies, silent, secure)]
    again, by_address = await shared_site.run(looping), await shared_site.run(aliased)
    await shared_site.start_control_plane()
    own = shared_site.http[1]
    at = f"http://127.0.0.1:{to[1]}"
    shared_site.folder.write(
        "all.yaml",
        *(service("web"), endpoint_slice("web", [web]), service("copies"), endpoint_slice("copies", [to])),
        *(service("looping"), endpoint_slice("looping", [again])),
        ingress("plain", "plain.test", WEB, {"mirror-target": f"{at}/mirror"}),
        ingress("host", "host.test", WEB, {"mirror-target": f"{at}/mirror", "mirror-host": "m.test"}),
        ingress("bare", "bare.test", WEB, {"mirror-target": f"{at}/mirror", "mirror-host": "fd00::1"}),
        ingress("bracketed", "bracketed.test", WEB, {"mirror-target": f"{at}/mirror", "mirror-host": "[fd00::1]"}),
        ingress("bodiless", "bodiless.test", WEB, {"mirror-target": f"{at}/mirror", "mirror-request-body": "off"}),
        ingress(
            "kept",
            "kept.test",
            WEB,
            {"mirror-target": "http://copies.default.svc/100%25$request_uri", "mirror-host": "$host", "rewrite-target": "/new"},
        ),
        ingress("silent", "silent.test", WEB, {"mirror-target": f"http://127.0.0.1:{never[1]}"}),
        ingress("dead", "dead.test", WEB, {"mirror-target": "http://127.0.0.1:9/x"}),
        ingress("secure", "secure.test", WEB, {"mirror-target": f"https://localhost:{tls[1]}/x"}),
        *(service("aliased"), endpoint_slice("aliased", [by_address])),
        ingress(
            "aliased",
            "aliased.test",
            {"/": ("aliased", 80)},
            {"mirror-target": f"http://127.0.0.1:{own}$request_uri", "server-alias": "127.0.0.1"},
        ),
        *(service("itself"), endpoint_slice("itself", [("127.0.0.1", own)])),
        ingress(
            "double",
            "double.test",
            {"/": ("itself", 80)},
            {"mirror-target": f"http://127.0.0.1:{own}", "mirror-host": "127.0.0.2", "server-alias": "127.0.0.2"},
        ),
        ingress("loop", "loop.test", {"/": ("looping", 80)}, {"mirror-target": f"http://127.0.0.1:{own}", "mirror-host": "loop.test"}),
    )
    await shared_site.start_envoy()
    await shared_site.until_answered("/", "web", host="secure.test")
    return shared_site


async def test_a_copy_has_the_path_of_the_target_and_the_query_of_the_request(site: Site, copies: Copies) -> None:
    sent = [("X-Own", "1"), ("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.2")]
    answer = await site.get("/a/b?q=1", host="plain.test", method="POST", headers=sent, body=b"hello")
    assert (answer.status, answer.json()["path"], answer.json()["body_length"]) == (200, "/a/b?q=1", 5)
    copy = await copies.next()
    assert (copy.line, copy.body, copy.headers["host"], copy.headers["x-own"]) == ("POST /mirror?q=1 HTTP/1.1", b"hello", "127.0.0.1", "1")
    assert not [name for name in copy.headers if name.startswith(UNSAID)]
    assert not [name for name, _ in answer.json()["headers"] if name.lower().startswith("x-xds")]


async def test_a_copy_may_keep_the_path_and_the_host_that_were_asked_for_whatever_the_backend_gets(site: Site, copies: Copies) -> None:
    answer = await site.get("/a/b?q=1", host="kept.test:8080")
    assert answer.json()["path"] == "/new?q=1"
    copy = await copies.next()
    assert (copy.line, copy.headers["host"]) == ("GET /100%25/a/b?q=1 HTTP/1.1", "kept.test")


async def test_a_copy_may_have_a_host_of_its_own(site: Site, copies: Copies) -> None:
    await site.get("/", host="host.test")
    assert (await copies.next()).headers["host"] == "m.test"


async def test_a_copy_may_be_without_the_body(site: Site, copies: Copies) -> None:
    answer = await site.get("/a", host="bodiless.test", method="POST", body=b"x" * 100_000)
    assert answer.json()["body_length"] == 100_000
    copy = await copies.next()
    assert (copy.line, copy.body) == ("POST /mirror HTTP/1.1", b"")
    assert copy.headers.get("content-length", "0") == "0"


async def test_no_client_says_what_the_copy_is(site: Site, copies: Copies) -> None:
    forged = [("x-xds-copy-path", "/admin"), ("x-xds-copy-host", "other.test"), ("x-xds-copy-body", "off")]
    await site.get("/a", host="plain.test", method="POST", headers=forged, body=b"hello")
    copy = await copies.next()
    assert (copy.line, copy.headers["host"], copy.body) == ("POST /mirror HTTP/1.1", "127.0.0.1", b"hello")


async def test_a_copy_that_is_never_answered_holds_nobody_up(site: Site, silent: Copies) -> None:
    answers = await asyncio.gather(
        *(site.get(f"/{number}", host="silent.test", method="POST", body=b"x" * 200_000) for number in range(20))
    )
    assert {(answer.status, answer.json()["body_length"]) for answer in answers} == {(200, 200_000)}
    assert {(await silent.next()).line for _ in range(20)} == {f"POST /{number} HTTP/1.1" for number in range(20)}


async def test_where_nobody_takes_copies_they_are_sent_once_and_requests_go_on(site: Site) -> None:
    assert {(await site.get("/", host="dead.test")).status for _ in range(5)} == {200}

    async def failed() -> bool:
        stats = await site.envoy.stats("default/127_0_0_1/9~")
        assert sum(value for name, value in stats.items() if name.endswith("upstream_cx_connect_fail")) == 5, stats
        return not any(value for name, value in stats.items() if name.endswith("upstream_rq_retry"))

    assert await wait_until(failed, "five copies to fail")


async def test_a_copy_goes_over_tls(site: Site, secure: HttpApp) -> None:
    await site.get("/", host="secure.test")

    async def came() -> bool:
        return secure.hits > 0

    await wait_until(came, "a copy over TLS")


async def test_a_websocket_works_beside_its_copy(site: Site, copies: Copies) -> None:
    async with await WebSocket.open(site.http, host="plain.test") as websocket:
        for number in range(3):
            assert await websocket.ask(b"%d" % number) == b"%d" % number
    assert (await copies.next()).line == "GET /mirror HTTP/1.1"


async def test_a_request_over_http_2_is_copied_over_http_1(site: Site, copies: Copies) -> None:
    async with await Http2.open(site.http) as client:
        answer = await client.request("POST", "/a", host="plain.test", body=b"x" * 300_000)
    assert (answer.status, json.loads(answer.body)["body_length"]) == (200, 300_000)
    copy = await copies.next()
    assert (copy.line, len(copy.body)) == ("POST /mirror HTTP/1.1", 300_000)


async def test_copies_that_come_back_end(site: Site, looping: HttpApp) -> None:
    await site.get("/", host="loop.test")

    async def ended() -> bool:
        assert looping.hits == 9
        return True

    await wait_until(ended, "the 10th passage to be refused")
    await site.get("/", host="plain.test")
    assert looping.hits == 9


async def test_copies_that_come_back_for_an_address_end_as_well(site: Site, aliased: HttpApp) -> None:
    """The first of them is not counted; whatever comes for an address, or has been counted before, has copies that are."""
    await site.get("/", host="aliased.test")

    async def ended() -> bool:
        assert aliased.hits == 10
        return True

    await wait_until(ended, "the 11th passage to be refused")
    assert (await site.get("/", host="127.0.0.1:8080")).app == "aliased"

    async def again() -> bool:
        assert aliased.hits == 19
        return True

    await wait_until(again, "the 10th passage to be refused")
    await site.get("/", host="plain.test")
    assert aliased.hits == 19


async def test_copies_of_what_leads_back_by_itself_stay_within_bounds(site: Site) -> None:
    """Each passage makes two requests of one, itself and its copy: 1,023 of one, and as many of the first copy for an address."""
    before = await seen(site)
    assert (await site.get("/", host="double.test")).status == 508
    counts = [before]

    async def over() -> bool:
        counts.append(await seen(site))
        assert counts[-1] == counts[-2] > before + 1_000
        return True

    await wait_until(over, "the last copy to be refused")
    assert counts[-1] - before <= 2 * 1_023


async def seen(site: Site) -> int:
    """How many requests the Envoy has seen."""
    return sum((await site.envoy.stats("http.https?.downstream_rq_total")).values())


@pytest.mark.parametrize(
    ("host", "headers", "marked"),
    [
        ("plain.test", [], False),
        ("host.test", [], True),
        ("bare.test", [], True),
        ("bracketed.test", [], False),
        ("plain.test", [("X-Sent-From", "me")], True),
        ("plain.test", [("X-Xds-Copy-Came-For", "10.0.0.1"), ("X-Forwarded-Host", "10.0.0.1")], False),
    ],
)
async def test_a_copy_is_marked_where_it_may_come_back(
    site: Site, copies: Copies, host: str, headers: list[tuple[str, str]], *, marked: bool
) -> None:
    await site.get("/?last", host=host, headers=headers)
    while (copy := await copies.next()).line != "GET /mirror?last HTTP/1.1":
        pass
    assert ("x-sent-from" in copy.headers) is marked


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kube() -> AsyncIterator[Scripted]:
    async with serving() as found:
        yield found


async def test_a_copy_never_reaches_an_address_that_a_name_must_not_resolve_to(
    tmp_path_factory: pytest.TempPathFactory, kube: Scripted
) -> None:
    """The connection may be made; nothing is sent."""
    async with Site(tmp_path_factory.mktemp("cluster")) as site:
        web, good, hidden = HttpApp("good"), Copies(), Copies()
        _, port = await site.run(good, EXCEPTED)
        await site.run(hidden, "127.0.0.1", port)
        _, web_port = await site.run(web, EXCEPTED)
        apply(
            kube, {"kind": "IngressClass", "metadata": {"name": "nginx", "namespace": ""}, "spec": {"controller": "k8s.io/ingress-nginx"}}
        )
        apply(kube, service("web"), endpoint_slice("web", [(EXCEPTED, web_port)]))
        names = {**BAD, "good.example": [EXCEPTED], "other.example": ["::ffff:169.254.169.254", "fd00:ec2::254"]}
        for name in names:
            short = name.partition(".")[0]
            apply(kube, ingress(short, f"{short}.test", WEB, {"mirror-target": f"http://{name}:{port}/copy"}))
        flags = ("--apiserver-host", kube.url, "--allowed-endpoints", f"{EXCEPTED}/32", "--update-status=false", "--disable-sync-events")
        await site.start_control_plane(*flags, from_folder=False)
        bootstrap = quick_yaml.safe_load(await site.control_plane.bootstrap())
        await site.static_envoy(resolving(bootstrap, await site.run(NameServer(names))))
        await site.until_answered("/", "good", host="good.test")
        await good.next()
        for name in names:
            short = name.partition(".")[0]
            for _ in range(3):
                assert (await site.get("/", host=f"{short}.test")).app == "good"
            if name != "good.example":
                await until_refused(site, name.replace(".", "_"), 3)
        assert hidden.came.empty()
        assert [(await good.next()).line for _ in range(3)] == ["GET /copy HTTP/1.1"] * 3


async def until_refused(site: Site, name: str, times: int) -> None:
    """Wait until the two scripts of a cluster have seen so many copies."""

    async def look() -> bool:
        stats = {stat.rpartition("~")[2][9:]: value for stat, value in (await site.envoy.stats(f"cluster.default/{name}/")).items()}
        assert stats.get("lua.executions", 0) >= 2 * times, stats
        assert stats.get("lua.errors", 0) == 0
        return True

    await wait_until(look, f"copies to {name} to be refused")
