"""What was published, who has accepted it, and how long that took: on real Sessions, without streams and clocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.protocol.talk import KINDS, Talk
from xds.problem import Ref
from xds.protocol.discovery import Acknowledgement, Wire
from xds.protocol.session import Session
from xds.protocol.subscription import ACK_TIMEOUT
from xds.server import progress as progress_module
from xds.server.frontier import Frontier
from xds.server.messages import EnvoyNode
from xds.server.progress import KEPT, SHOWN, Cause, Programmed, Progress, Publication, Rejection, Verb
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part, Snapshot

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEB = Cause(Ref("Ingress", "shop", "web"), "17", Verb.CHANGED)


@dataclass(eq=False)
class Envoy:
    """A stream with an Envoy behind it that answers when it is told to."""

    node: EnvoyNode | None
    talk: Talk

    @property
    def session(self) -> Session:
        return self.talk.session


@dataclass
class Site:
    """A Snapshot, those who hold it, and a clock."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    snapshot: Snapshot = field(default_factory=Snapshot)
    envoys: list[Envoy] = field(default_factory=list)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.progress = Progress(self.snapshot, self.registry, lambda: self.now)
        self._everything: dict[str, str] = {}

    def publish(self, *causes: Cause, built: float = 0.0, moved: Collection[tuple[Part, str]] = (), **kinds: str) -> None:
        """These resources are as they are given, those of other types as before."""
        before = {t: dict(self.snapshot[t]) for t in KINDS.values()}
        self._everything |= kinds
        Talk(Wire.DELTA, snapshot=self.snapshot).put(**self._everything)
        changed = {}
        for type_url in KINDS.values():
            now = self.snapshot[type_url]
            if names := {n for n in {*now, *before[type_url]} if now.get(n) != before[type_url].get(n)}:
                changed[type_url] = frozenset(names)
        generations = {t: self.snapshot[t].generation for t in changed}
        self.progress.published(causes, changed, generations, built, self.now, AT, moved=moved)
        for envoy in self.envoys:
            envoy.talk.record(envoy.session.publish(self.now))
            self.hear(envoy)

    def envoy(self, name: str = "one", *kinds: str, accepts: bool = True, names: Collection[str] = ("*",)) -> Envoy:
        """Connects an Envoy that asks for all there is of these types (all types: with none given)."""
        envoy = Envoy(EnvoyNode(name), Talk(Wire.DELTA, snapshot=self.snapshot))
        self.envoys.append(envoy)
        for kind in kinds or KINDS:
            envoy.talk.sub(kind, *names)
        self.hear(envoy)
        if accepts:
            self.agree(envoy)
        return envoy

    def agree(self, *envoys: Envoy) -> None:
        for envoy in envoys:
            envoy.talk.agree()
            self.hear(envoy)

    def reject(self, envoy: Envoy, kind: str, words: str) -> None:
        envoy.talk.nack(kind, words)
        self.hear(envoy)

    def hear(self, envoy: Envoy) -> None:
        for answer in envoy.session.take_acknowledgements():
            self.progress.acknowledged(envoy, answer, self.now)

    def leave(self, envoy: Envoy) -> None:
        self.envoys.remove(envoy)
        self.progress.disconnected(envoy, self.now)

    def programmed(self, *parts: Part, held: dict[Part, str] | None = None) -> Programmed:
        return self.progress.programmed(parts, self.progress.envoys(self.envoys), held or {})

    def observed(self, kind: str) -> tuple[float, float]:
        """How many changes of a type were accepted by all, and the sum of their seconds."""
        found = [self.registry.get_sample_value(f"xds_event_to_ack_seconds_{of}", {"type": kind}) for of in ("count", "sum")]
        return found[0] or 0.0, found[1] or 0.0

    @property
    def last(self) -> Publication:
        return self.progress.history()[0]


@pytest.fixture
def site() -> Site:
    made = Site()
    made.publish(cds="a=1 b=1", eds="a=1 b=1", lds="http=1", rds="ingress=1", sds="default=1")
    return made


# From the event to the last answer


def test_a_change_is_accepted_when_the_last_envoy_has_accepted_it(site: Site) -> None:
    one, two = site.envoy("one"), site.envoy("two")
    site.publish(WEB, eds="a=2 b=1", built=0.5)
    site.now += 1
    site.agree(one)
    assert (site.last.accepted, site.last.waiting) == (None, True)
    site.now += 1
    site.agree(two)
    assert (site.last.accepted, site.last.waiting) == (2.5, False), "from the event, which came half a second before"
    assert site.observed("eds") == (1, 2.5)
    assert site.observed("cds") == (0, 0)


def test_a_change_of_several_types_is_accepted_with_the_last_of_them_and_each_is_measured(site: Site) -> None:
    envoy = site.envoy()
    site.publish(cds="a=2 b=1", sds="default=2")
    site.now += 1
    envoy.talk.ack("sds")
    site.hear(envoy)
    assert (site.observed("sds"), site.last.waiting) == ((1, 1.0), True)
    site.now += 1
    site.agree(envoy)
    assert (site.observed("cds"), site.last.accepted) == ((1, 2.0), 2.0)


def test_states_that_an_envoy_skips_are_accepted_with_the_one_that_it_is_told(site: Site) -> None:
    envoy = site.envoy()
    for body in (2, 3, 4):
        site.publish(eds=f"a={body} b=1")
    assert envoy.talk.ack("eds") == ["eds a=4"]
    site.hear(envoy)
    assert [change.waiting for change in site.progress.history()] == [True, True, False, False]
    site.agree(envoy)
    assert [change.waiting for change in site.progress.history()] == [False] * 4
    assert site.observed("eds")[0] == 3


def test_nobody_waits_for_an_envoy_that_has_left(site: Site) -> None:
    one, two = site.envoy("one"), site.envoy("two")
    site.publish(eds="a=2 b=1")
    site.agree(one)
    site.now += 3
    site.leave(two)
    assert (site.last.waiting, site.last.accepted) == (False, 3)


def test_a_change_that_nobody_is_there_to_accept_is_not_waited_for_and_not_measured(site: Site) -> None:
    assert (site.last.waiting, site.last.accepted) == (False, None)
    only = site.envoy()
    site.publish(eds="a=2 b=1")
    site.leave(only)
    assert (site.last.waiting, site.last.accepted) == (False, None)
    assert site.observed("eds") == (0, 0)


def test_an_envoy_that_does_not_want_what_changed_is_not_waited_for(site: Site) -> None:
    narrow, wide = site.envoy("narrow", "eds", names=["b"]), site.envoy("wide")
    site.publish(eds="a=2 b=1")
    site.agree(wide)
    assert not site.last.waiting
    assert narrow.talk.in_flight("eds") == ()


def test_an_envoy_that_never_asked_for_the_type_is_not_waited_for(site: Site) -> None:
    site.envoy("clusters only", "cds")
    full = site.envoy("full")
    site.publish(eds="a=2 b=1")
    site.agree(full)
    assert not site.last.waiting


def test_what_is_withheld_is_not_accepted_yet(site: Site) -> None:
    envoy = site.envoy()
    site.publish(cds="a=1", rds="ingress=2")
    assert envoy.talk.in_flight("cds") == (), "the cluster goes once the routes have been accepted"
    assert site.last.waiting
    site.agree(envoy)
    assert not site.last.waiting


def test_the_slowest_is_the_oldest_change_that_somebody_has_not_accepted(site: Site) -> None:
    envoy = site.envoy()
    assert site.progress.slowest(site.now) == 0
    site.publish(eds="a=2 b=1", built=0.25)
    site.now += 2
    site.publish(cds="a=2 b=1")
    assert site.progress.slowest(site.now) == 2.25
    assert site.registry.get_sample_value("xds_programmed_slowest_seconds") == 2.25
    site.agree(envoy)
    assert site.progress.slowest(site.now) == 0


def test_where_an_envoy_never_answers_what_is_remembered_stays_small(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_MOST_OPEN", 500)
    envoy = site.envoy()
    for number in range(2_000):
        site.publish(eds=f"a={number + 2} b=1")
        site.now += 1
    assert site.progress.remembered.publications <= 500
    assert site.progress.slowest(site.now) == 2_000, "that of the oldest"
    assert all(change.waiting for change in site.progress.history())
    site.agree(envoy)
    assert not any(change.waiting for change in site.progress.history()), "each that can be seen was waited for by itself"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 12)), max_size=60), st.integers(1, 6))
def test_the_front_is_the_least_of_all_envoys_whatever_their_streams_do(moves: list[tuple[int, int]], nodes: int) -> None:
    """A generation of -1 stands for the end of a stream."""
    front = Frontier()
    streams = [Envoy(EnvoyNode(str(n % nodes)), Talk(Wire.DELTA)) for n in range(6)]
    at: dict[int, dict[int, int]] = {}
    for number, generation in moves:
        of_node = at.setdefault(number % nodes, {})
        if generation < 0:
            front.drop(streams[number])
            of_node.pop(number, None)
        else:
            front.move(streams[number], generation)
            of_node[number] = max(of_node.get(number, generation), generation)
        assert front.least() == min((max(each.values()) for each in at.values() if each), default=None)
        assert set(front.nodes) == {str(node) for node, each in at.items() if each}


_STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(("cds", "eds", "rds")), st.text("abcd", max_size=4)),
    st.tuples(st.sampled_from(("agree", "leave")), st.integers(0, 3), st.just("")),
    st.tuples(st.just("reject"), st.integers(0, 3), st.sampled_from(("cds", "eds", "rds"))),
    st.tuples(st.just("join"), st.integers(0, 3), st.just("")),
)


@given(st.lists(_STEPS, max_size=30))
def test_whatever_happens_nothing_is_waited_for_once_all_have_accepted_what_there_is(steps: list[tuple[str, str | int, str]]) -> None:
    site = Site()
    body = 0
    for what, which, words in steps:
        here = [envoy for envoy in site.envoys if which == int(envoy.node.id)] if isinstance(which, int) else []  # type: ignore[union-attr]
        if what == "publish":
            body += 1
            site.publish(**{str(which): " ".join(f"{name}={body}" for name in set(words))})
        elif what == "join" and not here:
            site.envoy(str(which), accepts=False)
        elif here and what == "leave":
            site.leave(here[0])
        elif here and what == "agree":
            site.agree(here[0])
        elif here and what == "reject" and here[0].talk.in_flight(words):
            site.reject(here[0], words, "no")
        assert sum(change.waiting for change in site.progress.history()) == site.progress.remembered.publications
    site.publish(**dict.fromkeys(("cds", "eds", "rds"), " ".join(f"{name}={body + 1}" for name in "abcd")))
    for envoy in (*site.envoys, *site.envoys):
        envoy.talk.passes(site.now + 2 * ACK_TIMEOUT)  # what is withheld is withheld no longer
        site.agree(envoy)
    assert not any(change.waiting for change in site.progress.history())
    assert site.progress.slowest(site.now) == 0
    assert (site.progress.remembered.publications, site.progress.remembered.rejections) == (0, 0)
    for envoy in list(site.envoys):
        site.leave(envoy)
    assert site.progress.remembered == (0, 0, 0)


# The ring


def test_a_change_says_what_caused_it_what_it_touched_and_how_long_it_took(site: Site) -> None:
    gone = Cause(Ref("EndpointSlice", "shop", "web-1"), "18", Verb.REMOVED)
    site.publish(WEB, gone, eds="a=2 b=2", built=0.004)
    assert (site.last.number, site.last.at, site.last.causes, site.last.causes_total) == (2, AT, (WEB, gone), 2)
    assert site.last.resources == {ENDPOINT: (("a", "b"), 2)}
    assert site.last.built == 0.004


def test_the_last_changes_are_kept_newest_first(site: Site) -> None:
    for number in range(KEPT + 5):
        site.publish(eds=f"a={number + 2} b=1")
    assert [change.number for change in site.progress.history()] == list(range(KEPT + 6, 6, -1))


def test_of_many_names_and_causes_the_first_are_shown_and_all_are_counted(site: Site) -> None:
    names = [f"n{n:04}" for n in range(300)]
    site.publish(*[WEB] * 300, eds=" ".join(f"{n}=1" for n in reversed(names)))
    assert (len(site.last.causes), site.last.causes_total) == (SHOWN, 300)
    touched = site.last.resources[ENDPOINT]
    assert touched.names == ("a", "b", *names[: SHOWN - 2]), "a and b are gone"
    assert touched.total == 302


def test_a_rejection_stands_at_the_changes_that_the_response_was_about(site: Site) -> None:
    envoy = site.envoy("picky")
    site.publish(eds="a=2 b=1")
    site.agree(envoy)
    site.publish(cds="a=2 b=1")
    site.publish(eds="a=2 b=2")
    site.reject(envoy, "cds", "no such\x1b[31m field")
    said = Rejection("picky", CLUSTER, "no such\\x1b[31m field")
    assert [change.rejections for change in site.progress.history()] == [(), (said,), (), ()]
    assert [change.rejected for change in site.progress.history()] == [0, 1, 0, 0]


def test_a_rejection_does_not_stand_at_what_the_envoy_had_accepted_before(site: Site) -> None:
    picky, slow = site.envoy("picky"), site.envoy("slow")
    site.publish(cds="a=2 b=1")
    site.agree(picky)
    site.publish(cds="a=3 b=1")
    site.reject(picky, "cds", "no")
    newest, before, *_ = site.progress.history()
    assert (newest.rejected, before.rejected) == (1, 0)
    assert before.waiting, "for the slow one"
    site.agree(slow)


def test_a_rejection_by_one_that_comes_later_does_not_stand_at_what_all_had_accepted(site: Site) -> None:
    site.agree(site.envoy("first"))
    site.publish(cds="a=2 b=1")
    site.agree(*site.envoys)
    late = site.envoy("late", accepts=False)
    site.reject(late, "cds", "no")
    assert [change.rejected for change in site.progress.history()] == [0, 0]


def test_one_envoy_that_rejects_something_for_good_holds_up_that_change_and_no_other(site: Site) -> None:
    odd, others = site.envoy("odd"), site.envoy("others")
    site.publish(cds="a=2 b=1")
    site.agree(others)
    site.reject(odd, "cds", "unknown field")
    assert site.last.waiting
    site.now += 5
    site.publish(cds="a=2 b=2")
    site.agree(odd, others)
    assert [change.waiting for change in site.progress.history()] == [False, True, False]
    assert (site.observed("cds"), site.progress.slowest(site.now)) == ((1, 0), 5)
    assert site.programmed(Part(CLUSTER, "b")).complete
    assert [who.node for who in site.programmed(A).lacking] == ["odd"]
    site.publish(cds="a=3 b=2")
    site.agree(odd, others)
    assert [change.waiting for change in site.progress.history()] == [False] * 4
    assert (site.observed("cds")[0], site.progress.slowest(site.now)) == (3, 0)


def test_a_change_that_one_envoy_rejects_is_accepted_when_that_envoy_leaves(site: Site) -> None:
    odd, others = site.envoy("odd"), site.envoy("others")
    site.publish(cds="a=2 b=1")
    site.agree(others)
    site.reject(odd, "cds", "unknown field")
    assert site.last.waiting
    site.now += 5
    site.leave(odd)
    assert (site.last.waiting, site.last.accepted) == (False, 5)
    assert site.progress.remembered.rejections == 0


def test_a_change_that_two_envoys_reject_waits_for_both(site: Site) -> None:
    one, two = site.envoy("one"), site.envoy("two")
    site.publish(cds="a=2 b=1")
    for envoy in (one, two):
        site.reject(envoy, "cds", "no")
    site.leave(one)
    assert site.last.waiting
    site.leave(two)
    assert (site.last.waiting, site.last.accepted) == (False, None), "nobody is left who has it"


def test_a_rejection_stands_only_at_changes_of_which_the_response_had_a_name(site: Site) -> None:
    envoy = site.envoy("picky")
    site.publish(cds="a=2 b=1")
    site.publish(cds="a=2 b=2")
    site.progress.acknowledged(envoy, Acknowledgement(CLUSTER, frozenset("b"), 3, "", "no b", 1), site.now)
    assert [change.rejected for change in site.progress.history()] == [1, 0, 0]


def test_a_rejected_change_waits_until_what_is_published_in_its_place_is_accepted(site: Site) -> None:
    envoy = site.envoy()
    site.publish(cds="a=2 b=1")
    site.reject(envoy, "cds", "no")
    site.agree(envoy)
    assert site.last.waiting
    site.publish(cds="a=1 b=1")
    site.agree(envoy)
    newest, refused, *_ = site.progress.history()
    assert (newest.waiting, refused.waiting) == (False, False)
    assert [r.words for r in refused.rejections] == ["no"]


def test_of_many_that_reject_the_first_are_shown_and_all_are_counted(site: Site) -> None:
    envoys = [site.envoy(f"n{n:02}") for n in range(SHOWN + 5)]
    site.publish(cds="a=2 b=1")
    for envoy in envoys:
        site.reject(envoy, "cds", "no")
    assert (len(site.last.rejections), site.last.rejected) == (SHOWN, SHOWN + 5)


# A second stream with the name of an Envoy


def test_another_stream_with_its_name_does_not_make_an_envoy_look_behind(site: Site) -> None:
    real = site.envoy("one")
    site.envoy("one")  # it accepts what there is, and nothing that comes
    site.now += 5
    site.publish(cds="a=2 b=1")
    site.agree(real)
    assert (site.last.waiting, site.progress.slowest(site.now)) == (False, 0)
    assert site.programmed(A).complete
    site.leave(real)
    site.publish(cds="a=3 b=1")
    assert site.last.waiting, "the other one is all that is left of it"


@pytest.mark.parametrize("first", ["real", "other"])
def test_what_another_stream_with_its_name_rejects_holds_nothing_up_that_the_envoy_has_accepted(site: Site, first: str) -> None:
    real, other = site.envoy("one"), site.envoy("one")
    site.publish(cds="a=2 b=1")
    if first == "real":
        site.agree(real)
    site.reject(other, "cds", "never")
    site.agree(other)
    if first == "other":
        assert site.last.waiting
        site.agree(real)
    assert (site.last.waiting, site.progress.slowest(site.now + 5)) == (False, 0)
    assert site.programmed(A).complete
    site.leave(other)
    assert site.progress.remembered.rejections == 0


# Programmed on N of M


A, HOST, OTHER = Part(CLUSTER, "a"), Part(ROUTE, "ingress", "shop.example"), Part(ROUTE, "ingress", "other.example")


def test_an_object_is_programmed_on_the_envoys_that_have_accepted_all_of_its_parts(site: Site) -> None:
    one, two = site.envoy("one"), site.envoy("two")
    site.publish(cds="a=2 b=1", eds="a=2 b=1")
    site.agree(one)
    found = site.programmed(A, Part(ENDPOINT, "a"), Part(LISTENER, "http"))
    assert (found.accepted, found.envoys, found.complete) == (1, 2, False)
    assert [(who.node, who.parts) for who in found.lacking] == [("two", (A, Part(ENDPOINT, "a")))]
    assert found.parts[0].version == site.snapshot[CLUSTER]["a"].version
    site.agree(two)
    assert site.programmed(A, Part(ENDPOINT, "a"), Part(LISTENER, "http")).complete


def test_what_others_change_does_not_take_back_what_an_envoy_has(site: Site) -> None:
    site.publish(rds="ingress=2", moved=[(HOST, "h1"), (OTHER, "o1")])
    site.envoy()
    site.publish(rds="ingress=3", moved=[(OTHER, "o2")], cds="a=1 b=2")
    found = site.programmed(HOST, A)
    assert found.complete, "the virtual host and the cluster are as they were"
    assert [placed.version for placed in found.parts] == ["h1", site.snapshot[CLUSTER]["a"].version]
    assert not site.programmed(OTHER).complete
    assert not site.programmed(Part(CLUSTER, "b")).complete


def test_a_piece_that_came_with_a_rejected_table_is_not_programmed_and_the_others_are(site: Site) -> None:
    site.publish(rds="ingress=2", moved=[(HOST, "h1"), (OTHER, "o1")])
    envoy = site.envoy("picky")
    site.publish(rds="ingress=3", moved=[(OTHER, "o2")])
    site.reject(envoy, "rds", "bad regex")
    assert site.programmed(HOST).complete
    assert site.programmed(OTHER).lacking == (("picky", (OTHER,), (Rejection("picky", ROUTE, "bad regex"),)),)


def test_a_piece_of_which_nothing_is_known_is_as_new_as_its_resource(site: Site) -> None:
    envoy = site.envoy()
    site.publish(rds="ingress=2")
    assert not site.programmed(HOST).complete
    site.agree(envoy)
    assert site.programmed(HOST).complete


def test_a_piece_that_went_and_came_is_as_new_as_its_coming(site: Site) -> None:
    site.publish(rds="ingress=2", moved=[(HOST, "h1")])
    site.publish(rds="ingress=3", moved=[(HOST, "")])
    assert site.programmed(HOST).parts[0].version == site.snapshot[ROUTE]["ingress"].version, "nothing is remembered of it"
    envoy = site.envoy()
    site.publish(rds="ingress=4", moved=[(HOST, "h1")])
    assert not site.programmed(HOST).complete
    site.agree(envoy)
    assert site.programmed(HOST).complete


def test_what_is_held_is_programmed_nowhere(site: Site) -> None:
    site.envoy()
    found = site.programmed(A, Part(CLUSTER, "b"), held={A: "a bad regex"})
    assert (found.accepted, found.envoys, found.parts[0].held) == (0, 1, "a bad regex")
    assert found.lacking[0].parts == (A,)


def test_what_does_not_exist_is_programmed_nowhere(site: Site) -> None:
    site.envoy()
    found = site.programmed(Part(CLUSTER, "none"))
    assert (found.accepted, found.envoys, found.parts[0].version) == (0, 1, None)


def test_an_object_without_any_part_is_programmed_nowhere(site: Site) -> None:
    site.envoy()
    assert (site.programmed().accepted, site.programmed().complete) == (0, False)


def test_without_envoys_nothing_is_programmed(site: Site) -> None:
    assert (site.programmed(A).envoys, site.programmed(A).complete) == (0, False)


def test_an_envoy_that_has_not_asked_for_the_endpoints_of_a_cluster_lacks_them(site: Site) -> None:
    envoy = site.envoy("one", "cds", "lds", "rds", "sds")
    envoy.talk.sub("eds", "b")
    site.agree(envoy)
    assert not site.programmed(Part(ENDPOINT, "a")).complete
    envoy.talk.sub("eds", "a")
    site.agree(envoy)
    assert site.programmed(Part(ENDPOINT, "a")).complete


def test_the_streams_of_one_envoy_count_as_one(site: Site) -> None:
    site.envoy("one", "cds")
    site.envoy("one", "eds")
    found = site.programmed(A, Part(ENDPOINT, "a"))
    assert (found.accepted, found.envoys) == (1, 1)


def test_a_stream_that_has_not_said_who_it_is_is_no_envoy(site: Site) -> None:
    site.envoys.append(Envoy(None, Talk(Wire.DELTA, snapshot=site.snapshot)))
    assert site.programmed(A).envoys == 0


def test_an_envoy_that_comes_back_with_all_it_needs_has_it(site: Site) -> None:
    envoy = Envoy(EnvoyNode("back"), Talk(Wire.DELTA, snapshot=site.snapshot))
    site.envoys.append(envoy)
    for kind, type_url in KINDS.items():
        envoy.talk.sub(kind, "*", held={name: resource.version for name, resource in site.snapshot[type_url].items()})
    site.agree(envoy)
    assert site.programmed(A, HOST, Part(SECRET, "default")).complete


def test_a_rejection_is_forgotten_once_the_envoy_accepts_what_comes_in_its_place(site: Site) -> None:
    envoy = site.envoy()
    site.publish(cds="a=2 b=1")
    site.reject(envoy, "cds", "no")
    assert site.programmed(A).lacking[0].rejections
    site.publish(cds="a=3 b=1")
    site.agree(envoy)
    site.publish(cds="a=4 b=1")
    assert site.programmed(A).lacking[0].rejections == ()


def test_a_rejection_is_not_forgotten_because_something_else_is_accepted(site: Site) -> None:
    envoy = site.envoy("picky")
    site.publish(cds="a=2 b=1")
    site.reject(envoy, "cds", "no")
    envoy.talk.sub("cds", "b")
    envoy.talk.ack("cds")
    site.hear(envoy)
    assert [said.words for said in site.programmed(A).lacking[0].rejections] == ["no"]


def test_nothing_is_remembered_of_an_envoy_that_has_left(site: Site) -> None:
    envoy = site.envoy("picky")
    site.publish(cds="a=2 b=1")
    site.reject(envoy, "cds", "no")
    site.leave(envoy)
    assert site.progress.remembered == (0, 0, 0)


def test_an_answer_of_a_type_that_is_not_ours_is_nothing(site: Site) -> None:
    site.progress.acknowledged(site.envoy(), Acknowledgement("type.googleapis.com/x.Y", frozenset(("a",)), 1, "", None, 1), 0.0)
    assert site.progress.slowest(200.0) == 0
