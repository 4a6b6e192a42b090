"""Changes, ACKs and NACKs in any order: once all is settled, everybody outside knows the same of what is held."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from tests.publish.wired import Wired
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule, ref
from xds.snapshot import ROUTE, Part
from xds.units.record import decode

MARK = b"/mark"
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("drop"), st.integers(0, 2), st.none()),
    st.tuples(st.sampled_from(("answer", "settle")), st.none(), st.none()),
)


def web(n: int, *, bad: bool) -> Ingress:
    path = Path(MARK.decode() if bad else "/", "Prefix", Backend("web", 80))
    return Ingress(meta=Meta(namespace="default", name=f"web-{n}"), rules=(Rule(f"{n}.test", (path,)),))


async def play(steps: list[tuple[str, int | None, bool | None]]) -> None:
    site, there = Wired(), dict[int, bool]()
    envoy = site.connect()
    envoy.refuses = lambda type_url, body: type_url == ROUTE and MARK in body
    for what, n, bad in steps:
        if what == "put" and n is not None:
            there[n] = bool(bad)
            await site.put(web(n, bad=there[n]))
        elif what == "drop" and n is not None:
            there.pop(n, None)
            await site.put(drop=[ref(web(n, bad=False))])
        elif what == "answer":
            envoy.answer()
        else:
            await site.settle()
    await site.settle()
    bad_ones = {n for n, bad in there.items() if bad}
    held = {Part(ROUTE, "ingress", f"{n}.test") for n in bad_ones}
    assert site.publisher.held.keys() == held == site.tables.holds.keys()
    assert MARK not in bytes(site.snapshot[ROUTE]["ingress"].body)
    assert decode(site.coordination.saved[-1]).held.keys() == held if site.coordination.saved else not held
    reported = site.coordination.reports[-1] if site.coordination.reports else ()
    assert {p.about.name for p in reported if p.code.startswith("envoy-refused:")} == {f"web-{n}" for n in bad_ones}
    assert len(site.coordination.changes) == sum(what in ("put", "drop") for what, _, _ in steps)
    assert site.progress.remembered.publications == 0


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_once_settled_what_is_held_is_what_is_reported_and_saved(steps: list[tuple[str, int | None, bool | None]]) -> None:
    asyncio.run(play([("put", 0, False), *steps]))
