"""Responses that a route gives by itself, as they come out of a real Envoy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.envoy.harness import Site, fetch
from xds import model
from xds.config import Flags
from xds.nginx.registry import read_settings
from xds.render import listeners, routes
from xds.render.bootstrap import bootstrap
from xds.render.static import as_json, static_resources
from xds.snapshot import LISTENER, ROUTE
from xds.wire.encode import encode

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

RESPONSES: Mapping[str, model.Respond] = {
    "/page": model.Respond(403),
    "/own": model.Respond(403, (("X-Why", "100% closed"),), "no\n"),
    "/json": model.Respond(503, (("content-type", "application/json"),), '{"a": "%REQ(host)%"}'),
    "/largest": model.Respond(200, body="x" * model.LARGEST_BODY),
    "/nothing": model.Respond(204, (("X-Why", "none"),)),
    "/other": model.Respond(418, (("X-Why", "teapot"),)),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where an Envoy answers whose routes are the responses."""
    defaults, _ = read_settings({}, {})
    async with Site(Path(tmp_path_factory.mktemp("responses"))) as site:
        port = site.ports.take()
        table = routes.table(defaults, {})
        own = tuple(
            model.Route(model.PathMatch(model.PathKind.EXACT, path), answer, settings=defaults) for path, answer in RESPONSES.items()
        )
        table.virtual_hosts = [routes.virtual_host(model.VirtualHost("", own), None, defaults)]
        listener = as_json(LISTENER, encode(listeners.http("127.0.0.1", port, defaults)))
        made = static_resources({"http": listener}, {"ingress": as_json(ROUTE, encode(table))}, {}, {}, {})
        base = bootstrap(Flags())
        del base["dynamic_resources"]
        await site.static_envoy(base | {"static_resources": made})
        yield ("127.0.0.1", port)


async def test_a_status_alone_has_the_page_of_nginx(address: tuple[str, int]) -> None:
    response = await fetch(address, "/page", host="a.example.com")
    assert (response.status, response.header("content-type")) == (403, "text/html")
    assert b"<h1>403 Forbidden</h1>" in response.body


async def test_a_body_comes_as_it_is(address: tuple[str, int]) -> None:
    response = await fetch(address, "/own", host="a.example.com")
    assert (response.status, response.body, response.header("x-why")) == (403, b"no\n", "100% closed")
    assert response.header("content-type") == "text/plain; charset=utf-8"
    assert (await fetch(address, "/largest", host="a.example.com")).body == b"x" * 4096


async def test_a_body_is_no_format_and_keeps_the_type_that_it_has(address: tuple[str, int]) -> None:
    response = await fetch(address, "/json", host="a.example.com")
    assert (response.status, response.body) == (503, b'{"a": "%REQ(host)%"}')
    assert response.header("content-type") == "application/json"


async def test_204_has_neither_a_body_nor_words_about_one(address: tuple[str, int]) -> None:
    response = await fetch(address, "/nothing", host="a.example.com")
    assert (response.status, response.body, response.header("x-why")) == (204, b"", "none")
    assert not {"content-type", "content-length", "transfer-encoding"} & {name.lower() for name, _ in response.headers}


async def test_headers_without_a_body_leave_the_page(address: tuple[str, int]) -> None:
    response = await fetch(address, "/other", host="a.example.com")
    assert (response.status, response.header("x-why"), response.header("content-type")) == (418, "teapot", "text/html")
    assert b"418" in response.body
