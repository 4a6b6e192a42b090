"""The order of the steps of a publication, where it matters (the head of `xds.publish.publisher` has all of them, with their numbers)."""

from __future__ import annotations

from tests.publish.wired import Wired
from tests.web.site import ingress
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
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
    """3 before 5: else it waits for an answer that has passed."""
    site = Wired()
    site.connect(prompt=True)
    await site.put(web())
    await site.settle()
    await site.put(web(MARK.decode()))
    newest = site.progress.history()[0]
    assert not newest.waiting
    assert newest.accepted is not None


async def test_the_quarantine_knows_what_is_unproven_before_an_envoy_can_acknowledge_it() -> None:
    """4 before 5: else nobody cares for the ACK, and the next Envoy that rejects it takes it from everybody."""
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


async def test_what_is_held_at_once_is_held_before_anybody_outside_is_told_of_the_change() -> None:
    """7 before 8, 9 and 10: no Event, record or version of an object is about what is published for an instant only."""
    site = Wired()
    envoy = site.connect()
    envoy.refuses = lambda type_url, body: type_url == ROUTE and MARK in body
    for path in ("/", MARK.decode(), "/"):
        await site.put(web(path))
        await site.settle()
    seen: list[tuple[bool, bool]] = []
    site.coordination.look = lambda: seen.append((HOST in site.tables.holds, MARK in routes(site)))
    site.coordination.forget()
    await site.put(web(MARK.decode()))  # it is known to be bad
    assert seen == [(True, False)] * 3
    assert [[problem.code.partition(":")[0] for problem in each] for each in site.coordination.reports] == [["envoy-refused", "no-service"]]
    assert [decode(record).held.keys() for record in site.coordination.saved] == [{HOST}]
    assert len(site.coordination.changes) == 1


async def test_a_change_counts_as_published_when_the_snapshot_has_it() -> None:
    """10 after 2: Envoys that have acknowledged this Snapshot count as having this version."""
    site = Wired()
    seen: list[bool] = []
    site.coordination.look = lambda: seen.append(b"late.test" in routes(site))
    await site.put(ingress("late"))
    assert seen == [True] * len(seen)
    assert [item.meta.name for change in site.coordination.changes for item in change.put] == ["late"]
