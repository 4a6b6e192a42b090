"""Up to which versions of the objects each Envoy has everything."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.talk import KINDS, Talk
from xds.kube.objects import ConfigMap, Ingress, Meta, Service
from xds.kube.source import Change
from xds.protocol.discovery import Wire
from xds.protocol.session import Session
from xds.replicas import census as census_module
from xds.replicas.census import Census
from xds.replicas.peers import Reached
from xds.server.messages import EnvoyNode
from xds.server.progress import by_envoy
from xds.snapshot import Snapshot


@dataclass(eq=False)
class Stream:
    node: EnvoyNode | None
    talk: Talk

    @property
    def session(self) -> Session:
        return self.talk.session


class Site:
    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.census = Census()
        self.streams: list[Stream] = []

    def publish(self, ingresses: int, config_maps: int = 0, **kinds: str) -> None:
        """These versions were read, and this came of it."""
        Talk(Wire.DELTA, snapshot=self.snapshot).put(**kinds)
        for stream in self.streams:
            stream.talk.record(stream.session.publish(0.0))
        put = [
            Ingress(meta=Meta(namespace="a", name="a", version=str(ingresses))),
            Service(meta=Meta(namespace="a", name="s", version="999")),
        ]
        if config_maps:
            put.append(ConfigMap(meta=Meta(namespace="a", name="c", version=str(config_maps))))  # type: ignore[arg-type]
        self.census.read(Change(put=tuple(put)))

    def envoy(self, name: str) -> Stream:
        stream = Stream(EnvoyNode(name), Talk(Wire.DELTA, snapshot=self.snapshot))
        self.streams.append(stream)
        for kind in KINDS:
            stream.talk.sub(kind, "*")
        return stream

    def take(self) -> dict[Reached, int]:
        return dict(self.census.take(self.snapshot, self.streams))


@pytest.fixture
def site() -> Site:
    return Site()


def test_an_envoy_is_as_far_as_the_newest_sample_that_it_has_wholly_accepted(site: Site) -> None:
    fast, slow = site.envoy("fast"), site.envoy("slow")
    site.publish(10, 5, cds="a=1", rds="r=1")
    assert site.take() == {Reached(): 2}
    fast.talk.agree()
    slow.talk.agree()
    assert site.take() == {Reached(10, 5): 2}
    site.publish(11, cds="a=2", rds="r=1")
    fast.talk.agree()
    assert site.take() == {Reached(11, 5): 1, Reached(10, 5): 1}
    slow.talk.agree()
    assert site.take() == {Reached(11, 5): 2}


def test_what_changes_no_resource_is_had_at_once(site: Site) -> None:
    site.publish(10, cds="a=1")
    site.envoy("one").talk.agree()
    site.take()
    site.publish(12, 7, cds="a=1")
    assert site.take() == {Reached(12, 7): 1}


def test_versions_never_go_back_and_those_that_are_no_numbers_are_passed_over(site: Site) -> None:
    site.envoy("one")
    site.publish(10, 8)
    site.publish(9, 7)
    site.census.read(Change(put=(Ingress(meta=Meta(namespace="a", name="a")),)))
    assert site.take() == {Reached(10, 8): 1}


def test_nobody_has_to_ask_for_a_type_of_which_there_is_nothing(site: Site) -> None:
    site.publish(10, cds="a=1")
    stream = Stream(EnvoyNode("one"), Talk(Wire.DELTA, snapshot=site.snapshot))
    site.streams.append(stream)
    stream.talk.sub("cds", "*")
    stream.talk.agree()
    assert site.take() == {Reached(10): 1}


def test_an_envoy_that_hangs_stays_where_it_was_however_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census_module, "_SAMPLES", 5)
    site.census = Census()
    site.publish(10, cds="a=1")
    stream = site.envoy("one")
    stream.talk.agree()
    site.take()
    for version in range(11, 30):
        site.publish(version, cds=f"a={version}")
        assert site.take() == {Reached(10): 1}
    stream.talk.agree()
    assert site.take() == {Reached(29): 1}


def test_an_envoy_that_comes_anew_has_nothing_though_it_had_before(site: Site) -> None:
    site.publish(10, cds="a=1")
    old = site.envoy("one")
    old.talk.agree()
    assert site.take() == {Reached(10): 1}
    site.streams.remove(old)
    new = site.envoy("one")
    assert site.take() == {Reached(): 1}
    new.talk.agree()
    assert site.take() == {Reached(10): 1}


def test_the_streams_of_an_envoy_are_one_envoy_and_one_without_a_name_is_none(site: Site) -> None:
    site.publish(10, cds="a=1", eds="a=1")
    for kind in ("cds", "eds"):
        stream = Stream(EnvoyNode("one"), Talk(Wire.DELTA, snapshot=site.snapshot))
        site.streams.append(stream)
        stream.talk.sub(kind, "*")
        stream.talk.agree()
    site.streams.append(Stream(None, Talk(Wire.DELTA, snapshot=site.snapshot)))
    assert site.take() == {Reached(10): 1}


def test_the_service_beside_an_envoy_is_no_envoy_and_holds_nothing_back_but_its_files() -> None:
    site = Site()
    alone = Stream(EnvoyNode("envoy/authz"), Talk(Wire.DELTA, snapshot=site.snapshot))
    alone.talk.sub("sds", "*")
    site.streams.append(alone)
    assert site.take() == {}
    envoy = site.envoy("envoy")
    assert envoy.node is not None
    assert (envoy.node.envoy, list(by_envoy(site.streams)), len(by_envoy(site.streams)["envoy"])) == ("envoy", ["envoy"], 2)
    assert sum(site.take().values()) == 1
