"""Shares of labels: nobody is cut while there is room, whoever wants most gives way, and the order of changes does not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import request_metrics
from xds.config import Flags
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule, ref
from xds.kube.path_shares import PathShares, fair_share
from xds.kube.world import World, path_share_key
from xds.problem import Ref

MOST = request_metrics.MOST_PATHS


def shares(*wanted: tuple[str, str, int]) -> PathShares:
    made = PathShares()
    for namespace, name, paths in wanted:
        made.count(Ref("Ingress", namespace, name), paths)
    made.settle()
    return made


def item(namespace: str, name: str, paths: int) -> Ingress:
    made = tuple(Path(f"/{number}", "Prefix", Backend("web", 80)) for number in range(paths))
    return Ingress(meta=Meta(namespace=namespace, name=name), rules=(Rule("a.test", made),))


def test_nobody_is_cut_while_all_have_room() -> None:
    made = shares(*(("many", f"{number}", MOST) for number in range(4)), ("few", "web", MOST))
    assert (made.share("many"), made.share("few"), made.share("none")) == (MOST, MOST, MOST)


def test_of_too_many_the_namespace_with_the_most_gives_way() -> None:
    made = shares(*(("greedy", f"{number}", 10_000) for number in range(20)), ("few", "web", 300), ("other", "web", 700))
    assert (made.share("few"), made.share("other")) == (MOST, MOST)
    assert 20 * made.share("greedy") <= request_metrics.MOST_APART - 1_000
    assert made.share("greedy") >= 100


def test_each_ingress_has_one_path_of_its_own_whatever_others_want() -> None:
    assert shares(*(("many", f"{number}", 2) for number in range(9_000))).share("many") == 1


def test_a_world_names_the_namespaces_whose_share_has_changed() -> None:
    world = World(Flags(enable_metrics=True))
    greedy = [item("greedy", f"{number}", MOST) for number in range(6)]
    touched = world.apply([*greedy[:4], item("few", "web", 10)])
    assert not {key for key in touched if key[0] == "path-share"}
    assert {key for key in world.apply(greedy[4:]) if key[0] == "path-share"} == {path_share_key("greedy")}
    assert world.get(path_share_key("greedy")) < MOST == world.get(path_share_key("few"))
    assert world.refs(path_share_key("greedy")) == ()
    assert path_share_key("greedy") in world.apply(drop=map(ref, greedy[4:]))
    assert world.get(path_share_key("greedy")) == MOST


def test_without_metrics_nothing_is_counted() -> None:
    world = World(Flags())
    touched = world.apply(item("greedy", f"{number}", MOST) for number in range(6))
    assert not {key for key in touched if key[0] == "path-share"}


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=30), st.integers(1, 10_000))
def test_a_fair_share_has_room_and_the_next_step_has_not(wanted: list[int], room: int) -> None:
    share = fair_share(wanted, room)
    assert share == 1 or sum(min(each, share) for each in wanted) <= room
    if sum(wanted) > room:
        assert sum(min(each, int(share * 1.25) + 1) for each in wanted) > room or share * 1.25 < 5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 12)), max_size=20))
def test_shares_depend_on_what_is_there_and_not_on_how_it_came_about(changes: list[tuple[str, str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(request_metrics, "MOST_APART", 20)
        life = PathShares()
        for namespace, name, paths in changes:
            before = {each: life.share(each) for each in "ab"}
            life.count(Ref("Ingress", namespace, name), paths)
            touched = life.settle()
            assert touched == {each for each in "ab" if life.share(each) != before[each]}
        last = {(namespace, name): paths for namespace, name, paths in changes}
        fresh = shares(*((*key, paths) for key, paths in last.items()))
        assert [life.share(each) for each in "ab"] == [fresh.share(each) for each in "ab"]
