"""What the Snapshot promises to its publisher and to Sessions."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given

from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, SECRET, TYPES, Reference, Resource, Snapshot, State, version_of

NAMES = st.text("abc", min_size=1, max_size=2)


def of(text: str) -> Resource:
    name, _, body = text.partition("=")
    return Resource.of(name, body.encode())


def test_v1_a_version_is_a_hash_of_the_bytes_and_of_nothing_else() -> None:
    assert Resource.of("a", b"x").version == Resource.of("b", b"x").version
    assert Resource.of("a", b"x").version != Resource.of("a", b"y").version
    assert len(Resource.of("a", b"x").version) == 16


def test_resources_are_equal_by_name_and_version() -> None:
    joined = Resource.joined("a", Resource.of("a", b"x").version, lambda: b"x")
    assert joined == Resource.of("a", b"x")
    assert hash(joined) == hash(Resource.of("a", b"x"))
    assert Resource.of("b", b"x") != Resource.of("a", b"x")


def test_a_composed_body_is_made_once_and_only_when_needed() -> None:
    made = []
    resource = Resource.joined("a", "1", lambda: made.append("made") or b"body")  # type: ignore[func-returns-value]
    State().update([resource])
    assert not made
    assert (resource.body, resource.body, made) == (b"body", b"body", ["made"])


def test_i6_a_body_is_in_no_repr() -> None:
    snapshot = Snapshot()
    resource = Resource.of("key", b"PRIVATE")
    snapshot[SECRET].update([resource])
    for shown in (resource, snapshot, snapshot[SECRET], snapshot[SECRET].gone):
        assert "PRIVATE" not in repr(shown)


def test_a_resource_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Resource.of("a", b"x").version = "y"  # type: ignore[misc]


def test_an_update_returns_what_truly_changed() -> None:
    state = State()
    assert state.update([of("a=1"), of("b=1")]) == {"a", "b"}
    assert state.update([of("a=1"), of("b=2")], ["never", "a"]) == {"b"}, "a is put and dropped: it stays"
    assert state.update([], ["a"]) == {"a"}
    assert state.update([of("b=2")], ["a"]) == frozenset()
    assert dict(state) == {"b": of("b=2")}


def test_an_update_that_changes_nothing_is_no_generation() -> None:
    state = State()
    state.update([of("a=1")])
    before = state.generation
    state.update([of("a=1")], ["b"])
    assert state.generation == before


@given(st.lists(st.dictionaries(NAMES, st.sampled_from(["1", "2", None]), max_size=4), max_size=6))
def test_a_state_keeps_its_books(updates: list[dict[str, str | None]]) -> None:
    """Version, bits and log are those of the content, however it came about."""
    state, seen = State(), [(0, dict[str, Resource]())]
    for update in updates:
        state.update([of(f"{n}={b}") for n, b in update.items() if b], [n for n, b in update.items() if not b])
        seen.append((state.generation, dict(state)))
    assert state.version == version_of(state.values())
    assert set(state.existing) == set(state)
    assert state.existing == state.names(list(state)) == state.index.names(state)
    assert not state.keys() & state.gone.keys()
    for generation, then in seen:
        differs = {n for n in {*state, *then} if state.get(n) != then.get(n)}
        assert differs <= set(state.since(generation)) <= {n for update in updates for n in update}
    assert state.since(state.generation) == ()


def test_v6_the_version_of_some_more_is_that_of_all_together() -> None:
    few, all_of_them = State(), State()
    few.update([of("a=1")])
    all_of_them.update([of("b=1"), of("a=1")])
    assert few.version_with([of("b=1")]) == all_of_them.version != few.version


def test_a_selection_is_sorted() -> None:
    state = State()
    state.update([of("b=1"), of("a=1"), of("c=1")])
    assert [r.name for r in state.select(["c", "a"])] == ["a", "c"]
    assert [r.name for r in state.select(state)] == ["a", "b", "c"]
    state.update([of("a=2")], ["b"])
    assert state.select(state) == (of("a=2"), of("c=1"))


def test_references_are_told_by_when_they_began() -> None:
    s, t, t2 = Reference(SECRET, "s"), Reference(SECRET, "t"), Reference(SECRET, "t", "otherwise")
    state = State()
    state.update([Resource.of("l", b"1", [s, t])])
    first = state.generation
    state.update([Resource.of("l", b"2", [s, t2])])
    assert state.references("l") == [s, t2]
    assert state.references("l", after=first) == [t2]
    state.update([], ["l"])
    state.update([Resource.of("l", b"1", [s])])
    assert state.references("l", after=first) == [s], "it was gone in between"


def test_types_that_we_have_nothing_of_are_empty_and_cost_nothing() -> None:
    snapshot = Snapshot()
    assert len(snapshot["unheard of"]) == 0
    snapshot["unheard of"].update([of("a=1")])
    assert "a" not in snapshot["unheard of"]
    assert all(snapshot[t] is snapshot[t] for t in TYPES)


def test_what_was_accepted_last_is_known_of_what_changes_goes_and_comes_back() -> None:
    state = Snapshot()[CLUSTER]
    state.update([of("a=1"), of("b=1")])
    state.prove([of("a=1"), of("b=2")], ["a", "b"])
    assert state.unproven == {"b": None}, "what was accepted of b is something else"
    state.update([of("a=2")])
    state.update([of("a=3")])
    assert state.unproven["a"] == of("a=1")
    state.doubt(["a", "b"])
    state.update([], ["a", "b"])
    assert state.gone == {"a": of("a=1"), "b": None}
    state.update([of("a=3"), of("b=3")])
    assert state.unproven == {"a": of("a=1"), "b": None}
    state.update([], ["b"])
    assert state.gone == {"b": of("b=3")}, "that has never been rejected"
    state.doubt(["b"])
    assert state.gone == {"b": None}, "the rejection came later"
    state.update([of("a=1")])
    assert not state.unproven, "that was accepted before"


def test_what_is_gone_is_kept_until_it_is_compacted() -> None:
    snapshot = Snapshot()
    state = snapshot[CLUSTER]
    state.update([of("a=1"), of("b=1"), of("c=1")])
    state.update([], ["a", "b"])
    assert state.gone == {"a": of("a=1"), "b": of("b=1")}
    snapshot.compact({CLUSTER: state.generation - 1}, {})
    assert state.gone.keys() == {"a", "b"}, "a stream has not taken note of it"
    snapshot.compact({CLUSTER: state.generation}, {CLUSTER: ["a"]})
    assert state.gone.keys() == {"a"}, "a stream withholds it"
    assert not state.remembers("b")
    assert set(state.since(0)) == {"a", "c"}


def test_the_number_of_a_name_is_free_when_no_type_remembers_it() -> None:
    snapshot = Snapshot()
    for t in (CLUSTER, ENDPOINT):
        snapshot[t].update([of("a=1")])
        snapshot[t].update([], ["a"])
    number_of = snapshot[CLUSTER].index.get
    number = number_of("a")
    assert snapshot[CLUSTER].index is snapshot[ENDPOINT].index, "types share their numbers"
    snapshot.compact({CLUSTER: snapshot[CLUSTER].generation}, {})
    snapshot[LISTENER].update([of("l=1")])
    assert number_of("l") != number
    snapshot.compact({ENDPOINT: snapshot[ENDPOINT].generation}, {})
    assert number_of("a") is None
    snapshot[LISTENER].update([of("m=1")])
    assert number_of("m") == number
    assert set(snapshot[LISTENER].existing) == {"l", "m"}
