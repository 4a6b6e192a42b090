"""Several replicas tell each other how far their Envoys are, through one Lease."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.kube.scripted import Fault, refusal, until
from tests.kube.writable import Mishap, Writable
from xds.kube.apiserver.api import Api
from xds.problem import Problem
from xds.replicas import peers as peers_module
from xds.replicas.peers import ALIVE, BEAT, Counts, Peer, Peers, Reached

NAME = "leader-fleet"


class Clock:
    """The time of day, as it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Replica:
    """One replica; what it says of its Envoys is what `counts` has."""

    def __init__(self, api: Api, name: str, clock: Clock) -> None:
        self.counts: Counts = {}
        self.told: dict[str, tuple[Problem, ...]] = {}
        self.peers = Peers(api, "here", NAME, f"{name}_uuid", name, self.told.__setitem__, every=0.01, clock=clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        task = asyncio.create_task(self.peers.run(lambda: self.counts))
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(api: Api, clock: Clock) -> Callable[[str], Replica]:
    return lambda name: Replica(api, name, clock)


def said(server: Writable) -> dict[str, list[list[int]]]:
    """What the Lease says, by replica."""
    lease = server.get("leases", NAME, "here") or {"metadata": {}}
    values = [json.loads(value) for value in lease["metadata"].get("annotations", {}).values()]
    return {value["replica"]: value["have"] for value in values}


async def read(peers: Peers, clock: Clock) -> list[Peer]:
    """As it is now: what was read a second ago is old."""
    clock.now += 1.5
    return await peers.others()


def test_a_peer_counts_its_envoys_and_those_that_are_not_so_far() -> None:
    peer = Peer("two", {Reached(10, 5): 3, Reached(7, 9): 2, Reached(): 1})
    assert peer.envoys == 6
    assert [peer.lacking("Ingress", version) for version in (7, 8, 10, 11)] == [1, 3, 3, 6]
    assert [peer.lacking("ConfigMap", version) for version in (5, 6)] == [1, 4]


async def test_each_replica_reads_what_the_others_say_and_not_itself(
    server: Writable, make: Callable[[str], Replica], clock: Clock
) -> None:
    one, two = make("one"), make("two")
    one.counts, two.counts = {Reached(10, 5): 3}, {Reached(9, 5): 1, Reached(): 1}
    async with one.running(), two.running():
        await until(lambda: len(said(server)) == 2)
        assert await read(one.peers, clock) == [Peer("two", two.counts)]
        assert await read(two.peers, clock) == [Peer("one", one.counts)]


async def test_what_changes_is_said_again(server: Writable, make: Callable[[str], Replica]) -> None:
    one = make("one")
    async with one.running():
        await until(lambda: said(server) == {"one": []})
        one.counts = {Reached(10, 5): 3}
        await until(lambda: said(server) == {"one": [[10, 5, 3]]})


async def test_the_same_is_said_again_only_after_a_while(server: Writable, make: Callable[[str], Replica], clock: Clock) -> None:
    looks = 0

    def count() -> Counts:
        nonlocal looks
        looks += 1
        return {}

    one = make("one")
    task = asyncio.create_task(one.peers.run(count))
    await until(lambda: looks >= 5)
    assert len(server.writes) == 1
    clock.now += BEAT
    await until(lambda: len(server.writes) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_replica_that_ends_takes_back_what_it_said(server: Writable, make: Callable[[str], Replica]) -> None:
    async with make("one").running():
        async with make("two").running():
            await until(lambda: len(said(server)) == 2)
        assert list(said(server)) == ["one"]


async def test_a_replica_that_says_nothing_any_more_does_not_count_and_is_swept_away_later(
    server: Writable, make: Callable[[str], Replica], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make("one")
    old = json.dumps({"replica": "dead", "at": "2027-01-15T08:00:00Z", "have": [[1, 1, 4]]})  # the clock begins then
    server.put("leases", NAME, "here", metadata={"annotations": {"fleet.xds-ingress/dead": old, "other": "stays"}})
    assert [peer.replica for peer in await read(one.peers, clock)] == ["dead"]
    clock.now += ALIVE
    assert await read(one.peers, clock) == []
    clock.now += peers_module.REMOVED_AFTER
    async with one.running():
        await until(lambda: list(said_keys(server)) == ["other", "fleet.xds-ingress/one_uuid"])


def said_keys(server: Writable) -> list[str]:
    lease = server.get("leases", NAME, "here")
    assert lease is not None
    return list(lease["metadata"].get("annotations", {}))


@pytest.mark.parametrize("value", ["", "{}", "[]", '{"replica": "x", "at": "2027-01-15T08:00:00", "have": []}', '{"replica": 1}', "\ud800"])
async def test_what_is_nothing_of_the_kind_is_passed_over(
    server: Writable, make: Callable[[str], Replica], clock: Clock, value: str
) -> None:
    server.put("leases", NAME, "here", metadata={"annotations": {"fleet.xds-ingress/x": value}})
    assert await read(make("one").peers, clock) == []


async def test_two_who_write_at_once_are_both_heard(server: Writable, make: Callable[[str], Replica]) -> None:
    one, two = make("one"), make("two")
    async with one.running(), two.running():
        for number in range(1, 6):
            one.counts, two.counts = {Reached(number, 0): 1}, {Reached(number, 0): 2}
            await until(lambda n=number: said(server) == {"one": [[n, 0, 1]], "two": [[n, 0, 2]]})  # type: ignore[misc]


async def test_an_api_server_that_does_not_answer_is_asked_again(server: Writable, make: Callable[[str], Replica]) -> None:
    server.reading.faults["leases"].append(Fault(body=b"no JSON"))
    server.mishaps["leases"].append(Mishap(500, "InternalError"))
    one = make("one")
    one.counts = {Reached(1, 1): 1}
    async with one.running():
        await until(lambda: said(server) == {"one": [[1, 1, 1]]})
    assert not any(one.told.values())


async def test_while_there_is_no_answer_the_last_one_counts(server: Writable, make: Callable[[str], Replica], clock: Clock) -> None:
    one, two = make("one"), make("two")
    two.counts = {Reached(1, 1): 1}
    async with two.running():
        await until(lambda: bool(said(server)))
        before = await read(one.peers, clock)
        server.reading.faults["leases"].append(refusal(500))
        assert await read(one.peers, clock) == before != []


async def test_the_lease_is_made_anew_where_somebody_deleted_it(server: Writable, make: Callable[[str], Replica]) -> None:
    one = make("one")
    async with one.running():
        await until(lambda: bool(said(server)))
        server.reading.delete("leases", NAME, "here")
        one.counts = {Reached(1, 1): 1}
        await until(lambda: said(server) == {"one": [[1, 1, 1]]})


async def test_a_role_that_forbids_it_is_a_problem(
    server: Writable, make: Callable[[str], Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "_CONFIRM_DENIAL", 0.0)
    server.forbidden.add(("create", "leases"))
    one = make("one")
    async with one.running():
        await until(lambda: bool(one.told.get(f"Lease here/{NAME}")))
        (problem,) = one.told[f"Lease here/{NAME}"]
        assert problem.sentence == (
            'The role does not allow "create" on leases in namespace here: '
            "Envoys of other replicas are not counted where an object is programmed."
        )
        server.forbidden.clear()
        await until(lambda: one.told[f"Lease here/{NAME}"] == ())


def test_the_name_of_an_annotation_is_short_enough() -> None:
    long = [peers_module.annotation_of(f"{'x' * 80}{n}") for n in range(2)]
    assert all(len(name.partition("/")[2]) == 63 for name in long)
    assert long[0] != long[1]
