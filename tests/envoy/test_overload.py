"""An Envoy near its limit of memory: who holds most is let go, others are served, and its memory stays near the limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, Traffic, attacks, backend, fetch, ingress, wait_until

pytestmark = pytest.mark.envoy

HOST = "a.test"
LIMIT = 90_000_000
"""Bytes of memory; an Envoy that serves nothing takes a fifth of them."""
UNREAD = f"/big/{8 << 20}"
MANY = 128
"""Streams that a connection of HTTP/2 may have at a time."""
LONGEST = 120.0
"""Seconds after which an attack gives up."""
RESETS = "envoy.overload_actions.reset_high_memory_stream.count"
PRESSURE = "overload.envoy.resource_monitors.fixed_heap.pressure"


async def limited(site: Site, *flags: str) -> None:
    web = await site.run(HttpApp("web"))
    site.folder.write("web.yaml", *backend("web", web), ingress("web", HOST, {"/": ("web", 80)}))
    await site.start_control_plane()
    await site.start_envoy(bootstrap=flags)


async def most_pressure(site: Site, crowd: attacks.Crowd, enough: Callable[[dict[str, int]], bool]) -> int:
    """The most memory that Envoy uses, in percent of its limit, while the crowd attacks, until Envoy's statistics are enough."""
    ended = threading.Event()

    def attack() -> None:
        with crowd:
            crowd.last(LONGEST, ended.is_set)

    attacking = asyncio.create_task(asyncio.to_thread(attack))
    most = 0

    async def watched() -> bool:
        nonlocal most
        found = await site.envoy.stats("overload")
        most = max(most, found[PRESSURE])
        return enough(found)

    try:
        await wait_until(watched, "Envoy to let go of what nobody reads", deadline=LONGEST)
    finally:
        ended.set()
        await attacking
    return most


async def test_streams_that_nobody_reads_are_reset_for_as_long_as_they_take_memory(site: Site) -> None:
    """Envoy acts again only when the state of an action has changed: at its limit, four in five streams were left alone."""
    await limited(site, "--max-heap-bytes", str(LIMIT))
    asked = b"".join(attacks.downloads(HOST, UNREAD, MANY))
    crowd = attacks.Crowd(site.http, 30, asked, deaf=True, rate=20)
    since = time.monotonic()

    def has_rested(stats: dict[str, int]) -> bool:
        """Whether all streams are there, and those that are left have fitted in for some seconds."""
        nonlocal since
        if crowd.outcome.opened < crowd.count or stats[RESETS] < 50 or stats[PRESSURE] >= 100:
            since = time.monotonic()
        return time.monotonic() > since + 5

    assert await most_pressure(site, crowd, has_rested) < 150
    async with Traffic(site.http, host=HOST, clients=2) as others:
        seen = len(others.seen)
        await others.flows()
    assert set(others.answers(seen)) == {(200, "web")}


async def test_connections_that_take_the_memory_end_soon_when_they_are_idle(site: Site) -> None:
    """Downloads over HTTP/1 are not reset; each ends when it has been idle for 5 s."""
    await limited(site, "--max-heap-bytes", str(LIMIT))
    asked = f"GET {UNREAD} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    crowd = attacks.Crowd(site.http, 3_000, asked, deaf=True, receive_buffer=4_096, rate=300)
    pressed = 0

    def was_let_go(stats: dict[str, int]) -> bool:
        nonlocal pressed
        pressed = max(pressed, stats[PRESSURE])
        return pressed >= 100 and stats[PRESSURE] < 80

    await most_pressure(site, crowd, was_let_go)
    assert crowd.outcome.closed > 500
    assert (await site.get("/", host=HOST)).status == 200


async def test_an_envoy_without_memory_is_ready_and_says_why_it_refuses(site: Site) -> None:
    """One megabyte is less than an empty Envoy takes."""
    probe = ("127.0.0.1", site.ports.take())
    await limited(site, "--max-heap-bytes", "1000000", "--probe-address", f"127.0.0.1:{probe[1]}")

    async def refuses() -> bool:
        try:
            return (await site.get("/", host=HOST)).status == 503
        except (OSError, EOFError):
            return True

    assert await wait_until(refuses, "Envoy to refuse requests")
    assert (await fetch(probe, "/ready", host="probe")).status == 200
    assert PRESSURE.replace(".", "_") in (await fetch(probe, "/stats/prometheus", host="probe")).text
