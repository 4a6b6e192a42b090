"""Connections to an API server on which bytes stop, while TCP stays acknowledged: as behind a proxy, or a translation of addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from xds.config import Flags
from xds.kube.apiserver.api import Api, Patience
from xds.kube.apiserver.reflector import Backoff

from .frozen import Proxy, proxied
from .scripted import Fault, Scripted, until
from .test_cluster import QUICK, SOME, Followed, following, put_some, server

__all__ = ["server"]
BRISK = replace(QUICK, watch=1.2)
HASTY = Patience(connect=5.0, answer=1.0, late=0.3, idle=0.3)


@asynccontextmanager
async def through_a_proxy(server: Scripted, folder: Path) -> AsyncIterator[tuple[Followed, Proxy]]:
    async with proxied(server.url) as (proxy, url):
        server.url, direct = url, server.url
        async with following(server, folder, HASTY, BRISK) as followed:
            yield followed, proxy
        server.url = direct


async def test_watches_on_connections_that_say_nothing_more_are_asked_for_again(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with through_a_proxy(server, tmp_path) as (followed, proxy):
        await followed.take()
        await until(lambda: all(server.watched(plural) for plural in ("services", "ingresses", "endpointslices", "secrets")))
        lists = len([each for each in server.requests if each.verb == "list"])
        for name in ("c", "d"):
            proxy.freeze()
            server.put("services", name, spec={})
            await followed.until(lambda name=name: f"Service/{name}" in followed.names())
        assert followed.has(*SOME, "Service/c", "Service/d")
        assert len([each for each in server.requests if each.verb == "list"]) == lists, "only watches are asked for again"


async def test_lists_and_fetches_without_an_answer_are_asked_for_again(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    server.faults["services"].append(Fault("list", hangs=True))
    async with through_a_proxy(server, tmp_path) as (followed, proxy):
        first = asyncio.ensure_future(followed.take())
        await until(lambda: bool(server.asked("list", "services")))
        proxy.freeze()
        await first
        assert followed.has(*SOME)


async def test_while_nothing_is_forwarded_at_all_attempts_go_on_and_all_is_well_afterwards(server: Scripted, tmp_path: Path) -> None:
    put_some(server)
    async with through_a_proxy(server, tmp_path) as (followed, proxy):
        await followed.take()
        proxy.freeze(new=True)
        before = proxy.accepted
        server.put("services", "c", spec={})
        upcoming = asyncio.ensure_future(followed.until(lambda: followed.has(*SOME, "Service/c")))
        await until(lambda: proxy.accepted >= before + 10)
        assert not upcoming.done()
        proxy.thaw()
        await upcoming


async def test_a_write_without_an_answer_is_over_and_the_next_one_is_well(server: Scripted, tmp_path: Path) -> None:
    server.put("services", "a", spec={})
    async with proxied(server.url) as (proxy, url):
        api = Api(Flags(apiserver_host=url), HASTY)
        await api.open()
        path = "/api/v1/namespaces/default/services/a"
        async with api.get(path, {}) as answer:
            await answer.read()
        proxy.freeze()
        async with asyncio.timeout(120):
            with pytest.raises(TimeoutError):
                await api.send("PATCH", path, {})
        async with asyncio.timeout(120), api.get(path, {}) as answer:
            assert answer.status == 200
        await api.close()


async def test_an_answer_that_trickles_has_an_end(server: Scripted) -> None:
    async with proxied(server.url) as (_, url):
        server.faults["services"].append(Fault("list", body=b" ", swallows=True))
        api = Api(Flags(apiserver_host=url), Patience(whole=0.5))
        await api.open()
        async with asyncio.timeout(120):
            with pytest.raises(TimeoutError):
                async with api.get("/api/v1/services", {}) as answer:
                    await answer.read()
        await api.close()


def test_whatever_lies_between_is_noticed_within_30_seconds() -> None:
    backoff, patience = Backoff(), Patience()
    assert backoff.watch + patience.late <= 30
    assert patience.idle + patience.answer <= 30
    assert patience.connect <= 30
