"""NACKs that count again when what they were about comes back: which of them, for how long, and whose they are."""

from __future__ import annotations

import pytest

from xds.protocol.discovery import Acknowledgement
from xds.quarantine.ledger import MOST_CONTENTS, MOST_PARTS
from xds.quarantine.replays import MOST_VERSIONS, Replays
from xds.snapshot import CLUSTER, Part, Resource, State

PART = Part(CLUSTER, "a")


@pytest.fixture
def state() -> State:
    """In its third generation, whose version was that of the first as well."""
    state = State()
    for body in (b"1", b"2", b"1"):
        state.update([Resource.of("a", body)])
    return state


def nack(version: str) -> Acknowledgement:
    return Acknowledgement(CLUSTER, frozenset({"a"}), 1, version, "no")


def test_a_rejection_is_replayed_as_one_of_the_generation_in_which_its_version_is_back(state: State) -> None:
    replays = Replays()
    replays.rejected(nack(state.version), "one")
    assert replays
    found = replays.published(CLUSTER, state)
    assert found is not None
    answer, envoy = found
    assert (answer.generation, answer.version, answer.error, envoy) == (state.generation, state.version, "no", "one")
    state.update([Resource.of("a", b"3")])
    assert replays.published(CLUSTER, state) is None


def test_a_version_that_an_envoy_has_accepted_is_not_replayed(state: State) -> None:
    replays = Replays()
    replays.rejected(nack(state.version), "one")
    replays.accepted(nack(state.version))
    assert replays.published(CLUSTER, state) is None
    assert not replays


def test_a_rejection_lasts_as_long_as_one_of_those_who_sent_it(state: State) -> None:
    replays = Replays()
    replays.rejected(nack(state.version), "one")
    replays.rejected_too(nack(state.version), "another")
    assert replays.knows("one")
    replays.left("one")
    found = replays.published(CLUSTER, state)
    assert found is not None
    assert found[1] == "another"
    assert not replays.knows("one")
    replays.left("another")
    assert replays.published(CLUSTER, state) is None


def test_who_rejects_something_else_is_not_noted(state: State) -> None:
    replays = Replays()
    replays.rejected_too(nack(state.version), "one")
    assert not replays


def test_a_culprit_is_known_by_its_content_until_an_envoy_accepts_it() -> None:
    replays = Replays()
    replays.convict(PART, "digest", "no")
    replays.convict(PART, "other", "never")
    assert replays.verdicts(PART) == {"digest": "no", "other": "never"}
    replays.acquit(PART)
    assert replays.verdicts(PART) == {}


def test_of_ever_more_contents_parts_and_versions_the_last_are_remembered(state: State) -> None:
    replays = Replays()
    for n in range(MOST_CONTENTS + 1):
        replays.convict(PART, str(n), "no")
    assert [*replays.verdicts(PART)] == [str(n) for n in range(1, MOST_CONTENTS + 1)]
    replays.convict(PART, "1", "no")
    replays.convict(PART, "new", "no")
    assert "1" in replays.verdicts(PART), "it has come back lately"
    for n in range(MOST_PARTS):
        replays.convict(Part(CLUSTER, str(n)), "digest", "no")
    assert replays.verdicts(PART) == {}
    replays.rejected(nack(state.version), "one")
    for n in range(MOST_VERSIONS):
        replays.rejected(nack(str(n)), "one")
    assert replays.published(CLUSTER, state) is None
