"""Memos of Units that read each other: in whichever order they read, a value is that of a Build that has just begun."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.units.memo import Beside, Build, Memo, Recorder, Unit

COUNT = 6
NODES = range(COUNT)


def node(read: Recorder, n: int) -> int:
    """Adds up its own number, and the values of those that it is to read, one after the other."""
    number, others = read(("node", n))
    return int(number + sum(read.unit(node, other) for other in others))


def unit(n: int) -> Unit:
    return Unit(node, (n,))


def test_what_a_unit_that_runs_has_read_is_kept_though_its_only_other_reader_drops_it_meanwhile() -> None:
    world: dict[Any, Any] = {("node", 0): (0, (2, 1)), ("node", 1): (0, (2,)), ("node", 2): (1, ())}
    build = Build(world.__getitem__)
    build.keep(unit(1))
    assert build.value(unit(1)) == 1
    build.keep(unit(0))
    world["node", 1] = (0, ())
    build.stale_kept([("node", 1)])
    assert build.value(unit(0)) == 1, "it reads 2, and then 1, which reads 2 no longer"
    world["node", 2] = (5, ())
    assert build.stale_kept([("node", 2)]) == {unit(0)}
    assert build.value(unit(0)) == 5


STEPS = st.sampled_from(NODES).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, 2), st.lists(st.integers(n + 1, COUNT), unique=True), st.booleans())
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.lists(STEPS, max_size=3), max_size=12))
def test_after_any_changes_values_are_those_of_a_build_that_has_just_begun(batches: list[list[tuple[int, int, list[int], bool]]]) -> None:
    world: dict[Any, Any] = {("node", n): (0, ()) for n in range(COUNT + 1)}
    build, kept = Build(world.__getitem__), set[int]()
    for batch in batches:
        for n, number, others, _ in batch:
            world["node", n] = number, tuple(others)
        build.stale_kept({("node", n) for n, *_ in batch})
        for n, _, _, wanted in batch:
            if wanted and n not in kept:
                build.keep(unit(n))
                kept.add(n)
            elif not wanted and n in kept:
                kept.remove(n)
                build.release(unit(n))
        for n in sorted(kept):
            assert build.value(unit(n)) == Build(world.__getitem__).value(unit(n))
    for n in sorted(kept):
        build.release(unit(n))
    assert len(build) == 0


ORDERS = st.one_of(
    st.tuples(st.just("keep"), st.sampled_from(NODES)),
    st.tuples(st.just("release"), st.sampled_from(NODES)),
    st.tuples(st.just("value"), st.sampled_from(NODES)),
    st.tuples(st.just("beside"), st.sampled_from(NODES)),
    st.tuples(st.just("change"), STEPS),
)
"""What is done with a Build, in any order: also releases before what has changed is brought up to date, and reads by what is no Unit."""


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(ORDERS, max_size=40))
def test_in_any_order_of_keeping_releasing_and_changing_no_change_is_lost_and_no_memo_is_read_that_was_evicted(
    orders: list[tuple[str, Any]],
) -> None:
    world: dict[Any, Any] = {("node", n): (0, ()) for n in range(COUNT + 1)}
    build, kept = Build(world.__getitem__), list[int]()
    for order, what in orders:
        match order:
            case "keep":
                build.keep(unit(what))
                kept.append(what)
            case "release" if what in kept:
                kept.remove(what)
                build.release(unit(what))
            case "value" if what in kept:
                assert build.value(unit(what)) == Build(world.__getitem__).value(unit(what))
            case "beside":
                assert Beside(build).unit(node, what) == Build(world.__getitem__).value(unit(what))
            case "change":
                n, number, others, _ = what
                world["node", n] = number, tuple(others)
                build.stale_kept([("node", n)])
        consistent(build)
    for n in kept:
        build.release(unit(n))
    assert len(build) == 0
    assert not build.depending(world), "nobody reads a key any more"


def consistent(build: Build) -> None:
    """Who reads a memo is a memo of the Build itself, and what it reads as well; each is kept or read by somebody."""
    there = {*build.memos.values()}
    for memo in there:
        assert {*memo.readers} <= there
        assert {read for read in memo.reads if isinstance(read, Memo)} <= there
        assert all(memo in read.readers for read in memo.reads)
        assert all(memo in reader.reads for reader in memo.readers)
        assert memo.kept or memo.readers
