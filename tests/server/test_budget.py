"""Bytes of all streams, and who has to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds.server.budget import Budget


def test_what_fits_stays() -> None:
    budget = Budget[str](10)
    assert [budget.weigh("a", 4), budget.weigh("b", 6)] == [[], []]
    assert budget.total == 10


def test_the_newest_that_makes_room_enough_goes() -> None:
    budget = Budget[str](20)
    for name, weight in {"old": 8, "heavy": 6, "heavier": 5, "light": 1}.items():
        assert budget.weigh(name, weight) == []
    assert budget.weigh("old", 12) == ["heavier"], "not the light one, though it is newer"
    assert budget.weigh("new", 2) == ["new"], "nor those that were there before"
    assert budget.total == 19


def test_where_one_is_not_enough_the_one_that_has_most_goes_first() -> None:
    budget = Budget[str](12)
    assert [budget.weigh(name, weight) for name, weight in {"a": 3, "b": 5, "c": 4}.items()] == [[], [], []]
    assert budget.weigh("a", 13) == ["a"]
    assert budget.weigh("d", 12) == ["d"]
    assert budget.weigh("b", 100) == ["b"]


def test_who_has_left_counts_no_more() -> None:
    budget = Budget[str](5)
    budget.weigh("a", 5)
    budget.drop("a")
    budget.drop("a")
    assert (budget.total, budget.weigh("b", 5)) == (0, [])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20))))
def test_it_is_never_more_than_the_most(steps: list[tuple[str, int]]) -> None:
    budget = Budget[str](30)
    there: dict[str, int] = {}
    for name, weight in steps:
        there[name] = weight
        for gone in budget.weigh(name, weight):
            del there[gone]
        assert budget.total == sum(there.values()) <= 30


def test_the_peer_that_has_most_loses_first() -> None:
    budget = Budget[str](20)
    for n in range(4):
        assert budget.weigh(f"many-{n}", 4, ("hostile", f"hostile:{n % 2}")) == []
    assert budget.weigh("new", 4, ("envoy", "envoy:1")) == []
    assert budget.weigh("newer", 3, ("envoy", "envoy:2")) == ["many-2"]
    assert budget.weigh("many-0", 6, ("hostile", "hostile:0")) == ["many-3"], "of its connections, the one that has most"


def test_what_is_being_written_counts_but_blames_nobody() -> None:
    budget = Budget[str](20)
    for n in range(4):
        budget.weigh(f"many-{n}", 4, ("hostile", "hostile:1"))
    assert budget.weigh("new", 1, ("envoy", "envoy:1"), passing=10) == ["many-3", "many-2"]
    assert budget.total == 19
    assert budget.weigh("new", 1, ("envoy", "envoy:1")) == []
    assert budget.total == 9
