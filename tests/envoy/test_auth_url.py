"""Authentication services, seen by the service, the client and the backend."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.apps import HttpApp, StreamServer
from tests.envoy.harness import Site, Tls, config_map, endpoint_slice, ingress, service
from tests.exploring import examples

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

WEB = {"/": ("web", 80)}


class Judge:
    """An authentication service: it answers what the header X-Answer says, and keeps the last question."""

    def __init__(self) -> None:
        self.line = ""
        self.headers: dict[str, str] = {}
        self.lines: list[str] = []
        self.asked = 0
        self._server = StreamServer(self._serve)
        self.start = self._server.start
        self.stop = self._server.stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
            self.headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
            self.lines = [each.lower() for each in rest]
            self.asked += 1
            answer = json.loads(self.headers.get("x-answer", '{"status": 200}'))
            body = "" if answer["status"] == 204 else "secret"
            length = [f"Content-Length: {len(body)}"] if body else []
            lines = [f"HTTP/1.1 {answer['status']} X", *length, *(f"{n}: {v}" for n, v in answer.get("headers", []))]
            writer.write("\r\n".join([*lines, "", body]).encode())


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, judge: Judge) -> Site:
    web = await shared_site.run(HttpApp("web"))
    to = await shared_site.run(judge)
    await shared_site.start_control_plane()
    url = f"http://127.0.0.1:{to[1]}"
    own = shared_site.http[1]
    usual = {"auth-signin": "https://$host/start?rd=$escaped_request_uri", "auth-response-headers": "X-User"}
    shared_site.folder.write(
        "all.yaml",
        *(service("web"), endpoint_slice("web", [web]), service("judge"), endpoint_slice("judge", [to])),
        ingress("plain", "plain.test", WEB, {"auth-url": f"{url}/check?x=1"}),
        ingress("capitals", "capitals.test", WEB, {"auth-url": f"HTTP{url.removeprefix('http')}/check"}),
        ingress("usual", "usual.test", WEB, {"auth-url": "http://judge.default.svc.cluster.local/auth", **usual}),
        config_map("more", {"X-Real-IP": "9.9.9.9", "X-Forwarded-For": "$http_none", "X-Set": "$host"}),
        ingress("more", "more.test", WEB, {"auth-url": f"{url}/check", "auth-proxy-set-headers": "default/more"}),
        ingress("dead", "dead.test", WEB, {"auth-url": "http://127.0.0.1:9/"}),
        ingress("loop", "loop.test", WEB, {"auth-url": f"http://127.0.0.1:{own}/x", "auth-proxy-set-headers": "default/none"}),
        ingress("self", "localhost", WEB, {"auth-url": f"http://$host:{own}/x"}),
    )
    await shared_site.start_envoy()
    await shared_site.until_answered("/", "web", host="plain.test")
    return shared_site


def answer(status: int, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    return [("X-Answer", json.dumps({"status": status, "headers": headers}))]


async def test_the_service_is_asked_without_what_a_client_may_forge(site: Site, judge: Judge) -> None:
    forged = [
        ("X-Original-URL", "http://evil/"),
        ("X-Xds-Auth-Path", "/evil"),
        ("X-Xds-Auth-Method", "PUT"),
        ("X-Forwarded-For", "1.2.3.4"),
    ]
    got = await site.get("/a?b=1", host="plain.test", method="POST", headers=forged, body=b"x")
    assert (got.status, got.json()["path"]) == (200, "/a?b=1")
    assert judge.line == "GET /check?x=1 HTTP/1.1"
    asked = ("host", "x-original-url", "x-original-method", "x-forwarded-for")
    assert [judge.headers[name] for name in asked] == ["127.0.0.1", "http://plain.test/a?b=1", "POST", "127.0.0.1"]
    assert not [name for name in judge.headers if name.startswith(("x-xds", "x-envoy", "x-forwarded-p"))]


async def test_a_header_that_the_service_gets_anyway_stands_before_that_of_the_author(site: Site, judge: Judge) -> None:
    forged = [("X-Real-IP", "6.6.6.6"), ("X-Set", "forged"), ("X-Xds-Auth-Twice", "x-evil"), ("X-Xds-Auth-Twice-X-Evil", "1")]
    assert (await site.get("/", host="more.test", headers=forged)).status == 200
    about = [line for line in judge.lines if line.startswith(("x-real-ip:", "x-set:", "x-evil:", "x-forwarded-for:", "x-xds"))]
    assert sorted(about) == ["x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-real-ip: 9.9.9.9", "x-set: more.test"]
    assert about.index("x-real-ip: 127.0.0.1") < about.index("x-real-ip: 9.9.9.9")


@pytest.mark.parametrize(
    ("said", "status"), [(200, 200), (204, 200), (299, 200), (302, 500), (400, 500), (401, 401), (403, 403), (404, 500), (503, 500)]
)
async def test_the_status_of_the_service_becomes_what_nginx_makes_of_it(site: Site, said: int, status: int) -> None:
    got = await site.get("/", host="plain.test", headers=answer(said, ("WWW-Authenticate", "Bearer"), ("Location", "http://evil/")))
    assert (got.status, got.header("location"), b"secret" in got.body) == (status, None, False)
    assert got.header("www-authenticate") == ("Bearer" if status == 401 else None)


@pytest.mark.parametrize(
    ("host", "said", "status", "bound"),
    [("usual.test", 401, 302, False), ("usual.test", 200, 200, True), ("usual.test", 403, 403, True), ("plain.test", 401, 401, True)],
)
async def test_the_redirect_to_sign_in_binds_no_browser_to_https(site: Site, host: str, said: int, status: int, *, bound: bool) -> None:
    """And no service can have it so for other answers."""
    forged = answer(said, ("X-Xds-Untold", "max-age=0")) if status != 302 else answer(said)
    over_tls = await site.get("/", host=host, headers=forged, tls=Tls(host))
    plain = await site.get("/", host=host, headers=forged)
    assert [got.status for got in (over_tls, plain)] == [status, status]
    expected = "max-age=31536000; includeSubDomains" if bound else None
    assert [got.header("strict-transport-security") for got in (over_tls, plain)] == [expected, None]
    assert [got.header("x-xds-untold") for got in (over_tls, plain)] == [None, None]


async def test_without_hsts_the_redirect_to_sign_in_has_what_all_responses_have(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        web = await site.run(HttpApp("web"))
        keys = {"hsts": "false", "add-headers": "default/added"}
        sign_in = {"auth-url": f"http://127.0.0.1:{web[1]}/status/401", "auth-signin": "https://sign.test/"}
        site.folder.write(
            "all.yaml",
            *(service("web"), endpoint_slice("web", [web]), config_map("keys", keys)),
            config_map("added", {"Strict-Transport-Security": "max-age=7"}),
            ingress("signed", "signed.test", WEB, sign_in),
        )
        await site.start("--configmap", "default/keys")
        got = await site.get("/", host="signed.test")
        assert (got.status, got.header("strict-transport-security"), got.header("x-xds-untold")) == (302, "max-age=7", None)


async def test_headers_of_the_answer_replace_those_of_the_client(site: Site) -> None:
    fake = [("X-User", "fake")]
    given = await site.get("/", host="usual.test", headers=[*fake, *answer(200, ("X-User", "alice"))])
    missing = await site.get("/", host="usual.test", headers=[*fake, *answer(200)])
    empty = await site.get("/", host="usual.test", headers=[*fake, *answer(200, ("X-User", ""))])
    several = await site.get("/", host="usual.test", headers=[*fake, *answer(200, ("X-User", "alice"), ("X-User", "bob"))])
    users = [[value for name, value in got.json()["headers"] if name.lower() == "x-user"] for got in (given, missing, empty, several)]
    assert users == [["alice"], [], [], ["alice, bob"]]


async def test_each_cookie_of_the_service_reaches_the_client_by_itself(site: Site) -> None:
    got = await site.get("/", host="plain.test", headers=answer(200, ("Set-Cookie", "a=1; HttpOnly"), ("Set-Cookie", "b=2")))
    assert [value for name, value in got.headers if name.lower() == "set-cookie"] == ["a=1; HttpOnly", "b=2"]
    refused = await site.get("/", host="plain.test", headers=answer(403, ("Set-Cookie", "a=1")))
    assert refused.header("set-cookie") is None


@pytest.mark.parametrize(("status", "passed"), [(201, 8), (206, 8), (302, 8), (308, 8), (202, 0), (400, 0), (404, 0), (503, 0)])
async def test_cookies_of_the_service_go_with_the_statuses_with_which_nginx_adds_headers(site: Site, status: int, passed: int) -> None:
    cookies = [("Set-Cookie", f"c{number}={number}") for number in range(1, 11)]
    got = await site.get(f"/status/{status}", host="plain.test", headers=answer(200, *cookies))
    found = [value for name, value in got.headers if name.lower() == "set-cookie"]
    assert (got.status, found) == (status, [value for _, value in cookies[:passed]])
    assert not [name for name, _ in got.headers if name.lower().startswith("x-xds")]


async def test_nobody_gets_in_where_the_service_cannot_be_asked(site: Site) -> None:
    statuses = [(await site.get("/", host=host)).status for host in ("dead.test", "loop.test", "localhost")]
    assert statuses == [500, 503, 500]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Scheme", "ftp")],
        [("X-Scheme", ""), ("X-Forwarded-Scheme", "")],
        [("X-Scheme", "ftp"), ("X-Forwarded-Scheme", "ftp")],
        [("X-Sent-From", "me")],
    ],
)
async def test_a_service_that_asks_itself_does_so_ten_times_whatever_the_client_says(site: Site, headers: list[tuple[str, str]]) -> None:
    async def requests() -> int:
        return sum((await site.envoy.stats("http.https?.downstream_rq_total")).values())

    before = await requests()
    assert (await site.get("/", host="localhost", headers=headers)).status == 500
    assert await requests() - before <= 10


PATHS = st.text("ab/%+&=?'\"!*()~-._:@$,;", max_size=30).filter(lambda text: "%" not in text)


async def test_the_url_to_return_to_comes_back_whole(site: Site) -> None:
    got = await site.get("/a+b?c=d&e=%26'()", host="usual.test", headers=answer(401))
    assert got.status == 302
    assert got.header("location") == "https://usual.test/start?rd=%2Fa%2Bb%3Fc%3Dd%26e%3D%2526%27%28%29"


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=PATHS)
async def test_any_query_survives_the_way_to_sign_in(site: Site, query: str) -> None:
    got = await site.get(f"/p?{query}", host="usual.test", headers=answer(401))
    _, _, back = (got.header("location") or "").partition("rd=")
    assert (got.status, unquote(back)) == (302, f"/p?{query}")
    assert not set(back) & set("/?&=+'\"!*():@$,;")


async def test_a_scheme_may_be_written_in_capitals(site: Site, judge: Judge) -> None:
    assert (await site.get("/", host="capitals.test")).status == 200
    assert judge.line == "GET /check HTTP/1.1"
    assert (await site.get("/", host="capitals.test", headers=answer(403))).status == 403
