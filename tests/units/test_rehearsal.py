"""What would be wrong with an Ingress is what is wrong with it once it is there, and asking for it changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from tests.units.test_any_order import KINDS, OPENED, Life, ingresses, objects, site
from xds.kube.objects import Backend, Ingress, Meta, Object, Path, Rule, ref
from xds.problem import Problem
from xds.units.rehearsal import problems_with


def rehearsed(life: Life, item: Ingress) -> list[Problem]:
    """Its own Problems."""
    return [p for p in problems_with(life.world, life.tables.build, item) if p.about == ref(item)]


def lost(problems: Sequence[Problem], item: Ingress) -> set[Problem]:
    """The paths of others that another Ingress has."""
    return {p for p in problems if p.code.startswith("conflict") and p.about != ref(item)}


def own(life: Life, item: Ingress) -> list[tuple[Problem, str, object]]:
    return [each for each in life.problems() if each[0].about == ref(item)]


@given(st.lists(objects(), max_size=8), ingresses())
@settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
def test_the_problems_are_those_that_come(there: Sequence[Object], item: Ingress) -> None:
    life = Life([*OPENED, *{ref(each): each for each in there}.values()])
    before = life.state(), life.problems(), len(life.tables.build), life.tables.build.runs
    found = [(p, p.sentence, p.severity) for p in rehearsed(life, item)]
    assert (life.state(), life.problems(), len(life.tables.build), life.tables.build.runs) == before
    new = lost(problems_with(life.world, life.tables.build, item), item) - {p for p, *_ in before[1]}
    life.take([item])
    assert new == lost(life.tables.problems(), item) - {p for p, *_ in before[1]}
    assert found == own(life, item)
    fresh = Life([each for kind in KINDS for each in life.world.objects(kind)])
    assert (life.state(), life.problems()) == (fresh.state(), fresh.problems())


def ingress(name: str, month: int, path: str = "/") -> Ingress:
    rule = Rule("new.example.com", (Path(path, "Prefix", Backend("s0", 80)),))
    return Ingress(meta=Meta(namespace="one", name=name, created=f"2026-{month:02}-01T00:00:00Z"), rules=(rule,))


def test_a_path_that_another_ingress_has_is_a_problem_before_it_is_there() -> None:
    life = Life([*site(1), ingress("first", 1)])
    assert [p.code for p in rehearsed(life, ingress("second", 2))] == ["conflict"]
    assert rehearsed(life, ingress("second", 2, "/other")) == []


@pytest.mark.parametrize("others", [5, 50])
def test_what_depends_on_an_ingress_is_not_more_where_there_are_more_others(others: int) -> None:
    life = Life([*site(others), ingress("first", 1)])
    assert len(life.tables.build.depending(life.world.apply([ingress("first", 1, "/other")]))) == 4
