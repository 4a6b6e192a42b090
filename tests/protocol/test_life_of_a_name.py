"""Each combination that the table of `xds.protocol.subscription` allows comes about, and in this way; others are found by the check."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from tests.protocol.life_of_a_name import ALLOWED, Life, broken, check, life_of
from tests.protocol.talk import KINDS, Talk
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.rejections import MOST_IN_FLIGHT
from xds.protocol.session import REQUEST_GRACE, Session
from xds.protocol.subscription import ACK_TIMEOUT, Subscription
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, SECRET, Resource, Snapshot


def current(talk: Talk) -> None:
    talk.put(eds="a=1")
    talk.sub("eds", "a")
    talk.ack("eds")


def changed_but_blocked(talk: Talk) -> None:
    """A listener waits for a cluster that the client does not have."""
    talk.put(cds="c=1", eds="c=1", lds="a=1")
    talk.sub("cds")
    talk.sub("eds", "c")
    talk.sub("lds")
    talk.agree()
    talk.publish(cds="c=1 d=1", eds="c=1 d=1", lds="a=2")


def changed_and_sent(talk: Talk) -> None:
    current(talk)
    talk.publish(eds="a=2")


def changed_twice(talk: Talk) -> None:
    changed_and_sent(talk)
    talk.publish(eds="a=3")


def new_but_blocked(talk: Talk) -> None:
    talk.put(cds="c=1", eds="c=1", lds="a=1")
    talk.sub("cds")
    talk.sub("lds")


def new_and_sent(talk: Talk) -> None:
    talk.put(eds="a=1")
    talk.sub("eds", "a")


def new_and_changed(talk: Talk) -> None:
    new_and_sent(talk)
    talk.publish(eds="a=2")


def missing(talk: Talk) -> None:
    talk.put()
    talk.sub("eds", "a")
    talk.ack("eds")


def to_be_removed(talk: Talk) -> None:
    """It waits for the answer to another response."""
    talk.put(eds="a=1 b=1")
    talk.sub("eds", "a", "b")
    talk.ack("eds")
    talk.publish(eds="a=1 b=2")
    talk.publish(eds="b=2")


def removal_sent(talk: Talk) -> None:
    talk.put()
    talk.sub("eds", "a")


def removal_sent_and_requested(talk: Talk) -> None:
    """More often than responses may be in flight."""
    talk.put()
    for _ in range(MOST_IN_FLIGHT + 1):
        talk.sub("eds", "a")


def removal_withheld(talk: Talk) -> None:
    talk.put(cds="a=1", lds="l=1")
    talk.sub("cds")
    talk.sub("lds")
    talk.agree()
    talk.publish(lds="l=2")


def deleted_in_flight(talk: Talk) -> None:
    talk.put(cds="a=1", lds="l=1")
    talk.sub("cds")
    talk.sub("lds")
    talk.publish(lds="l=2")


WAYS: dict[tuple[str, str], Callable[[Talk], None]] = {
    ("eds", "exists held"): current,
    ("lds", "exists held pending"): changed_but_blocked,
    ("eds", "exists held in_flight"): changed_and_sent,
    ("eds", "exists held pending in_flight"): changed_twice,
    ("lds", "exists pending"): new_but_blocked,
    ("eds", "exists in_flight"): new_and_sent,
    ("eds", "exists pending in_flight"): new_and_changed,
    ("eds", ""): missing,
    ("eds", "pending"): to_be_removed,
    ("eds", "in_flight"): removal_sent,
    ("eds", "pending in_flight"): removal_sent_and_requested,
    ("cds", "withheld"): removal_withheld,
    ("cds", "in_flight withheld"): deleted_in_flight,
}


def life(words: str) -> Life:
    return Life(*(field in words.split() for field in Life._fields))


@pytest.mark.parametrize(("kind", "words"), WAYS)
def test_a_name_comes_to_each_row_of_the_table(kind: str, words: str) -> None:
    talk = Talk(Wire.DELTA)
    WAYS[kind, words](talk)
    subscription = talk.session.subscriptions[KINDS[kind]]
    assert life_of(subscription, "a") == life(words)
    assert "a" in subscription.interest
    assert not list(broken(subscription))


def test_the_table_has_these_rows_and_no_others() -> None:
    assert {life(words) for _, words in WAYS} == ALLOWED.keys()
    assert all(ALLOWED.values()), "each with a meaning"


def test_a_full_state_that_is_requested_still_has_what_is_withheld() -> None:
    talk = Talk(Wire.SOTW)
    talk.put(cds="a=1", lds="l=1")
    talk.ask("cds", "*")
    talk.ask("lds")
    talk.agree()
    assert talk.publish(lds="l=2") == ["lds l=2"]
    assert talk.ask("cds", "*", "a") == ["cds a=1"]
    assert life_of(talk.session.subscriptions[CLUSTER], "a") == life("in_flight withheld")
    assert talk.ack("cds") == []
    assert talk.ack("lds") == []
    assert talk.passes(REQUEST_GRACE) == ["cds"], "the client does not use routes"


def test_an_ack_of_what_was_unsubscribed_meanwhile_does_not_count() -> None:
    talk = Talk(Wire.DELTA)
    talk.put(eds="a=1 b=1")
    talk.sub("eds", "a")
    first = talk.nonces["eds"]
    talk.sub("eds", "b")
    talk.sub("eds", un=["a"])
    talk.ack_of("eds", first)
    assert not talk.session.accepted(ENDPOINT, "a")
    assert not list(broken(talk.session.subscriptions[ENDPOINT]))


def test_what_was_unsubscribed_in_flight_and_is_deleted_then_is_not_removed() -> None:
    talk = Talk(Wire.DELTA)
    talk.put(eds="a=1")
    talk.sub("eds", "a")
    talk.sub("eds", un=["a"])
    assert talk.publish() == []
    assert talk.ack("eds") == []
    assert not list(broken(talk.session.subscriptions[ENDPOINT]))


def test_a_missing_name_that_was_unsubscribed_is_not_sent_when_it_exists() -> None:
    talk = Talk(Wire.DELTA)
    missing(talk)
    talk.sub("eds", un=["a"])
    assert talk.session.unknown == 0
    assert talk.publish(eds="a=1") == []


def forget_it(s: Subscription) -> None:
    s.held -= s.state.existing


def request_what_is_not_pending(s: Subscription) -> None:
    s.requested |= {"a"}


def miss_what_exists(s: Subscription) -> None:
    s.interest.missing |= {"a"}


def run_ahead(s: Subscription) -> None:
    s.accepted = s.generation + 1


@pytest.mark.parametrize("wrong", [forget_it, request_what_is_not_pending, miss_what_exists, run_ahead])
def test_the_check_finds_what_is_not_allowed(wrong: Callable[[Subscription], None]) -> None:
    talk = Talk(Wire.DELTA)
    current(talk)
    subscription = talk.session.subscriptions[ENDPOINT]
    wrong(subscription)
    assert list(broken(subscription))


def test_the_check_finds_what_is_known_of_names_to_which_nobody_subscribes() -> None:
    talk = Talk(Wire.DELTA)
    current(talk)
    talk.sub("eds", un=["a"])
    subscription = talk.session.subscriptions[ENDPOINT]
    assert not list(broken(subscription))
    subscription.held |= subscription.state.existing
    assert list(broken(subscription))


def test_the_check_finds_what_is_withheld_though_it_exists() -> None:
    talk = Talk(Wire.DELTA)
    removal_withheld(talk)
    subscription = talk.session.subscriptions[CLUSTER]
    talk.put(cds="a=1", lds="l=2")
    subscription.generation = subscription.state.generation
    assert "the removal of a is withheld, though it exists" in list(broken(subscription))


FEW = st.sampled_from(["a", "b"])
SOME = st.lists(FEW | st.just("*"), max_size=2).map(tuple)


class Step(NamedTuple):
    """What happens next; `names` and `gone` are subscribed and unsubscribed, or put and deleted."""

    what: str
    names: tuple[str, ...]
    gone: tuple[str, ...]


STEPS = st.builds(Step, st.sampled_from(["publish", "publish", "request", "ack", "ack", "nack", "pass"]), SOME, SOME)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(Wire), st.sampled_from([CLUSTER, ENDPOINT, SECRET]), st.lists(STEPS, max_size=30))
def test_every_name_of_a_type_stays_within_the_table(wire: Wire, type_url: str, steps: list[Step]) -> None:
    """What uses the type is requested as well and never accepted, so that removals are withheld."""
    snapshot, now, edition = Snapshot(), 0.0, 0
    for user in (LISTENER, CLUSTER):
        snapshot[user].update([Resource.of("user", b"1")])
    snapshot.ready = True
    session = Session(wire, snapshot)
    for user in {LISTENER, CLUSTER} - {type_url}:
        session.receive(DiscoveryRequest(user), now)
    in_flight: deque[DiscoveryResponse] = deque()
    for step in steps:
        responses: list[DiscoveryResponse] = []
        match step.what:
            case "publish":
                edition += 1
                put = [Resource.of(name, str(edition).encode()) for name in step.names if name != "*"]
                snapshot[type_url].update(put, step.gone)
                responses = session.publish(now)
            case "pass":
                now += ACK_TIMEOUT
                responses = session.expire(now)
            case "request":
                responses = session.receive(request(wire, type_url, step, in_flight[-1].nonce if in_flight else ""), now)
            case answer if in_flight:
                response = in_flight.popleft()
                answered = request(wire, type_url, step, response.nonce)
                responses = session.receive(replace(answered, error="no" if answer == "nack" else None), now)
        in_flight.extend(response for response in responses if response.type_url == type_url)
        check(session)


def request(wire: Wire, type_url: str, step: Step, nonce: str) -> DiscoveryRequest:
    if wire is Wire.SOTW:
        return DiscoveryRequest(type_url, nonce, names=step.names)
    return DiscoveryRequest(type_url, nonce, subscribe=step.names, unsubscribe=step.gone)
