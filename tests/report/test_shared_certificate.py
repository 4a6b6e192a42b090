"""All replicas serve one default certificate, whoever comes first."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.kube.scripted import Fault, refusal, secret
from tests.kube.writable import Mishap, Writable
from xds.certificates import default_certificate
from xds.kube.apiserver.api import Api
from xds.problem import Problem
from xds.replicas import shared_certificate
from xds.replicas.shared_certificate import SharedCertificate, secret_name

NAME = secret_name("ingress-controller-leader")
WITHOUT = "each replica serves a default certificate of its own"
MADE = default_certificate.make()


class Asking:
    """One replica; `told` has its Problem, or None."""

    def __init__(self, api: Api, within: float = 30.0) -> None:
        self.told: list[str] = []
        self.shared = SharedCertificate(api, "here", NAME, self._tell, within=within)
        self.pairs = self.shared.pairs()

    async def next(self) -> tuple[bytes, bytes]:
        async with asyncio.timeout(120):
            return await anext(self.pairs)

    def _tell(self, place: str, problems: tuple[Problem, ...]) -> None:
        self.told = [str(problem) for problem in problems]


@asynccontextmanager
async def asking(api: Api, within: float = 30.0) -> AsyncIterator[Asking]:
    made = Asking(api, within)
    try:
        yield made
    finally:
        await made.pairs.aclose()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_certificate, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(shared_certificate, "TRY_EVERY", 0.01)
    monkeypatch.setattr(shared_certificate, "CONFIRM_DENIAL", 0.05)


def held(server: Writable) -> tuple[bytes, bytes]:
    found = server.get("secrets", NAME, "here")
    assert found is not None
    return base64.b64decode(found["data"]["tls.crt"]), base64.b64decode(found["data"]["tls.key"])


def put(server: Writable, pair: tuple[bytes, bytes], **labels: str) -> None:
    body = secret(**{"tls.crt": pair[0].decode(), "tls.key": pair[1].decode()})
    server.put("secrets", NAME, "here", **body, metadata={"labels": {key.replace("_", "/"): value for key, value in labels.items()}})


async def test_the_first_replica_makes_it_and_the_others_read_it(server: Writable, api: Api) -> None:
    async with asking(api) as first, asking(api) as second:
        pair = await first.next()
        assert pair == held(server)
        assert await second.next() == pair
    assert len(server.done) == 1
    found = server.get("secrets", NAME, "here")
    assert found is not None
    assert found["type"] == "kubernetes.io/tls"


async def test_of_two_that_come_at_once_one_makes_it(server: Writable, api: Api) -> None:
    server.gate = asyncio.Event()
    async with asking(api) as first, asking(api) as second:
        both = [asyncio.create_task(each.next()) for each in (first, second)]
        async with asyncio.timeout(120):
            while server.flying < 2:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.002)
        server.gate.set()
        one, other = await asyncio.gather(*both)
        assert one == other == held(server)
    assert len(server.done) == 1


async def test_one_that_ends_soon_is_made_anew_and_everybody_follows(server: Writable, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    usable = default_certificate.usable
    async with asking(api) as first, asking(api) as second:
        old = await first.next()
        assert await second.next() == old
        monkeypatch.setattr(default_certificate, "usable", lambda *pair: pair != old and usable(*pair))
        new = await first.next()
        assert new != old
        assert await second.next() == new == held(server)
    assert [write.verb for write in server.done] == ["create", "update"]


async def test_one_that_somebody_deletes_is_put_back_as_it_was(server: Writable, api: Api) -> None:
    async with asking(api) as first:
        pair = await first.next()
        server.reading.delete("secrets", NAME, "here")
        asked = asyncio.create_task(first.next())
        async with asyncio.timeout(120):
            while server.get("secrets", NAME, "here") is None:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.002)
        assert held(server) == pair
        assert not asked.done()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_a_certificate_that_somebody_brought_is_served(server: Writable, api: Api) -> None:
    put(server, MADE)
    async with asking(api) as first:
        assert await first.next() == MADE
    assert server.writes == []


async def test_a_secret_of_somebody_else_is_not_overwritten(server: Writable, api: Api) -> None:
    put(server, (b"nonsense", b"nonsense"))
    async with asking(api) as first:
        pair = await first.next()
        assert default_certificate.usable(*pair)
        assert "was not made by xds" in first.told[0]
    assert server.writes == []


async def test_one_of_ours_that_cannot_be_used_is_made_anew(server: Writable, api: Api) -> None:
    put(server, (b"nonsense", b"nonsense"), **{"app.kubernetes.io_managed-by": "xds"})
    async with asking(api) as first:
        assert await first.next() == held(server)
        assert first.told == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda server: server.mishaps["secrets"].extend([Mishap(500), Mishap(409, "Conflict"), Mishap(429)]),
        lambda server: server.mishaps["secrets"].append(Mishap(lost=True)),
        lambda server: server.reading.faults["secrets"].extend([refusal(503), Fault()]),
        lambda server: server.reading.faults["secrets"].extend([refusal(403), refusal(403)]),
        lambda server: server.mishaps["secrets"].extend([Mishap(403, "Forbidden")] * 2),
    ],
    ids=["refused", "answer lost", "not read", "not yet allowed to read", "not yet allowed to write"],
)
async def test_what_fails_is_done_again(server: Writable, api: Api, spoil: Callable[[Writable], None]) -> None:
    spoil(server)
    async with asking(api) as first:
        assert await first.next() == held(server)
        assert first.told == []


async def test_an_api_server_that_is_silent_is_not_waited_for(server: Writable, api: Api) -> None:
    server.reading.faults["secrets"].append(Fault(hangs=True))
    async with asking(api, within=0.05) as first:
        own = await first.next()
        assert default_certificate.usable(*own)
        assert first.told == [f"Secret here/{NAME}: It could not be read or made in time, so {WITHOUT}."]
        put(server, MADE)
        assert await first.next() == MADE
        assert first.told == []


async def test_a_role_that_does_not_allow_it_is_one_problem_and_there_is_a_certificate(server: Writable, api: Api) -> None:
    server.reading.forbidden.add(("get", "secrets"))
    async with asking(api) as first:
        assert default_certificate.usable(*await first.next())
        assert first.told == [
            f'Secret here/{NAME}: The role does not allow "get, create or update" on secrets in namespace here: {WITHOUT}.'
        ]
