"""How far objects are, brought together from the World, the tables, the Envoys of this replica, and what the others say of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.cli import site
from tests.envoy.harness.manifests import Manifest
from xds.config import Flags
from xds.debug.programmed import Effects
from xds.kube.current import version_of
from xds.offline import load
from xds.problem import Ref
from xds.protocol.discovery import DiscoveryRequest, Wire
from xds.protocol.session import Session
from xds.replicas.peers import Peer, Reached
from xds.server.messages import EnvoyNode
from xds.server.progress import Progress
from xds.snapshot import ROUTE, TYPES, Part, Snapshot
from xds.units.parts import Held
from xds.units.tables import Tables
from xds.units.traces import Asked

WEB = Asked(Ref("Ingress", "default", "web"))


class Envoy:
    """A stream that asks for everything, and accepts it or says nothing."""

    def __init__(self, name: str, snapshot: Snapshot, *, accepts: bool) -> None:
        self.node = EnvoyNode(name)
        self.session = Session(Wire.DELTA, snapshot)
        said = [response for type_url in TYPES for response in self.session.receive(DiscoveryRequest(type_url, subscribe=("*",)), 0.0)]
        while accepts and said:
            response = said.pop()
            said += self.session.receive(DiscoveryRequest(response.type_url, response.nonce), 0.0)


class Replica:
    """One that serves a folder, has one Envoy that has accepted everything, and knows of these others."""

    def __init__(self, folder: Path, others: Sequence[Peer] = ()) -> None:
        loaded = load(Flags(manifests=(folder,), watch_ingress_without_class=True))
        self.tables: Tables = loaded.tables
        self.snapshot: Snapshot = loaded.snapshot
        self.streams = [Envoy("here", self.snapshot, accepts=True)]
        self.lock = asyncio.Lock()
        self.effects = Effects(
            self.tables, Progress(self.snapshot, CollectorRegistry()), lambda: self.streams, self._origin, self.lock, self._others
        )
        self._peers = others

    async def _others(self) -> Sequence[Peer]:
        return self._peers

    async def _origin(self, about: Ref) -> str | None:
        return f"the version of {about}"


def versioned(objects: Sequence[Manifest], version: str) -> list[Manifest]:
    return [item | {"metadata": item["metadata"] | {"resourceVersion": version}} for item in objects]


@pytest.fixture
def objects() -> tuple[Manifest, ...]:
    return site.good(site.certificate())


async def test_an_object_is_found_with_its_version_and_who_has_it(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *objects))
    replica.streams.append(Envoy("late", replica.snapshot, accepts=False))
    found = await replica.effects.programmed(WEB)
    assert found is not None
    assert found.version == version_of(replica.tables.world.get(tuple(WEB.about)))
    assert (found.programmed.accepted, found.programmed.envoys) == (1, 2)
    assert [lacking.node for lacking in found.programmed.lacking] == ["late"]


async def test_what_is_not_served_is_not_found(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *objects, *site.bad()))
    for name in ("none", "foreign"):
        assert await replica.effects.programmed(Asked(Ref("Ingress", "default", name))) is None


async def test_what_is_held_says_so_in_the_words_of_envoy(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *objects))
    replica.tables.holds[Part(ROUTE, "ingress", "a.example.com")] = Held("", None, "bad regex")
    found = await replica.effects.programmed(WEB)
    assert found is not None
    assert [placed.held for placed in found.programmed.parts if placed.held] == ["bad regex"]
    assert found.programmed.accepted == 0


async def test_the_envoys_of_other_replicas_count(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    folder = site.write(tmp_path / "site", *versioned(objects, "100"))
    two, three = Peer("xds-two", {Reached(100): 2, Reached(99): 1}), Peer("xds-three", {Reached(200): 3})
    found = await Replica(folder, [two, three]).effects.programmed(WEB)
    assert found is not None
    assert (found.programmed.accepted, found.programmed.envoys) == (6, 7)
    assert [lacking.node for lacking in found.programmed.lacking] == ["one of xds-two"]
    assert not found.programmed.complete
    found = await Replica(folder, [three]).effects.programmed(WEB)
    assert found is not None
    assert found.programmed.complete


async def test_where_objects_have_no_versions_others_cannot_be_compared(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    found = await Replica(site.write(tmp_path / "site", *objects), [Peer("xds-two", {Reached(): 1})]).effects.programmed(WEB)
    assert found is not None
    assert (found.programmed.accepted, found.programmed.envoys) == (1, 1)


async def test_what_is_held_here_is_held_on_the_envoys_of_others(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *versioned(objects, "100")), [Peer("xds-two", {Reached(200): 3})])
    replica.tables.holds[Part(ROUTE, "ingress", "a.example.com")] = Held("", None, "bad regex")
    found = await replica.effects.programmed(WEB)
    assert found is not None
    assert (found.programmed.accepted, found.programmed.envoys) == (0, 4)


async def test_everything_is_listed_of_one_namespace_or_of_all_while_others_have_their_turn(
    tmp_path: Path, objects: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.debug.programmed._AT_ONCE", 1)
    replica = Replica(site.write(tmp_path / "site", *objects))
    found = []
    async for effect in replica.effects.all_programmed():
        assert not replica.lock.locked()
        found.append(str(effect.asked))
        assert effect.programmed.complete
    assert found == ["Ingress default/web", "Ingress default/wild"]
    assert [effect async for effect in replica.effects.all_programmed("elsewhere")] == []


async def test_nothing_is_looked_at_while_the_tables_change(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *objects))
    async with replica.lock:
        asking = asyncio.create_task(replica.effects.programmed(WEB))
        await asyncio.sleep(0)
        assert not asking.done()
    assert await asking is not None


async def test_the_version_that_its_origin_has_is_that_of_the_origin(tmp_path: Path, objects: tuple[Manifest, ...]) -> None:
    replica = Replica(site.write(tmp_path / "site", *objects))
    assert await replica.effects.current(WEB) == "the version of Ingress default/web"
