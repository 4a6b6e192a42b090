"""default-backend and connection-proxy-header through a real Envoy: who answers when endpoints come and go, and what the backends get."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, WebSocket, endpoint_slice, ingress, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def falling_back(shared_site: Site) -> AsyncIterator[Site]:
    site = shared_site
    site.folder.write("web.yaml", service("web"), service("errors"))
    site.folder.write("errors-1.yaml", endpoint_slice("errors", [await site.run(HttpApp("errors"))]))
    site.folder.write("a.yaml", ingress("a", "a.test", {"/": ("web", 80)}, {"default-backend": "errors"}))
    site.folder.write("own.yaml", ingress("own", "own.test", {"/": ("errors", 80)}, {"default-backend": "errors"}))
    site.folder.write("close.yaml", ingress("close", "close.test", {"/": ("errors", 80)}, {"connection-proxy-header": "close"}))
    await site.start()
    yield site


async def test_the_default_backend_is_told_for_whom_it_answers(falling_back: Site) -> None:
    sent = {"X-Code": "200", "X-Service-Name": "forged", "Accept": "text/css"}
    answer = await falling_back.get("/x?y=1", host="a.test", method="POST", headers=list(sent.items()), body=b"abc")
    assert (answer.status, answer.app) == (200, "errors")
    got = {name.lower(): value for name, value in answer.json()["headers"]}
    assert (got["x-code"], got["x-service-name"], got["x-service-port"], got["x-format"]) == ("503", "web", "80", "text/css")
    assert (got["x-namespace"], got["x-ingress-name"]) == ("default", "a")
    assert (await falling_back.get("/", host="a.test", headers=[("X-Format", "forged")])).received("x-format") == []


async def test_endpoints_take_their_requests_back(falling_back: Site) -> None:
    falling_back.folder.write("web-1.yaml", endpoint_slice("web", [await falling_back.run(HttpApp("web"))]))
    answer = await falling_back.until_answered("/", "web", host="a.test")
    assert "x-code" not in {name.lower() for name, _ in answer.json()["headers"]}
    falling_back.folder.remove("web-1.yaml")
    await falling_back.until_answered("/", "errors", host="a.test")


async def test_a_service_that_is_its_own_default_backend_is_told_nothing(falling_back: Site) -> None:
    answer = await falling_back.get("/", host="own.test")
    assert answer.app == "errors"
    assert "x-code" not in {name.lower() for name, _ in answer.json()["headers"]}


async def test_the_backend_gets_the_connection_header(falling_back: Site) -> None:
    for _ in range(2):
        answer = await falling_back.get("/", host="close.test")
        assert answer.status == 200
        assert ("connection", "close") in [(name.lower(), value) for name, value in answer.json()["headers"]]


async def test_a_websocket_comes_about_whatever_the_connection_header_says(falling_back: Site) -> None:
    async with await WebSocket.open(falling_back.http, host="close.test") as websocket:
        assert await websocket.ask(b"hello") == b"hello"


async def test_who_asks_for_a_websocket_gets_the_answer_of_a_backend_that_has_none(falling_back: Site) -> None:
    asked = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]
    answer = await falling_back.get("/status/404", host="close.test", headers=asked)
    assert answer.status == 404
