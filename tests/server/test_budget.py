"""Bytes of all streams, and who has to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds.server.budget import Budget


def test_what_fits_stays() -> None:
    budget = Budget[str](10, light=1)
    assert [budget.weigh("a", 4), budget.weigh("b", 6)] == [[], []]
    assert budget.total == 10


def test_the_newest_that_has_much_goes_first_and_no_more_than_have_to() -> None:
    budget = Budget[str](20, light=2)
    for name, weight in {"old": 8, "heavy": 6, "heavier": 4, "light": 1}.items():
        assert budget.weigh(name, weight) == []
    assert budget.weigh("old", 12) == ["heavier"]
    assert budget.weigh("light", 1) == []
    assert budget.weigh("new", 9) == ["new"]
    assert budget.total == 19


def test_who_has_little_goes_where_nobody_has_more() -> None:
    budget = Budget[str](5, light=3)
    assert [budget.weigh(name, 2) for name in "abc"] == [[], [], ["c"]]


def test_who_has_left_counts_no_more() -> None:
    budget = Budget[str](5, light=1)
    budget.weigh("a", 5)
    budget.drop("a")
    budget.drop("a")
    assert (budget.total, budget.weigh("b", 5)) == (0, [])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20))))
def test_it_is_never_more_than_the_most(steps: list[tuple[str, int]]) -> None:
    budget = Budget[str](30, light=5)
    there: dict[str, int] = {}
    for name, weight in steps:
        there[name] = weight
        for gone in budget.weigh(name, weight):
            del there[gone]
        assert budget.total == sum(there.values()) <= 30
