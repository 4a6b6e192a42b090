"""What the control plane makes of what the quarantine says: what it tells, and what it remembers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.envoy.harness import make_certificate
from tests.server.client import eventually
from tests.web.site import SETTINGS, Site, ingress, secret
from xds.alone import Alone
from xds.kube.objects import Backend, Ingress, Meta, Rule, Secret, Service, ServicePort, ref
from xds.kube.objects import Path as IngressPath
from xds.machine import state_dir
from xds.protocol.discovery import Acknowledgement
from xds.snapshot import LISTENER, ROUTE, Part
from xds.units.parts import Held, digest
from xds.units.record import decode

HOST = Part(ROUTE, "ingress", "web.example.com")
HTTP = Part(LISTENER, "http")


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "xds"):
        yield


async def hold(site: Site, part: Part, words: str = "no") -> None:
    """What is there now counts as refused, and nothing takes its place."""
    publisher = site.control_plane._publisher
    refused = digest(site.control_plane._tables.values([part])[part])
    await publisher._obey({part: Held(refused, None, words)})


def parts(site: Site) -> set[Part]:
    return {Part(ROUTE, "ingress", host) for host in site.control_plane._tables.hosts.values}


async def test_what_is_held_is_a_problem_and_counted_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.put(ingress("web"))
    [host] = parts(site) - {HOST._replace(piece="")}
    await hold(site, host)
    assert site.values("xds_held_parts") == {("cds",): 0, ("eds",): 0, ("lds",): 0, ("rds",): 1, ("sds",): 0}
    [problem] = [p for p in site.control_plane._publisher.problems() if p.code.startswith("envoy-refused:")]
    assert problem.about.name == "web"
    await site.put(ingress("web", tls="other"))
    await site.put(drop=[problem.about])
    assert not site.control_plane._publisher.culprits
    assert site.values("xds_held_parts")["rds",] == 0
    assert "no longer: Ingress" in caplog.text


async def test_what_no_object_is_to_blame_for_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.put(ingress("web"))
    await hold(site, HTTP, "some words")
    assert 'Envoy refuses the listener "http", which no object is to blame for: some words' in caplog.text


async def test_what_is_held_is_remembered_and_recalled(tmp_path: Path) -> None:
    settings = replace(SETTINGS, state_dir=tmp_path / "state")
    first, second = Site(settings), Site(settings)
    for site in (first, second):
        await site.put(ingress("web"))
    [host] = parts(first) - {HOST._replace(piece="")}
    await hold(first, host)
    assert parts(second) != parts(first)
    await second.control_plane.learn(await Alone(tmp_path / "state").load())
    assert parts(second) == parts(first)
    assert second.control_plane._publisher.culprits == first.control_plane._publisher.culprits
    await first.put(drop=[ref(ingress("web"))])
    assert decode(state_dir.recall(tmp_path / "state")).held == {}


async def test_the_key_of_a_certificate_that_is_kept_is_remembered_until_its_secret_is_deleted(tmp_path: Path) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path / "state"))
    pair = make_certificate(["web.test"])
    rubbish = Secret(meta=secret("web", pair).meta, type="kubernetes.io/tls", data={"tls.crt": b"rubbish", "tls.key": b"rubbish"})

    def kept() -> list[str]:
        return [*decode(state_dir.recall(tmp_path / "state")).certificates]

    await site.put(ingress("web", tls="web"), secret("web", pair))
    await site.put(rubbish)
    assert kept() == ["default/web"]
    await site.put(drop=[ref(rubbish)])
    assert kept() == []
    await site.put(rubbish)
    assert "default/web" not in site.control_plane._tables.secrets.values, "what comes back under that name is not what it was"


class AskedForRoutes:
    """A stream, as far as the publisher looks at it."""

    session = SimpleNamespace(summaries={ROUTE: None})


class Streams:
    """A Fleet of two such streams."""

    def __init__(self) -> None:
        self.streams = [AskedForRoutes(), AskedForRoutes()]

    def connected(self) -> list[Any]:
        return self.streams

    def publish(self) -> None:
        return None


async def test_what_one_envoy_refuses_and_another_accepts_a_moment_later_is_not_held_in_between() -> None:
    site = Site()
    publisher, fleet = site.control_plane._publisher, Streams()
    publisher.serve(fleet)  # type: ignore[arg-type]
    await site.put(ingress("web"))
    state = site.control_plane._snapshot[ROUTE]
    generation, accepts = state.generation, Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version)
    odd, good = fleet.connected()
    judging = asyncio.create_task(publisher.judge())
    publisher.heard(odd, replace(accepts, error="no"))
    for _ in range(10):
        await asyncio.sleep(0)  # whatever is to be done at once is done
    publisher.heard(good, accepts)
    await eventually(lambda: publisher.quarantine.knows(odd))
    assert state.generation == generation
    judging.cancel()


@pytest.mark.parametrize("body", [b"rubbish", b'{"version":2}', b"{}"])
async def test_a_record_that_cannot_be_read_is_told_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    state_dir.remember(tmp_path, body)
    await site.put(ingress("web"))
    await site.control_plane.learn(await Alone(tmp_path).load())
    assert "cannot be read, so it will be found out anew" in caplog.text


async def test_a_folder_that_cannot_be_read_or_written_is_told_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    (tmp_path / "held.json").mkdir()
    await site.put(ingress("web"))
    await site.control_plane.learn(await Alone(tmp_path).load())
    assert "--state-dir: what Envoy refused cannot be read" in caplog.text
    [host] = parts(site) - {HOST._replace(piece="")}
    await hold(site, host)
    assert "--state-dir: what Envoy refuses cannot be kept" in caplog.text


def of_many_paths(count: int) -> Ingress:
    paths = tuple(IngressPath(f"/{k}", "Prefix", Backend("web", 80)) for k in range(count))
    return Ingress(meta=Meta(namespace="default", name="many"), rules=(Rule("many.test", paths),))


async def turns_while(work: Awaitable[None]) -> int:
    """How many times the loop came to another task before this was done."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    await work
    turning.cancel()
    return turns


async def test_the_loop_goes_on_while_an_object_of_thousands_of_paths_is_worked_out() -> None:
    site = Site()
    await site.put(ingress("web"))
    few = await turns_while(site.put(ingress("other")))
    assert few <= 1, "what is quick is done at once"
    assert await turns_while(site.put(of_many_paths(2_000))) > few
    service = Service(meta=Meta(namespace="default", name="web"), ports=(ServicePort(80, "", 8080),))
    assert await turns_while(site.put(service)) > few, "a small object may concern a large host"


async def test_of_one_object_no_more_than_a_hundred_problems_are_logged_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.put(of_many_paths(500))
    assert len([r for r in caplog.records if "Ingress default/many spec.rules" in r.message]) == 100
    assert "Ingress default/many: 400 more Problems" in caplog.text
    await site.put(drop=[ref(of_many_paths(1))])
    assert "no longer: Ingress default/many: 400 more Problems" in caplog.text
