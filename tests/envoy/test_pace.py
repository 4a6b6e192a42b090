"""limit-rate through a real Envoy: how fast one response is sent, each by itself, and what it does not hold for."""

from __future__ import annotations

import asyncio
import time

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Response, Site, WebSocket, backend, config_map, ingress

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

SIZE = 150 * 1024
SLOW = {"limit-rate": "50", "proxy-buffering": "on"}
"""The response of `SIZE` bytes takes three seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        config_map("controller", {"proxy-buffering": "on", "limit-rate-after": "1"}),
        *(ingress(name, f"{name}.test", {"/": ("web", 80)}, annotations) for name, annotations in HOSTS.items()),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


HOSTS: dict[str, dict[str, object]] = {
    "open": {},
    "slow": SLOW,
    "default": {"limit-rate": "50"},
    "unbuffered": {"limit-rate": "1", "proxy-buffering": "off"},
    "socket": {"limit-rate": "1", "proxy-buffering": "on"},
}


async def load(site: Site, host: str) -> tuple[Response, float]:
    """A response of `SIZE` bytes, and how many seconds it took."""
    began = time.monotonic()
    got = await site.get(f"/big/{SIZE}", host=host)
    assert (got.status, len(got.body)) == (200, SIZE)
    return got, time.monotonic() - began


@pytest.mark.parametrize("host", ["slow.test", "default.test"])
async def test_a_response_takes_as_long_as_its_size_wants(site: Site, host: str) -> None:
    _, took = await load(site, host)
    assert took > 2.5


async def test_each_response_has_the_whole_rate(site: Site) -> None:
    """Together they would take two minutes, if the rate were that of all."""
    took = await asyncio.gather(*(load(site, "slow.test") for _ in range(40)))
    assert max(seconds for _, seconds in took) < 60


async def test_without_buffering_there_is_no_rate(site: Site) -> None:
    """At its rate the response would take 150 s, which no client here waits for."""
    await load(site, "unbuffered.test")


async def test_what_goes_through_a_websocket_has_no_rate(site: Site) -> None:
    sent = b"x" * 60_000
    async with await WebSocket.open(site.http, host="socket.test") as socket:
        for _ in range(5):
            assert await socket.ask(sent) == sent  # 293 s at its rate
