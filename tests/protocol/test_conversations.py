"""What holds for every order of events, on both wires, against a model of Envoy; and that no request whatever breaks a Session."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.exploring import examples
from tests.protocol import life_of_a_name
from tests.protocol.fake_envoy import Link, cluster, listener, parts, put, route
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import REQUEST_GRACE, Session, compact
from xds.protocol.subscription import ACK_TIMEOUT
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, TYPES, Resource, Snapshot

CLUSTERS = ["a", "b", "c"]
LISTENERS = ["http", "https"]
SECRETS = ["s", "t"]
NO_EXPLANATION = tuple(phase for phase in Phase if phase is not Phase.explain)  # it takes longer than all the rest
EDITIONS = st.integers(0, 1)


def subsets(of: list[str]) -> st.SearchStrategy[list[str]]:
    return st.sets(st.sampled_from(of)).map(sorted) if of else st.just([])


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, dict[str, bytes]]:
    """Clusters with endpoints or DNS, listeners with routes to some of them and with secrets, all of them in one of two editions."""
    dns = {name: draw(st.integers(0, 3)) == 0 for name in draw(subsets(CLUSTERS))}
    secrets = draw(subsets(SECRETS))
    listeners = draw(subsets(LISTENERS))
    return {
        CLUSTER: {name: cluster(draw(EDITIONS), dns=by_dns) for name, by_dns in dns.items()},
        ENDPOINT: {name: str(draw(EDITIONS)).encode() for name, by_dns in dns.items() if not by_dns},
        LISTENER: {n: listener(draw(EDITIONS), [(s, str(draw(EDITIONS))) for s in draw(subsets(secrets))]) for n in listeners},
        ROUTE: {n: route(draw(EDITIONS), draw(subsets(sorted(dns)))) for n in listeners},
        SECRET: {name: str(draw(EDITIONS)).encode() for name in secrets},
    }


def edited(world: dict[str, dict[str, bytes]], edition: int) -> dict[str, dict[str, bytes]]:
    """The same world, but every resource is different, and there is something of each type."""
    by_dns = {name: body.startswith(b"dns") for name, body in world[CLUSTER].items()} | {"z": False}
    secrets = dict.fromkeys([*world[SECRET], "z"], str(edition).encode())
    return {
        CLUSTER: {name: cluster(edition, dns=dns) for name, dns in by_dns.items()},
        ENDPOINT: {name: str(edition).encode() for name, dns in by_dns.items() if not dns},
        LISTENER: {name: listener(edition, [(secret, str(edition)) for secret in secrets]) for name in [*world[LISTENER], "z"]},
        ROUTE: {name: route(edition, parts(body)) for name, body in world[ROUTE].items()} | {"z": route(edition, by_dns)},
        SECRET: secrets,
    }


class Conversation(RuleBasedStateMachine):
    """One Envoy that connects, breaks off, rejects and lets wait as it likes."""

    @initialize(wire=st.sampled_from(Wire))
    def begin(self, wire: Wire) -> None:
        self.link = Link(wire)
        self.world: dict[str, dict[str, bytes]] | None = None
        self.edition = 1
        self.late = False  # a time-out has passed: what comes then may break before it makes
        self.rejected = False  # something was rejected in this stream
        self.refused: dict[str, set[int]] = {t: set() for t in TYPES}
        self.asked: dict[str, set[str]] = {t: set() for t in TYPES}
        self.sent: dict[str, int] = {}  # nonce → content

    # What happens

    @rule(world=worlds())
    def publish(self, world: dict[str, dict[str, bytes]]) -> None:
        self.world = world
        self.link.publish(world)
        self.look()

    @precondition(lambda self: self.link.to_server)
    @rule()
    def server_reads(self) -> None:
        request = self.link.to_server[0]
        status = self.link.session.summaries.get(request.type_url)
        if status is not None and request.nonce in status.nonces:  # not one that was given up meanwhile
            if request.error is None:
                self.refused[request.type_url].clear()
            else:
                self.refused[request.type_url].add(self.sent[request.nonce])
                self.asked[request.type_url].clear()
        self.asked[request.type_url].update(request.subscribe, request.names)
        self.link.server_reads()
        self.look()

    @precondition(lambda self: self.link.to_client)
    @rule(ack_first=st.booleans())
    def client_accepts(self, ack_first: bool) -> None:
        self.link.client_reads(ack_first=ack_first)

    @precondition(lambda self: self.link.to_client and self.link.to_client[0].resources)
    @rule(data=st.data())
    def client_rejects(self, data: st.DataObject) -> None:
        """Envoy applies parts of some responses that it rejects: of clusters and listeners the good ones, and all removals. There is
        nothing in it that could reject a response of removals alone: a name that it does not have it passes over.
        """
        names = sorted(self.link.envoy.concerned(self.link.to_client[0]))
        self.link.client_reads(error="no", applies=data.draw(subsets(names)))
        self.rejected = True

    @rule()
    def reconnect(self) -> None:
        """With all it holds. A state-of-the-world Envoy never learns that something is gone whose removal no stream has withheld."""
        self.link.connect()
        self.rejected = False
        for t in TYPES:
            self.refused[t].clear()
            self.asked[t].clear()

    @precondition(lambda self: self.link.session.deadline is not None)
    @rule()
    def wait(self) -> None:
        self.late = True
        self.link.wait()
        self.look()
        assert self.link.session.deadline is None or self.link.session.deadline > self.link.now

    @precondition(lambda self: self.link.wire is Wire.DELTA)
    @rule()
    def compact(self) -> None:
        compact(self.link.snapshot, [self.link.session])

    @rule()
    def settle(self) -> None:
        """Both talk until neither has anything to say. Without rejections and time-outs they agree then, and no timer was needed."""
        self.drain()
        self.late = self.late or self.rejected
        self.link.now += REQUEST_GRACE  # who has not asked for a type by now does not use it
        self.link.to_client.extend(self.link.session.expire(self.link.now))
        self.look()
        self.drain()
        if self.world is not None and not self.rejected:
            if self.late:
                self.out_wait()
            self.agree()
            self.late = False

    @precondition(lambda self: self.world is not None)
    @rule()
    def heal(self) -> None:
        """Whatever was rejected: once everything is different, they agree."""
        assert self.world is not None
        self.edition += 1
        self.world = edited(self.world, self.edition)
        self.link.publish(self.world)
        self.look()
        self.drain()
        self.out_wait()
        self.agree()
        assert not self.link.session.rejections
        compact(self.link.snapshot, [self.link.session])
        assert not any(self.link.snapshot[t].gone for t in TYPES)
        self.late = self.rejected = False

    def out_wait(self) -> None:
        for _ in range(20):
            if self.link.session.deadline is None:
                return
            self.wait()
            self.drain()
        raise AssertionError("there is always something to wait for")

    def drain(self) -> None:
        for _ in range(400):
            if self.link.to_server:
                self.server_reads()
            elif self.link.to_client:
                self.client_accepts(ack_first=True)
                self.no_route_without_its_clusters()
            else:
                return
        raise AssertionError("they never stop talking")

    # What holds

    def look(self) -> None:
        """What is true of every response; to be called when the Session has spoken."""
        for response in self.link.to_client:
            if response.nonce in self.sent:
                continue
            content = self.sent[response.nonce] = content_of(response)
            check(response)
            assert self.link.snapshot.ready
            named = {*(r.name for r in response.resources), *response.removed}
            if not named & self.asked[response.type_url]:
                assert content not in self.refused[response.type_url]

    @invariant()
    def no_route_without_its_clusters(self) -> None:
        """Make before break: at no moment does a route of a listener point to a cluster that is not there, or that has no endpoints."""
        have = self.link.envoy.have
        if self.late:
            return
        for name, body in have[ROUTE].items():
            for used in parts(body):
                assert used in self.link.envoy.active, (name, used)

    @invariant()
    def every_name_leads_a_life_that_is_allowed(self) -> None:
        life_of_a_name.check(self.link.session)

    @invariant()
    def one_in_flight(self) -> None:
        """Of a type at most one response awaits an answer; only a delta client that asks for more is given more."""
        if self.link.wire is Wire.SOTW:
            assert all(len(status.nonces) <= 1 for status in self.link.session.summaries.values())

    def agree(self) -> None:
        """The Envoy holds what is published, waits for nothing, and the Session knows that it does."""
        assert self.world is not None
        link, have = self.link, self.link.envoy.have
        assert have[CLUSTER] == self.world[CLUSTER]
        assert have[LISTENER] == self.world[LISTENER]
        for child in (ENDPOINT, ROUTE, SECRET):
            wanted = link.envoy.names[child]
            assert have[child] == {n: b for n, b in self.world[child].items() if n in wanted}, child
        assert not link.envoy.warming
        assert not link.envoy.starved
        assert all(link.session.accepted(t, n) for t in TYPES for n in have[t])
        assert link.session.deadline is None


def content_of(response: DiscoveryResponse) -> int:
    """What a response says."""
    return hash((frozenset(response.resources), response.removed))


def check(response: DiscoveryResponse) -> None:
    names = [r.name for r in response.resources]
    assert names == sorted(set(names)), "sorted, and none twice (S9, D10)"
    assert list(response.removed) == sorted(set(response.removed))
    assert not set(names) & set(response.removed)
    assert names or response.removed or response.type_url in (CLUSTER, LISTENER), "D16: an empty answer"


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None, phases=NO_EXPLANATION)


BAD = b"eds;bad"
MANY = [f"{n:02}" for n in range(40)]


@st.composite
def partly_bad(draw: st.DrawFn) -> dict[str, dict[str, bytes]]:
    """Up to 40 secrets, and as many clusters with endpoints, of which some are bad."""
    names = draw(st.sets(st.sampled_from(MANY), min_size=1))

    def bodies() -> dict[str, bytes]:
        bad, edition = draw(st.sets(st.sampled_from(sorted(names)), max_size=3)), draw(EDITIONS)
        return {name: BAD if name in bad else cluster(edition) for name in names}

    listeners = {"http": listener(draw(EDITIONS), [(name, "") for name in names])}
    return {CLUSTER: bodies(), ENDPOINT: bodies(), SECRET: bodies(), LISTENER: listeners, ROUTE: {"http": route(1)}}


@settings(max_examples=examples(80), deadline=None, phases=NO_EXPLANATION)
@given(st.sampled_from(Wire), st.lists(partly_bad(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_an_envoy_that_rejects_whatever_has_something_bad_gets_all_that_is_good(
    wire: Wire, worlds: list[dict[str, dict[str, bytes]]], chance: Random
) -> None:
    """It applies some of what it rejects, as Envoy does; a full state of the old wire cannot be parted, so there clusters are not bad."""
    link = Link(wire)

    def read() -> None:
        response = link.to_client[0]
        good = [r.name for r in response.resources if r.body != BAD]
        link.client_reads(error=None if len(good) == len(response.resources) else "no", applies=[n for n in good if chance.random() < 0.5])

    for world in worlds:
        if wire is Wire.SOTW:
            world[CLUSTER] = {name: cluster(1) for name in world[CLUSTER]}
        link.publish(world)
        for _ in range(chance.randrange(40)):
            if link.to_server and (chance.random() < 0.5 or not link.to_client):
                link.server_reads()
            elif link.to_client:
                read()
    for _ in range(40):
        for _ in range(2_000):
            if link.to_server:
                link.server_reads()
                life_of_a_name.check(link.session)
            elif link.to_client:
                read()
            else:
                break
        if link.session.deadline is None:
            break
        link.wait()
    assert not link.to_server
    assert not link.to_client
    assert link.session.deadline is None, "and it is left in peace"
    for type_url in (CLUSTER, ENDPOINT, SECRET):
        wanted = world[type_url] if type_url == CLUSTER else {n: b for n, b in world[type_url].items() if n in link.envoy.names[type_url]}
        good = {name: body for name, body in wanted.items() if body != BAD}
        assert {name: link.envoy.have[type_url].get(name) for name in good} == good
        assert {name for name in wanted if link.session.accepted(type_url, name)} == good.keys()
    assert all(BAD in world[type_url].values() for type_url in link.session.rejections)


class Answer(NamedTuple):
    """An ACK or a NACK of the oldest response, with other names on the way."""

    error: str | None
    names: tuple[str, ...]
    unsubscribe: tuple[str, ...]


NAMES = st.sampled_from(["a", "b", "c", "*", ""])
SOME = st.lists(NAMES, max_size=4).map(tuple)
REQUESTS = st.builds(
    DiscoveryRequest,
    st.sampled_from([*TYPES, "", "type.googleapis.com/envoy.service.runtime.v3.Runtime"]),
    nonce=st.sampled_from(["", "foreign", *(f"p{n}" for n in range(1, 6))]),
    error=st.none() | st.sampled_from(["", "no"]),
    names=SOME,
    subscribe=SOME,
    unsubscribe=SOME,
    initial_versions=st.dictionaries(NAMES, st.sampled_from(["", "old", Resource.of("a", b"1").version])),
    version=st.sampled_from(["", "old"]),
)
WORLDS = st.dictionaries(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([b"1", b"2"])))
ANSWERS = st.builds(Answer, st.sampled_from([None, None, "no"]), SOME, SOME)
OTHERS = st.sampled_from([0.3, ACK_TIMEOUT, "compact"])


def answer_to(response: DiscoveryResponse, wire: Wire, answer: Answer) -> DiscoveryRequest:
    """It changes subscriptions, too."""
    if wire is Wire.SOTW:
        return DiscoveryRequest(response.type_url, response.nonce, answer.error, names=answer.names, version=response.version)
    return DiscoveryRequest(response.type_url, response.nonce, answer.error, subscribe=answer.names, unsubscribe=answer.unsubscribe)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(Wire), st.booleans(), st.lists(REQUESTS | WORLDS | ANSWERS | ANSWERS | OTHERS, max_size=25))
def test_no_request_in_any_order_breaks_a_session(
    wire: Wire, ordered: bool, events: list[DiscoveryRequest | Answer | dict[str, dict[str, bytes]] | float | str]
) -> None:
    """Unknown types and names, foreign nonces, ACKs for nothing, names twice, wildcards anywhere; removals, time and compaction between."""
    snapshot, now = Snapshot(), 0.0
    session = Session(wire, snapshot, nonce_prefix="p", ordered=ordered)
    nonces: set[str] = set()
    in_flight: deque[DiscoveryResponse] = deque()
    for event in events:
        responses: list[DiscoveryResponse] = []
        match event:
            case DiscoveryRequest():
                responses = session.receive(event, now)
            case Answer():
                responses = session.receive(answer_to(in_flight.popleft(), wire, event), now) if in_flight else []
            case dict():
                put(snapshot, event)
                responses = session.publish(now)
            case float():
                now += event
                responses = session.expire(now)
                assert session.deadline is None or session.deadline > now
            case _:
                compact(snapshot, [session])
        life_of_a_name.check(session)
        for response in responses:
            check(response)
            assert response.nonce not in nonces
            nonces.add(response.nonce)
        in_flight.extend(responses)
        assert snapshot.ready or not responses
