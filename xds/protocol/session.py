"""One xDS stream, without the stream: requests, changes of the Snapshot and the passing of time go in, responses come out.

Nothing here reads, writes, waits or looks at a clock. `xds.server` owns the gRPC stream and calls the methods of `Session`; so do tests.
What is sent of one type is decided in `xds.protocol.subscription`. Here is what the types of one stream have to do with each other.
The rules:

1. *Silence* until the Snapshot is ready (O7).
2. *One response in flight* per type. What changes meanwhile is sent as one response later: a slow client skips states. Delta alone sends
   more while an ACK is awaited: names that the client requests, and names that are sent apart (rule 5). A response that is not answered
   within `ACK_TIMEOUT` counts as lost: its names are sent again with the next change; without a change, nothing is sent (S15).
3. *Order* (O1): secrets, clusters, endpoints, listeners, routes, without waiting in between, because the stream keeps the order.
   A resource that refers to others is followed by them, sent again (O3, O4, O5). A cluster is followed by its endpoints, because Envoy
   warms each new version of a cluster until they come. A listener or cluster is followed by the routes and secrets to which its previous
   version did not refer in this way: Envoy may have made a new subscription without a request on the wire (envoy issue 47309).
4. *Make before break* (O2). Listeners and routes are blocked while the client has no version at all of a cluster, or of its endpoints. They
   are not blocked by changes of what it has. A deleted resource is removed once the client has accepted everything that may have used it:
   clusters after listeners and routes, endpoints after clusters, routes after listeners, secrets after listeners and clusters. Both
   waits end after `ACK_TIMEOUT`, counted from when the client was sent what it is to accept. They end after `REQUEST_GRACE` where nothing
   shows that the client has, or subscribes to, the other types.
5. *A NACK* (A5, T4) concerns its type alone. We cannot know which resources of the response the client applied. They are sent again in up
   to 16 smaller responses, divided further until the bad one is alone; see `xds.protocol.rejections`.

A single-type stream (`ordered=False`) keeps no order with other streams, and withholds nothing (O11).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import count
from math import inf

from xds.bitset import Names
from xds.protocol.discovery import (
    NEVER,
    Acknowledgement,
    DiscoveryRequest,
    DiscoveryResponse,
    SubscriptionStatus,
    SubscriptionSummary,
    Wire,
)
from xds.protocol.subscription import ACK_TIMEOUT, FULL_STATE, RemovalCondition, Subscription
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET, TYPES, Snapshot

REQUEST_GRACE = 0.25
"""Seconds to wait for a first request of another type: an Envoy that reconnects, or gets a cluster, sends all its requests at once."""
_PER_TEXT = 50
"""Bytes of a text beside its characters."""
_PER_REQUEST = 300
"""Bytes of a request beside its texts."""
_USERS: Mapping[str, tuple[str, ...]] = {
    CLUSTER: (LISTENER, ROUTE),
    ENDPOINT: (CLUSTER,),
    ROUTE: (LISTENER,),
    SECRET: (LISTENER, CLUSTER),
}
"""Type → the types that may use its resources, and must be accepted without a resource before that one is removed."""
_RELEASE_ORDER = (LISTENER, ROUTE, CLUSTER, ENDPOINT, SECRET, PASSWORDS)


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
        """When `expire` has to be called, if nothing happens before."""
        self.subscriptions: dict[str, Subscription] = {}
        """By type, those of the types that were requested, or that a response referred to."""
        self._wire = wire
        self._snapshot = snapshot
        self._nonces = (f"{nonce_prefix}{number}" for number in count(1))
        self._ordered = ordered
        self._legacy_wildcards = legacy_wildcards
        self._acknowledgements: list[Acknowledgement] = []
        self._early: list[DiscoveryRequest] = []  # those that came before the Snapshot was ready
        self._first_request_at: float | None = None
        self._blocked_since: float | None = None  # listeners and routes, by rule 4
        self._unblocked_at = -inf

    # Events

    def receive(self, request: DiscoveryRequest, now: float) -> list[DiscoveryResponse]:
        """The client sent a request. Types that are not served are never answered."""
        if request.type_url not in TYPES:
            return []
        if not self._snapshot.ready:
            self._early.append(request)
            return []
        self._read_early(now)
        if not self._read(request, now):
            return []
        self.subscriptions[request.type_url].settle()
        return self._flush(now)

    def publish(self, now: float) -> list[DiscoveryResponse]:
        """The Snapshot has changed."""
        if not self._snapshot.ready:
            return []
        self._read_early(now)
        return self._flush(now)

    def expire(self, now: float) -> list[DiscoveryResponse]:
        """Time has passed: the `deadline` has come. Calling it early does no harm."""
        return self.publish(now)

    # How far the client is

    def take_acknowledgements(self) -> list[Acknowledgement]:
        """The ACKs and NACKs since the last call, in order."""
        taken = self._acknowledgements.copy()
        self._acknowledgements.clear()  # the Subscriptions append to this very list
        return taken

    @property
    def rejections(self) -> Mapping[str, str]:
        """By type, the error of the last response if the client rejected it; until it accepts one (A10)."""
        return {t: error for t, s in self.subscriptions.items() if (error := s.rejections.error) is not None}

    def status(self, type_url: str) -> SubscriptionStatus:
        """How far the client is with a type that it requested. Costs what exists: for people, not for every change."""
        return self.subscriptions[type_url].status()

    @property
    def summaries(self) -> Mapping[str, SubscriptionSummary]:
        """How far the client is with each type that it requested, in short; for many clients at once."""
        return {t: s.summary() for t, s in self.subscriptions.items() if s.started}

    def accepted(self, type_url: str, name: str, generation: int | None = None) -> bool:
        """Whether the client has this resource as it is now; with a `generation`, as it was then or later.

        An Ingress is programmed once this is so for all of its resources, each as of the generation in which it was made.
        """
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            return False
        return subscription.has_current(name) if generation is None else subscription.has_since(name, generation)

    def accepted_all(self, type_url: str) -> int:
        """The latest generation of which the client has accepted everything that it subscribes to; -1 for none."""
        subscription = self.subscriptions.get(type_url)
        return subscription.accepted if subscription is not None and subscription.started else NEVER

    def up_to_date(self, type_url: str) -> bool:
        """Whether the client has accepted every resource of the type as it is now."""
        subscription = self.subscriptions.get(type_url)
        return subscription is not None and subscription.is_up_to_date

    def in_use(self, type_url: str) -> tuple[int, Collection[str]]:
        """For `Snapshot.compact`: the generation that this stream has caught up with, and the names whose removal it withholds."""
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            return self._snapshot[type_url].generation, ()
        return subscription.generation, subscription.withheld.keys()

    def stale_nonces(self, type_url: str) -> int:
        """How many requests of a type had a nonce that is not, or no longer, one of ours that awaits an answer."""
        subscription = self.subscriptions.get(type_url)
        return 0 if subscription is None else subscription.stale_nonces

    @property
    def weight(self) -> int:
        """About how many bytes it takes for this client alone, without the text of names (`unknown_bytes`)."""
        return sum([subscription.weight for subscription in self.subscriptions.values()])

    @property
    def unknown(self) -> int:
        """To how many names the client subscribes that do not exist."""
        return sum(len(subscription.interest.missing) for subscription in self.subscriptions.values())

    @property
    def unknown_bytes(self) -> int:
        """Bytes of the names that it remembers though they do not exist, and of requests that it keeps until the Snapshot is ready.

        Costs what exists, so it is not for every event.
        """
        requests = self._early
        early = (name for r in requests for name in (*r.names, *r.subscribe, *r.unsubscribe, *r.initial_versions, r.error or ""))
        kept = (name for subscription in self.subscriptions.values() for name in subscription.unknown_names)
        return sum(len(name) + _PER_TEXT for names in (early, kept) for name in names) + _PER_REQUEST * len(requests)

    # Requests

    def _read_early(self, now: float) -> None:
        if not self._early:
            return
        early, self._early = self._early, []
        for request in early:
            self._read(request, now)
        for subscription in self.subscriptions.values():
            subscription.settle()  # not before: the client is not up to date with what it has requested since

    def _read(self, request: DiscoveryRequest, now: float) -> bool:
        if self._first_request_at is None:
            self._first_request_at = now
        return self._subscription(request.type_url).receive(request, partial(self._removal_condition, request.type_url, now))

    def _subscription(self, type_url: str) -> Subscription:
        known = self.subscriptions.get(type_url)
        if known is None:
            known = self.subscriptions[type_url] = Subscription.of(
                type_url,
                self._snapshot[type_url],
                self._wire,
                self._acknowledgements,
                legacy_wildcard=type_url in self._legacy_wildcards,
            )
        return known

    def _removal_condition(self, type_url: str, now: float) -> RemovalCondition:
        """Until when the removal of what is deleted now has to wait."""
        if not self._ordered:
            return RemovalCondition((), now)
        return RemovalCondition(tuple((t, self._snapshot[t].generation) for t in _USERS.get(type_url, ())), now + ACK_TIMEOUT)

    # Responses

    def _flush(self, now: float) -> list[DiscoveryResponse]:
        """Everything that can be sent now."""
        self.deadline = None
        # All types catch up before any removal is considered: its condition is about what other types have accepted.
        for type_url, subscription in self.subscriptions.items():
            if subscription.generation != subscription.state.generation:
                subscription.catch_up(partial(self._removal_condition, type_url, now))
        for type_url in _RELEASE_ORDER:
            if (known := self.subscriptions.get(type_url)) is None:
                continue
            if known.withheld:
                known.release([until for until in set(known.withheld.values()) if self._may_remove(type_url, until, now)])
            elif known.reported < known.generation:
                known.settle()  # responses that were not answered in time may have been all that it waited for
        responses = [
            *self._respond(PASSWORDS, now),
            *self._respond(SECRET, now),
            *self._respond(CLUSTER, now),
            *self._respond(ENDPOINT, now),
        ]
        if not self._is_blocked(now):
            # Secrets once more, because a listener may refer to one that the client has already (O5).
            responses += [*self._respond(LISTENER, now), *self._respond(ROUTE, now), *self._respond(SECRET, now)]
        return responses

    def _respond(self, type_url: str, now: float) -> list[DiscoveryResponse]:
        subscription = self.subscriptions.get(type_url)
        if subscription is None or not (subscription.pending or subscription.wildcard_due):
            return []
        responses = []
        for response, updated in subscription.respond(self._nonces, now):
            responses.append(response)
            self._resend_referred(type_url, updated)
        self._wake_at(subscription.ack_deadline)
        return responses

    def _resend_referred(self, type_url: str, updated: Mapping[str, int]) -> None:
        """What was sent is followed by what it refers to (rule 3). `updated`: name → as of which generation it was last sent."""
        if type_url == CLUSTER:
            self._subscription(ENDPOINT).resend(updated)
        state = self._snapshot[type_url]
        for name, generation in updated.items():
            for reference in state.references(name, after=generation):
                if reference.type_url in TYPES:
                    self._subscription(reference.type_url).resend((reference.name,))

    def _wake_at(self, time: float | None) -> None:
        if time is not None:
            self.deadline = time if self.deadline is None else min(self.deadline, time)

    # Make before break

    def _may_remove(self, type_url: str, until: RemovalCondition, now: float) -> bool:
        """Whether a removal need not be withheld any longer."""
        deadline = self._removal_deadline(until, now)
        if now >= deadline:
            return True
        fulfilled = True
        for user, generation in until.accepted:
            subscription = self.subscriptions.get(user)
            if subscription is not None and subscription.started:
                if subscription.accepted < generation:
                    self._wake_at(deadline)
                    fulfilled = False
            elif type_url == CLUSTER and self._first_request_at is not None and now < self._first_request_at + REQUEST_GRACE:
                # An Envoy that reconnects is about to request its listeners and routes. Without them nothing uses the cluster.
                self._wake_at(self._first_request_at + REQUEST_GRACE)
                fulfilled = False
        return fulfilled

    def _removal_deadline(self, until: RemovalCondition, now: float) -> float:
        """When a removal is sent whatever the client has accepted.

        While listeners and routes are blocked, the client cannot accept them, so that time is added. It is bounded by what one cluster can
        take: clusters that never come must not keep others for ever.
        """
        blocked_until = self._unblocked_at if self._blocked_since is None else now
        return min(max(until.deadline, blocked_until + ACK_TIMEOUT), until.deadline + 2 * ACK_TIMEOUT)

    def _is_blocked(self, now: float) -> bool:
        """Whether listeners and routes have to wait for clusters and their endpoints."""
        clusters, endpoints = self._lacking()
        if not clusters and not endpoints:
            self._unblock(now)
            return False
        if self._blocked_since is None:
            self._blocked_since = now
        until = self._blocked_since + self._longest_block(clusters)
        if now < until:
            self._wake_at(until)
            return True
        # The wait is over for these clusters only: the next new cluster blocks again.
        self._subscription(CLUSTER).given_up |= clusters
        self._subscription(ENDPOINT).given_up |= endpoints
        self._unblock(now)
        return False

    def _unblock(self, now: float) -> None:
        if self._blocked_since is not None:
            self._blocked_since, self._unblocked_at = None, now

    def _lacking(self) -> tuple[Names, Names]:
        """The clusters of which the client has no version, and those of whose endpoints it has none; nothing if nothing waits for them."""
        none = self._snapshot[CLUSTER].index.none
        clusters, endpoints = self.subscriptions.get(CLUSTER), self.subscriptions.get(ENDPOINT)
        users = [s for t in (LISTENER, ROUTE) if (s := self.subscriptions.get(t)) is not None and (s.pending or s.wildcard_due)]
        if not self._ordered or not users or clusters is None or not clusters.started:
            return none, none
        wanted = clusters.interest.existing
        known = endpoints.held | endpoints.given_up if endpoints is not None else none
        return wanted - clusters.held - clusters.given_up, (wanted & self._snapshot[ENDPOINT].existing) - known

    def _longest_block(self, clusters: Names) -> float:
        """How many seconds listeners and routes may wait.

        Only a client that has listeners or routes has traffic to lose. One that never subscribes to endpoints may never do so.
        """
        users = [self.subscriptions.get(t) for t in (LISTENER, ROUTE)]
        serves = any(s is not None and (s.held or s.reconnected) for s in users)
        endpoints = self.subscriptions.get(ENDPOINT)
        return ACK_TIMEOUT if serves and (clusters or (endpoints is not None and endpoints.started)) else REQUEST_GRACE


def compact(snapshot: Snapshot, sessions: Iterable[Session]) -> None:
    """Forgets the deleted resources that none of the open streams can need any more.

    To be called now and then by the owner of all Sessions of a Snapshot, at most every ACK_TIMEOUT seconds: so a state-of-the-world Envoy
    that reconnects within that time gets what its routes still use. Costs what is gone, and a little for each stream.
    """
    streams = list(sessions)
    for type_url in TYPES:
        uses = [session.in_use(type_url) for session in streams]
        seen = min((generation for generation, _ in uses), default=snapshot[type_url].generation)
        snapshot.compact({type_url: seen}, {type_url: frozenset().union(*(names for _, names in uses))})
