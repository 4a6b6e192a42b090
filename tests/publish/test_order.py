"""The order of the steps of a publication, where it matters (the head of `xds.publish.publisher` has all of them, with their numbers)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.publish.wired import Wired
from tests.web.site import ingress
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.kube.source import Change
from xds.kube.world import Key
from xds.snapshot import ROUTE, Part
from xds.units.record import decode

HOST = Part(ROUTE, "ingress", "web.test")
MARK = b"/mark"


def web(path: str = "/") -> Ingress:
    rule = Rule("web.test", (Path(path, "Prefix", Backend("web", 80)),))
    return Ingress(meta=Meta(namespace="default", name="web"), rules=(rule,))


def routes(site: Wired) -> bytes:
    return bytes(site.snapshot[ROUTE]["ingress"].body)


async def test_progress_knows_of_a_publication_before_an_envoy_can_acknowledge_it() -> None:
    """3 before 4: else it waits for an answer that has passed."""
    site = Wired()
    site.connect(prompt=True)
    await site.put(web())
    await site.settle()
    await site.put(web(MARK.decode()))
    newest = site.progress.history()[0]
    assert not newest.waiting
    assert newest.accepted is not None


async def test_the_quarantine_judges_no_answer_before_it_knows_what_is_unproven() -> None:
    """All answers are queued until 5: else nobody cares for the ACK, and the next Envoy that rejects it takes it from everybody."""
    site = Wired()
    site.connect("prompt", prompt=True)
    odd = site.connect("odd")
    await site.put(web())
    await site.settle()
    odd.refuses = lambda type_url, body: type_url == ROUTE and MARK in body
    await site.put(web(MARK.decode()))
    await site.settle()
    assert odd.session.rejections
    assert not site.tables.holds
    assert MARK in routes(site)


async def test_answers_that_come_while_much_is_noted_are_judged_after_that() -> None:
    """Of a change of hundreds of Parts the quarantine learns in another thread, and streams go on."""
    site = Wired()
    site.connect("prompt", prompt=True)
    odd = site.connect("odd")
    hosts = [f"web{n:03}.test" for n in range(600)]

    def all_of(path: str) -> list[Ingress]:
        rules = [Rule(host, (Path(path, "Prefix", Backend("web", 80)),)) for host in hosts]
        return [Ingress(meta=Meta(namespace="default", name=host), rules=(rule,)) for host, rule in zip(hosts, rules, strict=True)]

    await site.put(*all_of("/"))
    await site.settle()
    odd.refuses = lambda type_url, body: type_url == ROUTE and MARK in body
    await site.put(*all_of(MARK.decode()))
    assert site.answers, "nobody cared for the answer"
    await site.settle()
    assert odd.session.rejections
    assert not site.tables.holds
    assert routes(site).count(MARK) >= len(hosts)
    assert not site.snapshot[ROUTE].unproven


async def test_of_what_was_kept_in_case_only_that_is_judged_which_matters() -> None:
    site = Wired()
    site.connect()
    await site.put(web())
    await site.settle()
    late = site.connect("late")
    with site.answers.keeping_all():
        late.answer()
    assert site.answers
    await site.settle()
    assert late.session.up_to_date(ROUTE)
    assert not site.quarantine.knows(late), "it has accepted what another one had accepted before"


@pytest.mark.parametrize("others", [0, 1])
async def test_an_envoy_that_leaves_before_its_rejection_is_judged_is_asked_no_longer(others: int) -> None:
    """Else the search waits for its answer for ever, and leaves out what it holds. With others, a rejection waits a moment."""
    site = Wired()
    for n in range(others):
        site.connect(f"silent-{n}")
    leaving = site.connect("leaving")
    await site.put(*(ingress(name) for name in ("one", "two", "three")))
    leaving.refuses = lambda type_url, _: type_url == ROUTE
    leaving.answer()
    judging = asyncio.create_task(site.publisher.judge())
    if others:
        await asyncio.sleep(0)  # it is put back
        await asyncio.sleep(0)
    site.leave(leaving)
    async with asyncio.timeout(120):
        await site.publisher.settled()
    judging.cancel()
    assert not site.tables.holds
    assert not site.quarantine.knows(leaving)


async def knowing_what_is_bad() -> Wired:
    """A site whose Envoy has rejected the route with MARK, and has the other one now."""
    site = Wired()
    envoy = site.connect()
    envoy.refuses = lambda type_url, body: type_url == ROUTE and MARK in body
    for path in ("/", MARK.decode(), "/"):
        await site.put(web(path))
        await site.settle()
    return site


async def test_what_is_held_at_once_is_held_before_anybody_outside_is_told_of_the_change() -> None:
    """6 before 8, 9 and 10: no Event, record or version of an object is about what is published for an instant only."""
    site = await knowing_what_is_bad()
    seen: list[tuple[bool, bool]] = []
    site.coordination.look = lambda: seen.append((HOST in site.tables.holds, MARK in routes(site)))
    site.coordination.forget()
    await site.put(web(MARK.decode()))  # it is known to be bad
    assert seen == [(True, False)] * 3
    assert [[problem.code.partition(":")[0] for problem in each] for each in site.coordination.reports] == [["envoy-refused", "no-service"]]
    assert [decode(record).held.keys() for record in site.coordination.saved] == [{HOST}]
    assert len(site.coordination.changes) == 1


async def test_what_is_held_at_once_is_sent_to_no_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 follows 5 without an await in between, so that no stream runs: a new Envoy would be sent what is known to be bad."""
    site = await knowing_what_is_bad()
    new = site.connect("new")
    await site.settle()
    seen: list[bool] = []

    def looks(type_url: str, body: bytes) -> bool:
        if type_url == ROUTE:
            seen.append(MARK in body)
        return False

    new.refuses = looks
    monkeypatch.setattr(site.streams, "publish", lambda: asyncio.get_running_loop().call_soon(new.answer))
    await site.put(ingress("other"), web(MARK.decode()))
    await site.settle()
    assert seen == [False]
    assert HOST in site.tables.holds


async def test_a_change_counts_as_published_when_the_snapshot_has_it() -> None:
    """10 after 2: Envoys that have acknowledged this Snapshot count as having this version."""
    site = Wired()
    seen: list[bool] = []
    site.coordination.look = lambda: seen.append(b"late.test" in routes(site))
    await site.put(ingress("late"))
    assert seen == [True] * len(seen)
    assert [item.meta.name for change in site.coordination.changes for item in change.put] == ["late"]


async def test_a_build_that_is_cancelled_ends_soon_so_that_the_process_can() -> None:
    """A process waits for its threads: a control plane that is stopped during its first build went on with it to the end."""
    site = Wired()
    loop, begun, cancelled = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def waiting(key: Key) -> object:
        loop.call_soon_threadsafe(begun.set)
        assert cancelled.wait(30)
        return site.world.get(key)

    site.tables.build.lookup = waiting
    rules = (Rule(f"web{n}.test", (Path("/", "Prefix", Backend("web", 80)),)) for n in range(300))
    items = [Ingress(meta=Meta(namespace="default", name=f"web{n}"), rules=(rule,)) for n, rule in enumerate(rules)]
    applying = asyncio.create_task(site.publisher.apply(Change(items)))
    await begun.wait()
    before = site.tables.build.runs
    applying.cancel()
    await asyncio.gather(applying, return_exceptions=True)
    cancelled.set()
    await loop.shutdown_default_executor()
    assert applying.cancelled()
    assert site.tables.build.runs == before
    assert not site.tables.build.faults
