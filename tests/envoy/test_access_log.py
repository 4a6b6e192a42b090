"""The access log: on Envoy's stdout, a line for each request, in ingress-nginx's default format (log-format-upstream)."""

from __future__ import annotations

import datetime
import re
import time

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Http2, Site, Tls, WebSocket, backend, fetch, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

LINE = re.compile(
    r"(?P<remote_addr>\S+) - (?P<remote_user>\S+) \[(?P<time_local>[^]]+)\] "
    r"\"(?P<request>[^\"]*)\" (?P<status>\d+) (?P<body_bytes_sent>\d+) "
    r"\"(?P<http_referer>[^\"]*)\" \"(?P<http_user_agent>[^\"]*)\" (?P<request_length>\d+) (?P<request_time>\d+\.\d{3}) "
    r"\[(?P<proxy_upstream_name>[^]]*)\] \[(?P<proxy_alternative_upstream_name>[^]]*)\] (?P<upstream_addr>\S+) "
    r"(?P<upstream_response_length>\d+|-) (?P<upstream_response_time>\d+\.\d{3}|-) (?P<upstream_status>\d+|-) (?P<req_id>\S+)"
)
"""ingress-nginx's log-format-upstream, whose names these are."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(shared_site: Site) -> Address:
    return await shared_site.run(HttpApp("app"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, app: Address) -> Site:
    paths = {"/": ("app", 80), "/none": ("none", 80), "/refused": ("refused", 80)}
    shared_site.folder.write("ingress.yaml", ingress("web", "app.test", paths))
    shared_site.folder.write("rewritten.yaml", ingress("rewritten", "rewritten.test", {"/old": ("app", 80)}, {"rewrite-target": "/new"}))
    redirected = {"force-ssl-redirect": "true"}
    shared_site.folder.write("redirected.yaml", ingress("redirected", "secure.test", {"/": ("app", 80)}, redirected))
    shared_site.folder.write("backends.yaml", *backend("app", app), *backend("none"))
    shared_site.folder.write("refused.yaml", *backend("refused", ("127.0.0.1", shared_site.ports.take())))
    await shared_site.start("--listen-address", "::")
    return shared_site


async def logged(site: Site, request_id: str) -> dict[str, str]:
    """The parts of the line about the request with this id."""
    line = await site.envoy.process.line(request_id)
    assert line in site.envoy.process.stdout
    found = LINE.fullmatch(line)
    assert found, line
    return found.groupdict()


async def test_a_line_says_all_that_ingress_nginx_says(site: Site, app: Address) -> None:
    headers = [("X-Request-ID", "all"), ("Referer", "https://from.test/?a"), ("User-Agent", "Tester/1.0 (Some Thing)")]
    begun = datetime.datetime.now(datetime.UTC)
    response = await site.get("/a//b/../sleep/0.05?c=d", host="app.test", method="PUT", headers=headers, body=b"x" * 1000)
    line = await logged(site, "all")
    ended = datetime.datetime.now(datetime.UTC)
    logged_at = datetime.datetime.strptime(line.pop("time_local"), "%d/%b/%Y:%H:%M:%S %z")
    assert begun.replace(microsecond=0) <= logged_at <= ended
    assert 1000 < int(line.pop("request_length")) < 1300
    assert 0.05 <= float(line.pop("upstream_response_time")) <= float(line.pop("request_time")) <= (ended - begun).total_seconds()
    assert line == {
        "remote_addr": "127.0.0.1",
        "remote_user": "-",
        "request": "PUT /a/sleep/0.05?c=d HTTP/1.1",
        "status": "200",
        "body_bytes_sent": str(len(response.body)),
        "http_referer": "https://from.test/?a",
        "http_user_agent": "Tester/1.0 (Some Thing)",
        "proxy_upstream_name": "default-app-80",
        "proxy_alternative_upstream_name": "",
        "upstream_addr": f"{app[0]}:{app[1]}",
        "upstream_response_length": str(len(response.body)),
        "upstream_status": "200",
        "req_id": "all",
    }


@pytest.mark.parametrize(
    ("target", "status", "upstream", "upstream_status"),
    [
        ("/status/500", "500", "default-app-80", "500"),
        ("/status/404", "404", "default-app-80", "404"),
        ("/status/403", "403", "default-app-80", "403"),
        ("/refused", "502", "default-refused-80", "-"),
        ("/none", "503", "-", "-"),
    ],
)
async def test_a_failure_is_logged_with_what_was_said_to_the_client_and_by_the_backend(
    site: Site, target: str, status: str, upstream: str, upstream_status: str
) -> None:
    await site.get(target, host="app.test", headers=[("X-Request-ID", f"failure{target}")])
    line = await logged(site, f"failure{target}")
    assert (line["status"], line["proxy_upstream_name"], line["upstream_status"]) == (status, upstream, upstream_status)


async def test_what_nobody_answers_is_logged_as_well(site: Site) -> None:
    await site.get("/somewhere", host="unknown.test", headers=[("X-Request-ID", "nobody")])
    line = await logged(site, "nobody")
    told = (
        "request",
        "status",
        "proxy_upstream_name",
        "upstream_addr",
        "upstream_response_length",
        "upstream_response_time",
        "upstream_status",
    )
    assert [line[name] for name in told] == ["GET /somewhere HTTP/1.1", "404", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize("path", ["/", "/refused", "/none"])
async def test_a_call_of_grpc_that_envoy_answers_with_200_was_answered_by_no_backend(site: Site, path: str) -> None:
    """What fails of gRPC has the status 200 in HTTP, and says so in a header."""
    headers = [("X-Request-ID", f"call{path}"), ("Content-Type", "application/grpc")]
    answer = await site.get(path, host="app.test", method="POST", headers=headers, body=b"")
    line = await logged(site, f"call{path}")
    by_backend = path == "/"
    assert (answer.status, bool(answer.header("grpc-status"))) == (200, not by_backend)
    assert [line[name] == "-" for name in ("upstream_status", "upstream_response_length", "upstream_response_time")] == [not by_backend] * 3


async def test_a_redirect_was_answered_by_no_backend(site: Site) -> None:
    answer = await site.get("/", host="secure.test", headers=[("X-Request-ID", "redirect")])
    line = await logged(site, "redirect")
    told = ("status", "upstream_addr", "upstream_response_length", "upstream_response_time", "upstream_status")
    assert (answer.status, [line[name] for name in told]) == (308, ["308", "-", "-", "-", "-"])


async def test_a_client_cannot_pass_for_one_that_a_backend_answered(site: Site) -> None:
    """The log sees by a header of its own whether a request was sent to a backend."""
    for own in ({}, {"X-Xds-Arrived": ""}, {"X-Xds-Arrived": "x"}):
        request_id = f"arrived-{len(own)}-{''.join(own.values())}-end"
        await site.get("/", host="secure.test", headers=[("X-Request-ID", request_id), *own.items()])
        assert (await logged(site, request_id))["upstream_status"] == "-"
        answer = await site.get("/", host="app.test", headers=[("X-Request-ID", f"sent-{request_id}"), *own.items()])
        assert answer.received("x-xds-arrived") == []
        assert (await logged(site, f"sent-{request_id}"))["upstream_status"] == "200"


async def test_a_rewritten_request_is_logged_as_it_was_asked_for(site: Site) -> None:
    response = await site.get("/old/path?q", host="rewritten.test", headers=[("X-Request-ID", "rewritten")])
    assert response.json()["path"] == "/new?q"
    assert (await logged(site, "rewritten"))["request"] == "GET /old/path?q HTTP/1.1"


async def test_versions_are_written_as_nginx_writes_them(site: Site) -> None:
    async with await Http2.open(site.http) as connection:
        await connection.request(host="app.test", headers=[("x-request-id", "two")])
    assert (await logged(site, "two"))["request"] == "GET / HTTP/2.0"
    await fetch(site.http, host="app.test", version="1.0", headers=[("X-Request-ID", "one-zero")])
    assert (await logged(site, "one-zero"))["request"] == "GET / HTTP/1.0"


async def test_a_client_is_logged_by_its_address_in_either_family(site: Site) -> None:
    await fetch(("::1", site.http[1]), host="app.test", headers=[("X-Request-ID", "six")])
    assert (await logged(site, "six"))["remote_addr"] == "::1"


async def test_requests_over_tls_are_logged_alike(site: Site) -> None:
    await site.get("/", host="app.test", tls=Tls("app.test"), headers=[("X-Request-ID", "tls")])
    assert (await logged(site, "tls"))["status"] == "200"


async def test_a_websocket_is_logged_when_it_ends(site: Site) -> None:
    async with await WebSocket.open(site.http, host="app.test", headers=[("X-Request-ID", "websocket")]) as websocket:
        await websocket.ask(b"x")
    assert (await logged(site, "websocket"))["status"] == "101"


@pytest.mark.parametrize(("odd", "escaped"), [('"', r"\x22"), ("\\", r"\x5C")])
async def test_a_client_cannot_write_fields_of_its_own(site: Site, odd: str, escaped: str) -> None:
    """A quotation mark would end a field, and what follows pass for the next ones; a backslash would take a mark's meaning."""
    headers = [("User-Agent", f"agent{odd} 1 1.000 [forged] {odd}"), ("Referer", f"https://from.test/?{odd}_{odd}x")]
    await site.get(f"/path?query{odd}200{odd}1", host="app.test", headers=[("X-Request-ID", f"forged-{ord(odd)}{odd}{odd}"), *headers])
    line = await logged(site, f"forged-{ord(odd)}")
    assert (line["http_referer"], line["http_user_agent"], line["proxy_upstream_name"]) == (
        f"https://from.test/?{escaped}_{escaped}x",
        f"agent{escaped} 1 1.000 [forged] {escaped}",
        "default-app-80",
    )
    assert (line["request"], line["req_id"]) == (
        f"GET /path?query{escaped}200{escaped}1 HTTP/1.1",
        f"forged-{ord(odd)}{escaped}{escaped}",
    )


ODD = {"path": "y{}z", "referer": "https://from.test/?a{}b", "agent": "agent {} b"}


@pytest.mark.parametrize("where", ["app.test", "rewritten.test"])
@pytest.mark.parametrize("odd", ["", '"', "\\", '\\"'])
@pytest.mark.parametrize("target", ["/sleep/0?x", "/sleep/0.02?x", "/refused?x"])
async def test_each_request_has_one_line_however_it_is_written(site: Site, where: str, odd: str, target: str) -> None:
    """Three loggers share the requests among them: by what a client wrote, how long it took, and who answered."""
    target = f"/old{target}" if where == "rewritten.test" else target
    for place in ODD:
        here = {name: text.format(odd if name == place else "") for name, text in ODD.items()}
        asked = f"{target}{here['path']}"
        own = f"one-of-{place}-{target.partition('?')[0]}-{len(odd)}-{'-'.join(str(ord(each)) for each in odd)}-end"
        await site.get(asked, host=where, headers=[("X-Request-ID", own), ("User-Agent", here["agent"]), ("Referer", here["referer"])])
        line = await logged(site, own)
        path, referer, agent = (text.replace("\\", r"\x5C").replace('"', r"\x22") for text in (asked, here["referer"], here["agent"]))
        assert (line["http_user_agent"], line["http_referer"], line["request"]) == (agent, referer, f"GET {path} HTTP/1.1")
        assert float(line["upstream_response_time"].replace("-", "0")) <= float(line["request_time"])
        await site.get("/", host="app.test", headers=[("X-Request-ID", f"behind-{own}")])
        await logged(site, f"behind-{own}")
        assert len([each for each in site.envoy.process.stdout if each.endswith(f" {own}")]) == 1


@pytest.mark.parametrize("seconds", [0, 0.01, 0.25, 1.05])
async def test_a_duration_has_the_same_form_however_long_it_is(site: Site, seconds: float) -> None:
    own = f"duration-{seconds}"
    begun = time.monotonic()
    await site.get(f"/sleep/{seconds}", host="app.test", headers=[("X-Request-ID", own)])
    most = time.monotonic() - begun
    line = await logged(site, own)
    upstream, whole = line["upstream_response_time"], line["request_time"]
    assert re.fullmatch(r"\d\.\d{3}", upstream)
    assert re.fullmatch(r"\d\.\d{3}", whole)
    assert seconds <= float(upstream) <= float(whole) <= most


@pytest.mark.parametrize("name", ["User-Agent", "Referer"])
async def test_a_header_that_comes_twice_is_logged_whole(site: Site, name: str) -> None:
    """What is found clean and what is written are the same: a second value cannot hide a quotation mark."""
    values = ["https://from.test/?one", 'https://from.test/?"two"']
    await site.get("/", host="app.test", headers=[("X-Request-ID", f"twice-{name}"), *((name, value) for value in values)])
    line = await logged(site, f"twice-{name}")
    assert line["http_referer" if name == "Referer" else "http_user_agent"] == r"https://from.test/?one,https://from.test/?\x22two\x22"
