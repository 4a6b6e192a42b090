"""The health port, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from xds.web.server import WebServer, application


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
async def server(registry: CollectorRegistry, reasons: list[str]) -> AsyncIterator[WebServer]:
    server = WebServer(application(registry, lambda: reasons, healthz_path="/alive"), host="127.0.0.1", port=0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http(server: WebServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
        yield http


async def test_healthz_is_ok_at_its_path_while_the_process_answers(http: aiohttp.ClientSession, reasons: list[str]) -> None:
    reasons.append("waiting for ever")
    async with http.get("/alive") as response:
        assert (response.status, await response.text()) == (200, "ok")


async def test_readyz_says_what_is_waited_for(http: aiohttp.ClientSession, reasons: list[str]) -> None:
    reasons[:] = ["Services have not been listed", "the first Snapshot is being built"]
    async with http.get("/readyz") as response:
        assert response.status == 503
        assert await response.text() == "not ready\nServices have not been listed\nthe first Snapshot is being built"
    reasons.clear()
    async with http.get("/readyz") as response:
        assert (response.status, await response.text()) == (200, "ok")


async def test_metrics_are_those_of_the_registry_alone(http: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
    Counter("xds_mine", "Mine.", registry=registry).inc(3)
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        families = list(text_string_to_metric_families(await response.text()))
    assert [(f.name, f.samples[0].value) for f in families if f.name == "xds_mine"] == [("xds_mine", 3)]
    assert {f.name for f in families} <= {"xds_mine", "xds_mine_created"}


async def test_metrics_are_given_in_the_format_that_is_asked_for(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_nothing_can_be_posted(http: aiohttp.ClientSession) -> None:
    async with http.post("/alive") as response:
        assert response.status == 405


async def test_a_port_in_use_is_an_error_that_names_it(server: WebServer, registry: CollectorRegistry) -> None:
    second = WebServer(application(registry, list), host="127.0.0.1", port=server.port)
    with pytest.raises(OSError, match=rf"^the health server cannot listen on 127\.0\.0\.1:{server.port}: .*in use.*--healthz-port"):
        await second.start()


async def test_only_the_host_that_was_given_is_listened_on(server: WebServer, registry: CollectorRegistry) -> None:
    neighbour = WebServer(application(registry, list), host="127.0.0.2", port=server.port)
    await neighbour.start()
    await neighbour.stop()
