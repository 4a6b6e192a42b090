"""An Envoy near its limit of memory: who holds most is let go, others are served, and its memory stays near the limit."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from examples.apps import PIECE, App, HttpApp, StreamServer
from tests import quick_yaml
from tests.envoy.harness import Site, Traffic, attacks, backend, fetch, ingress, wait_until
from xds.nginx.messages import STREAM_WINDOW

pytestmark = pytest.mark.envoy

HOST = "a.test"
LIMIT = 90_000_000
"""Bytes of memory; an Envoy that serves nothing takes a fifth of them."""
DOWNLOAD = 8 << 20
UNREAD = f"/big/{DOWNLOAD}"
MANY = 128
"""Streams that a connection of HTTP/2 may have at a time."""
FIRST = 192 << 10
"""Bytes of an answer that the kernel keeps for who does not read."""
DOWNLOADS = b"".join(attacks.downloads(HOST, UNREAD, MANY))
LONGEST = 120.0
"""Seconds after which a test gives up."""
RESETS = "envoy.overload_actions.reset_high_memory_stream.count"
IDLE = "http.http.downstream_rq_idle_timeout"
PRESSURE = "overload.envoy.resource_monitors.fixed_heap.pressure"


@dataclass
class Dam:
    """An application that keeps all answers back until it is `opened`. `full` counts those of which FIRST bytes have left it."""

    asked: int = 0
    full: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * FIRST)
        writer.transport.set_write_buffer_limits(high=0)
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self.opened.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWNLOAD + b"x" * FIRST)
        await writer.drain()
        self.full += 1
        for _ in range((DOWNLOAD - FIRST) // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()


async def started(site: Site, web: App) -> None:
    """A site before this application, without an Envoy yet."""
    site.folder.write("web.yaml", *backend("web", await site.run(web)), ingress("web", HOST, {"/": ("web", 80)}))
    await site.start_control_plane()


async def limited(site: Site, *flags: str) -> None:
    await started(site, HttpApp("web"))
    await site.start_envoy(bootstrap=flags)


async def attack_until(
    site: Site, crowd: attacks.Crowd, enough: Callable[[dict[str, int]], bool], then: Callable[[], Awaitable[None]] | None = None
) -> dict[str, int]:
    """Let the crowd attack until Envoy's statistics are enough, and return them; `then` is done while it is still there."""
    ended = threading.Event()

    def attack() -> None:
        with crowd:
            crowd.last(3 * LONGEST, ended.is_set)

    async def look() -> dict[str, int] | None:
        found = await site.envoy.stats(f"overload%7C{IDLE}")
        return found if enough(found) else None

    attacking = asyncio.create_task(asyncio.to_thread(attack))
    try:
        found = await wait_until(look, "Envoy to let go of what nobody reads", deadline=LONGEST)
        assert found is not None
        if then:
            await then()
    finally:
        ended.set()
        await attacking
    return found


async def test_streams_that_nobody_reads_are_reset_for_as_long_as_they_take_memory(site: Site) -> None:
    """Envoy acts again only when the state of an action has changed. Where that ended at the limit, it left four in five streams alone.

    Here all answers wait for Envoy, which sleeps meanwhile, and it looks every other second: so it sees less than the limit, and then far
    more. It has no other means than resets. How fast the machine is does not matter, as no stream ends by itself.
    """
    dam = Dam()
    await started(site, StreamServer(dam.serve))
    config = quick_yaml.safe_load(await site.control_plane.bootstrap(flags=["--max-heap-bytes", str(LIMIT)]))
    overload = config["overload_manager"]
    overload["refresh_interval"] = "2s"
    overload["actions"] = [each for each in overload["actions"] if each["name"] in RESETS]
    await site.static_envoy(config)
    crowd = attacks.Crowd(site.http, 6, DOWNLOADS, deaf=True)

    async def all_answered() -> bool:
        return dam.full == crowd.count * MANY

    async def opened() -> None:
        os.kill(site.envoy.process.pid, signal.SIGSTOP)
        dam.opened.set()
        try:
            await wait_until(all_answered, "the answers to be sent", deadline=LONGEST)
        finally:
            os.kill(site.envoy.process.pid, signal.SIGCONT)
        most = 0

        async def came_back() -> dict[str, int] | None:
            nonlocal most
            stats = await site.envoy.stats("overload")
            most = max(most, stats[PRESSURE])
            return stats if most > 120 and stats[PRESSURE] < 90 else None

        stats = await wait_until(came_back, "Envoy to reset enough", deadline=LONGEST)
        assert stats is not None
        assert stats[RESETS] * 2 * STREAM_WINDOW > (most - 90) / 100 * LIMIT

    await attack_until(site, crowd, lambda _: dam.asked == crowd.count * MANY, opened)
    assert crowd.outcome.closed == 0


async def test_others_are_served_beside_thousands_of_streams_that_nobody_reads(site: Site) -> None:
    await limited(site, "--max-heap-bytes", str(LIMIT))
    crowd = attacks.Crowd(site.http, 30, DOWNLOADS, deaf=True, rate=20)
    since = time.monotonic()

    def has_rested(stats: dict[str, int]) -> bool:
        """Whether all streams are there, and those that are left have fitted in for some seconds."""
        nonlocal since
        if crowd.outcome.opened < crowd.count or stats[RESETS] < 50 or stats[PRESSURE] >= 100:
            since = time.monotonic()
        return time.monotonic() > since + 5

    async def others() -> None:
        async with Traffic(site.http, host=HOST, clients=2) as asking:
            seen = len(asking.seen)
            await asking.flows()
        assert set(asking.answers(seen)) == {(200, "web")}

    await attack_until(site, crowd, has_rested, others)


async def test_connections_that_take_the_memory_end_soon_when_they_are_idle(site: Site) -> None:
    """Downloads over HTTP/1 are not reset; each ends when it has been idle for 5 s."""
    await limited(site, "--max-heap-bytes", str(LIMIT))
    asked = f"GET {UNREAD} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    crowd = attacks.Crowd(site.http, 3_000, asked, deaf=True, receive_buffer=4_096, rate=300)

    def was_let_go(stats: dict[str, int]) -> bool:
        return stats[IDLE] > 300 and stats[PRESSURE] < 80

    await attack_until(site, crowd, was_let_go)
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
