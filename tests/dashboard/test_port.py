"""The port of the dashboard: who gets an answer, what a browser may do with it, and what a hostile client cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dashboard.conftest import Looked, flags_of, looked_at
from tests.envoy.harness.manifests import ingress
from xds import __version__
from xds.addresses import SocketAddress
from xds.app import ControlPlane
from xds.config import has_dashboard
from xds.dashboard import pulse, server, turns
from xds.dashboard.server import LIMITS

PAGES = ("/", "/problems", "/fleet", "/changes", "/explain", "/explain?url=shop.example", "/ingress/shop/storefront", "/none")


async def test_every_answer_has_the_headers_that_hold_a_browser_back(site: Looked) -> None:
    for path in (*PAGES, "/static/dashboard.css", "/static/dashboard.js", "/favicon.ico"):
        headers = (await site.get(path)).headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'", path
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src", "form-action")} == {"'self'"}, path
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store"), path
        assert (headers["Referrer-Policy"], headers["Cross-Origin-Resource-Policy"]) == ("no-referrer", "same-origin"), path


async def test_nothing_is_inline_and_nothing_is_from_elsewhere(site: Looked) -> None:
    for path in PAGES:
        page = (await site.get(path)).text
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", page), path
        assert re.findall(r"<script[^>]*>[^<]*", page) == [f'<script src="/static/dashboard.js?{__version__}" defer>'], path
        assert {each[0] for each in re.findall(r'(?:src|href|action)="([^"]*)"', page)} <= {"/", "#", "?"}, path


HOSTS = {
    **dict.fromkeys(("127.0.0.1:18002", "127.0.0.9", "localhost:4711", "LOCALHOST", "[::1]:18002"), 200),
    **dict.fromkeys(("evil.example", "evil.example:18002", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1"), 421),
    **dict.fromkeys(("[2001:db8::1]:18002", "localhost@evil.example", ""), 421),
}


async def test_only_names_of_loopback_are_answered(site: Looked) -> None:
    for host, status in HOSTS.items():
        for path in ("/", "/static/dashboard.js", "/ingress/a/b"):
            expected = 404 if status == 200 and path == "/ingress/a/b" else status
            assert (await site.get(path, Host=host)).status == expected, (host, path)
    assert (await site.get("/events", Host="evil.example")).status == 421


async def test_pages_of_others_get_nothing(site: Looked) -> None:
    for origin, mode, status in (
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ):
        assert (await site.get("/fleet", Sec_Fetch_Site=origin, Sec_Fetch_Mode=mode)).status == status, (origin, mode)


async def test_nothing_can_be_changed(site: Looked) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        async with site.session.request(method, site.base + "/", data=b"x") as response:
            assert response.status == 405, method


async def test_beyond_loopback_there_is_a_page_only_where_its_names_are_known(tmp_path: Path) -> None:
    (folder := tmp_path / "m").mkdir()
    flags = dataclasses.replace(flags_of(folder, tmp_path), dashboard_address="0.0.0.0:0")
    assert not has_dashboard(flags)
    plane = ControlPlane(flags)
    await plane.start()
    assert plane.dashboard_address is None
    await plane.stop()
    flags = dataclasses.replace(flags, dashboard_names=("xds.example", "10.0.0.7"))
    async with looked_at(folder, flags) as site:
        assert site.plane.dashboard_address is not None
        base = f"http://127.0.0.1:{site.plane.dashboard_address.port}/"
        for host, status in (("xds.example", 200), ("XDS.example:80", 200), ("10.0.0.7", 200), ("10.0.0.8", 421), ("a.xds.example", 421)):
            async with site.session.get(base, headers={"Host": host}) as response:
                assert response.status == status, host


async def test_a_port_that_is_taken_leaves_the_page_out_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder := tmp_path / "m").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = SocketAddress("127.0.0.1", taken.getsockname()[1])
        plane = ControlPlane(dataclasses.replace(flags_of(folder, tmp_path), dashboard_address=str(address)))
        await plane.start()
        assert plane.snapshot.ready
        assert plane.dashboard_address is None
        await plane.stop()
    assert f"the dashboard cannot listen on {address}: Address already in use; everything else" in caplog.text


@contextlib.asynccontextmanager
async def following(site: Looked) -> AsyncIterator[asyncio.StreamReader]:
    """A stream of events whose head was read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    yield reader
    await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def stamp(reader: asyncio.StreamReader) -> str:
    """That of the next event."""
    async with asyncio.timeout(120):
        while not (line := await reader.readuntil(b"\n")).startswith(b"data: "):
            pass
    return line.decode().removeprefix("data: ").strip()


async def page_stamp(site: Looked) -> str:
    found = re.search(r'data-stamp="(\w+)"', (await site.get("/fleet")).text)
    assert found is not None
    return found[1]


async def test_a_stream_has_the_stamp_of_the_page_until_something_changes(site: Looked) -> None:
    async with following(site) as events:
        first = await stamp(events)
        assert first == await page_stamp(site) == await page_stamp(site)
        await site.put(ingress("late", "late.example", {"/": ("web", 80)}, namespace="shop"))
        changed = await stamp(events)
        assert changed != first
        async with site.envoy("edge-1"):
            assert await stamp(events) not in (first, changed)


async def test_streams_beyond_the_limit_are_refused_and_pages_are_not(site: Looked) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(pulse.MOST_WAITING):
            await stamp(await stack.enter_async_context(following(site)))
        answer = await site.get("/events")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "15")
        assert (await site.get("/fleet")).status == 200


async def test_a_stream_whose_client_has_gone_leaves_its_place_at_once(site: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes through pages quickly leaves a stream with each."""
    monkeypatch.setattr(server, "SILENCE", 600.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(pulse.MOST_WAITING):
            await stamp(await stack.enter_async_context(following(site)))
    end = time.monotonic() + 30
    while (status := await status_of_events(site)) != 200:
        assert (status, time.monotonic() < end) == (503, True)
        await asyncio.sleep(0.05)


async def status_of_events(site: Looked) -> int:
    async with site.session.get(f"{site.base}/events") as response:
        return response.status


async def test_streams_end_when_the_server_does(tmp_path: Path) -> None:
    (folder := tmp_path / "m").mkdir()
    async with contextlib.AsyncExitStack() as clients:
        async with looked_at(folder, flags_of(folder, tmp_path)) as site:
            events = await clients.enter_async_context(following(site))
            await stamp(events)
        async with asyncio.timeout(120):
            await events.read()  # to its end


async def test_who_asks_for_many_pages_waits_or_is_refused(site: Looked) -> None:
    asked = [asyncio.create_task(site.get("/fleet")) for _ in range(turns.MOST_WAITING + 20)]
    statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= turns.MOST_WAITING
    assert (await site.get("/fleet")).status == 200


async def test_a_client_with_many_connections_that_sends_nothing_shuts_nobody_out(site: Looked) -> None:
    port = int(site.base.rpartition(":")[2])
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMITS.most + 30)]
    for _ in range(3):
        assert (await site.get("/fleet")).status == 200
    async with asyncio.timeout(120):
        assert await idle[0][0].read() == b""  # the oldest was cut
    await asyncio.gather(*(closed(writer) for _, writer in idle))


async def test_a_request_may_have_no_body_and_a_short_head(site: Looked) -> None:
    assert (await site.get("/?q=" + "x" * 7_000)).status == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1_000) for n in range(20)))
    async with asyncio.timeout(120):
        with contextlib.suppress(ConnectionError):
            assert b"200 OK" not in await reader.read()
    await closed(writer)


async def test_what_is_asked_meanwhile_is_published_all_the_same(site: Looked) -> None:
    """A client that never stops asking holds up no change of an object, and no Envoy."""
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            await site.get("/?q=shop")

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    try:
        async with site.envoy("edge-1"):
            await site.put(ingress("late", "late.example", {"/": ("web", 80)}, namespace="shop"))
            await site.until("/ingress/shop/late", lambda answer: "on 1 of 1 Envoy" in answer.text)
    finally:
        stop.set()
        await asyncio.gather(*asking)


def test_the_template_engine_is_imported_when_somebody_looks_and_not_before() -> None:
    program = "import sys, xds.dashboard.server; print('jinja2' in sys.modules, 'markupsafe' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
