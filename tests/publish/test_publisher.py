"""What the control plane makes of what the quarantine finds out: Problems, metrics, log, and what outlives a restart."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.envoy.harness import make_certificate
from tests.publish.wired import Wired
from tests.server.client import Client, eventually
from tests.web.site import SETTINGS, Given, Site, ingress, secret
from xds.alone import Alone
from xds.app import ControlPlane
from xds.certificates import default_certificate
from xds.config import Failure
from xds.coordination import ChainAndKey
from xds.kube.objects import Backend, Ingress, Meta, Rule, Secret, Service, ServicePort, ref
from xds.kube.objects import Path as IngressPath
from xds.kube.source import Change
from xds.machine import state_dir
from xds.problem import Problem
from xds.protocol.discovery import Wire
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.units.parts import Held, digest
from xds.units.record import decode, encode

HOST = Part(ROUTE, "ingress", "web.test")
HTTP = Part(LISTENER, "http")
QUOTED = "invalid value 'web.test'"
"""So Envoy quotes what it rejects."""


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "xds"):
        yield


@asynccontextmanager
async def envoy(site: Site, refuses: Callable[[Any], str | None] = lambda _: None) -> AsyncIterator[None]:
    """One that asks for everything, and accepts each response for whose resources `refuses` has no words."""

    async def serve(client: Client) -> None:
        for type_url in (SECRET, CLUSTER, ENDPOINT, LISTENER, ROUTE):
            await client.subscribe(type_url, ["*"])
        while True:
            response = await client.read()
            await client.answer(response, error=next(filter(None, map(refuses, response.resources)), None))

    async with grpc.aio.insecure_channel(site.control_plane.xds_address) as channel:
        serving = asyncio.create_task(serve(Client(channel, Wire.DELTA)))
        yield
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def refuses_web(resource: Any) -> str | None:
    return QUOTED if b"web.test" in resource.resource.value else None


async def refused(site: Site) -> list[Problem]:
    """Once something is held: the Problems about that."""
    await eventually(lambda: bool(site.control_plane.held))
    await site.control_plane.settled()
    return [problem for problem in await site.control_plane.problems() if problem.code.startswith("envoy-refused:")]


def routes(site: Site) -> bytes:
    return bytes(site.control_plane.snapshot[ROUTE]["ingress"].body)


async def test_what_is_held_is_a_problem_and_counted_until_its_object_changes(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    async with site.started(ingress("web"), ingress("other")), envoy(site, refuses_web):
        [problem] = await refused(site)
        assert site.control_plane.held.keys() == {HOST}
        assert site.values("xds_held_parts") == {("cds",): 0, ("eds",): 0, ("lds",): 0, ("rds",): 1, ("sds",): 0, ("passwords",): 0}
        assert problem.about == ref(ingress("web"))
        assert QUOTED in problem.sentence
        assert (b"web.test" in routes(site), b"other.test" in routes(site)) == (False, True)
        await site.put(drop=[problem.about])
        assert not site.control_plane.held
        assert site.values("xds_held_parts")["rds",] == 0
        assert "no longer: Ingress" in caplog.text


async def test_what_no_object_is_to_blame_for_is_logged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(resource: Any) -> str | None:
        return "Error adding/updating listener(s) http: some words" if resource.name == "http" else None

    site = Site()
    async with site.started(ingress("web")), envoy(site, refuses):
        assert await refused(site) == []
        assert site.control_plane.held.keys() == {HTTP}
    assert 'Envoy rejects the listener "http", which comes from no object: Error adding' in caplog.text


async def test_what_is_held_outlives_a_restart_until_its_object_changes(tmp_path: Path) -> None:
    flags = replace(SETTINGS, state_dir=tmp_path / "state")
    first, second = Site(flags), Site(flags)
    async with first.started(ingress("web")), envoy(first, refuses_web):
        await refused(first)
    async with second.started(ingress("web")):
        assert second.control_plane.held == first.control_plane.held != {}
        assert routes(second) == routes(first)
        await second.put(drop=[ref(ingress("web"))])
    assert decode(await Alone(flags.state_dir).load()).held == {}


async def test_what_is_held_is_asked_for_after_the_objects_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that is away has neither. Once it is back, no Envoy may be sent what it would reject once more."""
    wired = Wired()
    await wired.put(ingress("web"))
    record = encode({HOST: Held(digest(wired.tables.values([HOST])[HOST]), None, QUOTED)}, {}, {})
    has_asked, is_back = asyncio.Event(), asyncio.Event()

    class Away(Given):
        async def changes(self) -> AsyncGenerator[Change]:
            await has_asked.wait()
            is_back.set()
            yield Change((ingress("web"),))

    async def certificates(_: Alone) -> AsyncGenerator[ChainAndKey]:
        asyncio.get_running_loop().call_soon(has_asked.set)  # whoever asks for more at once has done so by then
        yield default_certificate.make()

    async def load(_: Alone) -> bytes:
        return record if is_back.is_set() else b""

    monkeypatch.setattr(Alone, "certificates", certificates)
    monkeypatch.setattr(Alone, "load", load)
    control_plane = ControlPlane(SETTINGS, Away())
    try:
        await control_plane.start()
        assert control_plane.held.keys() == {HOST}
    finally:
        await control_plane.stop()


async def test_a_start_that_fails_logs_nothing_of_what_it_had_begun_beside(caplog: pytest.LogCaptureFixture) -> None:
    """The one sentence of the Failure is enough: what is read meanwhile is cancelled, which is no error."""
    caplog.set_level(logging.ERROR, "asyncio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        control_plane = ControlPlane(replace(SETTINGS, healthz_port=taken.getsockname()[1]), Given())
        with pytest.raises(Failure, match="the health server cannot listen"):
            await control_plane.start()
        await control_plane.stop()
    gc.collect()  # an exception that nobody has retrieved is logged when its Future goes
    assert not caplog.records


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
    assert "default/web" not in site.control_plane.snapshot[SECRET], "what comes back under that name is not what it was"


async def test_a_record_is_saved_when_it_differs_and_a_certificate_of_it_replaces_none_that_is_kept_already() -> None:
    site = Wired()
    own, others = make_certificate(["web.test"]), make_certificate(["web.test"])
    rubbish = Secret(meta=secret("web", own).meta, type="kubernetes.io/tls", data={"tls.crt": b"rubbish", "tls.key": b"rubbish"})
    await site.put(ingress("web", tls="web"), secret("web", own))
    await site.put(rubbish)
    await site.put(ingress("other"))
    assert len(site.coordination.saved) == 1
    await site.publisher.learn(encode({}, {}, {"default/web": (others.cert_pem, others.key_pem)}))
    assert own.cert_pem in site.snapshot[SECRET]["default/web"].body
    assert len(site.coordination.saved) == 1


async def test_what_one_envoy_refuses_and_another_accepts_a_moment_later_is_not_held_in_between() -> None:
    site = Wired()
    odd, good = site.connect("odd"), site.connect("good")
    odd.refuses = lambda type_url, body: type_url == ROUTE and b"web.test" in body
    await site.put(ingress("web"))
    generation = site.snapshot[ROUTE].generation
    judging = asyncio.create_task(site.publisher.judge())
    odd.answer()
    settled = asyncio.create_task(site.publisher.settled())
    for _ in range(10):
        await asyncio.sleep(0)  # whatever is to be done at once is done
    assert not settled.done(), "a NACK waits to be judged"
    good.answer()
    async with asyncio.timeout(120):
        await settled
    assert odd.session.rejections
    assert not good.session.rejections
    assert site.snapshot[ROUTE].generation == generation
    judging.cancel()


async def test_it_is_settled_when_the_culprit_is_found_and_not_while_it_is_searched_for() -> None:
    site = Wired()
    envoy = site.connect()
    await site.put(*(ingress(f"web-{n}") for n in range(4)))
    await site.settle()
    envoy.refuses = lambda type_url, body: type_url == ROUTE and b"b.test" in body
    await site.put(*(ingress(name) for name in "abcd"))
    judging = asyncio.create_task(site.publisher.judge())
    envoy.answer()
    settled = asyncio.create_task(site.publisher.settled())
    await eventually(lambda: bool(site.tables.holds))
    assert not settled.done()
    assert not site.publisher.held, "some are held, but none for good"
    async with asyncio.timeout(120):
        while not settled.done():
            envoy.answer()
            await asyncio.sleep(0)
    assert site.publisher.held.keys() == {Part(ROUTE, "ingress", "b.test")} == site.tables.holds.keys()
    judging.cancel()


@pytest.mark.parametrize("body", [b"rubbish", b'{"version":2}', b"{}"])
async def test_a_record_that_cannot_be_read_is_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    state_dir.remember(tmp_path, body)
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    async with site.started(ingress("web")):
        assert b"web.test" in routes(site)
    assert "cannot be read, so the search for it starts again" in caplog.text


async def test_a_folder_that_cannot_be_read_or_written_is_logged_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(replace(SETTINGS, state_dir=tmp_path))
    (tmp_path / "held.json").mkdir()
    async with site.started(ingress("web")), envoy(site, refuses_web):
        assert "--state-dir: the record of what Envoy rejected cannot be read" in caplog.text
        assert len(await refused(site)) == 1
    assert "--state-dir: the record of what Envoy rejected cannot be written" in caplog.text


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
