"""One xDS stream, without the stream: requests, changes of the Snapshot and the passing of time in, responses out.

Nothing here reads, writes, waits or looks at a clock. `xds.server` owns the gRPC stream and calls the methods of `Session`; so do tests.
What one type is owed is worked out in `subscription`; here is what makes one stream of the types. The rules:

1. *Silence* until the Snapshot is ready (O7).
2. *One response in flight* per type. What changes meanwhile is said as one response later: a slow client skips states. In delta alone, more
   is said while an answer is awaited: what the client asks for, and what is said apart (rule 5). A client that does not answer for
   `PATIENCE` seconds is told again, together with what is new; if nothing is new, nothing is said (S15).
3. *Order* (O1): secrets, clusters, endpoints, listeners, routes, one after the other without waiting, because the stream keeps the order.
   What refers is followed by what it refers to, said again (O3, O4, O5): a cluster by its endpoints, because Envoy warms every new edition
   of a cluster until they come; a listener or cluster by those of its routes and secrets to which it did not refer in this way before, for
   Envoy may have made a new subscription of which we hear nothing (envoy 47309).
4. *Make before break* (O2). Listeners and routes wait while the client lacks a cluster, or the endpoints of one, altogether; they do not
   wait for changes of what it has. What is gone is taken away once the client has accepted all that may have used it: clusters after
   listeners and routes, endpoints after clusters, routes after listeners, secrets after listeners and clusters. All of this for at most
   `PATIENCE` seconds, counted from when the client was told of what it is to accept; and only for `GRACE` where there is no sign that the
   client has, or asks for, the other types.
5. *A rejection* (A5, T4) concerns its type alone. Each name of the rejected response is uncertain from then on, and said again apart from
   the others, in as many responses as may be in flight, until what the client rejects is alone: so it has all the others. What it rejected
   alone is said again, alone, when it is different. Only a full state of the old wire cannot be parted: it is said again when it is
   different in anything, and what is withheld stands in it as it was last accepted. A client that asks by name for what it
   rejected is answered. A secret that no client has accepted yet is said alone from the beginning: Envoy accepts, without effect, one that
   it has rejected when it is told of it again.

A single-type stream (`ordered=False`) keeps no order with other streams, and does not withhold (O11).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf

from xds.protocol.subscription import MOST_IN_FLIGHT, NOTHING, UNSURE, Sent, Subscription, Until
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, TYPES, Resource, Snapshot, version_of

PATIENCE = 10.0
"""Seconds that an answer is waited for before what depends on it goes on."""
GRACE = 0.25
"""Seconds that a request for another type is waited for: an Envoy that reconnects, or takes in a cluster, asks in the same breath."""
FULL_STATE = (CLUSTER, LISTENER)
"""In state of the world, what such a response leaves out is deleted (S1, S3)."""
_PER_TEXT = 50
"""Bytes of a text beside its characters."""
_USERS: Mapping[str, tuple[str, ...]] = {
    CLUSTER: (LISTENER, ROUTE),
    ENDPOINT: (CLUSTER,),
    ROUTE: (LISTENER,),
    SECRET: (LISTENER, CLUSTER),
}
"""What must have been accepted without a resource before that is taken away."""
_RELEASE_ORDER = (LISTENER, ROUTE, CLUSTER, ENDPOINT, SECRET)


class Wire(Enum):
    """The two variants of the protocol."""

    SOTW = auto()
    DELTA = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """A DiscoveryRequest or DeltaDiscoveryRequest, as far as it matters here.

    `names` and `version` (version_info: what the client accepted last) are state of the world; `subscribe`, `unsubscribe` and
    `initial_versions` are delta. `error` is the message of error_detail where there is one, which makes it a NACK (A4).
    """

    type_url: str
    nonce: str = ""
    error: str | None = None
    names: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse or DeltaDiscoveryResponse, as far as it matters here. `removed` is delta; the resources are sorted by name."""

    type_url: str
    nonce: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An ACK (`error` is None) or a NACK of what was said about `names` as of a `generation` of their State.

    What a client brings along from an earlier stream, and is as it is now, counts as accepted when it says so. `settled` is the latest
    generation of which it has accepted everything that it wants, -1 for none, but for what it `rejects`: names that it has rejected alone,
    and that are as they were. An answer about no names says that it has come this far by itself: what changed was nothing that it wants.
    `besides` are names that stood in the response though they were gone already, and of which it is not known whether they are any good.
    """

    type_url: str
    names: frozenset[str]
    generation: int
    version: str
    error: str | None = None
    settled: int = UNSURE
    rejects: frozenset[str] = NOTHING
    besides: frozenset[str] = NOTHING


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the client is with one type, for CSDS and the fleet: a picture of this moment.

    `accepted` is the version last accepted ("" for none on this stream), `nonces` those of the responses it has not answered, `names` what
    it asked for one by one, `error` what it said of `rejected`, the resources of the last response if it rejected that. Of existing names,
    `held` are those that it has in whichever version, `current` those of them that it has as they are now, and `said` those that stand in
    a response that it has not answered.
    """

    accepted: str
    nonces: tuple[str, ...]
    wildcard: bool
    names: tuple[str, ...]
    error: str | None = None
    rejected: tuple[Resource, ...] = ()
    held: frozenset[str] = NOTHING
    current: frozenset[str] = NOTHING
    said: frozenset[str] = NOTHING


@dataclass(frozen=True, slots=True)
class Summary:
    """The same as a Standing, as far as it costs nothing.

    `names` is how many names the client asked for one by one. `settled`: it has accepted all there is to say, and rejects nothing.
    """

    accepted: str
    nonces: tuple[str, ...]
    wildcard: bool
    names: int
    error: str | None
    rejected: tuple[Resource, ...]
    settled: bool


class Session:
    """The state of one stream.

    `nonce_prefix` makes its nonces differ from those of other streams (A1). `legacy_wildcards`: the types of which a first request without
    names asks for everything (W4, W5). `now` is in seconds, of any clock that does not go backwards. No request raises, whatever is in it.
    """

    def __init__(
        self,
        wire: Wire,
        snapshot: Snapshot,
        *,
        nonce_prefix: str = "",
        ordered: bool = True,
        legacy_wildcards: Collection[str] = FULL_STATE,
    ) -> None:
        self.deadline: float | None = None
        """When `expire` wants to be called, if nothing happens before."""
        self.stale_nonces = 0
        """How many requests carried a nonce that is not, or no longer, one of ours that awaits an answer."""
        self._wire = wire
        self._snapshot = snapshot
        self._nonce_prefix = nonce_prefix
        self._ordered = ordered
        self._legacy_wildcards = legacy_wildcards
        self._nonces = 0
        self._answers: list[Answer] = []
        self._subscriptions: dict[str, Subscription] = {}
        self._early: list[Request] = []  # what came before the Snapshot was ready
        self._first_heard: float | None = None
        self._held_up_since: float | None = None
        self._held_up_until = -inf

    # What happens

    def receive(self, request: Request, now: float) -> list[Response]:
        """The client asked for something, or said what it made of a response. Types that we have nothing of are never answered."""
        if request.type_url not in TYPES:
            return []
        if not self._snapshot.ready:
            self._early.append(request)
            return []
        self._read_early(now)
        return self._flush(now) if self._read(request, now) else []

    def publish(self, now: float) -> list[Response]:
        """The Snapshot has changed."""
        if not self._snapshot.ready:
            return []
        self._read_early(now)
        return self._flush(now)

    def expire(self, now: float) -> list[Response]:
        """Time has passed: the `deadline` has come. Calling it early does no harm."""
        return self.publish(now)

    # What it has come to

    def take_answers(self) -> list[Answer]:
        """What the client has accepted and rejected since this was last asked, in order."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def rejections(self) -> Mapping[str, str]:
        """By type, what the client said of its last response if it rejected that; until it accepts one (A10)."""
        return {t: s.error for t, s in self._subscriptions.items() if s.error is not None}

    @property
    def standings(self) -> Mapping[str, Standing]:
        """How far the client is with each type that it asked for. Costs what there is: for people, not for every change."""
        return {t: self.standing(t) for t, s in self._subscriptions.items() if s.begun}

    def standing(self, type_url: str) -> Standing:
        """How far the client is with a type that it asked for."""
        return _standing(self._subscriptions[type_url])

    @property
    def summaries(self) -> Mapping[str, Summary]:
        """How far the client is with each type that it asked for, in short; for many clients at once."""
        return {
            t: Summary(
                accepted=s.version,
                nonces=tuple(s.in_flight),
                wildcard=s.wildcard,
                names=len(s.missing) + s.wanted.bit_count(),
                error=s.error,
                rejected=s.rejected.resources if s.rejected else (),
                settled=s.quiet and s.agreed and s.generation == s.state.generation,
            )
            for t, s in self._subscriptions.items()
            if s.begun
        }

    def accepted(self, type_url: str, name: str, generation: int | None = None) -> bool:
        """Whether the client holds this resource as it is now; with a `generation`, as it was then or later.

        An Ingress is programmed once this is so for what it is made into, each as of the generation in which that was made.
        """
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            return False
        return subscription.has(name) if generation is None else subscription.has_since(name, generation)

    def accepted_all(self, type_url: str) -> int:
        """The latest generation of which the client has accepted everything that it wants; -1 for none."""
        subscription = self._subscriptions.get(type_url)
        return subscription.accepted if subscription is not None and subscription.begun else UNSURE

    def up_to_date(self, type_url: str) -> bool:
        """Whether the client has accepted every resource of the type as it is now."""
        subscription = self._subscriptions.get(type_url)
        return subscription is not None and subscription.up_to_date

    def in_use(self, type_url: str) -> tuple[int, Collection[str]]:
        """What `Snapshot.compact` wants to know: the generation that this stream has taken note of, and the names that it withholds."""
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            return self._snapshot[type_url].generation, ()
        return subscription.generation, subscription.withheld.keys()

    @property
    def weight(self) -> int:
        """About how many bytes it takes for this client alone, without the text of names that it keeps (`strange`)."""
        return sum(subscription.weight for subscription in self._subscriptions.values())

    @property
    def unknown(self) -> int:
        """How many names the client asks for that do not exist."""
        return sum(len(subscription.missing) for subscription in self._subscriptions.values())

    @property
    def strange(self) -> int:
        """Bytes of the names that it keeps though there is nothing of that name. Costs what there is: for now and then."""
        early = (name for request in self._early for name in (*request.names, *request.subscribe, *request.initial_versions))
        kept = (name for subscription in self._subscriptions.values() for name in subscription.strange)
        return sum(len(name) + _PER_TEXT for names in (early, kept) for name in names)

    # Requests

    def _read_early(self, now: float) -> None:
        for request in self._early:
            self._read(request, now)
        self._early.clear()

    def _read(self, request: Request, now: float) -> bool:
        """Whether it is to be considered at all: state of the world drops what comes with an old nonce (A2), delta never does (A3)."""
        if self._first_heard is None:
            self._first_heard = now
        subscription = self._subscription(request.type_url)
        until = self._until(request.type_url, now)
        subscription.catch_up(until)
        first = not subscription.begun
        answered = subscription.answer(request.nonce, request.error)
        if answered is not None:
            self._note_answered(request.type_url, subscription, answered, request.error)
        if self._wire is Wire.DELTA:
            self.stale_nonces += bool(request.nonce and not first and answered is None)
            subscription.amend(request.subscribe, request.unsubscribe, request.initial_versions, until)
            self._note_brought(request.type_url, subscription)
            return True
        if subscription.nonce and request.nonce != subscription.nonce:
            if request.nonce or subscription.says_the_same(request.names):
                self.stale_nonces += 1
                return False
            subscription.unanswered()  # other names and no nonce: it begins anew
        subscription.replace(request.names, request.version, until)
        self._note_brought(request.type_url, subscription)
        return True

    def _note_brought(self, type_url: str, subscription: Subscription) -> None:
        if subscription.brought:
            subscription.settle()
            state = subscription.state
            self._note(type_url, subscription, subscription.brought, state.generation, state.version)
            subscription.brought = NOTHING

    def _note(
        self,
        type_url: str,
        subscription: Subscription,
        names: frozenset[str],
        generation: int,
        version: str,
    ) -> None:
        self._note_answered(type_url, subscription, Sent((), (), names, NOTHING, version, generation, 0.0, whole=False, apart=False))

    def _note_answered(self, type_url: str, subscription: Subscription, sent: Sent, error: str | None = None) -> None:
        settled = subscription.told = subscription.settled
        rejects = subscription.rejects
        self._answers.append(Answer(type_url, sent.given, sent.generation, sent.version, error, settled, rejects, sent.besides))

    def _subscription(self, type_url: str) -> Subscription:
        known = self._subscriptions.get(type_url)
        if known is None:
            known = self._subscriptions[type_url] = Subscription(
                self._snapshot[type_url],
                full=type_url in FULL_STATE,
                legacy_wildcard=type_url in self._legacy_wildcards,
                delta=self._wire is Wire.DELTA,
                careful=type_url == SECRET,
            )
        return known

    def _until(self, type_url: str, now: float) -> Until:
        if not self._ordered:
            return Until((), now)
        return Until(tuple((t, self._snapshot[t].generation) for t in _USERS.get(type_url, ())), now + PATIENCE)

    # Responses

    def _flush(self, now: float) -> list[Response]:
        """Everything that can be said now."""
        self.deadline = None
        for type_url, subscription in self._subscriptions.items():
            if subscription.generation != subscription.state.generation:
                subscription.catch_up(self._until(type_url, now))
        for type_url in _RELEASE_ORDER:
            self._release(type_url, now)
        said = [*self._respond(SECRET, now), *self._respond(CLUSTER, now), *self._respond(ENDPOINT, now)]
        if not self._held_up(now):
            said += [*self._respond(LISTENER, now), *self._respond(ROUTE, now), *self._respond(SECRET, now)]
        return said

    def _release(self, type_url: str, now: float) -> None:
        """Lets the removals of one type be said that nothing stands against any longer."""
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            return
        if subscription.withheld:
            free = {until: self._is_over(type_url, until, now) for until in set(subscription.withheld.values())}
            subscription.release([name for name, until in subscription.withheld.items() if free[until]])
        subscription.settle()
        if subscription.begun and subscription.told < subscription.settled:
            self._note(type_url, subscription, NOTHING, subscription.settled, subscription.version)

    def _is_over(self, type_url: str, until: Until, now: float) -> bool:
        deadline = self._deadline(until, now)
        if now >= deadline:
            return True
        over = True
        for user, generation in until.accepted:
            subscription = self._subscriptions.get(user)
            if subscription is not None and subscription.begun:
                if subscription.accepted < generation:
                    self._wake(deadline)
                    over = False
            elif type_url == CLUSTER and self._first_heard is not None and now < self._first_heard + GRACE:
                self._wake(self._first_heard + GRACE)  # one that reconnects is about to ask for its listeners and routes
                over = False
        return over

    def _deadline(self, until: Until, now: float) -> float:
        """When a removal is withheld no longer. While listeners and routes are held up the client cannot accept them: that time is added,
        but no more of it than `_held_up` takes for one cluster, so that clusters which never come keep nothing for ever."""
        held_up = self._held_up_until if self._held_up_since is None else now
        return min(max(until.deadline, held_up + PATIENCE), until.deadline + 2 * PATIENCE)

    def _held_up(self, now: float) -> bool:
        """Whether listeners and routes have to wait for clusters and their endpoints."""
        users = [s for t in (LISTENER, ROUTE) if (s := self._subscriptions.get(t)) is not None and (s.owed or s.greet)]
        clusters, endpoints = self._lacking() if users and self._ordered else (0, 0)
        if not clusters and not endpoints:
            self._go_ahead(now)
            return False
        if self._held_up_since is None:
            self._held_up_since = now
        until = self._held_up_since + self._patience(clusters)
        if now < until:
            self._wake(until)
            return True
        self._subscription(CLUSTER).given_up |= clusters
        self._subscription(ENDPOINT).given_up |= endpoints
        self._go_ahead(now)
        return False

    def _go_ahead(self, now: float) -> None:
        """Listeners and routes are held up no longer."""
        if self._held_up_since is not None:
            self._held_up_since, self._held_up_until = None, now

    def _lacking(self) -> tuple[int, int]:
        """The clusters that the client is to have and has in no version, and the clusters whose endpoints it has in none."""
        clusters, endpoints = self._subscriptions.get(CLUSTER), self._subscriptions.get(ENDPOINT)
        if clusters is None or not clusters.begun:
            return 0, 0
        known = endpoints.holds | endpoints.given_up if endpoints is not None else 0
        return clusters.target & ~(clusters.holds | clusters.given_up), clusters.target & self._snapshot[ENDPOINT].existing & ~known

    def _patience(self, clusters: int) -> float:
        """Only a client that has listeners or routes has something to lose; and one that never asked for endpoints may never do."""
        subscriptions = [self._subscriptions.get(t) for t in (LISTENER, ROUTE)]
        serves = any(s is not None and (s.holds or s.returning) for s in subscriptions)
        endpoints = self._subscriptions.get(ENDPOINT)
        return PATIENCE if serves and (clusters or (endpoints is not None and endpoints.begun)) else GRACE

    def _wake(self, at: float) -> None:
        self.deadline = at if self.deadline is None else min(self.deadline, at)

    def _respond(self, type_url: str, now: float) -> list[Response]:
        """The responses of this type that are to be said now: one, but for what is said apart (rule 5)."""
        subscription = self._subscriptions.get(type_url)
        said: list[Response] = []
        if subscription is None or not subscription.begun or not (subscription.owed or subscription.greet):
            return said
        while (names := self._sayable(type_url, subscription, now)) or subscription.greet:
            said.append(self._say(type_url, subscription, names, now))
        return said

    def _say(self, type_url: str, subscription: Subscription, names: Collection[str], now: float) -> Response:
        resources, removed, version = self._compose(type_url, subscription, names)
        state = subscription.state
        present, absent = state.split(names)
        given, taken = state.names(present), frozenset(absent)
        shared = len(given) == len(state)
        whole, apart = len(names) == len(subscription.owed), subscription.together(next(iter(names), "")) is not None
        told = {name: subscription.owed[name] for name in given}
        self._nonces += 1
        nonce = f"{self._nonce_prefix}{self._nonces}"
        subscription.sent(nonce, Sent(resources, removed, given, taken, version, subscription.generation, now, whole, apart, shared=shared))
        self._renew(type_url, told)
        return Response(type_url, nonce, version, resources, removed)

    def _sayable(self, type_url: str, subscription: Subscription, now: float) -> Collection[str]:
        """Which of the names owed may be said now. Nothing where a client leaves too much unanswered; a full state that it has rejected
        only to one that asks for it (A5, A6).
        """
        if not subscription.owed:
            return ()
        if subscription.in_flight:
            expiry = max(sent.at for sent in subscription.in_flight.values()) + PATIENCE
            if now >= expiry:
                subscription.unanswered()
            else:
                self._wake(expiry)
                if len(subscription.in_flight) >= (MOST_IN_FLIGHT if subscription.delta else 1):
                    return ()
        if subscription.refused_states and self._compose(type_url, subscription, ())[2] in subscription.refused_states:
            return subscription.asked
        return subscription.sayable()

    def _compose(
        self, type_url: str, subscription: Subscription, names: Collection[str]
    ) -> tuple[tuple[Resource, ...], tuple[str, ...], str]:
        """Resources, removals and version of a response about these names; in full state, of one about everything."""
        state = subscription.state
        if self._wire is Wire.DELTA or type_url not in FULL_STATE:
            present, absent = state.split(names)
            return state.select(present), tuple(sorted(absent)), state.version
        kept = subscription.kept()
        if not subscription.wildcard:
            resources = (*state.select(state.among(subscription.wanted)), *kept)
            return _sorted(resources), (), version_of(resources)
        resources = state.select(state)
        return (_sorted((*resources, *kept)) if kept else resources), (), state.version_with(kept)

    def _renew(self, type_url: str, told: Mapping[str, int]) -> None:
        """What these resources refer to is to be said again; `told`: as of which generation the client was last told of each."""
        if type_url == CLUSTER:
            self._subscription(ENDPOINT).renew(told)
        state = self._snapshot[type_url]
        for name, generation in told.items():
            for reference in state.references(name, after=generation):
                if reference.type_url in TYPES:
                    self._subscription(reference.type_url).renew((reference.name,))


def _standing(s: Subscription) -> Standing:
    said = frozenset(name for sent in s.in_flight.values() for name in sent.given)
    held = frozenset(s.state.among(s.holds))
    behind = said.union(s.owed, s.state.since(s.generation))
    return Standing(
        accepted=s.version,
        nonces=tuple(s.in_flight),
        wildcard=s.wildcard,
        names=tuple(sorted({*s.missing, *s.state.among(s.wanted)})),
        error=s.error,
        rejected=s.rejected.resources if s.rejected else (),
        held=held,
        current=held - behind,
        said=said,
    )


def compact(snapshot: Snapshot, sessions: Iterable[Session]) -> None:
    """Forgets what is gone and what none of the open streams can need any more.

    To be called now and then by whoever knows all Sessions of a Snapshot, at most every PATIENCE seconds: so an Envoy of the old wire that
    reconnects within that time finds what its routes still use. It costs what is gone, and a little for each stream.
    """
    streams = list(sessions)
    for type_url in TYPES:
        uses = [session.in_use(type_url) for session in streams]
        seen = min((generation for generation, _ in uses), default=snapshot[type_url].generation)
        snapshot.compact({type_url: seen}, {type_url: frozenset().union(*(names for _, names in uses))})


def _sorted(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    return tuple(sorted(resources, key=lambda resource: resource.name))
