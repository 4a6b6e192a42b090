"""The search for what Envoy rejects, with real Sessions between it and Envoys that refuse what they are told to refuse."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xds.model import Terminate
from xds.problem import Ref
from xds.protocol.discovery import Acknowledgement, DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.quarantine.ledger import MOST_CAUSES, Orders
from xds.quarantine.quarantine import Quarantine
from xds.snapshot import CLUSTER, ROUTE, SECRET, Part, Resource, Snapshot
from xds.units.parts import Held, Host, Move, Value, content, digest, host_digest
from xds.units.tables import Holds

BAD = b"bad"
WEB = Ref("Ingress", "default", "web")
Contents = dict[Part, bytes]


def host(name: str) -> Part:
    return Part(ROUTE, "ingress", name)


def cluster(name: str) -> Part:
    return Part(CLUSTER, name)


def secret(name: str) -> Part:
    return Part(SECRET, name)


KINDS = (host, cluster, secret)
TYPES = (CLUSTER, ROUTE, SECRET)
SECRETS = tuple(f"h{n}" for n in range(60))
"""What an Envoy asks for by name, whether it is there or not."""


class Envoy:
    """Refuses a response with a body in which one of `refuses` stands, in the words that `says` makes of it.

    `inbox` has the responses that it has not answered yet.
    """

    def __init__(self, site: Site, wire: Wire, refuses: Collection[bytes], says: Callable[[bytes], str]) -> None:
        self.site = site
        self.session = Session(wire, site.snapshot, nonce_prefix=f"{id(self)}-")
        self.refuses = refuses
        self.says = says
        self.wire = wire
        self.inbox: deque[DiscoveryResponse] = deque()
        self.answered = 0

    def begin(self) -> list[Acknowledgement]:
        for type_url in TYPES:
            self._answer(type_url, None)
        return self.answer_all()

    def look(self) -> None:
        """The Snapshot may have changed."""
        self.inbox.extend(self.session.publish(self.site.now))

    def hear(self) -> list[Acknowledgement]:
        """Answers all that there is to be heard now."""
        self.look()
        return self.answer_all()

    def answer_all(self) -> list[Acknowledgement]:
        while self.inbox:
            self.answer_one()
        return self.session.take_acknowledgements()

    def answer_one(self) -> None:
        response = self.inbox.popleft()
        self.answered += 1
        bodies = [resource.body for resource in response.resources]
        wrong = next((body for body in bodies for bad in self.refuses if bad in body), None)
        self._answer(response.type_url, None if wrong is None else self.says(wrong), response.nonce)

    def _answer(self, type_url: str, error: str | None, nonce: str = "") -> None:
        names = {CLUSTER: (), ROUTE: ("ingress",), SECRET: SECRETS}[type_url]
        if self.wire is Wire.SOTW:
            request = DiscoveryRequest(type_url, nonce, error, names=names)
        else:
            request = DiscoveryRequest(type_url, nonce, error, subscribe=() if nonce else names or ("*",))
        self.inbox.extend(self.session.receive(request, self.site.now))


class Site:
    """Parts with contents, their Snapshot, and Envoys; every change of the Snapshot is remembered."""

    def __init__(self) -> None:
        self.wanted: Contents = {}
        self.shown: dict[Part, Value] = {}
        self.seen: dict[Part, list[bytes | None]] = {}
        self.snapshot = Snapshot()
        self.snapshot.ready = True
        self.holds = Holds()
        self.quarantine = Quarantine(self, self.snapshot, lambda _: True)
        self.envoys: list[Envoy] = []
        self.orders = 0
        self.now = 0.0

    def connect(
        self, *, wire: Wire = Wire.DELTA, refuses: Collection[bytes] = (BAD,), says: Callable[[bytes], str] = lambda _: "no"
    ) -> Envoy:
        envoy = Envoy(self, wire, refuses, says)
        self.envoys.append(envoy)
        self.hear([(envoy, answer) for answer in envoy.begin()])
        self.settle()
        return envoy

    def values(self, parts: Collection[Part]) -> Mapping[Part, Value]:
        return {part: self.shown[part] for part in parts if part in self.shown}

    def naming(self, clusters: Collection[Part]) -> Mapping[Part, Value]:
        return {}

    def put(self, **hosts: bytes | None) -> None:
        self.change({host(name): body for name, body in hosts.items()})

    def change(self, contents: Mapping[Part, bytes | None]) -> None:
        for part, body in contents.items():
            self.wanted.pop(part, None)
            if body is not None:
                self.wanted[part] = body
        self.publish(contents)
        self.settle()

    def publish(self, parts: Collection[Part], ordered: bool = False) -> None:
        moved: dict[Part, Move] = {}
        for part in parts:
            old = self.shown.pop(part, None)
            body = self.wanted.get(part)
            value: Value | None = body
            if body is not None and part.type_url == ROUTE:
                value = Host(body, host_digest(body), frozenset(), Terminate())
            new = self.holds.effective(part, value)
            if new is not None:
                self.shown[part] = new
            if old != new:
                moved[part] = Move(old, new)
                self.seen.setdefault(part, []).append(None if new is None else content(new))
        for part, ended in self.holds.ended.items():
            moved.setdefault(part, Move(ended, ended))
        self.holds.ended.clear()
        for type_url in (CLUSTER, SECRET):
            there = [Resource.of(p.resource, content(v)) for p, v in self.shown.items() if p.type_url == type_url]
            self.snapshot[type_url].update(there, set(self.snapshot[type_url]) - {r.name for r in there})
        table = b"|".join(content(v) for p, v in sorted(self.shown.items(), key=lambda item: item[0]) if p.type_url == ROUTE)
        self.snapshot[ROUTE].update([Resource.of("ingress", table)])
        self.obey(self.quarantine.published(moved, () if ordered else [WEB], parts if ordered else ()))

    def obey(self, orders: Orders) -> None:
        if not orders:
            return
        self.orders += 1
        for part, held in orders.items():
            if held is None:
                self.holds.pop(part, None)
            else:
                self.holds[part] = held
        self.publish(orders, ordered=True)

    def hear(self, answers: list[tuple[Envoy, Acknowledgement]]) -> None:
        """What is accepted comes before what is rejected: whoever asks gives slow Envoys a moment."""
        for envoy, answer in sorted(answers, key=lambda pair: pair[1].error is not None):
            tell = self.quarantine.rejected if answer.error is not None else self.quarantine.accepted
            self.obey(tell(answer, id(envoy)))

    def turn(self) -> int:
        """Every Envoy hears what there is; how much has happened so far."""
        self.hear([(envoy, answer) for envoy in self.envoys for answer in envoy.hear()])
        return self.orders + sum(envoy.answered for envoy in self.envoys)

    def settle(self) -> None:
        """Until nobody has anything to say."""
        before = -1
        for _ in range(10_000):
            if before == (before := self.turn()):
                deadlines = [envoy.session.deadline for envoy in self.envoys if envoy.session.deadline is not None]
                if not deadlines:
                    return
                self.now = max(self.now, min(deadlines))
        raise AssertionError("it goes on for ever")

    @property
    def searching(self) -> bool:
        """Whether something is held for the time of a search."""
        return any(not held.proven for held in self.holds.values())

    def table(self) -> bytes:
        return self.snapshot[ROUTE]["ingress"].body


@pytest.mark.parametrize("wire", Wire)
def test_one_bad_host_is_held_at_what_was_accepted_and_the_others_are_out(wire: Wire) -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1", c=b"c1")
    site.connect(wire=wire)
    site.put(a=b"a2", b=b"bad", c=b"c2")
    assert site.table() == b"a2|b1|c2"
    assert site.quarantine.culprits == {
        host("b"): Held(site.holds[host("b")].refused, site.shown[host("b")], "no", proven=True, causes=(WEB,))
    }
    assert not site.searching


def test_a_bad_host_that_was_never_accepted_is_absent() -> None:
    site = Site()
    site.put(a=b"a1", b=b"bad", c=b"c1")
    site.connect()
    assert site.table() == b"a1|c1"


def test_a_culprit_is_tried_again_when_it_changes_and_only_then() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    envoy = site.connect()
    site.put(b=b"bad")
    answered = envoy.answered
    site.put(a=b"a2")
    assert (site.table(), envoy.answered) == (b"a2|b1", answered + 1)
    site.put(b=b"bad 2")
    assert site.table() == b"a2|b1"
    site.put(b=b"b3")
    assert (site.table(), site.quarantine.culprits) == (b"a2|b3", {})


def test_a_culprit_that_is_gone_is_forgotten() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    site.connect()
    site.put(b=b"bad")
    site.put(b=None)
    assert (site.table(), site.quarantine.culprits) == (b"a1", {})


@pytest.mark.parametrize(("again", "is_proven"), [(b"good", True), (b"bad", False)])
def test_a_cluster_that_is_gone_and_back_is_proven_if_it_is_as_it_was_and_new_if_not(again: bytes, is_proven: bool) -> None:
    site = Site()
    site.change({cluster("a"): b"good"})
    site.connect()
    site.change({cluster("a"): None})
    site.envoys.clear()
    site.change({cluster("a"): again})
    state = site.snapshot[CLUSTER]
    orders = site.quarantine.rejected(Acknowledgement(CLUSTER, frozenset({"a"}), state.generation, state.version, "no"), "envoy")
    assert orders == ({} if is_proven else {cluster("a"): Held(digest(again), None, "no", causes=(WEB,))})


def test_what_envoy_names_is_held_without_a_search() -> None:
    site = Site()
    site.change({cluster(f"c{n}"): b"good" for n in range(100)})
    site.connect(says=lambda _: "Error adding/updating cluster(s) c7: no, c9: no")
    orders = site.orders
    site.change({cluster(f"c{n}"): BAD if n in (7, 9) else b"better" for n in range(100)})
    assert set(site.quarantine.culprits) == {cluster("c7"), cluster("c9")}
    assert site.orders - orders == 1
    assert all(site.snapshot[CLUSTER][f"c{n}"].body == (b"good" if n in (7, 9) else b"better") for n in range(100))


def test_what_one_envoy_refuses_and_another_accepts_is_held_for_nobody() -> None:
    site = Site()
    site.put(a=b"a1")
    site.connect(refuses=())
    old = site.connect(refuses=(b"new",))
    site.put(a=b"new", b=b"b1")
    assert (site.table(), site.quarantine.culprits) == (b"new|b1", {})
    assert old.session.rejections[ROUTE] == "no"


def test_what_was_held_and_is_accepted_by_a_slow_envoy_is_published_for_good() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    old = site.connect(refuses=(b"new",))
    good = site.connect(refuses=())
    site.envoys = [old, good]  # the one that refuses is the first to answer
    site.put(a=b"new", b=b"b2")
    assert (site.table(), site.quarantine.culprits, site.searching) == (b"new|b2", {}, False)
    site.put(b=b"b3")
    assert site.table() == b"new|b3"


def test_an_envoy_that_refuses_what_is_good_is_still_asked_about_other_types() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    state = site.snapshot[ROUTE]
    site.obey(site.quarantine.rejected(Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version, "no"), "envoy"))
    assert site.searching
    assert site.quarantine.rejected(Acknowledgement(CLUSTER, frozenset({"good"}), 0, "other", "no"), "envoy") == {}
    assert site.searching


def test_an_ack_matters_as_long_as_it_may_change_something() -> None:
    site = Site()
    site.put(a=b"a1")
    state = site.snapshot[ROUTE]
    ack = Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version)
    assert site.quarantine.cares(ack), "it would prove the host"
    site.connect()
    assert not site.quarantine.cares(ack)
    site.obey(site.quarantine.rejected(replace(ack, error="no"), "odd"))
    assert site.quarantine.cares(ack), "that Envoy would be odd no longer"
    site.obey(site.quarantine.accepted(ack, "odd"))
    assert not site.quarantine.cares(ack)
    site.put(a=b"bad")
    site.put(a=None)
    assert site.quarantine.cares(ack), "the rejected version would be no such any longer"


def test_who_refuses_what_has_come_back_and_others_accept_is_odd_though_it_accepted_something_in_between() -> None:
    """It will not be sent that again, and so cannot accept it."""
    site = Site()

    def answer(error: str | None = None) -> Acknowledgement:
        state = site.snapshot[ROUTE]
        return Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version, error)

    site.put(a=b"a1")
    late = answer("no")
    site.put(a=b"a2")
    site.quarantine.accepted(answer(), "odd")
    site.put(a=b"a1")
    site.quarantine.accepted(answer(), "another")
    assert site.quarantine.rejected(late, "odd") == {}
    site.put(b=b"b1")
    assert site.quarantine.rejected(answer("no"), "odd") == {}
    assert site.quarantine.rejected(answer("no"), "third").keys() == {host("b")}


@pytest.mark.parametrize(("kind", "names"), [(cluster, {"a", "b"}), (host, {"ingress"})])
def test_of_several_contents_that_were_refused_together_and_replaced_none_is_a_culprit(
    kind: Callable[[str], Part], names: set[str]
) -> None:
    site = Site()
    site.change({kind("a"): b"a1", kind("b"): b"bad"})
    state = site.snapshot[kind("a").type_url]
    late = Acknowledgement(kind("a").type_url, frozenset(names), state.generation, state.version, "no")
    site.change({kind("a"): b"a2", kind("b"): b"b2"})
    assert site.quarantine.rejected(late, "envoy") == {}
    site.change({kind("a"): b"a1"})
    assert not site.holds


def test_who_rejects_the_same_during_a_search_is_asked_as_well() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    state = site.snapshot[ROUTE]
    refused = Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version, "no")
    site.obey(site.quarantine.rejected(refused, "one"))
    assert site.quarantine.rejected(refused, "two") == {}
    assert site.quarantine.left("one") == {}
    assert site.quarantine.searching
    assert site.quarantine.left("two") == {host("b"): None}


def test_what_is_held_for_a_search_is_convicted_only_if_nothing_else_can_be_to_blame() -> None:
    site = Site()
    site.change({cluster(name): b"1" for name in "cdz"})
    generation = site.snapshot[CLUSTER].generation

    def refused(*names: str) -> Acknowledgement:
        return Acknowledgement(CLUSTER, frozenset(names), generation, "that", "no")

    site.obey(site.quarantine.rejected(refused("c", "d", "z"), "one"))
    assert site.holds.keys() == {cluster("z")}
    assert site.quarantine.rejected(refused("c", "z"), "one") == {}, "it may be the other one, which is tested"
    site.change({cluster("c"): b"2"})
    assert site.quarantine.rejected(refused("c", "z"), "one") == {}, "it may have been what the other one was then"
    assert site.quarantine.culprits == {}
    assert site.quarantine.rejected(refused("z"), "one").keys() == {cluster("z")}


def test_what_an_envoy_refuses_that_is_held_already_is_forgotten_with_it() -> None:
    site = Site()
    site.change({cluster("a"): b"good"})
    site.connect()
    generation = site.snapshot[CLUSTER].generation
    site.change({cluster("a"): b"bad"})
    late = Acknowledgement(CLUSTER, frozenset({"a"}), generation + 1, "that", "no")
    assert site.quarantine.rejected(late, "late") == {}
    assert site.quarantine.knows("late")
    assert site.quarantine.left("late") == {}
    assert not site.quarantine.knows("late")


def test_a_search_ends_with_the_only_envoy_that_can_be_asked() -> None:
    site = Site()
    site.put(a=b"a1", b=b"b1")
    state = site.snapshot[ROUTE]
    site.obey(site.quarantine.rejected(Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version, "no"), "envoy"))
    assert site.quarantine.knows("envoy")
    site.obey(site.quarantine.left("envoy"))
    assert (site.table(), site.searching) == (b"a1|b1", False)
    assert not site.quarantine.knows("envoy")


def test_of_ever_more_objects_that_change_a_part_the_first_are_its_causes() -> None:
    site = Site()
    site.put(a=b"a1")
    value = site.shown[host("a")]
    for n in range(MOST_CAUSES + 5):
        site.quarantine.published({host("a"): Move(value, value)}, [WEB._replace(name=f"{n:02}")])
    state = site.snapshot[ROUTE]
    orders = site.quarantine.rejected(Acknowledgement(ROUTE, frozenset({"ingress"}), state.generation, state.version, "no"), "envoy")
    held = orders[host("a")]
    assert held is not None
    assert [cause.name for cause in held.causes] == ["web", *(f"{n:02}" for n in range(MOST_CAUSES - 1))]


def test_what_another_replica_has_found_is_held_unless_an_envoy_has_accepted_it() -> None:
    site, other, third = Site(), Site(), Site()
    for each in (site, other, third):
        each.put(a=b"a1", b=b"b1")
    site.connect()
    site.put(b=b"bad")
    held = site.quarantine.culprits
    other.put(b=b"bad")
    other.obey(other.quarantine.learn(held, {}))
    assert other.table() == b"a1|b1"
    third.connect(refuses=())
    third.put(b=b"bad")
    third.obey(third.quarantine.learn(held, {}))
    assert third.table() == b"a1|bad"
    assert third.quarantine.good == {host("b"): held[host("b")].refused}
    site.obey(site.quarantine.learn({}, third.quarantine.good))
    assert (site.table(), site.quarantine.culprits) == (b"a1|bad", {})
    fourth = Site()
    fourth.put(a=b"a1", b=b"bad")
    fourth.obey(fourth.quarantine.learn(held, third.quarantine.good))
    assert fourth.table() == b"a1|bad", "what one Envoy has accepted is not held, whoever has refused it"
    assert fourth.quarantine.good == third.quarantine.good
    fifth = Site()
    fifth.put(a=b"a1", b=b"b1")
    fifth.quarantine.learn({}, third.quarantine.good)
    assert fifth.quarantine.good == {}, "it is about another content"
    third.put(b=None)
    assert third.quarantine.good == {}, "it would be remembered for ever"


@given(
    n=st.integers(1, 60),
    data=st.data(),
    wire=st.sampled_from(Wire),
    names=st.booleans(),
    first=st.booleans(),
    kind=st.sampled_from(KINDS),
)
def test_any_culprits_among_any_number(
    n: int, data: st.DataObject, wire: Wire, names: bool, first: bool, kind: Callable[[str], Part]
) -> None:
    """All innocents are out, only the culprits are held, in at most k (log2 n + 1) rounds; what was proven is never missing."""
    bad = data.draw(st.sets(st.integers(0, n - 1), max_size=5))
    site = Site()
    if not first:
        site.change({kind(f"h{i}"): b"<old>" for i in range(n)})
    says: Callable[[bytes], str] = (
        (lambda body: f'virtual host "{body.split(BAD)[1].split(b">")[0].decode()}" is wrong') if names else lambda _: "no"
    )
    if not first:
        site.connect(wire=wire, says=says)
    before = site.orders
    site.change({kind(f"h{i}"): b"<%s%s>" % (BAD if i in bad else b"new", f"h{i}".encode()) for i in range(n)})
    if first:
        site.connect(wire=wire, says=says)
    assert set(site.quarantine.culprits) == {kind(f"h{i}") for i in bad} == set(site.holds)
    shown = {part: content(value) for part, value in site.shown.items()}
    assert shown == {kind(f"h{i}"): b"<old>" if i in bad else b"<newh%d>" % i for i in range(n) if not (first and i in bad)}
    assert site.orders - before <= len(bad) * (1 if kind is secret else math.ceil(math.log2(n)) + 1)
    if not first:
        assert all(None not in seen for seen in site.seen.values())


contents = st.sampled_from([b"bad1", b"bad2", b"good1", b"good2", None])
names = st.sampled_from(["h0", "h1", "h2", "h3", "h4"])
changes = st.dictionaries(st.builds(lambda kind, name: kind(name), st.sampled_from(KINDS), names), contents, min_size=1)
fleets = st.lists(st.tuples(st.sampled_from(Wire), st.booleans()), min_size=1, max_size=3)


def change(site: Site, contents: Mapping[Part, bytes | None]) -> None:
    for part, body in contents.items():
        site.wanted.pop(part, None)
        if body is not None:
            site.wanted[part] = (part.piece or part.resource).encode() + body  # two of them are never the same to Envoy
    site.publish(contents)


@given(st.lists(changes, max_size=8), fleets)
def test_whatever_changes_meanwhile_only_what_all_envoys_refuse_is_held(
    steps: list[dict[Part, bytes | None]], fleet: list[tuple[Wire, bool]]
) -> None:
    site = Site()
    site.put(a=b"good0")
    for wire, takes_all in fleet:
        site.connect(wire=wire, refuses=() if takes_all else (BAD,))
    for step in steps:
        change(site, step)
        site.turn()  # the next change comes in the middle of the search
    site.settle()
    good = {p for p, body in site.wanted.items() if BAD not in body or any(takes_all for _, takes_all in fleet)}
    assert good <= {p for p, v in site.shown.items() if content(v) == site.wanted[p]}
    assert set(site.holds) == set(site.wanted) - good
    assert not site.searching


class Slow:
    """Envoys of a Site that take their time: what they are told, what they answer, and when a rejection is heard of, are steps."""

    def __init__(self, site: Site, fleet: list[tuple[Wire, bool]]) -> None:
        self.site = site
        self.rejections: deque[tuple[Envoy, Acknowledgement]] = deque()
        for wire, takes_all in fleet:
            site.connect(wire=wire, refuses=() if takes_all else (BAD,))

    def answer(self, which: int) -> None:
        """One of them looks, and answers one response."""
        envoy = self.site.envoys[which % len(self.site.envoys)]
        envoy.look()
        if envoy.inbox:
            envoy.answer_one()
        for answer in envoy.session.take_acknowledgements():
            if answer.error is None:
                self.site.obey(self.site.quarantine.accepted(answer, id(envoy)))
            else:
                self.rejections.append((envoy, answer))

    def hear(self) -> None:
        """A rejection is heard of at last, when those who may accept the same have had the time to say so."""
        if self.rejections:
            for which, other in enumerate(self.site.envoys):
                if not other.refuses:
                    other.look()
                while not other.refuses and other.inbox:
                    self.answer(which)
            envoy, answer = self.rejections.popleft()
            if envoy in self.site.envoys:
                self.site.obey(self.site.quarantine.rejected(answer, id(envoy)))

    def leave(self, which: int) -> None:
        """One goes of several that refuse."""
        refusing = [envoy for envoy in self.site.envoys if envoy.refuses]
        if len(refusing) > 1:
            envoy = refusing[which % len(refusing)]
            self.site.envoys.remove(envoy)
            self.site.obey(self.site.quarantine.left(id(envoy)))

    def settle(self) -> None:
        while self.rejections:
            self.hear()
        self.site.settle()


steps = st.one_of(
    changes,
    st.tuples(st.just("answer"), st.integers(0, 2)),
    st.tuples(st.just("answer"), st.integers(0, 2)),
    st.just(("hear",)),
    st.tuples(st.just("leave"), st.integers(0, 2)),
)


DELTA, SOTW = [(Wire.DELTA, False)], [(Wire.SOTW, False)]
FIRST = ("answer", 0)


@given(st.lists(steps, max_size=30), fleets)
@example([{host("h0"): b"bad1", host("h1"): b"good1"}, FIRST, {host("h0"): b"good1"}], DELTA)
@example([{host(f"h{n}"): b"good1" if n else b"bad1" for n in range(4)}, FIRST, {host("h0"): b"good1"}], DELTA)
@example([{host("h0"): b"bad1"}, FIRST, {host("h0"): b"good1"}, FIRST, ("hear",), {host("h0"): b"bad2"}], DELTA)
@example([{host("h0"): b"bad1"}, FIRST, {host("h0"): b"bad2"}, {host("h0"): b"bad1"}], SOTW)
@example([{host("h0"): b"bad1"}, FIRST, {host("h0"): b"bad2", host("h1"): b"bad1"}, {host("h0"): b"bad1"}], SOTW)
@example([{host("h0"): b"bad1"}, FIRST, {host("h0"): b"bad2"}, ("hear",), {host("h0"): b"bad1"}], SOTW)
@example([{cluster("h0"): b"bad1", cluster("h1"): b"bad1"}, FIRST, {cluster("h0"): b"bad2"}, {cluster("h0"): b"bad1"}], DELTA)
@example([{secret("h0"): b"bad1"}, FIRST, {secret("h0"): b"bad2"}, FIRST, ("hear",), ("hear",), {secret("h0"): b"bad1"}], SOTW)
@example([{cluster("h0"): b"bad1", secret("h0"): b"bad1"}, FIRST, {cluster("h0"): None, cluster("h1"): b"good1"}], SOTW)
@example([{host("h0"): b"bad1", host("h1"): b"good1"}, FIRST, ("hear",), ("leave", 0)], [*DELTA, *DELTA])
def test_in_whichever_order_answers_come_nobody_innocent_is_held(taken: list[Any], fleet: list[tuple[Wire, bool]]) -> None:
    """Responses are answered late, rejections heard of later still, and Envoys leave in the middle."""
    site = Site()
    site.put(a=b"good0")
    slow = Slow(site, fleet)
    for step in taken:
        if isinstance(step, dict):
            change(site, step)
        else:
            getattr(slow, step[0])(*step[1:])
    slow.settle()
    bad = {p for p, body in site.wanted.items() if BAD in body}
    assert set(site.holds) <= bad
    assert {p for p, v in site.shown.items() if content(v) == site.wanted[p]} >= site.wanted.keys() - bad
    assert not site.searching
    if not any(takes_all for _, takes_all in fleet):
        assert set(site.holds) == bad
