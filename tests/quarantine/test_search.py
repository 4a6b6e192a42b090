"""The search by itself: suspects are numbers, and the Envoy that is asked rejects whatever has a culprit in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.quarantine.search import MOST_ROUNDS, Search, Step

ENVOY, OTHER = "envoy", "another"
Named = Callable[[Sequence[int]], tuple[Collection[int], Collection[int]]]
"""What the words of a NACK say of the suspects: the certain culprits, and those of which one is likely to be it."""


def nobody(_: Sequence[int]) -> tuple[Collection[int], Collection[int]]:
    return (), ()


class Site:
    """What is published, and what is held. `out` has the generation in which each suspect came out."""

    def __init__(self, contents: Iterable[int], culprits: Collection[int] = (), named: Named = nobody) -> None:
        self.search: Search[int] = Search()
        self.generation = 1
        self.out = dict.fromkeys(contents, 1)
        self.culprits = set(culprits)
        self.proven: set[int] = set()
        self.held: set[int] = set()
        self.convicted: set[int] = set()
        self.named = named
        self.steps = 0

    def carry_out(self, step: Step[int]) -> None:
        """The Step, and those that follow from its publication."""
        while any(step):
            assert len({*step.hold, *step.convict, *step.publish}) == sum(map(len, step)), "something is in two of them"
            assert self.held.issuperset(step.publish)
            self.steps += 1
            self.convicted.update(step.convict)
            self.held = (self.held | {*step.hold, *step.convict}) - {*step.publish}
            for suspect in (*step.hold, *step.convict):
                self.out.pop(suspect, None)
            step = self.publish(step.publish)

    def publish(self, parts: Collection[int], changed: Collection[int] = ()) -> Step[int]:
        self.generation += 1
        self.out |= dict.fromkeys(parts, self.generation)
        return self.search.published(self.generation, self.held, changed)

    def change(self, suspect: int, *, bad: bool) -> None:
        """Its content is another one, and published, whatever was held of it."""
        self.held.discard(suspect)
        self.convicted.discard(suspect)
        self.proven.discard(suspect)
        (self.culprits.add if bad else self.culprits.discard)(suspect)
        self.carry_out(self.publish([suspect], [suspect]))

    def answer(self) -> bool:
        """The Envoy answers what is out; whether there was anything that it had not accepted."""
        suspects = {s: since for s, since in self.out.items() if s not in self.proven}
        if not suspects:
            return False
        if self.culprits.isdisjoint(suspects):
            self.proven.update(suspects)
            self.carry_out(self.search.accepted(ENVOY, self.out.__contains__, self.generation))
        else:
            certain, likely = self.named([*suspects])
            self.carry_out(self.search.rejected(ENVOY, suspects, certain, likely, late=False))
        return True

    def settle(self) -> None:
        while self.answer():
            pass


@given(st.integers(1, 100), st.data(), st.sampled_from(["nothing", "a few", "all"]))
def test_every_culprit_is_found_and_no_innocent_is_held(n: int, data: st.DataObject, names: str) -> None:
    """In at most k (log2 n + 1) Steps, whatever the words of the NACKs say, as long as they are true."""
    culprits = data.draw(st.sets(st.integers(0, n - 1), max_size=8))

    def named(suspects: Sequence[int]) -> tuple[Collection[int], Collection[int]]:
        bad = [s for s in suspects if s in culprits]
        if names == "a few":
            return (), {bad[0], *data.draw(st.sets(st.sampled_from(suspects), max_size=len(suspects) // 2))}
        return (bad, ()) if names == "all" else ((), ())

    site = Site(range(n), culprits, named)
    site.settle()
    assert site.held == site.convicted == culprits
    assert site.out.keys() == site.proven == set(range(n)) - culprits
    assert not site.search
    if names == "nothing":
        assert site.steps <= len(culprits) * (math.ceil(math.log2(n)) + 1)
    if names == "all":
        assert site.steps <= 1


@given(st.integers(1, 20), st.data(), st.lists(st.tuples(st.integers(0, 19), st.booleans()) | st.none(), max_size=30))
def test_whatever_changes_in_the_middle_every_culprit_is_found_and_no_innocent_is_held(
    n: int, data: st.DataObject, steps: list[tuple[int, bool] | None]
) -> None:
    """None is an answer; anything else another content of a suspect, good or bad."""
    site = Site(range(n), data.draw(st.sets(st.integers(0, n - 1))))
    for step in steps:
        if step is None:
            site.answer()
        else:
            site.change(step[0] % n, bad=step[1])
    site.settle()
    assert site.held == site.convicted == site.culprits
    assert not site.search


@given(st.integers(2, 40), st.data())
def test_what_was_accepted_is_never_held_nor_is_everything_at_once(n: int, data: st.DataObject) -> None:
    site = Site(range(n), data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    while site.answer():
        assert len(site.held - site.convicted) < n
        assert site.held.isdisjoint(site.proven)


def searching(suspects: Mapping[int, int], *, late: bool = False) -> Search[int]:
    search: Search[int] = Search()
    step = search.rejected(ENVOY, suspects, (), (), late=late)
    search.published(2, set(step.hold), ())
    return search


FOUR = dict.fromkeys(range(4), 1)


def every(_: int) -> bool:
    return True


def test_who_was_not_asked_decides_nothing() -> None:
    search = searching(FOUR)
    assert search.held == (2, 3)
    assert search.accepted(OTHER, every, 9) == Step()
    assert search.accepted(ENVOY, every, 9) == Step(publish=(2,))


def test_who_has_rejected_the_same_is_asked_as_well() -> None:
    search = searching(FOUR)
    search.refusers.add(OTHER)
    assert search.left(ENVOY) == Step()
    assert search.accepted(OTHER, every, 9) == Step(publish=(2,))


def test_an_answer_says_nothing_of_what_is_not_in_it_or_came_later() -> None:
    search = searching({0: 1, 1: 5, 2: 1, 3: 1})
    assert search.accepted(ENVOY, lambda s: s == 1, 9) == Step()
    assert search.accepted(ENVOY, every, 0) == Step()
    assert search.accepted(ENVOY, every, 1) == Step(publish=(2,))


def test_what_is_published_again_awaits_an_answer_to_the_generation_in_which_it_comes_out() -> None:
    search = searching(FOUR)
    assert search.accepted(ENVOY, every, 2) == Step(publish=(2,))
    search.published(7, {3}, ())
    assert search.accepted(ENVOY, every, 6) == Step()
    assert search.accepted(ENVOY, every, 7) == Step(convict=(3,))


def test_with_the_last_of_those_who_were_asked_everything_is_published() -> None:
    search = searching(FOUR)
    assert search.left(OTHER) == Step()
    assert search.left(ENVOY) == Step(publish=(2, 3))
    assert not search
    assert search.held == ()


def test_one_suspect_is_the_culprit_unless_that_may_have_been_replaced() -> None:
    search: Search[int] = Search()
    assert search.rejected(ENVOY, {7: 1}, (), (), late=False) == Step(convict=(7,))
    search = Search()
    assert search.rejected(ENVOY, {7: 1}, (), (), late=True) == Step()
    assert search.accepted(ENVOY, every, 1) == Step()
    assert not search


def test_of_the_half_that_is_held_for_a_late_answer_nothing_is_known() -> None:
    search = searching(FOUR, late=True)
    assert search.held == (2, 3)
    assert search.accepted(ENVOY, every, 9) == Step(publish=(2, 3)), "no culprit need be among them"


def test_of_what_was_tainted_nothing_is_known_once_the_other_half_is_rejected() -> None:
    search = searching(FOUR)
    assert search.rejected(ENVOY, {0: 1, 1: 1}, (), (), late=False) == Step(hold=(1,))
    search.published(3, {1, 2, 3}, ())
    assert search.accepted(ENVOY, every, 3) == Step(convict=(1,), publish=(2, 3))


def test_words_that_name_all_suspects_narrow_nothing() -> None:
    search: Search[int] = Search()
    assert search.rejected(ENVOY, FOUR, (), [*FOUR], late=False) == Step(hold=(2, 3))


@pytest.mark.parametrize("gone", [0, 2])
def test_what_changes_takes_its_conclusion_with_it(gone: int) -> None:
    """Be it what is tested, or what is tainted: all that is held is tested again, not one half of it."""
    search = searching(FOUR)
    search.published(3, {2, 3} - {gone}, [gone])
    assert search.accepted(ENVOY, every, 3) == Step(publish=tuple(sorted({2, 3} - {gone})))


def test_what_is_held_and_rejected_alone_is_convicted() -> None:
    search = searching(FOUR)
    assert search.confirmed(0) == Step(), "it is not held"
    assert search.confirmed(2) == Step(convict=(2,))
    assert search.accepted(ENVOY, every, 9) == Step(publish=(3,)), "the culprit may have been the other one alone"


def test_the_last_that_is_rejected_alone_ends_the_search() -> None:
    search = searching({0: 1, 1: 1})
    search.published(3, {1}, [0])
    assert search.confirmed(1) == Step()
    search = searching({0: 1, 1: 1})
    assert search.confirmed(1) == Step(convict=(1,))
    assert search.accepted(ENVOY, every, 9) == Step()
    assert not search


def test_what_turns_out_to_be_good_says_nothing_of_the_others() -> None:
    search = searching(FOUR)
    search.acquit([2])
    assert search.held == (3,)
    assert search.accepted(ENVOY, every, 9) == Step(publish=(3,)), "it need not be a culprit, though it is the last"


def test_a_search_that_finds_ever_more_culprits_is_given_up() -> None:
    search = searching(FOUR)
    for n in range(MOST_ROUNDS - 1):
        assert search.rejected(ENVOY, {n + 10: 1, n + 11: 1}, (), (), late=False) == Step(hold=(n + 11,))
    held = search.held
    assert search.rejected(ENVOY, {8: 1, 9: 1}, (), (), late=False) == Step(convict=(8, 9, *held))
    assert not search
    assert search.rejected(ENVOY, {8: 1, 9: 1}, (), (), late=False) == Step(hold=(9,)), "the next search begins at one"
