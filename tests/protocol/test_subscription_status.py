"""What a Session shows to those who debug: how far its client is with each type, name by name, and in short."""

from __future__ import annotations

import pytest

from tests.protocol.talk import Talk
from xds.protocol.discovery import SubscriptionStatus, SubscriptionSummary, Wire
from xds.snapshot import CLUSTER, ENDPOINT


def status(talk: Talk) -> SubscriptionStatus:
    return talk.session.status(CLUSTER)


def summary(talk: Talk) -> SubscriptionSummary:
    return talk.session.summaries[CLUSTER]


@pytest.fixture(params=Wire)
def talk(request: pytest.FixtureRequest) -> Talk:
    """A client that has asked for all clusters, of which there are two."""
    talk = Talk(request.param)
    talk.put(cds="a=1 b=1")
    talk.ask("cds") if talk.wire is Wire.SOTW else talk.sub("cds")
    return talk


def test_what_was_sent_is_neither_held_nor_current_before_it_is_accepted(talk: Talk) -> None:
    assert (status(talk).in_flight, status(talk).held, status(talk).current) == ({"a", "b"}, frozenset(), frozenset())
    assert not summary(talk).settled


def test_what_is_accepted_is_held_and_current(talk: Talk) -> None:
    talk.ack("cds")
    assert (status(talk).in_flight, status(talk).held, status(talk).current) == (frozenset(), {"a", "b"}, {"a", "b"})
    assert summary(talk) == SubscriptionSummary(
        talk.snapshot[CLUSTER].version, (), wildcard=True, names=0, error=None, rejected=(), settled=True
    )


def test_what_has_changed_since_is_held_and_not_current(talk: Talk) -> None:
    talk.ack("cds")
    talk.publish(cds="a=2 b=1")
    assert (status(talk).in_flight, status(talk).held) == ({"a"}, {"a", "b"})
    assert status(talk).current == {"b"}
    assert not summary(talk).settled


def test_a_change_with_which_the_stream_has_not_caught_up_counts_already(talk: Talk) -> None:
    talk.ack("cds")
    talk.put(cds="a=2 b=1")
    assert status(talk).current == {"b"}
    assert not summary(talk).settled


def test_a_client_that_rejects_something_is_not_settled(talk: Talk) -> None:
    talk.nack("cds", "no")
    assert (summary(talk).error, [r.name for r in summary(talk).rejected], summary(talk).settled) == ("no", ["a", "b"], False)
    assert status(talk).current == frozenset()


def test_a_rejection_is_not_settled_by_what_was_rejected_going_away() -> None:
    """State of the world sends nothing about endpoints that are gone, so the client has not accepted anything since."""
    talk = Talk(Wire.SOTW)
    talk.put(eds="a=1")
    talk.ask("eds", "a")
    talk.nack("eds", "no")
    assert talk.publish() == []
    assert (talk.session.summaries[ENDPOINT].error, talk.session.summaries[ENDPOINT].settled) == ("no", False)


def test_names_that_were_asked_for_are_counted_those_that_do_not_exist_among_them() -> None:
    talk = Talk(Wire.DELTA)
    talk.put(eds="a=1")
    talk.sub("eds", "a", "nobody")
    assert (talk.session.summaries[ENDPOINT].names, talk.session.summaries[ENDPOINT].wildcard) == (2, False)


def test_nothing_is_accepted_before_something_is_asked_for() -> None:
    """Clusters that are accepted make the server think of their endpoints, for which the client has not asked yet."""
    talk = Talk(Wire.DELTA)
    talk.put(cds="a=1", eds="a=1")
    talk.sub("cds")
    talk.ack("cds")
    talk.sub("eds", "a")
    assert talk.session.status(ENDPOINT).accepted == ""
