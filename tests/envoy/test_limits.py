"""Requests of one client that are counted: bursts and paces as nginx has them, which last while the route table changes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, config_map, ingress, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]


def one(name: str, annotations: dict[str, object], to: str = "web", **more: Any) -> dict[str, Any]:
    return ingress(name, f"{name}.test", {"/": (to, 80)}, annotations, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    app = await shared_site.run(HttpApp("web"))
    shared_site.folder.write(
        "all.yaml",
        *backend("web", app),
        service("nobody"),
        config_map("controller", {"limit-req-status-code": "429"}),
        one("open", {}),
        one("minute", {"limit-rpm": "3", "limit-burst-multiplier": "2"}),
        one("odd", {"limit-rpm": "1", "limit-burst-multiplier": "7"}),
        one("both", {"limit-rps": "1000", "limit-rpm": "2", "limit-burst-multiplier": "1"}),
        one("changing", {"limit-rpm": "4", "limit-burst-multiplier": "1"}),
        one("paced", {"limit-rps": "2", "limit-burst-multiplier": "1"}),
        one("exempt", {"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-whitelist": "127.0.0.0/8"}),
        one("others", {"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-allowlist": "192.0.2.0/24"}),
        one("listed", {"limit-rpm": "1", "limit-burst-multiplier": "1", "denylist-source-range": "127.0.0.1"}),
        one("crossed", {"limit-rpm": "1", "limit-burst-multiplier": "1", "enable-cors": "true"}),
        one("moved", {"limit-rpm": "1", "limit-burst-multiplier": "1", "permanent-redirect": "https://e.test"}),
        one("nobody", {"limit-rpm": "1", "limit-burst-multiplier": "1"}, "nobody"),
        one("bad", {"limit-rps": "one"}),
        ingress("paths", "paths.test", {"/a": ("web", 80), "/b": ("web", 80)}, {"limit-rpm": "1", "limit-burst-multiplier": "1"}),
        ingress("other-path", "paths.test", {"/c": ("web", 80)}, {"limit-rpm": "1", "limit-burst-multiplier": "1"}),
    )
    await shared_site.start("--configmap", "default/controller")
    await shared_site.until_answered("/", "web", host="open.test")
    return shared_site


async def statuses(site: Site, host: str, times: int, target: str = "/", **more: Any) -> Counter[int]:
    """The statuses of requests that are sent together."""
    answers = await asyncio.gather(*(site.get(target, host=host, **more) for _ in range(times)))
    return Counter(answer.status for answer in answers)


@pytest.mark.parametrize(
    ("host", "passing"),
    [("minute.test", 7), ("odd.test", 6), ("both.test", 3), ("exempt.test", 12), ("others.test", 2), ("open.test", 12)],
)
async def test_so_many_pass_at_once(site: Site, host: str, passing: int) -> None:
    assert await statuses(site, host, 12) == +Counter({200: passing, 429: 12 - passing})


async def test_a_refusal_has_the_page_of_its_status(site: Site) -> None:
    await statuses(site, "minute.test", 8)
    answer = await site.get("/", host="minute.test")
    assert (answer.status, answer.header("Content-Type"), answer.header("x-envoy-ratelimited")) == (429, "text/html", None)
    assert b"<h1>429 Too Many Requests</h1>" in answer.body


async def test_limits_come_before_lists_and_after_redirects_and_missing_endpoints(site: Site) -> None:
    assert await statuses(site, "listed.test", 5) == {403: 2, 429: 3}
    assert await statuses(site, "moved.test", 5) == {301: 5}
    assert await statuses(site, "nobody.test", 5) == {503: 5}
    assert await statuses(site, "bad.test", 5) == {404: 5}
    assert await statuses(site, "crossed.test", 5, method="OPTIONS", headers=[("Origin", "https://a.test")]) == {204: 5}


async def test_pages_of_other_origins_may_read_a_refusal(site: Site) -> None:
    origin = [("Origin", "https://a.test")]
    assert await statuses(site, "crossed.test", 4, headers=origin) == {200: 2, 429: 2}
    assert (await site.get("/", host="crossed.test", headers=origin)).header("Access-Control-Allow-Origin") == "*"


async def test_paths_of_one_ingress_count_together_and_those_of_another_apart(site: Site) -> None:
    assert await statuses(site, "paths.test", 3, "/a/x") == {200: 2, 429: 1}
    assert await statuses(site, "paths.test", 3, "/b") == {429: 3}
    assert await statuses(site, "paths.test", 3, "/c") == {200: 2, 429: 1}


async def test_a_client_is_who_envoy_sees_and_not_what_a_header_has(site: Site) -> None:
    await statuses(site, "minute.test", 8)
    assert await statuses(site, "minute.test", 3, headers=[("X-Forwarded-For", "192.0.2.7"), ("X-Real-IP", "192.0.2.7")]) == {429: 3}


async def test_a_limit_lasts_while_another_host_changes_all_the_time(site: Site) -> None:
    """Each change of another host is in effect before the next request: five pass in a minute, and then none, over thirty tables."""
    seen: list[int] = []
    started = time.monotonic()
    for number in range(30):
        changed = ingress("other", "other.test", {f"/{number}": ("web", 80)}, {"permanent-redirect": f"https://e.test/{number}"})
        site.folder.write("other.yaml", changed)
        await site.until_status(f"/{number}", 301, host="other.test")
        seen.append((await site.get("/", host="changing.test")).status)
    refilled = int(4 * (time.monotonic() - started) / 60) + 1
    assert seen[:5] == [200] * 5
    assert Counter(seen)[200] <= 5 + refilled
    assert Counter(seen)[429] >= 25 - refilled


async def test_what_was_used_comes_back_at_the_pace_of_the_limit(site: Site) -> None:
    """Two a second, but for what a client lets lapse that does not ask for longer than a second."""
    started = time.monotonic()
    first = (await statuses(site, "paced.test", 8))[200]
    assert 3 <= first <= 4 + 2 * (time.monotonic() - started)
    started = last = time.monotonic()
    passed, lapsed = 0, 0.0
    while last < started + 5:
        passed += (await site.get("/", host="paced.test")).status == 200
        lapsed += max(0.0, time.monotonic() - last - 1)
        last = time.monotonic()
    lasted = last - started
    assert 2 * (lasted - lapsed) - 2 <= passed <= 2 * lasted + 2
