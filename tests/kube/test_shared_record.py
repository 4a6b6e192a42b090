"""What replicas tell each other of what Envoy rejects: all of them come to say the same, whoever is first."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kube.scripted import Fault, refusal
from tests.kube.writable import Mishap, Writable, writable
from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.problem import Problem
from xds.replicas import shared_record
from xds.replicas.shared_record import KEY, SharedRecord

NAME = "leader-default-certificate"
CERTIFICATE = {"tls.crt": "Y2hhaW4=", "tls.key": "a2V5"}


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writable]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with writable() as started:
        started.put("secrets", NAME, "here", type="kubernetes.io/tls", data=CERTIFICATE)
        yield started


@pytest.fixture
async def api(server: Writable, tmp_path: Path) -> AsyncIterator[Api]:
    made = Api(Flags(kubeconfig=server.reading.kubeconfig(tmp_path / "kubeconfig")))
    await made.open()
    yield made
    await made.close()


class Replica:
    """Says a set of letters, and takes over all those that others say. `told` has its Problem."""

    def __init__(self, api: Api) -> None:
        self.says = ""
        self.heard: list[bytes] = []
        self.told: list[str] = []
        self.record = SharedRecord(api, "here", NAME, self._tell, every=0.02)

    def find(self, letters: str) -> None:
        self.says = "".join(sorted({*self.says, *letters}))
        self.record.write(self.says.encode())

    async def follow(self) -> None:
        async for body in self.record.bodies():
            self.heard.append(body)
            if not {*body.decode()} <= {*self.says}:
                self.find(body.decode())

    def _tell(self, _place: str, problems: tuple[Problem, ...]) -> None:
        self.told = [str(problem) for problem in problems]


@asynccontextmanager
async def following(*replicas: Replica) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(replica.follow()) for replica in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def shared(server: Writable) -> str:
    found = server.get("secrets", NAME, "here")
    assert found is not None
    assert {key: value for key, value in found["data"].items() if key != KEY} == CERTIFICATE
    return base64.b64decode(found["data"].get(KEY, "")).decode()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.002)


async def test_replicas_come_to_say_the_same(server: Writable, api: Api) -> None:
    replicas = [Replica(api) for _ in range(3)]
    async with following(*replicas):
        for replica, letter in zip(replicas, "abc", strict=True):
            replica.find(letter)
        await until(lambda: shared(server) == "abc" == replicas[0].says == replicas[1].says == replicas[2].says)
        written = len(server.done)
        server.reading.requests.clear()
        await until(lambda: len(server.reading.requests) > 6)  # each has looked twice
        assert len(server.done) == written


async def test_of_two_who_write_at_once_the_second_reads_first(server: Writable, api: Api) -> None:
    one, other = Replica(api), Replica(api)
    server.gate = asyncio.Event()
    one.find("a")
    other.find("b")
    async with following(one, other):
        await until(lambda: server.flying == 2)
        server.gate.set()
        await until(lambda: shared(server) == "ab" == one.says == other.says)
    assert (one.told, other.told) == ([], [])


async def test_a_replica_that_has_found_nothing_writes_nothing_and_is_told(server: Writable, api: Api) -> None:
    first = Replica(api)
    first.find("a")
    async with following(first):
        await until(lambda: shared(server) == "a")
    assert await Replica(api).record.now() == b"a"
    later = SharedRecord(api, "here", NAME, lambda *_: None, every=0.02)
    bodies = later.bodies()
    assert await anext(bodies) == b"a"
    await bodies.aclose()
    assert len(server.done) == 1


async def test_what_is_too_large_is_a_problem_until_it_is_not(server: Writable, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_record, "MOST", 3)
    replica = Replica(api)
    replica.find("abcd")
    async with following(replica):
        await until(lambda: bool(replica.told))
        assert (
            "The record of what Envoy rejects has 4 bytes, more than a Secret can hold. So each replica searches by itself"
            in replica.told[0]
        )
        server.reading.requests.clear()
        await until(lambda: len(server.reading.requests) > 3)
        assert replica.told
        replica.says = ""
        replica.find("a")
        await until(lambda: shared(server) == "a" and not replica.told)


async def test_a_role_that_does_not_allow_it_is_a_problem_until_it_does(server: Writable, api: Api) -> None:
    server.forbidden.add(("update", "secrets"))
    replica = Replica(api)
    replica.find("a")
    async with following(replica):
        await until(lambda: bool(replica.told))
        assert replica.told[0].startswith(f"Secret here/{NAME} data[{KEY}]: The API server answers PUT ")
        assert "403 Forbidden" in replica.told[0]
        server.forbidden.clear()
        await until(lambda: shared(server) == "a" and not replica.told)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda server: server.mishaps["secrets"].append(Mishap(409, "Conflict")),
        lambda server: server.mishaps["secrets"].append(Mishap(lost=True)),
        lambda server: server.reading.faults["secrets"].extend([refusal(503), Fault()]),
    ],
    ids=["conflict", "answer lost", "not read"],
)
async def test_what_fails_is_done_again(server: Writable, api: Api, spoil: Callable[[Writable], None]) -> None:
    replica = Replica(api)
    replica.find("a")
    spoil(server)
    async with following(replica):
        await until(lambda: shared(server) == "a" and not replica.told)


async def test_there_is_nothing_where_there_is_no_secret_and_where_it_holds_rubbish(server: Writable, api: Api) -> None:
    record = Replica(api).record
    server.put("secrets", NAME, "here", type="kubernetes.io/tls", data=CERTIFICATE | {KEY: "*"})
    assert await record.now() == b""
    server.reading.delete("secrets", NAME, "here")
    assert await record.now() == b""
    server.reading.faults["secrets"].append(Fault(hangs=True))
    assert await record.now() == b""
