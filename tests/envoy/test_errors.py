"""What a client is told when a backend fails, in nginx's statuses and pages, and when the next endpoint is tried (nginx 4.6)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Http1, Http2, RawHttp, Resetting, Silent, Site, backend, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

HOST = "errors.test"
ONCE = {"proxy-next-upstream-tries": 1}
SILENT_IN_A_ROW: dict[str, tuple[dict[str, Any], int]] = {
    "no-limit": ({}, 3),
    "within-one": ({"proxy-next-upstream-timeout": 1}, 1),
    "within-two": ({"proxy-next-upstream-timeout": 2}, 2),
    "within-nine": ({"proxy-next-upstream-timeout": 9}, 3),
    "errors-only": ({"proxy-next-upstream": "error"}, 1),
}
"""Annotations beside a read time-out of a second, and how many endpoints may be silent then before the answer is 504."""
BROKEN_OR_SILENT = {"/silent": ("silent", 80), "/reset-or-live": ("reset-or-live", 80)}
TIMES = {"proxy-connect-timeout": 1, "proxy-read-timeout": 1, "proxy-send-timeout": 1}
TITLES = {
    404: "Not Found",
    413: "Request Entity Too Large",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
MEBIBYTE = 1 << 20


@contextlib.asynccontextmanager
async def full() -> AsyncIterator[Address]:
    """An address where a connection is neither accepted nor refused: its queue is full."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            waiting.append(loop.create_task(loop.sock_connect(client, listening.getsockname())))
        done, pending = await asyncio.wait(waiting, timeout=0.2)
        assert done, "the queue should take one connection"
        assert pending, "the queue is never full here"
        yield listening.getsockname()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resetting() -> list[Resetting]:
    return [Resetting(at_once=True), Resetting(), Resetting(), Resetting(), Resetting()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def failing() -> RawHttp:
    return RawHttp(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nmine")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def silent() -> Silent:
    return Silent()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, resetting: list[Resetting], failing: RawHttp, silent: Silent) -> AsyncIterator[Site]:
    """A path for each way in which a backend fails; behind some of them another endpoint that works."""
    async with full() as never:
        refused = ("127.0.0.1", shared_site.ports.take())
        live, hung = await shared_site.run(HttpApp("live")), await shared_site.run(silent)
        resets = [await shared_site.run(found) for found in resetting]
        raw = {
            "closed": b"",
            "garbage": b"this is no HTTP\r\n\r\n",
            "partial": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            "too-long": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000 + b"\r\nContent-Length: 0\r\n\r\n",
        }
        endpoints = {
            "live": [live],
            "none": [],
            "refused": [refused],
            "reset-at-once": [resets[0]],
            "reset": [resets[1]],
            "failing": [await shared_site.run(failing)],
            "refused-or-live": [refused, live],
            "reset-or-live": [resets[1], live],
            "three-reset": resets[2:],
            **{name: [await shared_site.run(RawHttp(answer, close=True))] for name, answer in raw.items()},
        }
        slow = {"timeout": [never], "silent": [hung], "timeout-or-live": [never, live], "silent-or-live": [hung, live]}
        once = {name: (name, 80) for name in slow if "or" not in name}
        again = {name: (name, 80) for name in slow if "or" in name}
        shared_site.folder.write(
            "errors.yaml",
            ingress("errors", HOST, {f"/{name}": (name, 80) for name in endpoints}),
            ingress("slow", HOST, {f"/{name}": to for name, to in once.items()}, TIMES | ONCE),
            ingress("slow-again", HOST, {f"/{name}": to for name, to in again.items()}, TIMES),
            *(ingress(name, f"{name}.test", BROKEN_OR_SILENT, TIMES | own) for name, (own, _) in SILENT_IN_A_ROW.items()),
        )
        for name, addresses in (endpoints | slow).items():
            shared_site.folder.write(f"{name}.yaml", *backend(name, *addresses))
        await shared_site.start()
        yield shared_site


def page(status: int) -> str:
    """nginx's page for a status."""
    title = f"{status} {TITLES[status]}"
    head = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return f"{head}<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("refused", 502),
        ("reset-at-once", 502),
        ("reset", 502),
        ("closed", 502),
        ("garbage", 502),
        ("too-long", 502),
        ("timeout", 504),
        ("silent", 504),
        ("none", 503),
        ("nobody", 404),
    ],
)
async def test_each_failure_has_nginxs_status_and_page(site: Site, name: str, status: int) -> None:
    response = await site.get(f"/{name}", host=HOST)
    assert (response.status, response.text, response.header("content-type")) == (status, page(status), "text/html")


async def test_over_http_2_the_status_and_page_are_the_same(site: Site) -> None:
    async with await Http2.open(site.http) as connection:
        response = await connection.request(target="/refused", host=HOST)
    assert (response.status, response.text) == (502, page(502))


@pytest.mark.parametrize("status", [400, 401, 404, 500, 502, 503, 504])
async def test_an_error_of_the_backend_is_the_backends_own(site: Site, status: int) -> None:
    response = await site.get(f"/live/status/{status}", host=HOST)
    assert (response.status, response.app) == (status, "live")


async def test_a_response_that_breaks_off_is_not_made_to_look_whole(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(f"GET /partial HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        with pytest.raises(asyncio.IncompleteReadError):
            await connection.receive()


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(MEBIBYTE, 200), (MEBIBYTE + 1, 413)])
async def test_a_body_of_more_than_a_mebibyte_is_too_large_unless_told_otherwise(site: Site, size: int, status: int, framing: str) -> None:
    async with await Http1.open(site.http) as connection:
        head = f"POST /live HTTP/1.1\r\nHost: {HOST}\r\n"
        if framing == "chunked":
            await connection.send(f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode())
            await connection.send(b"x" * size + b"\r\n0\r\n\r\n")
        else:
            await connection.send(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * size)
        response = await connection.receive("POST")
    assert response.status == status
    assert response.text == page(413) if status == 413 else response.json()["body_length"] == size


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_no_request_is_lost_to_an_endpoint_that_refuses_connections(site: Site, method: str) -> None:
    answers = [await site.get("/refused-or-live", host=HOST, method=method, body=b"x" if method != "GET" else b"") for _ in range(8)]
    assert {(answer.status, answer.app) for answer in answers} == {(200, "live")}


async def test_an_endpoint_that_lets_a_connection_wait_costs_the_time_and_not_the_request(site: Site) -> None:
    answers = await asyncio.gather(*(site.get("/timeout-or-live", host=HOST, method="POST", body=b"x") for _ in range(4)))
    assert {(answer.status, answer.app) for answer in answers} == {(200, "live")}


async def test_a_silent_endpoint_costs_the_time_and_not_the_request(site: Site, silent: Silent) -> None:
    before = silent.hits
    answers = await asyncio.gather(*(site.get("/silent-or-live", host=HOST) for _ in range(4)))
    assert {(answer.status, answer.app) for answer in answers} == {(200, "live")}
    assert silent.hits > before


@pytest.mark.parametrize(("name", "tries"), [(name, tries) for name, (_, tries) in SILENT_IN_A_ROW.items()])
async def test_so_many_silent_endpoints_are_tried_as_there_is_time_for(site: Site, silent: Silent, name: str, tries: int) -> None:
    before = silent.hits
    assert (await site.get("/silent", host=f"{name}.test")).status == 504
    assert silent.hits - before == tries
    assert {(await site.get("/reset-or-live", host=f"{name}.test")).status for _ in range(4)} == {200}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_a_request_that_may_be_repeated_is_repeated_where_the_endpoint_broke(
    site: Site, resetting: list[Resetting], method: str
) -> None:
    before = resetting[1].hits
    answers = [await site.get("/reset-or-live", host=HOST, method=method) for _ in range(8)]
    assert {answer.status for answer in answers} == {200}
    assert resetting[1].hits > before


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
async def test_a_request_that_may_have_had_an_effect_is_not_repeated(site: Site, resetting: list[Resetting], method: str) -> None:
    before = resetting[1].hits
    statuses = [(await site.get("/reset-or-live", host=HOST, method=method, body=b"x")).status for _ in range(8)]
    assert set(statuses) == {200, 502}
    assert resetting[1].hits - before == statuses.count(502)


async def test_three_endpoints_are_tried_once_each(site: Site, resetting: list[Resetting]) -> None:
    before = [found.hits for found in resetting[2:]]
    assert (await site.get("/three-reset", host=HOST)).status == 502
    assert [found.hits - hits for found, hits in zip(resetting[2:], before, strict=True)] == [1, 1, 1]


async def test_an_error_status_is_an_answer_and_not_tried_again(site: Site, failing: RawHttp) -> None:
    before = len(failing.heads)
    response = await site.get("/failing", host=HOST)
    assert (response.status, response.reason, response.body, len(failing.heads) - before) == (500, "Oops", b"mine", 1)
