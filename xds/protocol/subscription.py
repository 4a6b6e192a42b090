"""One resource type on one stream: what the client subscribes to, what it has, what it has to be sent; and the responses with that.

Requests and changes of the State come in, responses go out. What the types have to do with each other (order, make before break) is in
`xds.protocol.session`. Rules are cited as S5 or D6 (docs/protocol-rules.md).

What a client has is not kept as a map of versions. It has what it subscribes to as of `generation`, except the `pending` names: together
with a few bitsets of names that is all there is, 3 kB for 10,000 names.

The life of a name
------------------

    subscribed, not existing ("missing")          subscribed, existing
                                        created
             ┌─────────┐ ─────────────────────────────▶ ┌─────────┐   send    ┌───────────┐   ACK    ┌──────┐
             │ missing │                                │ pending │ ────────▶ │ in flight │ ───────▶ │ held │
             └─────────┘ ◀───────────────────┐          └─────────┘           └───────────┘          └──────┘
                  ▲      deleted, never sent │            │ ▲    ▲               │    │                │   │
                  │                          └────────────┘ │    │  NACK, or no  │    │    changed,    │   │
                  │ ACK                                     │    └── answer ─────┘    │   or requested │   │
                  │                                         └─────────────────────────│────────────────┘   │
             ┌───────────┐   send    ┌─────────┐  released   ┌──────────┐   deleted   │                    │
             │ in flight │ ◀──────── │ pending │ ◀────────── │ withheld │ ◀───────────┴────────────────────┘
             └───────────┘           └─────────┘             └──────────┘
                 │   NACK, or no answer   ▲                        │ created again
                 └────────────────────────┘                        └────────────▶ pending, and uncertain

`held` is about any version: a name that has changed stays held while the change is pending or in flight. What else is known of a name:

    requested      pending because the client asks for it: sent even while an answer is awaited, and even if it was rejected (A6, D5)
    uncertain      the client may have it: it stood in a response that was rejected or not answered, or its removal was not sent yet
    given up       existing, not held, and listeners and routes no longer wait for it (rule 4 of the session)
    forced         before the first request: to be sent even if the client says that it has it, because a response referred to it (O4)
    sent apart     it was in a rejected response: `Rejections`

Once the Subscription has caught up with the State, every name that the client subscribes to is in one of these combinations. A name to
which it does not subscribe is neither held, pending nor withheld. tests/protocol/life_of_a_name.py reads this table, and the property tests
check it after every step.

    exists  held  pending  in flight  withheld
    ------  ----  -------  ---------  --------
    yes     yes   -        -          -         the client has the present version
    yes     yes   yes      -          -         changed since, or its content goes with something that refers to it
    yes     yes   -        yes        -         the change awaits an answer
    yes     yes   yes      yes        -         and it has changed once more
    yes     -     yes      -          -         new; or requested again, so that it is not known whether the client still has it
    yes     -     -        yes        -         new, and awaits an answer
    yes     -     yes      yes        -         new, and has changed or was requested meanwhile
    -       -     -        -          -         missing, and the client knows
    -       -     yes      -          -         its removal, or the answer that there is none
    -       -     -        yes        -         the removal awaits an answer
    -       -     yes      yes        -         the removal was requested again meanwhile
    -       -     -        -          yes       deleted; its removal waits for other types
    -       -     -        yes        yes       deleted while in flight; or requested since: a full state still has it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xds.bitset import Names
from xds.protocol.discovery import (
    NEVER,
    NOTHING,
    Acknowledgement,
    DiscoveryRequest,
    DiscoveryResponse,
    SubscriptionStatus,
    SubscriptionSummary,
    Wire,
)
from xds.protocol.interest import WILDCARD, Interest
from xds.protocol.rejections import MOST_IN_FLIGHT, Rejections, SentResponse
from xds.snapshot import CLUSTER, LISTENER, SECRET, Resource, State, version_of

ACK_TIMEOUT = 10.0
"""Seconds that a client may take to answer a response."""
FULL_STATE = (CLUSTER, LISTENER)
"""In state of the world, what a response of these types leaves out is deleted (S1, S3)."""
_PER_NAME = 100
"""Bytes that a name takes in a set or a dict, without its own."""


class RemovalCondition(NamedTuple):
    """Until when a removal is withheld: until the client has accepted these generations of other types, or until a time."""

    accepted: tuple[tuple[str, int], ...]
    deadline: float


Condition = Callable[[], RemovalCondition]
"""The condition for what is deleted now. A function, because few events delete something."""


@dataclass(slots=True, eq=False)
class Subscription:
    """The server's view of one type on one stream.

    `acknowledgements` is where ACKs and NACKs are appended, in order.
    """

    type_url: str
    state: State
    delta: bool
    acknowledgements: list[Acknowledgement]
    interest: Interest
    rejections: Rejections
    held: Names
    """Names that the client is known to have, in any version."""
    given_up: Names
    """Names that the client does not have and that nothing waits for any longer."""
    forced: Names
    """Before the first request: names to send even if the client has them, because a response referred to them (O4)."""
    started: bool = False
    """A request has come."""
    reconnected: bool = False
    """The client listed in its first request what it has from an earlier stream."""
    generation: int = 0
    """The generation of the State up to which this Subscription has caught up."""
    accepted: int = NEVER
    """The latest generation that the client has wholly accepted, removals included."""
    reported: int = NEVER
    """The `settled` generation of the last Acknowledgement."""
    version: str = ""
    """The version last accepted."""
    pending: dict[str, int] = field(default_factory=dict)
    """Names to send → the generation as of which the client was last sent them; NEVER where that is not known. Oldest first."""
    requested: frozenset[str] = NOTHING
    """The pending names that the client asks for: they wait neither for an answer nor for a change (A6, D5)."""
    wildcard_due: bool = False
    """A wildcard has not been answered yet. Listeners and clusters answer it even with nothing (S12)."""
    withheld: dict[str, RemovalCondition] = field(default_factory=dict)
    """Deleted names that the client may still use → until when their removal waits."""
    uncertain: frozenset[str] = NOTHING
    """Names that the client may have: their response was rejected or not answered, or their removal was not sent."""
    last_nonce: str = ""
    in_flight: dict[str, SentResponse] = field(default_factory=dict)
    """Nonce → a response that awaits an answer."""
    stale_nonces: int = 0
    """How many requests had a nonce that is not, or no longer, one of a response that awaits an answer."""

    @classmethod
    def of(cls, type_url: str, state: State, wire: Wire, acknowledgements: list[Acknowledgement], *, legacy_wildcard: bool) -> Subscription:
        """A Subscription before its first request. `legacy_wildcard`: a first request without names asks for everything (W4)."""
        none = state.index.none
        interest = Interest(state, legacy_wildcard, by_name=none)
        rejections = Rejections(state, isolates_unproven=type_url == SECRET)
        delta = wire is Wire.DELTA
        return cls(type_url, state, delta, acknowledgements, interest, rejections, none, none, none, generation=state.generation)

    @property
    def is_full_state(self) -> bool:
        """Whether each response has all there is (S1)."""
        return not self.delta and self.type_url in FULL_STATE

    @property
    def can_remove(self) -> bool:
        """Whether a response can say that a resource is gone (S3)."""
        return self.delta or self.type_url in FULL_STATE

    # Requests

    def receive(self, request: DiscoveryRequest, condition: Condition) -> bool:
        """Takes a request: the answer to a response, a change of what is subscribed, or both. Returns False if it is to be ignored.

        State of the world ignores a request with an old nonce (A2). Delta never does (A3). Call `settle` when no further request follows.
        """
        self._catch_up(condition)
        answered = self._answer(request.nonce, request.error)
        if self.delta:
            if request.nonce and self.started and not answered:
                self.stale_nonces += 1
            self._amend(request, condition)
            return True
        if self.last_nonce and request.nonce != self.last_nonce:
            if request.nonce or self.interest.equals(request.names):
                self.stale_nonces += 1
                return False
            self._resend_unanswered()  # other names and no nonce: the client begins anew
        self._replace(request.names, request.version, condition)
        return True

    def _replace(self, names: Iterable[str], version: str, condition: Condition) -> None:
        """State of the world: the client subscribes to these names and no others. `version` is what it last accepted, if this is its
        first request."""
        first, self.started = not self.started, True
        interest = self.interest
        listed = dict.fromkeys(names)
        interest.has_named = interest.has_named or bool(listed)
        existing, missing = interest.existing, interest.missing
        self._set_wildcard(interest.all_names_if(WILDCARD in listed))
        listed.pop(WILDCARD, None)
        present, absent = self.state.split(listed)
        by_name = self.state.names(present)
        self._request((by_name - interest.by_name).among(present), [name for name in absent if name not in missing])
        interest.by_name, interest.missing = by_name, frozenset(absent) or NOTHING
        if first:
            self._resume_full_state(version, condition)
            self.forced = self.state.index.none
        elif existing - interest.existing or missing - interest.missing:
            self._forget_unsubscribed()

    def _amend(self, request: DiscoveryRequest, condition: Condition) -> None:
        """Delta: the client subscribes to some names more, and unsubscribes from others. A first request lists what it has of an earlier
        stream (D6, D7)."""
        first, self.started = not self.started, True
        if not (first or request.subscribe or request.unsubscribe):
            return  # a mere ACK or NACK, as most requests are
        interest = self.interest
        removed = frozenset(request.unsubscribe)
        interest.has_named = interest.has_named or bool(request.subscribe or removed)
        versions = request.initial_versions if first else {}
        current = self.state.same(versions) if versions else NOTHING
        known = current.difference(self.forced.among(current)) if self.forced else current
        wildcard = (interest.wildcard or WILDCARD in request.subscribe) and WILDCARD not in removed
        self._set_wildcard(interest.all_names_if(wildcard), known)
        added = dict.fromkeys(request.subscribe)
        for name in (WILDCARD, *removed):
            added.pop(name, None)
        if added:
            present, absent = self.state.split(added)
            interest.add(present, absent)
            self._request(self._but(known, present), [n for n in absent if n not in self.withheld])
        if removed:
            self._unsubscribe(removed - {WILDCARD})
        if versions:
            self._resume_each(versions, current, condition)
        self.forced = self.state.index.none

    def _set_wildcard(self, wildcard: bool, known: Collection[str] = NOTHING) -> None:
        """`known`: names that the client has, and that need not be sent."""
        interest = self.interest
        if wildcard and not interest.wildcard:
            if names := self._but(known, self.state):
                self.pending |= dict.fromkeys(names, NEVER)
                self.requested |= frozenset(names)
            self.wildcard_due = self.type_url in FULL_STATE
        elif interest.wildcard and not wildcard:
            interest.wildcard = False
            self._forget_unsubscribed()
        interest.wildcard = wildcard

    def _but(self, known: Collection[str], names: Iterable[str]) -> list[str]:
        """These names, which exist, without those that are `known`. An Envoy that comes back knows all there are."""
        return [] if len(known) == len(self.state) else [name for name in names if name not in known]

    def _request(self, present: Collection[str], absent: Collection[str]) -> None:
        """The client asks for these names, so it gets them, whatever it was sent before (S5, D5). It may have dropped them meanwhile."""
        names = (*present, *absent) if self.can_remove else present
        if names:
            self.pending |= dict.fromkeys(names, NEVER)
            self.requested |= frozenset(names)
        if present and self.held:
            self.held -= self.state.names(present)

    def _unsubscribe(self, names: Collection[str]) -> None:
        present, absent = self.interest.remove(names)
        if self.interest.wildcard:  # the answer says what the wildcard makes of them (W6)
            self._request(present, [name for name in absent if name not in self.withheld])
        elif present or absent:
            self._forget_unsubscribed()

    def _forget_unsubscribed(self) -> None:
        """Drops what is known of names to which the client does not subscribe any more."""
        interest = self.interest
        self.pending = {name: self.pending[name] for name in interest.among(self.pending)}
        self.requested = self.requested.intersection(self.pending) or NOTHING
        self.withheld = {name: self.withheld[name] for name in interest.among(self.withheld)}
        limits = self.rejections.limits
        self.rejections.forget(limits.keys() - interest.among(limits))
        self.held &= interest.existing
        self.wildcard_due = self.wildcard_due and interest.wildcard

    # What the client has from an earlier stream

    def _resume_full_state(self, version: str, condition: Condition) -> None:
        """State of the world: if the version is ours, nothing is pending (S11). If not, the client may have what was deleted lately."""
        self.reconnected = bool(version)
        if not (version and self.is_full_state and self.interest.wildcard):
            return
        if version != self.state.version:
            self.withheld = dict.fromkeys((name for name, last in self.state.gone.items() if last), condition())
            return
        self.pending, self.requested, self.wildcard_due = {}, NOTHING, False
        self.held = self.interest.existing
        self._report_resumed(self.state.shared(self.state))

    def _resume_each(self, versions: Mapping[str, str], current: frozenset[str], condition: Condition) -> None:
        """Delta: the `current` of the listed names need not be sent; those that were deleted are to be removed (D6)."""
        self.reconnected, self.wildcard_due = True, False
        if len(current) == len(versions) and self.interest.existing == self.state.existing:
            self.held |= self.state.names(current)
        else:
            present, deleted = self.state.split(self.interest.among(versions))
            self.held |= self.state.names(present)
            for name in deleted:
                self.pending.pop(name, None)
            self.requested = self.requested.difference(deleted) or NOTHING
            self.withheld |= dict.fromkeys(deleted, condition())
        self._report_resumed(current)

    def _report_resumed(self, current: frozenset[str]) -> None:
        """What the client has and is still current counts as accepted: it must have accepted it once."""
        self.state.prove(self.state.select(current), current)
        if current:
            self._note_if_current()
            self._report(current, self.state.generation, self.state.version)

    # Changes of the State

    def catch_up(self, condition: Condition) -> None:
        """Takes note of what has changed in the State. The removal of what the client may have is withheld."""
        self._catch_up(condition)
        self.settle()

    def _catch_up(self, condition: Condition) -> None:
        before, self.generation = self.generation, self.state.generation
        if before == self.generation:
            return
        deleted = []
        for name in self.state.since(before):
            if name not in self.state:
                deleted.append(name)
                continue
            self.interest.appeared(name)
            if self.withheld.pop(name, None):
                self.uncertain |= {name}  # it may have the old one; that it has any is known once it accepts the new one
            if name in self.interest:
                self.pending.setdefault(name, before)
        if deleted:
            self._delete(deleted, condition)

    def _delete(self, names: Collection[str], condition: Condition) -> None:
        self.interest.disappeared(names)
        had = self.uncertain.union(self.held.among(names), *(sent.updated for sent in self.in_flight.values()))
        for name in names:
            self.pending.pop(name, None)
            if name in had and name in self.interest:
                self.withheld[name] = condition()
            elif name in self.requested and self.can_remove:
                self.pending[name] = NEVER
        self.requested = self.requested.intersection(self.pending) or NOTHING
        if not self.can_remove:
            self.rejections.forget(names)  # no response about them will ever be accepted, which is what ends a rejection otherwise
        deleted = self.state.index.names(names)
        self.held -= deleted
        self.given_up -= deleted
        self.forced -= deleted

    def release(self, conditions: Collection[RemovalCondition]) -> None:
        """Removals withheld under these conditions may be sent now."""
        released = [name for name, condition in self.withheld.items() if condition in conditions]
        for name in released:
            del self.withheld[name]
        if self.can_remove:
            self.pending |= dict.fromkeys(released, NEVER)
            self.uncertain = self.uncertain.union(released)
        self.settle()

    def resend(self, names: Iterable[str]) -> None:
        """A response refers to these: the client may wait for them, although they have not changed (O3, O4, O5)."""
        existing, _ = self.state.split(names)
        if not self.started:
            self.forced |= self.state.index.names(existing)
            return
        for name in self.interest.among(existing):
            self.pending.setdefault(name, self.generation)

    # Responses

    def respond(self, nonces: Iterator[str], now: float) -> list[tuple[DiscoveryResponse, Mapping[str, int]]]:
        """The responses that may be sent now: one, or several where names are sent apart.

        With each come the names that it updates → the generation as of which the client was last sent them.
        """
        responses = []
        while (names := self._sendable(now)) or self.wildcard_due:
            responses.append(self._send(names, next(nonces), now))
        return responses

    @property
    def ack_deadline(self) -> float | None:
        """When the responses in flight count as lost, if something waits for their answer."""
        return self._ack_deadline if self.pending and self.in_flight else None

    @property
    def _ack_deadline(self) -> float:
        return max(sent.at for sent in self.in_flight.values()) + ACK_TIMEOUT

    def _sendable(self, now: float) -> Collection[str]:
        """The names that the next response may be about; none while the client leaves too many responses unanswered.

        A full state that was rejected is sent only to a client that asks for it (A5, A6).
        """
        if not self.pending:
            return ()
        if self.in_flight:
            if now >= self._ack_deadline:
                self._resend_unanswered()
            elif len(self.in_flight) >= (MOST_IN_FLIGHT if self.delta else 1):
                return ()
        if self.rejections.full_states and self._full_state()[1] in self.rejections.full_states:
            return self.requested
        if self.rejections.sends_apart:
            return self._sendable_together()
        return self.requested if self.in_flight else self.pending

    def _sendable_together(self) -> list[str]:
        """The oldest pending name that may be sent now, and those that may be sent along with it.

        Requested names may always be sent. The others wait until no response is in flight, except those that are sent apart: these wait
        only for responses that have the same name.
        """
        waits = not all(sent.apart for sent in self.in_flight.values())
        names: list[str] = []
        most: int | None = None
        for name in self.pending:
            limit = self.rejections.limit(name)
            if name not in self.requested and (waits if limit is None else not self._may_send_apart(name)):
                continue
            if not names:
                most = limit
            if limit == most:
                names.append(name)
                if len(names) == most:
                    break
        return names

    def _may_send_apart(self, name: str) -> bool:
        """What was rejected alone is sent only with different content (A5)."""
        return not self.rejections.has_rejected(name) and not any(sent.concerns(name) for sent in self.in_flight.values())

    def _send(self, names: Collection[str], nonce: str, now: float) -> tuple[DiscoveryResponse, Mapping[str, int]]:
        present, absent = self.state.split(names)
        resources, version = self._full_state() if self.is_full_state else (self.state.select(present), self.state.version)
        removed = () if self.is_full_state else tuple(sorted(absent))
        previous = {name: self.pending[name] for name in present}
        self.in_flight[nonce] = SentResponse(
            resources,
            removed,
            updated=self.state.shared(present),
            deleted=frozenset(absent),
            version=version,
            generation=self.generation,
            at=now,
            complete=len(names) == len(self.pending),
            apart=self.rejections.limit(next(iter(names), "")) is not None,
            shares_names=len(present) == len(self.state),
        )
        self._no_longer_pending(names)
        self.wildcard_due = False
        self.last_nonce = nonce
        return DiscoveryResponse(self.type_url, nonce, version, resources, removed), previous

    def _no_longer_pending(self, names: Collection[str]) -> None:
        if len(names) == len(self.pending):
            self.pending, self.requested = {}, NOTHING
            return
        self.requested = self.requested.difference(names) or NOTHING
        for name in names:
            del self.pending[name]

    def _full_state(self) -> tuple[tuple[Resource, ...], str]:
        """All resources that the client subscribes to, and their version, for a wire on which absence means deletion.

        A resource whose removal is withheld stays in it as it was last accepted (O2).
        """
        gone = self.state.gone
        retained = [resource for name in self.withheld if (resource := gone.get(name)) is not None]
        if not self.interest.wildcard:
            resources = (*self.state.select(self.interest.by_name), *retained)
            return _sorted(resources), version_of(resources)
        resources = self.state.select(self.state)
        return (_sorted((*resources, *retained)) if retained else resources), self.state.version_with(retained)

    # Answers

    def _answer(self, nonce: str, error: str | None) -> bool:
        """The answer to a response in flight. Returns False if there is none with this nonce."""
        sent = self.in_flight.pop(nonce, None)
        if sent is None:
            return False
        retained = NOTHING
        if error is None:
            self._accept(sent)
        else:
            retained = self._reject(sent, error)
        self._report(sent.updated, sent.generation, sent.version, error, retained)
        return True

    def _accept(self, sent: SentResponse) -> None:
        # Names that were deleted or unsubscribed while the response was in flight are not held: their removal is pending or needless.
        present, _ = self.state.split(sent.updated)
        self.held |= self.state.names(present) & self.interest.existing
        self.rejections.accept(sent.names)
        self.state.prove(sent.resources, sent.updated)
        if sent.complete:
            self.rejections.clear()
            self.uncertain = self.uncertain.intersection(self.pending) or NOTHING
            self.version = sent.version
            # What else is in flight, or withheld, is of this generation as well, and not accepted yet.
            if not self.withheld and not self.in_flight:
                self.accepted = sent.generation

    def _reject(self, sent: SentResponse, error: str) -> frozenset[str]:
        """Envoy applies parts of some rejected responses, and nothing of others: what the client has of this one is uncertain now.

        Returns the deleted resources that may be the culprit (`Rejections.reject_full_state`).
        """
        retained = NOTHING
        if self.is_full_state:
            retained = self.rejections.reject_full_state(sent, error)
        else:
            self.rejections.reject(sent, error)
        self.state.doubt(sent.updated)
        # Of a rejected full state the client has nothing new for certain: its new resources are not withheld when they are deleted, for
        # they would stay in the next full state, which would be rejected again.
        self._send_again(sent, uncertain=sent.deleted if self.is_full_state else sent.names)
        for other in self.in_flight.values():
            other.complete = False  # it was sent before we knew, so that its ACK does not mean that everything was accepted
        return retained

    def _resend_unanswered(self) -> None:
        """The client did not answer in time: what it was sent is sent again, together with what is new (S15)."""
        for sent in self.in_flight.values():
            self._send_again(sent, uncertain=sent.names)
        self.in_flight = {}

    def _send_again(self, sent: SentResponse, uncertain: frozenset[str]) -> None:
        self.uncertain |= uncertain
        for name in sorted(sent.names):
            if name in self.interest and name not in self.withheld and (self.can_remove or name in self.state):
                self.pending[name] = NEVER

    # How far the client is

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be sent, and nothing awaits an answer."""
        return not (self.pending or self.withheld or self.in_flight)

    @property
    def settled(self) -> int:
        """The latest generation of which the client has accepted everything, except names that it has rejected alone."""
        if self.withheld or self.in_flight or not self.pending.keys() <= self.rejections.current:
            return self.accepted
        return max(self.accepted, self.generation)

    def settle(self) -> None:
        """Notes that the client is up to date, if it is; and reports it, where that has not come with an answer."""
        if not self.started:
            return
        self._note_if_current()
        if self.reported < self.generation and self.reported < (settled := self.settled):
            self._report(NOTHING, settled, self.version)

    def _note_if_current(self) -> None:
        if not self.is_quiet:
            return
        self.accepted, self.version = self.generation, self.state.version
        self.held = self.interest.existing
        if self.given_up:
            self.given_up -= self.held
        # After a NACK of something that was deleted since, nothing is pending, but the client has not accepted anything: its error stands.
        if self.rejections.last_was_ack or self.interest.is_empty:
            self.rejections.clear()

    def _report(
        self, names: frozenset[str], generation: int, version: str, error: str | None = None, retained: frozenset[str] = NOTHING
    ) -> None:
        self.reported = self.settled
        self.acknowledgements.append(
            Acknowledgement(self.type_url, names, generation, version, error, self.reported, self.rejections.current, retained)
        )

    def has_current(self, name: str) -> bool:
        """Whether the client has accepted this resource as it is now."""
        if name in self.pending or any(name in sent.updated for sent in self.in_flight.values()):
            return False
        return self.generation == self.state.generation and name in self.held

    def has_since(self, name: str, generation: int) -> bool:
        """Whether the client has accepted this resource as it was in that generation, or later."""
        if name not in self.held:
            return False
        if self.accepted >= generation:
            return True
        is_awaited = name in self.pending or any(name in sent.updated for sent in self.in_flight.values())
        return self.generation >= generation and not is_awaited

    @property
    def is_up_to_date(self) -> bool:
        """Whether the client has accepted every resource that exists, as it is now, and has nothing besides."""
        is_current = self.started and self.is_quiet and self.generation == self.state.generation
        return is_current and self.held == self.state.existing

    def status(self) -> SubscriptionStatus:
        """How far the client is, name by name. Costs what exists."""
        in_flight = frozenset(name for sent in self.in_flight.values() for name in sent.updated)
        held = frozenset(self.held)
        return SubscriptionStatus(
            accepted=self.version,
            nonces=tuple(self.in_flight),
            wildcard=self.interest.wildcard,
            names=tuple(sorted({*self.interest.missing, *self.interest.by_name})),
            error=self.rejections.error,
            rejected=self.rejections.resources,
            held=held,
            current=held - in_flight.union(self.pending, self.state.since(self.generation)),
            in_flight=in_flight,
        )

    def summary(self) -> SubscriptionSummary:
        """The same in short."""
        return SubscriptionSummary(
            accepted=self.version,
            nonces=tuple(self.in_flight),
            wildcard=self.interest.wildcard,
            names=len(self.interest.missing) + len(self.interest.by_name),
            error=self.rejections.error,
            rejected=self.rejections.resources,
            settled=self.is_quiet and self.rejections.last_was_ack and self.generation == self.state.generation,
        )

    @property
    def weight(self) -> int:
        """About how many bytes its sets of names take, without the names."""
        names = len(self.interest.missing) + len(self.pending) + len(self.requested) + len(self.withheld) + len(self.uncertain)
        names += len(self.rejections.limits)
        sent = sum([len(sent.deleted) + (0 if sent.shares_names else len(sent.updated)) for sent in self.in_flight.values()])
        return _PER_NAME * (names + sent)

    @property
    def unknown_names(self) -> frozenset[str]:
        """Names that do not exist and are remembered for this client alone."""
        deleted = (sent.deleted for sent in self.in_flight.values())
        names = self.interest.missing.union(self.withheld, self.uncertain, self.pending, *deleted)
        return frozenset(self.state.split(names)[1])


def _sorted(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    return tuple(sorted(resources, key=lambda resource: resource.name))
