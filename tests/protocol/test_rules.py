"""The rules of the session, one test each. The ids are those of the protocol's requirements: S state of the world, W wildcards, A answers,
D delta, O order, V versions.
"""

from __future__ import annotations

import pytest

from tests.protocol.life_of_a_name import broken
from tests.protocol.talk import KINDS, SHORT, Talk, resource
from xds.protocol.discovery import DiscoveryRequest, Wire
from xds.protocol.rejections import MOST_IN_FLIGHT, MOST_REJECTED
from xds.protocol.session import REQUEST_GRACE, Session, compact
from xds.protocol.subscription import ACK_TIMEOUT
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, SECRET, TYPES, Snapshot


@pytest.fixture
def sotw() -> Talk:
    return Talk(Wire.SOTW)


@pytest.fixture
def delta() -> Talk:
    return Talk(Wire.DELTA)


# Silence, first answers


def test_o7_nothing_is_said_before_the_first_snapshot_is_complete(sotw: Talk) -> None:
    sotw.snapshot[CLUSTER].update([resource("a=1")])
    assert sotw.ask("cds") == []
    assert sotw.session.publish(0.0) == []
    assert sotw.publish(cds="a=1 b=1") == ["cds a=1 b=1"]


def test_o7_a_client_that_came_too_early_is_not_told_what_it_has(delta: Talk) -> None:
    """Its first request is judged by the complete Snapshot, not by the half of one."""
    assert delta.sub("cds", held={"a": resource("a=1").version, "gone": "1"}) == []
    assert delta.publish(cds="a=1") == []
    assert delta.passes(REQUEST_GRACE) == ["cds -gone"]


@pytest.mark.parametrize("kind", ["cds", "lds"])
@pytest.mark.parametrize("wire", Wire)
def test_s12_d12_a_first_wildcard_with_nothing_to_give_is_answered_once(wire: Wire, kind: str) -> None:
    talk = Talk(wire)
    talk.put()
    assert talk.record(talk.session.receive(DiscoveryRequest(KINDS[kind]), 0.0)) == [kind]
    assert talk.ack(kind) == []
    assert talk.publish() == []


@pytest.mark.parametrize("kind", ["eds", "rds", "sds"])
@pytest.mark.parametrize("wire", Wire)
def test_d16_w4_other_types_are_never_answered_with_nothing(wire: Wire, kind: str) -> None:
    talk = Talk(wire)
    talk.put(**{kind: "a=1"})
    assert talk.record(talk.session.receive(DiscoveryRequest(KINDS[kind]), 0.0)) == [], "no names: no wildcard, nothing"
    assert talk.record(talk.session.receive(DiscoveryRequest(KINDS[kind], names=("*",), subscribe=("*",)), 0.0)) == [f"{kind} a=1"]
    empty = Talk(wire)
    empty.put()
    assert empty.record(empty.session.receive(DiscoveryRequest(KINDS[kind], names=("*",), subscribe=("*",)), 0.0)) == []


def test_an_unknown_type_is_never_answered(delta: Talk) -> None:
    delta.put(cds="a=1")
    assert delta.session.receive(DiscoveryRequest("type.googleapis.com/unheard.of", subscribe=("a", "*")), 0.0) == []
    assert delta.session.publish(0.0) == []


# State of the world


def test_s1_clusters_are_always_said_all_together(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=1")
    assert sotw.ask("cds") == ["cds a=1 b=1"]
    sotw.ack("cds")
    assert sotw.publish(cds="a=1 b=2") == ["cds a=1 b=2"]


def test_s1_clusters_asked_for_by_name_are_said_all_together_and_no_others(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=1 c=1")
    assert sotw.ask("cds", "a", "b") == ["cds a=1 b=1"]
    sotw.ack("cds")
    assert sotw.publish(cds="a=2 b=1 c=2") == ["cds a=2 b=1"]


def test_s2_of_other_types_what_has_changed_is_said(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    assert sotw.ask("eds", "a", "b") == ["eds a=1 b=1"]
    sotw.ack("eds")
    assert sotw.publish(eds="a=1 b=2") == ["eds b=2"]


def test_s3_a_cluster_is_removed_by_leaving_it_out(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=1")
    sotw.ask("cds")
    sotw.ack("cds")
    sotw.passes(REQUEST_GRACE)
    assert sotw.publish(cds="a=1") == ["cds a=1"]
    sotw.ack("cds")
    assert sotw.publish() == ["cds"], "the last one as well"


def test_s3_other_types_are_not_removed(sotw: Talk) -> None:
    sotw.put(rds="a=1 b=1")
    sotw.ask("rds", "a", "b")
    sotw.ack("rds")
    assert sotw.publish(rds="a=1") == []


@pytest.mark.parametrize("kind", ["cds", "eds"])
def test_s4_a_name_that_does_not_exist_is_said_when_it_does(sotw: Talk, kind: str) -> None:
    sotw.put(**{kind: "a=1"})
    assert sotw.ask(kind, "a", "z") == [f"{kind} a=1"]
    sotw.ack(kind)
    assert sotw.publish(**{kind: "a=1 z=1"}) == [{"cds": "cds a=1 z=1", "eds": "eds z=1"}[kind]]


def test_s5_a_name_that_is_added_is_said_again_though_it_has_not_changed(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    sotw.ask("eds", "a")
    assert sotw.ask("eds", "b") == ["eds b=1"]
    assert sotw.ask("eds", "a", "b") == ["eds a=1"]


def test_s6_an_ack_is_not_answered_nor_is_a_snapshot_without_change(sotw: Talk) -> None:
    sotw.put(cds="a=1")
    sotw.ask("cds")
    assert sotw.ack("cds") == []
    assert sotw.publish(cds="a=1") == []


def test_s6_what_others_asked_for_is_not_said(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    sotw.ask("eds", "a")
    sotw.ack("eds")
    assert sotw.publish(eds="a=1 b=2") == []


def test_s7_of_several_requests_the_latest_counts(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1 c=1")
    sotw.ask("eds", "a")
    first = sotw.nonces["eds"]
    assert sotw.ask("eds", "a", "b") == ["eds b=1"]
    assert sotw.ask("eds", "a", "b", "c", nonce=first) == [], "it has not read our last response yet"
    assert sotw.ask("eds", "a", "c") == ["eds c=1"]
    sotw.ack("eds")
    assert sotw.publish(eds="a=2 b=2 c=2") == ["eds a=2 c=2"]


def test_s9_a_name_asked_for_twice_is_said_once(sotw: Talk) -> None:
    sotw.put(eds="a=1")
    assert sotw.ask("eds", "a", "a") == ["eds a=1"]


def test_s11_the_first_answer_is_left_out_if_the_client_has_that_version(sotw: Talk) -> None:
    sotw.put(cds="a=1")
    assert sotw.ask("cds", version=sotw.snapshot[CLUSTER].version) == []
    assert sotw.publish(cds="a=2") == ["cds a=2"]


def test_s11_another_version_and_other_types_are_answered(sotw: Talk) -> None:
    sotw.put(cds="a=1", eds="b=1", lds="l=1")
    assert sotw.ask("cds", version="old") == ["cds a=1"]
    sotw.ack("cds")
    assert sotw.ask("eds", "b", version=sotw.snapshot[ENDPOINT].version) == ["eds b=1"], "Envoy may be warming"
    assert sotw.ask("lds", "l", version=sotw.snapshot[LISTENER].version) == ["lds l=1"], "no wildcard: the version may be of another part"


def test_s11_a_version_with_clusters_that_are_about_to_go_is_another_version(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=1", rds="r=1")
    sotw.ask("cds")
    sotw.ask("rds", "r")
    sotw.agree()
    assert sotw.publish(cds="b=2", rds="r=2") == ["cds a=1 b=2", "rds r=2"]
    assert sotw.versions["cds"] != sotw.snapshot[CLUSTER].version


def test_s14_what_was_dropped_is_not_said(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    sotw.ask("eds", "a", "b")
    assert sotw.publish(eds="a=2 b=2") == []
    assert sotw.ask("eds", "b") == ["eds b=2"]


def test_s15_a_client_that_never_answers_is_still_served(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    assert sotw.ask("eds", "a") == ["eds a=1"]
    assert sotw.publish(eds="a=1 b=2") == []
    assert sotw.ask("eds", "a", "b") == ["eds b=2"], "with the last nonce"
    sotw.publish(eds="a=3 b=2")
    assert sotw.session.deadline == ACK_TIMEOUT
    assert sotw.passes(ACK_TIMEOUT) == ["eds a=3 b=2"], "what was not answered, and what is new"
    assert sotw.passes(ACK_TIMEOUT) == []
    assert sotw.session.deadline is None


def test_b1_a_slow_client_skips_states(sotw: Talk) -> None:
    sotw.put(cds="a=1")
    assert sotw.ask("cds") == ["cds a=1"]
    assert sotw.publish(cds="a=2") == []
    assert sotw.publish(cds="a=3") == []
    assert sotw.ack("cds") == ["cds a=3"]


# Wildcards


def test_w1_the_walk_in_state_of_the_world(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=1")
    assert sotw.ask("cds") == ["cds a=1 b=1"]
    assert sotw.ask("cds", "*", "a") == ["cds a=1 b=1"]
    sotw.ack("cds")
    assert sotw.publish(cds="a=1 b=2") == ["cds a=1 b=2"]
    assert sotw.ask("cds", "a") == []
    assert sotw.publish(cds="a=1 b=3") == []
    assert sotw.publish(cds="a=2 b=3") == ["cds a=2"]
    assert sotw.ask("cds") == []
    assert sotw.publish(cds="a=3 b=3") == [], "no names, but there were: nothing, not everything again"


def test_w2_the_walk_in_delta(delta: Talk) -> None:
    delta.put(cds="a=1 b=1")
    assert delta.sub("cds") == ["cds a=1 b=1"]
    assert delta.sub("cds", "a") == ["cds a=1"]
    delta.agree()
    assert delta.publish(cds="a=1 b=2") == ["cds b=2"]
    delta.ack("cds")
    assert delta.sub("cds", un=["*"]) == []
    assert delta.publish(cds="a=2 b=3") == ["cds a=2"]
    delta.ack("cds")
    assert delta.sub("cds", un=["a"]) == []
    assert delta.publish(cds="a=3 b=3") == []


@pytest.mark.parametrize("kind", ["cds", "eds"])
@pytest.mark.parametrize("wire", Wire)
def test_w3_an_explicit_wildcard_with_names(wire: Wire, kind: str) -> None:
    talk = Talk(wire)
    talk.put(**{kind: "a=1 b=1"})
    assert talk.record(talk.session.receive(DiscoveryRequest(KINDS[kind], names=("*", "z"), subscribe=("*", "z")), 0.0)) == [
        f"{kind} a=1 b=1" + (" -z" if wire is Wire.DELTA else "")
    ]


@pytest.mark.parametrize("wire", Wire)
def test_w5_the_legacy_wildcard_can_be_switched_off(wire: Wire) -> None:
    talk = Talk(wire, legacy_wildcards=())
    talk.put(cds="a=1")
    assert talk.record(talk.session.receive(DiscoveryRequest(CLUSTER), 0.0)) == []
    assert talk.record(talk.session.receive(DiscoveryRequest(CLUSTER, names=("*",), subscribe=("*",)), 0.0)) == ["cds a=1"]


def test_w6_dropping_a_name_under_a_wildcard_is_answered(delta: Talk) -> None:
    delta.put(cds="a=1")
    delta.sub("cds", "*", "a", "z")
    delta.ack("cds")
    assert delta.sub("cds", un=["a", "z"]) == ["cds a=1 -z"]


def test_w7_what_has_changed_is_not_said_once_the_wildcard_is_dropped(delta: Talk) -> None:
    delta.put(cds="a=1")
    delta.sub("cds")
    assert delta.publish(cds="a=2") == [], "it waits for the answer"
    assert delta.sub("cds", un=["*"]) == []
    assert delta.ack("cds") == []


def test_w7_a_wildcard_that_was_dropped_before_its_answer_is_not_answered(delta: Talk) -> None:
    delta.put(cds="a=1")
    assert delta.sub("cds") == ["cds a=1"]
    assert delta.sub("lds") == [], "listeners wait for the cluster"
    assert delta.sub("lds", un=["*"]) == []
    assert delta.ack("cds") == []


def test_w7_everything_and_nothing_in_one_message_is_nothing_yet(delta: Talk) -> None:
    delta.put(cds="a=1")
    assert delta.sub("cds", "*", un=["*"]) == []
    assert delta.publish(cds="a=2") == []
    assert delta.sub("cds", "a") == ["cds a=2"]


# Nonces and answers


@pytest.mark.parametrize("wire", Wire)
def test_a1_each_nonce_is_new(wire: Wire) -> None:
    snapshot = Snapshot()
    snapshot[CLUSTER].update([resource("a=1")])
    snapshot[ENDPOINT].update([resource("a=1")])
    snapshot.ready = True
    nonces = []
    for prefix in ("x-", "y-"):
        session = Session(wire, snapshot, nonce_prefix=prefix)
        for type_url in (CLUSTER, ENDPOINT):
            nonces += [r.nonce for r in session.receive(DiscoveryRequest(type_url, names=("a",), subscribe=("a",)), 0.0)]
    assert nonces == ["x-1", "x-2", "y-1", "y-2"]


def test_a2_an_old_or_foreign_nonce_is_ignored_and_counted(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    sotw.ask("eds", "a")
    assert sotw.ask("eds", "a", "b", nonce="foreign") == []
    assert sotw.session.stale_nonces(ENDPOINT) == 1
    assert sotw.publish(eds="a=2 b=2") == [], "it was no answer either"
    assert sotw.ask("eds", "a") == ["eds a=2"]


def test_a2_no_nonce_but_other_names_begins_anew(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1")
    sotw.ask("eds", "a")
    assert sotw.ask("eds", "a", nonce="") == []
    assert sotw.ask("eds", "a", "b", nonce="") == ["eds a=1 b=1"]


def test_a2_no_nonce_and_the_same_silence_is_ignored(sotw: Talk) -> None:
    sotw.put(cds="a=1")
    assert sotw.ask("cds") == ["cds a=1"]
    assert sotw.ask("cds", nonce="") == []
    assert sotw.session.stale_nonces(CLUSTER) == 1


def test_a3_delta_takes_names_with_any_nonce(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    delta.sub("eds", "a")
    assert delta.sub("eds", "b", nonce="foreign") == ["eds b=1"]
    assert delta.session.stale_nonces(ENDPOINT) == 1


@pytest.mark.parametrize("wire", Wire)
def test_a2_the_nonce_of_an_earlier_stream_in_a_first_request_is_not_counted(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1")
    assert talk.record(talk.session.receive(DiscoveryRequest(CLUSTER, nonce="earlier"), 0.0)) == ["cds a=1"]
    assert talk.session.stale_nonces(CLUSTER) == 0


def test_a3_a_delta_client_that_asks_before_it_answers_is_answered(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    assert delta.sub("eds", "a") == ["eds a=1"]
    assert delta.sub("eds", "b") == ["eds b=1"], "and not a again"
    assert delta.publish(eds="a=2 b=1") == [], "what has changed waits"


def test_a3_but_not_without_end(delta: Talk) -> None:
    delta.put(eds="a=1")
    for _ in range(MOST_IN_FLIGHT):
        assert delta.sub("eds", "a") == ["eds a=1"]
    assert delta.sub("eds", "a") == []
    assert delta.ack("eds") == ["eds a=1"]


@pytest.mark.parametrize("wire", Wire)
def test_a4_a_nack_is_one_by_its_error_however_empty(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1")
    talk.ask("cds") if wire is Wire.SOTW else talk.sub("cds")
    talk.nack("cds", error="")
    assert talk.session.rejections == {CLUSTER: ""}


@pytest.mark.parametrize("wire", Wire)
def test_a5_what_was_rejected_alone_is_not_said_again(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(eds="a=bad b=1")
    talk.ask("eds", "a") if wire is Wire.SOTW else talk.sub("eds", "a")
    assert talk.nack("eds") == []
    assert talk.passes(100 * ACK_TIMEOUT) == []
    assert talk.publish(eds="a=bad b=2") == [], "a change of what it did not ask for is no change"
    assert talk.publish(eds="a=worse b=2") == ["eds a=worse"]
    assert talk.nack("eds") == []
    assert talk.publish(eds="a=bad b=2") == [], "nor what was rejected before that"
    assert talk.publish(eds="a=good b=2") == ["eds a=good"]


def test_t4_in_delta_the_names_of_a_rejected_response_are_said_one_by_one(delta: Talk) -> None:
    delta.put(eds="a=1 b=bad c=1")
    first = delta.sub("eds", "a", "b", "c")
    assert first == ["eds a=1 b=bad c=1"]
    assert delta.nack("eds") == ["eds a=1", "eds b=bad", "eds c=1"]
    a, b, c = delta.in_flight("eds")
    assert delta.ack_of("eds", a) == []
    assert delta.ack_of("eds", b, "no") == []
    assert delta.ack_of("eds", c) == []
    assert [delta.session.accepted(ENDPOINT, name) for name in "abc"] == [True, False, True]
    assert delta.session.rejections == {ENDPOINT: "no"}, "b is still what it was"
    assert delta.passes(100 * ACK_TIMEOUT) == []
    assert delta.publish(eds="a=2 b=bad c=2") == ["eds a=2 c=2"], "they are beyond suspicion"


def test_t4_in_state_of_the_world_they_are_said_one_after_the_other(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=bad c=1")
    sotw.ask("eds", "a", "b", "c")
    assert sotw.nack("eds") == ["eds a=1"]
    assert sotw.ack("eds") == ["eds b=bad"]
    assert sotw.nack("eds") == ["eds c=1"]
    assert sotw.ack("eds") == []
    assert sotw.session.rejections == {ENDPOINT: "no"}


def test_t4_others_take_turns_with_what_is_said_apart(sotw: Talk) -> None:
    sotw.put(eds="a=1 b=1 c=1")
    sotw.ask("eds", "a", "b")
    assert sotw.nack("eds") == ["eds a=1"]
    assert sotw.ask("eds", "a", "b", "c") == ["eds b=1"]
    assert sotw.ack("eds") == ["eds c=1"]
    assert sotw.publish(eds="a=1 b=1 c=2") == []
    assert sotw.ack("eds") == ["eds c=2"]


def test_t4_many_are_said_again_in_as_many_parts_as_may_be_in_flight(delta: Talk) -> None:
    """One culprit among 10,000 is alone after four rounds."""
    names = [f"{n:05}" for n in range(10_000)]
    delta.put(cds=" ".join(f"{name}=1" for name in names))
    delta.session.receive(DiscoveryRequest(CLUSTER), 0.0)
    [nonce] = delta.in_flight("cds")
    responses, rounds = [], 0
    culprit = "04711"
    found = delta.session.receive(DiscoveryRequest(CLUSTER, nonce, "no"), 0.0)
    while found:
        responses += found
        rounds += 1
        assert len(found) <= MOST_IN_FLIGHT
        found = [
            said
            for response in found
            for said in delta.session.receive(
                DiscoveryRequest(CLUSTER, response.nonce, "no" if culprit in {r.name for r in response.resources} else None), 0.0
            )
        ]
    assert rounds == 4
    assert [n for n in names if not delta.session.accepted(CLUSTER, n)] == [culprit]


def test_t4_what_was_rejected_alone_is_said_alone_until_it_is_accepted(delta: Talk) -> None:
    delta.put(eds="a=1 b=bad")
    delta.sub("eds", "b")
    delta.nack("eds")
    delta.sub("eds", "a")
    delta.ack("eds")
    assert sorted(delta.publish(eds="a=2 b=2")) == ["eds a=2", "eds b=2"]
    delta.agree()
    assert delta.publish(eds="a=3 b=3") == ["eds a=3 b=3"]


def test_t4_what_was_rejected_alone_is_said_alone_though_a_larger_response_is_rejected_later(delta: Talk) -> None:
    others = " ".join(f"b{number:02}=1" for number in range(99))
    delta.put(eds=f"a=1 {others}")
    delta.sub("eds", *delta.snapshot[ENDPOINT])
    large = delta.nonces["eds"]
    assert delta.sub("eds", "a") == ["eds a=1"]
    assert delta.nack("eds") == []
    assert delta.publish(eds=f"a=2 {others}") == [], "the large response has it, too"
    assert "eds a=2" in delta.ack_of("eds", large, "no")


def test_t4_a_newer_state_of_what_is_said_apart_waits_for_the_answer(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    delta.sub("eds", "a", "b")
    assert delta.nack("eds") == ["eds a=1", "eds b=1"]
    assert delta.publish(eds="a=2 b=1") == []
    a, _ = delta.in_flight("eds")
    assert delta.ack_of("eds", a) == ["eds a=2"]


def test_t4_what_the_client_drops_is_no_longer_suspected(delta: Talk) -> None:
    delta.put(eds="a=bad b=1")
    delta.sub("eds", "a")
    delta.nack("eds")
    delta.sub("eds", un=["a"])
    delta.publish(eds="a=2 b=1")
    assert delta.sub("eds", "a", "b") == ["eds a=2 b=1"]


@pytest.mark.parametrize("wire", Wire)
def test_t4_what_has_gone_is_no_longer_suspected(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(eds="a=bad b=1")
    talk.ask("eds", "a", "b") if wire is Wire.SOTW else talk.sub("eds", "a", "b")
    talk.nack("eds")
    talk.publish()
    for _ in range(3):
        talk.agree()
    assert talk.publish(eds="a=2 b=2") == ["eds a=2 b=2"]


def test_t4_in_delta_each_secret_that_no_client_has_accepted_is_said_alone(delta: Talk) -> None:
    delta.put(sds="a=1 b=1")
    assert sorted(delta.sub("sds", "a", "b", "y", "z")) == ["sds -y -z", "sds a=1", "sds b=1"]
    delta.agree()
    assert sorted(delta.publish(sds="a=2 b=2")) == ["sds a=2", "sds b=2"]
    delta.agree()
    another = Talk(Wire.DELTA, snapshot=delta.snapshot)
    assert another.sub("sds", "a", "b") == ["sds a=2 b=2"]


def test_t4_in_state_of_the_world_one_after_the_other(sotw: Talk) -> None:
    sotw.put(sds="a=1 b=1")
    assert sorted([*sotw.ask("sds", "a", "b"), *sotw.ack("sds")]) == ["sds a=1", "sds b=1"]
    sotw.ack("sds")
    another = Talk(Wire.SOTW, snapshot=sotw.snapshot)
    assert another.ask("sds", "a", "b") == ["sds a=1 b=1"]


def test_t4_a_secret_that_a_client_has_from_before_has_been_accepted(delta: Talk) -> None:
    delta.put(sds="a=1 b=1")
    delta.sub("sds", "a", "b", held={n: delta.version("sds", n) for n in "ab"})
    another = Talk(Wire.DELTA, snapshot=delta.snapshot)
    assert another.sub("sds", "a", "b") == ["sds a=1 b=1"]


def test_a5_a_rejected_full_state_is_not_said_again_in_whatever_way(sotw: Talk) -> None:
    sotw.put(cds="a=1 b=bad")
    sotw.ask("cds")
    sotw.nack("cds")
    assert sotw.passes(100 * ACK_TIMEOUT) == []
    assert sotw.publish(cds="a=1") == ["cds a=1"]


def test_a5_the_innocent_and_the_removed_are_not_left_behind(delta: Talk) -> None:
    delta.put(cds="a=1 b=1 c=1")
    delta.sub("cds")
    delta.ack("cds")
    delta.passes(REQUEST_GRACE)
    assert delta.publish(cds="a=bad b=2") == ["cds a=bad b=2 -c"]
    assert sorted(delta.nack("cds")) == ["cds -c", "cds a=bad", "cds b=2"]
    for nonce, sent in zip(delta.in_flight("cds"), delta.last["cds"], strict=True):
        assert delta.ack_of("cds", nonce, "no" if sent == "cds a=bad" else None) == []
    assert delta.publish(cds="a=1 b=2") == ["cds a=1"], "it was put back"
    assert delta.ack("cds") == []
    assert delta.publish(cds="a=1 b=2 d=1") == ["cds d=1"]


def test_a5_what_was_rejected_before_is_remembered_up_to_a_limit(delta: Talk) -> None:
    delta.put(cds="a=0")
    delta.sub("cds")
    for n in range(1, MOST_REJECTED + 1):
        assert delta.nack("cds") == []
        assert delta.publish(cds=f"a={n}") == [f"cds a={n}"]
    delta.nack("cds")
    assert delta.publish(cds="a=1") == []
    assert delta.publish(cds="a=0") == ["cds a=0"]


def test_a5_what_was_rejected_and_dropped_is_over(delta: Talk) -> None:
    delta.put(eds="a=bad b=1")
    delta.sub("eds", "a", "b")
    delta.sub("eds", un=["a"])
    assert delta.nack("eds") == ["eds b=1"], "the innocent without the one that is wanted no more"
    delta.ack("eds")
    assert delta.session.rejections == {}


def test_a5_what_the_client_may_have_of_a_rejected_response_is_taken_away(delta: Talk) -> None:
    delta.put(cds="a=1")
    delta.sub("cds")
    delta.ack("cds")
    delta.passes(REQUEST_GRACE)
    delta.publish(cds="a=1 x=bad")
    assert delta.nack("cds") == []
    assert delta.publish(cds="a=1") == ["cds -x"]


@pytest.mark.parametrize("wire", Wire)
def test_a6_new_names_in_a_nack_are_served_and_the_rejected_ones_are_not(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(sds="a=bad b=1")
    talk.ask("sds", "a") if wire is Wire.SOTW else talk.sub("sds", "a")
    request = DiscoveryRequest(SECRET, talk.nonces["sds"], "no", names=("a", "b"), subscribe=("b",))
    assert talk.record(talk.session.receive(request, 0.0)) == ["sds b=1"]
    assert talk.ack("sds") == []
    assert talk.session.rejections == {SECRET: "no"}, "a is still what it was"


def test_d5_against_a5_a_rejected_resource_is_said_to_a_client_that_asks_for_it_again(delta: Talk) -> None:
    delta.put(eds="a=bad")
    delta.sub("eds", "a")
    delta.nack("eds")
    assert delta.sub("eds", "a") == ["eds a=bad"]


@pytest.mark.parametrize("wire", Wire)
def test_a7_a10_a_rejection_is_told_until_something_is_accepted(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(eds="a=1")
    talk.ask("eds", "a") if wire is Wire.SOTW else talk.sub("eds", "a")
    talk.nack("eds", "no such thing")
    assert talk.session.rejections == {ENDPOINT: "no such thing"}
    status = talk.session.status(ENDPOINT)
    assert (status.error, [r.name for r in status.rejected], status.accepted) == ("no such thing", ["a"], "")
    talk.publish(eds="a=2")
    assert talk.session.rejections == {ENDPOINT: "no such thing"}
    talk.ack("eds")
    assert talk.session.rejections == {}
    assert talk.session.status(ENDPOINT).accepted == talk.snapshot[ENDPOINT].version


def test_a10_an_answer_to_an_earlier_response_clears_nothing(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    delta.sub("eds", "a")
    first = delta.nonces["eds"]
    delta.sub("eds", "b")
    delta.session.receive(DiscoveryRequest(ENDPOINT, first, "no"), 0.0)
    delta.ack("eds")
    assert delta.session.rejections == {ENDPOINT: "no"}


@pytest.mark.parametrize("wire", Wire)
def test_a10_a_rejection_is_over_when_the_client_wants_nothing_of_the_type_any_more(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(eds="a=bad")
    talk.ask("eds", "a") if wire is Wire.SOTW else talk.sub("eds", "a")
    talk.nack("eds")
    talk.ask("eds") if wire is Wire.SOTW else talk.sub("eds", un=["a"])
    assert talk.session.rejections == {}


def test_a10_a_rejection_is_over_when_the_client_drops_what_it_rejected_and_accepts_the_rest(delta: Talk) -> None:
    delta.put(eds="a=bad b=1")
    delta.sub("eds", "a")
    delta.nack("eds")
    delta.sub("eds", "b")
    delta.ack("eds")
    assert delta.session.rejections == {ENDPOINT: "no"}
    delta.sub("eds", un=["a"])
    assert delta.session.rejections == {}


def test_an_ack_for_nothing_and_a_second_one_change_nothing(delta: Talk) -> None:
    delta.put(eds="a=1")
    assert delta.sub("eds", nonce="7") == []
    delta.sub("eds", "a")
    assert delta.ack("eds") == []
    assert delta.nack("eds") == []
    assert delta.session.rejections == {}


# Delta


def test_d2_d3_what_has_changed_and_what_is_gone_is_said(delta: Talk) -> None:
    delta.put(eds="a=1 b=1 c=1")
    assert delta.sub("eds", "a", "b", "c") == ["eds a=1 b=1 c=1"]
    delta.ack("eds")
    assert delta.publish(eds="a=2 c=1") == ["eds a=2 -b"]


def test_d4_a_name_that_does_not_exist_is_said_to_be_gone_and_said_when_it_comes(delta: Talk) -> None:
    delta.put()
    assert delta.sub("eds", "z") == ["eds -z"]
    delta.ack("eds")
    assert delta.publish(eds="z=1") == ["eds z=1"]


def test_d4_who_drops_one_name_that_does_not_exist_is_still_sent_the_others(delta: Talk) -> None:
    delta.publish(eds="c=1")
    assert delta.sub("eds", "a", "b") == ["eds -a -b"]
    assert [delta.ack("eds"), delta.sub("eds", un=("a",))] == [[], []]
    assert delta.publish(eds="a=1 b=1 c=1") == ["eds b=1"]


def test_d5_a_name_asked_for_again_is_answered_again(delta: Talk) -> None:
    delta.put(eds="a=1")
    delta.sub("eds", "a")
    delta.ack("eds")
    assert delta.sub("eds", "a") == ["eds a=1"]


def test_d6_d8_after_a_reconnect_only_what_differs_is_said(delta: Talk) -> None:
    """Envoy lists what it asks for by name twice, among the names and among the versions."""
    delta.put(eds="a=1 b=2")
    held = {"a": delta.version("eds", "a"), "b": "old", "c": "gone"}
    assert delta.sub("eds", "a", "b", "c", held=held) == ["eds b=2 -c"]
    delta.ack("eds")
    assert delta.publish(eds="a=3 b=2 c=3") == ["eds a=3 c=3"]


def test_v4_a_client_that_has_everything_is_told_nothing(delta: Talk) -> None:
    delta.put(cds="a=1", eds="a=1")
    assert delta.sub("cds", held={"a": delta.version("cds", "a")}) == []
    assert delta.sub("eds", "a", held={"a": delta.version("eds", "a")}) == []
    assert delta.session.status(CLUSTER).accepted == delta.snapshot[CLUSTER].version
    assert delta.session.accepted(CLUSTER, "a")


def test_d6_versions_of_what_it_does_not_ask_for_mean_nothing(delta: Talk) -> None:
    delta.put(eds="a=1")
    assert delta.sub("eds", "a", held={"b": "gone"}) == ["eds a=1"]


def test_d7_versions_in_a_later_request_are_ignored(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    delta.sub("eds", "a")
    assert delta.sub("eds", "b", held={"b": delta.version("eds", "b"), "a": "old"}) == ["eds b=1"]


def test_d6_what_is_gone_is_not_removed_before_what_uses_it_even_if_it_is_subscribed_again(delta: Talk) -> None:
    delta.put(cds="c=1")
    assert delta.sub("cds", held={"a": "old"}) == ["cds c=1"]
    assert delta.sub("eds", "a", held={"a": "old"}) == [], "a cluster that the client may have uses it"
    assert not list(broken(delta.session.subscriptions[ENDPOINT]))
    delta.ack("cds")
    assert delta.passes(REQUEST_GRACE) == ["cds -a"]
    assert delta.ack("cds") == ["eds -a"]


def test_d9_dropping_what_was_never_asked_for_is_harmless(delta: Talk) -> None:
    delta.put(eds="a=1")
    assert delta.sub("eds", "a", un=["z"]) == ["eds a=1"]
    delta.ack("eds")
    assert delta.sub("eds", un=["a", "z"]) == []
    assert delta.publish(eds="a=2") == []


def test_what_came_and_went_unsaid_is_not_said_to_be_gone(delta: Talk) -> None:
    delta.put(cds="a=1")
    delta.sub("cds")
    delta.publish(cds="a=1 b=1")
    assert delta.ack("cds") == ["cds b=1"]
    delta.publish(cds="a=1 b=1 c=1")
    delta.publish(cds="a=1 b=1")
    assert delta.ack("cds") == []


def test_what_is_gone_while_it_is_under_way_is_taken_away(delta: Talk) -> None:
    delta.put(eds="a=1")
    delta.sub("eds", "a")
    assert delta.publish() == []
    assert delta.ack("eds") == ["eds -a"]


def test_what_is_to_be_taken_away_comes_back_and_goes_again_is_taken_away(delta: Talk) -> None:
    delta.put(lds="l=1 m=1")
    delta.sub("lds")
    delta.ack("lds")
    delta.publish(lds="l=2 m=1")
    delta.publish(lds="l=2")
    delta.publish(lds="l=2 m=2")
    delta.publish(lds="l=2")
    assert delta.ack("lds") == ["lds -m"]


def test_d4_what_goes_before_it_could_be_said_is_said_to_be_gone(delta: Talk) -> None:
    delta = settled(Wire.DELTA, lds="l=1")
    delta.publish(cds="a=1", lds="l=1 m=1")
    assert delta.sub("lds", "m") == [], "listeners wait for the cluster"
    delta.publish(cds="a=1", lds="l=1")
    assert delta.ack("cds") == ["lds -m"]


def test_the_number_of_a_name_that_is_gone_is_not_taken_for_that_of_another(delta: Talk) -> None:
    delta.put(eds="a=1")
    delta.sub("eds", "a")
    delta.ack("eds")
    assert delta.publish() == ["eds -a"]
    delta.ack("eds")
    compact(delta.snapshot, [delta.session])
    assert delta.publish(eds="b=1") == []


# Order


@pytest.mark.parametrize("wire", Wire)
def test_o1_changes_of_all_types_are_said_in_order_without_waiting(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1", eds="a=1", lds="l=1", rds="r=1", sds="s=1")
    for kind, names in {"sds": ["s"], "rds": ["r"], "lds": [], "eds": ["a"], "cds": []}.items():
        talk.ask(kind, *names) if wire is Wire.SOTW else talk.sub(kind, *names)
    talk.agree()
    assert talk.publish(cds="a=2", eds="a=2", lds="l=2", rds="r=2", sds="s=2") == ["sds s=2", "cds a=2", "eds a=2", "lds l=2", "rds r=2"]


def settled(wire: Wire, **kinds: str) -> Talk:
    """A client that has accepted all of this."""
    talk = Talk(wire)
    talk.put(**kinds)
    for kind in KINDS:
        names = [] if kind in ("cds", "lds") else [resource(text).name for text in kinds.get(kind, "").split()]
        if wire is Wire.SOTW:
            talk.ask(kind, *names)
        else:
            talk.sub(kind, *names)
        talk.agree()
    talk.passes(REQUEST_GRACE)
    return talk


@pytest.mark.parametrize("wire", Wire)
def test_o2_make_before_break(wire: Wire) -> None:
    """A route moves from x to y: y and its endpoints come first, then the route, and x goes when the route is accepted."""
    talk = settled(wire, cds="x=1", eds="x=1", lds="l=1", rds="r=x")
    delta = wire is Wire.DELTA
    assert talk.publish(cds="y=1", eds="y=1", lds="l=1", rds="r=y") == ["cds y=1" if delta else "cds x=1 y=1"]
    assert talk.ack("cds") == [], "the endpoints of y have not been asked for yet"
    assert (talk.sub("eds", "y") if delta else talk.ask("eds", "x", "y")) == ["eds y=1"]
    assert talk.ack("eds") == ["rds r=y"]
    assert talk.ack("rds") == ["cds -x" if delta else "cds y=1"]
    assert talk.ack("cds") == (["eds -x"] if delta else []), "endpoints go last (D14)"
    assert talk.agree() == []
    assert talk.session.deadline is None


@pytest.mark.parametrize("wire", Wire)
def test_o2_what_is_not_used_any_more_goes_at_once(wire: Wire) -> None:
    talk = settled(wire, cds="x=1 y=1", eds="x=1 y=1", lds="l=1", rds="r=y")
    assert talk.publish(cds="y=1", eds="x=1 y=1", lds="l=1", rds="r=y") == ["cds -x" if wire is Wire.DELTA else "cds y=1"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_routes_do_not_wait_for_changes_of_clusters_that_the_client_has(wire: Wire) -> None:
    talk = settled(wire, cds="x=1", eds="x=1", lds="l=1", rds="r=1")
    assert talk.publish(cds="x=2", eds="x=1", lds="l=1", rds="r=2") == ["cds x=2", "eds x=1", "rds r=2"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_client_that_does_not_accept_a_cluster_holds_its_routes_up_for_a_while_only(wire: Wire) -> None:
    talk = settled(wire, cds="x=1", eds="x=1", lds="l=1", rds="r=1")
    talk.now = 100.0
    talk.publish(cds="x=1 y=1", eds="x=1 y=1", lds="l=1", rds="r=2")
    assert talk.session.deadline == 100.0 + ACK_TIMEOUT
    assert talk.passes(ACK_TIMEOUT - 0.1) == []
    assert talk.passes(0.1) == ["rds r=2"]
    talk.ack("rds")
    assert talk.publish(cds="x=1 y=1", eds="x=1 y=1", lds="l=1", rds="r=3") == ["rds r=3"], "y was given up: the next one does not wait"


def test_o2_a_cluster_is_not_given_up_because_another_one_was(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="x=1", lds="l=1", rds="r=1")
    delta.publish(cds="x=1 y=1", lds="l=1", rds="r=2")
    assert delta.passes(ACK_TIMEOUT) == ["rds r=2"]
    delta.publish(cds="x=1", lds="l=1", rds="r=2")
    delta.agree()
    compact(delta.snapshot, [delta.session])
    assert delta.publish(cds="x=1 z=1", lds="l=1", rds="r=3") == ["cds z=1"], "z has the number that y had"


def test_o2_routes_wait_for_endpoints_that_the_client_asks_for_again(delta: Talk) -> None:
    """Asking again says that it has lost them."""
    delta = settled(Wire.DELTA, cds="x=1", eds="x=1", lds="l=1", rds="r=1")
    assert delta.sub("eds", "x") == ["eds x=1"]
    assert delta.publish(cds="x=1", eds="x=1", lds="l=1", rds="r=2") == []
    assert delta.ack("eds") == ["rds r=2"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_rejected_cluster_does_not_halt_the_routes_for_ever(wire: Wire) -> None:
    talk = settled(wire, cds="x=1", eds="x=1", lds="l=1", rds="r=1")
    talk.publish(cds="x=1 y=bad", eds="x=1 y=1", lds="l=1", rds="r=2")
    assert talk.nack("cds") == []
    assert talk.passes(ACK_TIMEOUT) == ["rds r=2"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_rejected_route_keeps_its_cluster_for_a_while(wire: Wire) -> None:
    talk = settled(wire, cds="x=1 y=1", eds="x=1 y=1", lds="l=1", rds="r=x")
    delta = wire is Wire.DELTA
    assert talk.publish(cds="y=1", eds="x=1 y=1", lds="l=1", rds="r=bad") == ["rds r=bad"]
    assert talk.nack("rds") == []
    assert talk.session.deadline == talk.now + ACK_TIMEOUT
    assert talk.publish(cds="y=2", eds="x=1 y=1", lds="l=1", rds="r=bad") == ["cds y=2" if delta else "cds x=1 y=2", "eds y=1"]
    assert talk.agree() == []
    assert talk.passes(ACK_TIMEOUT) == ["cds -x" if delta else "cds y=2"]


@pytest.mark.parametrize("edition", ["1", "2"], ids=["accepted as it was", "changed in what was rejected"])
def test_o2_a_rejected_full_state_takes_nothing_away_that_routes_still_use(sotw: Talk, edition: str) -> None:
    """x is gone while the state that has it is rejected: the state of before is kept of it, until the routes without it are accepted."""
    sotw = settled(Wire.SOTW, cds="x=1", lds="l=1", rds="l=x")
    sotw.publish(cds=f"a=bad x={edition}", lds="l=1", rds="l=x")
    assert sotw.nack("cds") == []
    assert sotw.publish(cds="a=bad") == (["cds a=bad x=1"] if edition == "2" else [])
    assert (sotw.nack("cds") if edition == "2" else []) == []
    assert sotw.passes(ACK_TIMEOUT) == ["lds"], "by now the cluster a is given up"
    assert sotw.ack("lds") == ["cds a=bad"]


def test_o2_what_is_gone_and_new_in_a_rejected_full_state_is_not_said_again(sotw: Talk) -> None:
    """It may be what was wrong with it, and the client has it in no other way."""
    sotw = settled(Wire.SOTW, cds="a=1", lds="l=1", rds="l=a")
    sotw.publish(cds="a=1 x=bad", lds="l=1", rds="l=a")
    sotw.publish(cds="a=1", lds="l=1", rds="l=a")
    assert sotw.nack("cds") == ["cds a=1"]


def test_o2_what_is_kept_for_a_client_that_comes_back_was_accepted_once() -> None:
    """It may still route to x, however it rejects what is new; and y, which nobody has ever accepted, is not sent again."""
    first = settled(Wire.SOTW, cds="a=1 x=1", lds="l=1", rds="l=x")
    first.publish(cds="a=1 x=bad y=bad", lds="l=1", rds="l=x")
    first.nack("cds")
    first.put(cds="a=bad", lds="l=1", rds="l=a")
    talk = Talk(Wire.SOTW, snapshot=first.snapshot)
    assert talk.ask("cds", version=first.versions["cds"]) == ["cds a=bad x=1"]
    talk.ask("lds", version=first.versions["lds"])
    talk.ask("rds", "l", version=first.versions["rds"])
    assert talk.nack("cds") == []
    assert talk.passes(ACK_TIMEOUT) == ["rds l=a"]
    assert talk.ack("rds") == ["cds a=bad"]


@pytest.mark.parametrize("restarted", [False, True])
def test_o2_what_a_client_brings_along_as_it_is_stays_in_its_full_states(restarted: bool) -> None:
    """x was accepted on the stream before: a rejected change of it, and its end, leave it as it was while routes may use it."""
    first = settled(Wire.SOTW, cds="x=1", lds="l=1", rds="l=x")
    talk = Talk(Wire.SOTW, snapshot=None if restarted else first.snapshot)
    talk.put(cds="x=1", lds="l=1", rds="l=x")
    assert talk.ask("cds", version=first.versions["cds"]) == []
    talk.ask("lds", version=first.versions["lds"])
    talk.ask("rds", "l", version=first.versions["rds"])
    talk.agree()
    talk.passes(REQUEST_GRACE)
    assert talk.publish(cds="x=bad", lds="l=1", rds="l=x") == ["cds x=bad"]
    assert talk.publish(lds="l=1", rds="l=y") == ["rds l=y"]
    assert talk.nack("cds") == [], "that is what it has"
    assert talk.publish(cds="a=1", lds="l=1", rds="l=y") == ["cds a=1 x=1"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_removal_has_time_until_the_routes_that_are_held_up_are_accepted(wire: Wire) -> None:
    talk = settled(wire, cds="x=1", lds="l=1", rds="l=x")
    talk.publish(cds="a=bad", lds="l=1", rds="l=a")
    talk.nack("cds")
    assert talk.passes(ACK_TIMEOUT) == ["rds l=a"]
    assert talk.passes(ACK_TIMEOUT - 0.1) == []
    assert talk.passes(0.1) == ["cds -x" if wire is Wire.DELTA else "cds a=bad"]


def test_o2_a_removal_does_not_wait_for_ever_for_clusters_that_never_come(delta: Talk) -> None:
    """There is always one that holds the routes up: after three times the time of one this does not matter any longer."""
    delta = settled(Wire.DELTA, cds="x=1", lds="l=1", rds="l=x")
    taken: list[int] = []
    for n in range(9):
        came = delta.publish(cds=f"a{n}=bad", lds="l=1", rds=f"l={n}")
        delta.nack("cds")
        came += delta.passes(ACK_TIMEOUT / 2)
        taken += [n for sent in came if sent.startswith("cds ") and sent.endswith("-x")]
    assert taken == [5]


def test_o2_each_removal_waits_for_the_routes_of_its_own_time_not_for_those_to_come(delta: Talk) -> None:
    """Routes that change all the time do not keep clusters alive."""
    delta = settled(Wire.DELTA, cds="x=1 y=1 z=1", lds="l=1", rds="r=1")
    assert delta.publish(cds="y=1 z=1", lds="l=1", rds="r=2") == ["rds r=2"]
    assert delta.publish(cds="z=1", lds="l=1", rds="r=3") == []
    assert delta.ack("rds") == ["cds -x", "rds r=3"]
    delta.ack("cds")
    assert delta.publish(cds="z=1", lds="l=1", rds="r=4") == []
    assert delta.ack("rds") == ["cds -y", "rds r=4"]


def test_o2_routes_go_after_their_listener_and_secrets_too(delta: Talk) -> None:
    delta = settled(Wire.DELTA, lds="l=1 m=1", rds="l=1 m=1", sds="s=1")
    assert delta.publish(lds="l=1", rds="l=1") == ["lds -m"]
    assert delta.ack("lds") == ["sds -s", "rds -m"]


def test_o2_secrets_go_after_the_clusters_that_use_them(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="x=1>sds:s", lds="l=1", sds="s=1")
    assert delta.publish(lds="l=1") == ["cds -x"]
    assert delta.ack("cds") == ["sds -s"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_what_comes_back_before_it_went_is_as_if_it_had_stayed(wire: Wire) -> None:
    talk = settled(wire, cds="x=1 y=1", lds="l=1", rds="r=1")
    assert talk.publish(cds="y=1", lds="l=1", rds="r=2") == ["rds r=2"]
    sent = "cds x=1" if wire is Wire.DELTA else "cds x=1 y=1"
    assert talk.publish(cds="x=1 y=1", lds="l=1", rds="r=3") == [sent]
    assert talk.ack("rds") == [], "whether the client still has it is known when it answers"
    assert talk.agree() == ["rds r=3"]


def test_o2_what_comes_back_unsaid_and_goes_again_is_taken_away(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="x=1 y=1", lds="l=1", rds="r=1")
    assert delta.publish(cds="y=2", lds="l=1", rds="r=2") == ["cds y=2", "rds r=2"]
    delta.publish(cds="x=2 y=2", lds="l=1", rds="r=2")
    delta.publish(cds="y=2", lds="l=1", rds="r=2")
    assert delta.agree() == ["cds -x"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_after_a_reconnect_a_cluster_goes_only_after_the_routes_that_may_use_it(wire: Wire) -> None:
    first = settled(wire, cds="x=1 y=1", lds="l=1", rds="r=x")
    first.put(cds="y=1", lds="l=1", rds="r=y")
    talk = Talk(wire, snapshot=first.snapshot)
    if wire is Wire.DELTA:
        assert talk.sub("cds", held={"x": "1", "y": first.version("cds", "y")}) == []
        assert talk.sub("lds", held={"l": first.version("lds", "l")}) == []
        assert talk.sub("rds", "r", held={"r": "old"}) == ["rds r=y"]
        assert talk.ack("rds") == ["cds -x"]
    else:
        assert talk.ask("cds", version=first.versions["cds"]) == ["cds x=1 y=1"]
        assert talk.ask("lds", version=first.versions["lds"]) == []
        assert talk.ask("rds", "r", version=first.versions["rds"]) == []
        assert talk.ack("cds") == ["rds r=y"]
        assert talk.ack("rds") == ["cds y=1"]


@pytest.mark.parametrize("kind", ["cds", "eds", "lds", "rds", "sds"])
def test_o2_a_client_that_uses_one_type_alone_waits_for_no_other(kind: str, delta: Talk) -> None:
    delta.put(**{kind: "a=1"})
    came = delta.sub(kind, "a", held={"a": "old", "b": "gone"}) + delta.sub(kind, "b")
    assert came == [f"{kind} a=1", f"{kind} -b"] if kind == "cds" else [f"{kind} a=1 -b", f"{kind} -b"]


def test_o2_a_new_client_is_given_its_listeners_even_if_it_takes_no_endpoints(sotw: Talk) -> None:
    sotw.put(cds="a=1", eds="a=1", lds="l=1", rds="r=1")
    assert sotw.ask("cds") == ["cds a=1"]
    assert sotw.ask("lds") == []
    sotw.ack("cds")
    assert sotw.session.deadline == REQUEST_GRACE
    assert sotw.passes(REQUEST_GRACE) == ["lds l=1"]
    assert sotw.ask("rds", "r") == ["rds r=1"]


def test_o2_a_new_client_that_does_not_answer_is_given_its_listeners(sotw: Talk) -> None:
    sotw.put(cds="a=1", lds="l=1")
    sotw.ask("cds")
    sotw.ask("lds")
    assert sotw.session.deadline == REQUEST_GRACE, "it has nothing to lose"
    assert sotw.passes(REQUEST_GRACE) == ["lds l=1"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_client_that_never_takes_endpoints_waits_for_them_for_a_moment_only(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1", lds="l=1")
    for kind in ("cds", "lds"):
        talk.record(talk.session.receive(DiscoveryRequest(KINDS[kind]), 0.0))
        talk.agree()
    talk.publish(cds="a=1 b=1", eds="b=1", lds="l=2")
    assert talk.session.deadline == ACK_TIMEOUT, "it has a listener to lose, and a cluster to accept"
    assert talk.ack("cds") == []
    assert talk.session.deadline == REQUEST_GRACE
    assert talk.passes(REQUEST_GRACE) == ["lds l=2"]


@pytest.mark.parametrize("wire", Wire)
def test_o2_a_client_that_comes_back_with_listeners_has_something_to_lose(wire: Wire) -> None:
    """As after a restart of ours, of which all listeners may be others than those that it has."""
    talk = Talk(wire)
    talk.put(cds="a=1", lds="l=1")
    talk.record(talk.session.receive(DiscoveryRequest(KINDS["cds"]), 0.0))
    brought = DiscoveryRequest(KINDS["lds"], version="old", initial_versions={"gone": "1"} if wire is Wire.DELTA else {})
    assert talk.record(talk.session.receive(brought, 0.0)) == []
    assert talk.session.deadline == ACK_TIMEOUT
    assert talk.ack("cds") == ["lds l=1" if wire is Wire.SOTW else "lds l=1 -gone"]


def test_o11_a_single_type_stream_waits_for_nothing() -> None:
    delta = Talk(Wire.DELTA, ordered=False)
    delta.put(cds="a=1 b=1", eds="a=1 b=1", lds="l=1")
    assert delta.sub("cds", held={"c": "gone"}) == ["cds a=1 b=1 -c"]
    assert delta.sub("lds") == ["lds l=1"]
    delta.agree()
    assert delta.publish(cds="a=1", eds="a=1", lds="l=2") == ["cds -b", "lds l=2"]


@pytest.mark.parametrize("wire", Wire)
def test_o3_endpoints_follow_a_cluster_that_has_changed(wire: Wire) -> None:
    talk = settled(wire, cds="a=1 b=1", eds="a=1 b=1")
    delta = wire is Wire.DELTA
    assert talk.publish(cds="a=2 b=1", eds="a=1 b=1") == ["cds a=2" if delta else "cds a=2 b=1", "eds a=1"]
    assert talk.agree() == []


def test_o3_endpoints_follow_as_soon_as_the_last_ones_are_accepted(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="a=1 b=1", eds="a=1 b=1")
    delta.publish(cds="a=1 b=1", eds="a=1 b=2")
    assert delta.publish(cds="a=2 b=1", eds="a=1 b=2") == ["cds a=2"]
    assert delta.ack("eds") == ["eds a=1"]


@pytest.mark.parametrize("wire", Wire)
def test_o4_endpoints_asked_for_before_clusters_are_said_again_after_them(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1", eds="a=1")
    assert (talk.sub("eds", "a") if wire is Wire.DELTA else talk.ask("eds", "a")) == ["eds a=1"]
    talk.ack("eds")
    assert (talk.sub("cds") if wire is Wire.DELTA else talk.ask("cds")) == ["cds a=1", "eds a=1"]


def test_o4_d6_endpoints_that_the_client_has_are_said_if_their_cluster_was_said_on_this_stream(delta: Talk) -> None:
    delta.put(cds="a=2 b=1", eds="a=1 b=1")
    assert delta.sub("cds", held={"a": "old", "b": delta.version("cds", "b")}) == ["cds a=2"]
    assert delta.sub("eds", "a", "b", held={n: delta.version("eds", n) for n in "ab"}) == ["eds a=1"]


def test_o4_the_number_of_endpoints_that_are_gone_makes_no_others_new(delta: Talk) -> None:
    delta.put(cds="a=1", eds="a=1")
    assert delta.sub("cds") == ["cds a=1"]
    delta.ack("cds")
    delta.publish()
    delta.passes(REQUEST_GRACE)
    delta.ack("cds")
    compact(delta.snapshot, [delta.session])
    assert delta.publish(eds="b=1") == [], "it has the number of a from now on"
    assert delta.sub("eds", "b", held={"b": delta.version("eds", "b")}) == []


@pytest.mark.parametrize("wire", Wire)
def test_o5_secrets_and_routes_follow_a_listener_that_refers_to_them_anew(wire: Wire) -> None:
    """One that is added, and one that is referred to in another way; not the others (envoy 47309)."""
    talk = settled(wire, lds="l=1>sds:s,sds:t@1,rds:q", rds="q=1 r=1", sds="s=1 t=1 u=1")
    sent = talk.publish(lds="l=2>sds:s,sds:t@2,sds:u,rds:q,rds:r", rds="q=1 r=1", sds="s=1 t=1 u=1")
    assert sent == ["lds l=2", "rds r=1", "sds t=1 u=1"]
    assert talk.agree() == []


def test_o5_a_listener_that_refers_as_before_is_followed_by_nothing(delta: Talk) -> None:
    delta = settled(Wire.DELTA, lds="l=1>sds:s", sds="s=1")
    assert delta.publish(lds="l=2>sds:s", sds="s=1") == ["lds l=2"]


def test_o5_secrets_follow_a_cluster(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="a=1", sds="s=1")
    assert delta.publish(cds="a=2>sds:s", sds="s=1") == ["cds a=2", "sds s=1"]


def test_o5_a_slow_client_is_told_of_every_reference_that_it_has_missed(delta: Talk) -> None:
    delta = settled(Wire.DELTA, lds="l=1 m=1", sds="s=1")
    delta.publish(lds="l=1 m=2", sds="s=1")
    delta.publish(lds="l=2>sds:s m=2", sds="s=1")
    delta.publish(lds="l=3>sds:s m=2", sds="s=1")
    assert delta.ack("lds") == ["lds l=3", "sds s=1"]


def test_o5_v5_secrets_that_the_client_has_are_said_if_their_listener_was_said_on_this_stream(delta: Talk) -> None:
    delta.put(lds="l=2>sds:s,sds:t", sds="s=1 t=1 u=1")
    assert delta.sub("lds", held={"l": "old"}) == ["lds l=2"]
    assert delta.sub("sds", "s", "u", held={n: delta.version("sds", n) for n in "su"}) == ["sds s=1"]


def test_t1_a_rotated_secret_goes_first_and_alone(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="a=1", lds="l=1>sds:s", sds="s=1 t=1")
    assert delta.publish(cds="a=1", lds="l=1>sds:s", sds="s=2 t=1") == ["sds s=2"]


# What the fleet asks, and what is forgotten


def test_a_resource_is_accepted_when_the_client_has_it_as_it_is_now(delta: Talk) -> None:
    delta.put(eds="a=1")
    assert not delta.session.accepted(ENDPOINT, "a"), "not asked for"
    delta.sub("eds", "a")
    assert not delta.session.accepted(ENDPOINT, "a"), "not answered"
    delta.ack("eds")
    assert delta.session.accepted(ENDPOINT, "a")
    delta.put(eds="a=2")
    assert not delta.session.accepted(ENDPOINT, "a"), "not sent yet"
    delta.session.publish(0.0)
    assert not delta.session.accepted(ENDPOINT, "a"), "sent"


@pytest.mark.parametrize("wire", Wire)
def test_each_answer_is_told_once_with_what_it_is_about(wire: Wire) -> None:
    talk = Talk(wire)
    talk.put(cds="a=1 b=1")
    talk.ask("cds") if wire is Wire.SOTW else talk.sub("cds", "*")
    talk.ack("cds")
    talk.publish(cds="a=1 b=2")
    talk.nack("cds", "not b")
    talk.ack("cds", "an old nonce, of which nobody knows what it was about")
    first, second = talk.session.take_acknowledgements()
    assert (first.type_url, first.names, first.generation, first.error) == (CLUSTER, {"a", "b"}, 1, None)
    assert (second.type_url, second.names, second.generation, second.error) == (CLUSTER, {"b"}, 2, "not b")
    assert talk.session.take_acknowledgements() == []


def test_what_a_client_brings_along_as_it_is_now_counts_as_accepted(delta: Talk, sotw: Talk) -> None:
    delta.put(cds="a=1 b=2")
    delta.sub("cds", "*", held={"a": delta.version("cds", "a"), "b": "another"})
    assert [(a.names, a.error) for a in delta.session.take_acknowledgements()] == [({"a"}, None)]
    sotw.put(cds="a=1 b=2")
    sotw.ask("cds", version=sotw.snapshot[CLUSTER].version)
    assert [(a.names, a.error) for a in sotw.session.take_acknowledgements()] == [({"a", "b"}, None)]


def test_an_answer_tells_how_far_the_client_has_accepted_everything(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="a=1 b=1", rds="r=1")
    delta.session.take_acknowledgements()
    delta.publish(cds="a=1", rds="r=2")
    delta.ack("rds")
    assert [(SHORT[a.type_url], a.names, a.settled) for a in delta.session.take_acknowledgements()] == [("rds", {"r"}, 2)]
    delta.nack("cds")
    reported = [(SHORT[a.type_url], a.settled, a.rejects) for a in delta.session.take_acknowledgements()]
    assert reported == [("cds", 2, {"b"})], "all but the removal of b"
    assert delta.session.accepted_all(CLUSTER) == 1
    delta.publish(cds="a=2", rds="r=2")
    delta.ack("cds")
    assert [(a.settled, a.rejects) for a in delta.session.take_acknowledgements()] == [(3, {"b"})]
    delta.publish(cds="a=2 b=3", rds="r=2")
    delta.ack("cds")
    assert [(a.settled, a.rejects) for a in delta.session.take_acknowledgements()] == [(4, frozenset())]
    assert delta.session.accepted_all(CLUSTER) == 4


def test_a_client_that_wants_nothing_of_a_change_has_come_that_far_by_itself(delta: Talk, sotw: Talk) -> None:
    for talk in (delta, sotw):
        talk.put(eds="a=1 b=1")
        talk.sub("eds", "a") if talk is delta else talk.ask("eds", "a")
        talk.ack("eds")
        talk.session.take_acknowledgements()
        talk.publish(eds="a=1 b=2")
        assert [(a.names, a.generation, a.settled, a.error) for a in talk.session.take_acknowledgements()] == [(frozenset(), 2, 2, None)]
        talk.publish(eds="a=1 b=2")
        assert talk.session.take_acknowledgements() == [], "reported once"


def test_what_a_client_has_since_a_generation_stays_so_while_others_are_on_their_way(delta: Talk) -> None:
    delta = settled(Wire.DELTA, cds="a=1 b=1")
    delta.publish(cds="a=1 b=2")
    assert [delta.session.accepted(CLUSTER, name, at) for name, at in (("a", 1), ("b", 1), ("b", 2))] == [True, True, False]
    assert delta.session.accepted(CLUSTER, "a", 2), "nothing of it was sent in this generation"
    assert not delta.session.accepted(CLUSTER, "c", 1)
    assert not delta.session.up_to_date(CLUSTER)
    delta.ack("cds")
    assert delta.session.accepted(CLUSTER, "b", 2)
    assert delta.session.up_to_date(CLUSTER)
    delta.put(cds="a=1 b=3")
    assert not delta.session.up_to_date(CLUSTER), "not sent yet"


def test_a_standing_tells_what_was_asked_for_and_what_is_in_flight(delta: Talk) -> None:
    delta.put(eds="a=1")
    delta.sub("eds", "a", "z")
    status = delta.session.status(ENDPOINT)
    assert (status.wildcard, status.names, status.nonces) == (False, ("a", "z"), (delta.nonces["eds"],))
    delta.sub("cds")
    assert delta.session.status(CLUSTER).wildcard
    assert LISTENER not in delta.session.summaries


def test_who_has_rejected_something_last_is_not_settled(delta: Talk) -> None:
    """Also where it wants nothing any more of what it rejected: it has accepted nothing since."""
    delta.put(eds="a=1 b=1")
    delta.sub("eds", "a")
    delta.ack("eds")
    assert delta.session.summaries[ENDPOINT].settled
    delta.sub("eds", "b")
    delta.nack("eds")
    assert delta.sub("eds", un=["b"]) == []
    assert (delta.session.summaries[ENDPOINT].error, delta.session.summaries[ENDPOINT].settled) == ("no", False)


@pytest.mark.parametrize("wire", Wire)
def test_what_is_gone_is_forgotten_once_no_stream_withholds_it(wire: Wire) -> None:
    talk = settled(wire, cds="x=1 y=1", lds="l=1", rds="r=1")
    talk.publish(cds="y=1", lds="l=1", rds="r=2")
    compact(talk.snapshot, [talk.session])
    assert set(talk.snapshot[CLUSTER].gone) == {"x"}
    talk.ack("rds")
    talk.agree()
    compact(talk.snapshot, [talk.session])
    assert not talk.snapshot[CLUSTER].gone


def test_what_a_stream_has_not_taken_note_of_is_not_forgotten(delta: Talk) -> None:
    delta.put(eds="a=1")
    delta.sub("eds", "a")
    delta.ack("eds")
    delta.put()
    compact(delta.snapshot, [delta.session])
    delta.snapshot[ENDPOINT].update([resource("b=1")])
    assert delta.record(delta.session.publish(0.0)) == ["eds -a"], "and b has not been given its number"


def test_what_one_of_several_streams_has_not_taken_note_of_is_not_forgotten(delta: Talk) -> None:
    delta.put(eds="a=1 b=1")
    other = Talk(Wire.DELTA, snapshot=delta.snapshot)
    for talk in (delta, other):
        talk.sub("eds", "a", "b")
        talk.ack("eds")
    assert delta.publish(eds="a=1") == ["eds -b"]
    delta.ack("eds")
    compact(delta.snapshot, [delta.session, other.session])
    delta.snapshot[ENDPOINT].update([resource("c=1")])
    assert other.record(other.session.publish(0.0)) == ["eds -b"], "and c has not been given its number"


def test_without_streams_everything_that_is_gone_is_forgotten(delta: Talk) -> None:
    delta.put(cds="a=1", eds="a=1", sds="s=1")
    delta.put()
    compact(delta.snapshot, [])
    assert not any(delta.snapshot[t].gone or delta.snapshot[t].remembers(n) for t in TYPES for n in "as")
