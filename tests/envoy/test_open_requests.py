"""limit-connections through a real Envoy and the service that counts: as many open requests as allowed, and no count left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import (
    GrpcEcho,
    Http1,
    Process,
    Site,
    WebSocket,
    backend,
    config_map,
    grpc_call,
    ingress,
    request_bytes,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

TWO = {"limit-connections": "2"}
SLEEP = "/sleep/20"


def one(name: str, annotations: dict[str, object]) -> dict[str, Any]:
    return ingress(name, f"{name}.test", {"/": ("web", 80)}, annotations)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authz(shared_site: Site) -> Process:
    app, echo = await shared_site.run(HttpApp("web")), await shared_site.run(GrpcEcho("echo"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        *backend("echo", echo),
        ingress("calls", "calls.test", {"/": ("echo", 80)}, {"limit-connections": "1", "backend-protocol": "GRPC"}),
        config_map("controller", {"limit-conn-status-code": "429"}),
        one("open", {}),
        one("two", TWO),
        one("exempt", {**TWO, "limit-allowlist": "127.0.0.0/8"}),
        one("paced", {**TWO, "limit-rpm": "1", "limit-burst-multiplier": "3"}),
        one("listed", {**TWO, "denylist-source-range": "127.0.0.1"}),
        ingress("paths", "paths.test", {"/a": ("web", 80), "/b": ("web", 80)}, TWO),
    )
    await shared_site.start_control_plane("--configmap", "default/controller")
    found = await shared_site.start_beside_authz()
    await shared_site.until_answered("/", "web", host="open.test")
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared_site: Site, authz: Process) -> Site:
    """Nobody has a request open, and the service counts."""
    if not authz.running:
        await authz.start()
    await until_free(shared_site)
    return shared_site


async def until_free(site: Site) -> None:
    """Two open requests pass and a third does not: so the service counts, and counts no other request."""

    async def look() -> bool:
        async with holding(site, "two.test", 2):
            return await status(site, "two.test") == 429

    await wait_until(look, "two requests to pass and no more")


@contextlib.asynccontextmanager
async def holding(site: Site, host: str, number: int, target: str = "/ws") -> AsyncIterator[None]:
    """So many open websockets. Raises AssertionError where one of them is refused."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(number):
            await stack.enter_async_context(await WebSocket.open(site.http, target, host=host))
        yield


async def status(site: Site, host: str, target: str = "/") -> int:
    return (await site.get(target, host=host)).status


async def until_passing(site: Site, host: str) -> None:
    async def look() -> bool:
        return await status(site, host) == 200

    await wait_until(look, f"a request to {host} to pass")


async def test_requests_beyond_those_that_are_open_are_refused_until_one_ends(site: Site) -> None:
    async with holding(site, "two.test", 1):
        assert [await status(site, "two.test") for _ in range(3)] == [200] * 3
        async with holding(site, "two.test", 1):
            refused = await site.get("/", host="two.test")
            assert (refused.status, refused.header("Content-Type")) == (429, "text/html")
            assert b"<h1>429 Too Many Requests</h1>" in refused.body
            assert [await status(site, host) for host in ("open.test", "exempt.test")] == [200] * 2
        await until_passing(site, "two.test")


async def test_paths_of_one_ingress_count_together(site: Site) -> None:
    async with holding(site, "paths.test", 1, "/a/ws"), holding(site, "paths.test", 1, "/b/ws"):
        assert [await status(site, "paths.test", path) for path in ("/a", "/b")] == [429] * 2


async def test_who_is_on_the_allow_list_has_no_limit(site: Site) -> None:
    async with holding(site, "exempt.test", 5):
        assert await status(site, "exempt.test") == 200


async def test_a_client_is_who_envoy_sees_and_not_what_a_header_has(site: Site) -> None:
    forged = [(name, "x") for name in ("xds-ingress", "xds-client", "xds-most", "xds-status", "X-Forwarded-For")]
    async with holding(site, "two.test", 2):
        assert (await site.get("/", host="two.test", headers=forged)).status == 429


async def test_rates_come_before_open_requests_and_lists_after(site: Site) -> None:
    """What is refused because there are too many open has taken from its rate."""
    assert Counter(await asyncio.gather(*(status(site, "paced.test", "/sleep/4") for _ in range(6)))) == {200: 2, 429: 2, 503: 2}
    assert [await status(site, "listed.test") for _ in range(4)] == [403] * 4


async def test_calls_of_grpc_which_end_with_trailers_are_not_left_behind(site: Site) -> None:
    for number in range(5):

        async def called(said: bytes = f"{number}".encode()) -> bool:
            return await grpc_call(site.http, said, host="calls.test") == b"echo: " + said

        await wait_until(called, "a call to pass, with one at a time")


async def test_requests_that_clients_abort_are_not_left_behind(site: Site) -> None:
    for _ in range(10):
        async with await Http1.open(site.http) as first, await Http1.open(site.http) as second:
            for connection in (first, second):
                await connection.send(request_bytes(target=SLEEP, host="two.test"))

            async def full() -> bool:
                return await status(site, "two.test") == 429

            await wait_until(full, "both requests to be counted")
        await until_passing(site, "two.test")


async def test_a_burst_at_once_passes_as_many_as_may_be_open(site: Site) -> None:
    seen = Counter(await asyncio.gather(*(status(site, "two.test", "/sleep/5") for _ in range(12))))
    assert seen[200] + seen[429] == 12
    assert seen[200] >= 2
    assert seen[429] >= 8


async def test_without_the_service_requests_pass_and_with_it_counts_begin_anew(site: Site, authz: Process) -> None:
    async with holding(site, "two.test", 2):
        await authz.kill()
        assert [await status(site, "two.test") for _ in range(3)] == [200] * 3
        await authz.start()
        await until_free(site)  # the two that go on are not counted any more


async def test_a_change_of_routes_forgets_no_open_request(site: Site) -> None:
    async with holding(site, "two.test", 2):
        for number in range(5):
            moved = {"permanent-redirect": f"https://e.test/{number}"}
            site.folder.write("other.yaml", ingress("other", "other.test", {f"/{number}": ("web", 80)}, moved))
            await site.until_status(f"/{number}", 301, host="other.test")
            assert await status(site, "two.test") == 429


async def test_an_envoy_that_dies_takes_its_counts_along(site: Site) -> None:
    """Last, for it begins anew with another Envoy."""
    async with holding(site, "two.test", 2):
        await site.envoy.process.kill()
    await site.envoy.start()
    await site.until_answered("/", "web", host="open.test")
    await until_free(site)
