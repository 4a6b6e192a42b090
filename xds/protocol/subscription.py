"""What one client asked for of one resource type, what it holds, and what it is still owed.

Both wires change it, each by one verb: `replace` (state of the world) and `amend` (delta). Here belongs what concerns one type alone; what
the types have to do with each other (order, make before break) is in `session`. Rules are cited as S5 or D6; tests/protocol has them one by
one.

What a client holds is not kept as a map of versions. It holds what it wants of the State as of `generation`, but for the names `owed`;
together with three sets of names as bits that is all there is, 3 kB for 10,000 names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xds.snapshot import Resource, State

WILDCARD = "*"
NOTHING: frozenset[str] = frozenset()
UNSURE = -1
"""What an owed name was last told as of, where that is not known."""
MOST_IN_FLIGHT = 16
"""Responses of one delta type that a client may leave unanswered."""
MOST_REFUSED = 64
"""How many rejected versions of one name, or of the full state, are remembered until the client accepts one."""
_PER_NAME = 100
"""Bytes that a name takes in a set or a dict, without its own."""
GONE = ""
"""What stands for a version where it is the removal of a name that was rejected."""


class Until(NamedTuple):
    """How long the removal of a name is withheld: until the client has accepted these generations of other types, or until a time."""

    accepted: tuple[tuple[str, int], ...]
    deadline: float


@dataclass(slots=True)
class Sent:
    """What a response said.

    `given` and `taken` are the names about which it says something new: resources, and removals (in state of the world: by absence).
    `whole`: it said all that was owed at that generation; otherwise only what was asked for out of turn, or apart from others (`apart`).
    `besides`: once it was rejected, what stood in it though it was gone, and no client has accepted or rejected it before. It may be what
    is wrong with it, but is not left out for that: the client may have it from before a restart of ours, and its routes may use it.
    """

    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    given: frozenset[str]
    taken: frozenset[str]
    version: str
    generation: int
    at: float
    whole: bool
    apart: bool
    besides: frozenset[str] = NOTHING
    shared: bool = False
    """The names `given` are a set that others have, too."""


@dataclass(slots=True, eq=False)
class Subscription:
    """The server's view of one type on one stream.

    `full`: an LDS or CDS, which answers a wildcard even with nothing (S12). `legacy_wildcard`: a first request without names asks for
    everything (W4). `delta`: the wire; in state of the world an LDS or CDS says all there is in each response (S1). `careful`: what no
    client has accepted yet is said alone (T4).
    """

    state: State
    full: bool
    legacy_wildcard: bool
    delta: bool
    careful: bool
    begun: bool = False
    """A request has come."""
    returning: bool = False
    """The client said in its first request that it holds something from an earlier stream."""
    brought: frozenset[str] = NOTHING
    """The names that it holds from there as they are now: it must have accepted them once."""
    named: bool = False
    """A request had names: an empty list is no wildcard any more (W1)."""
    wildcard: bool = False
    wanted: int = 0
    """Names asked for one by one that exist, as bits."""
    missing: frozenset[str] = NOTHING
    """Names asked for one by one that do not exist: each is said when it does (S4, D4)."""
    holds: int = 0
    """Names that the client is known to have, in whichever version, as bits."""
    given_up: int = 0
    """Names that the client does not have and that nothing waits for any longer, as bits."""
    renewed: int = 0
    """Before the first request: names that it has to be told even if it has them, because what refers to them was said (O4)."""
    generation: int = 0
    accepted: int = UNSURE
    """The latest generation that the client has wholly accepted, removals included."""
    told: int = UNSURE
    """What was last told of what is `settled` (`Session.take_answers`)."""
    version: str = ""
    """The version last accepted."""
    owed: dict[str, int] = field(default_factory=dict)
    """Names about which something is to be said → the generation as of which the client was last told of it."""
    asked: frozenset[str] = NOTHING
    """Those of them that the client has asked for: they wait for no answer, and for no change (A6, D5)."""
    greet: bool = False
    """A wildcard has not been answered yet."""
    withheld: dict[str, Until] = field(default_factory=dict)
    """Gone, but the client has it and may still use it: to be taken away later."""
    doubtful: frozenset[str] = NOTHING
    """Names that the client may have: from a response that it rejected or did not answer, or because their removal was not said."""
    nonce: str = ""
    in_flight: dict[str, Sent] = field(default_factory=dict)
    error: str | None = None
    """What the client said of its last response, if it rejected it (A10)."""
    rejected: Sent | None = None
    """The response that it rejected."""
    agreed: bool = True
    """The last answer was an ACK."""
    apart: dict[str, int] = field(default_factory=dict)
    """Names of which it has rejected one → how many of them a response may have at most, until it accepts them (T4)."""
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that it has rejected alone → in which versions: never to be said again as they were (A5)."""
    refused_states: tuple[str, ...] = ()
    """The versions of the full states that it has rejected since it last accepted one (A5)."""

    def __post_init__(self) -> None:
        self.generation = self.state.generation

    @property
    def tells_absence(self) -> bool:
        """Whether there is a way to say that a resource is gone (S3)."""
        return self.delta or self.full

    @property
    def says_all(self) -> bool:
        """Whether each response says all there is (S1)."""
        return self.full and not self.delta

    @property
    def weight(self) -> int:
        """About how many bytes its sets of names take, without the names."""
        names = len(self.missing) + len(self.owed) + len(self.asked) + len(self.withheld) + len(self.doubtful) + len(self.apart)
        return _PER_NAME * (names + sum(len(sent.taken) + (0 if sent.shared else len(sent.given)) for sent in self.in_flight.values()))

    @property
    def strange(self) -> frozenset[str]:
        """Names of which there is nothing, and which are remembered for this client alone."""
        kept = self.missing.union(self.withheld, self.doubtful, self.owed, *(sent.taken for sent in self.in_flight.values()))
        return frozenset(self.state.split(kept)[1])

    # What is wanted

    @property
    def target(self) -> int:
        """The existing names that the client wants, as bits."""
        return self.state.existing if self.wildcard else self.wanted

    def wants(self, name: str) -> bool:
        """Whether the client is to be told of this name."""
        return self.wildcard or name in self.missing or bool(self.wanted & self.state.bit(name))

    def wanted_among(self, names: Iterable[str]) -> list[str]:
        """Those of the names that the client is to be told of."""
        if self.wildcard:
            return list(names)
        return [*self.missing.intersection(names), *self.state.among(self.wanted, names)]

    def replace(self, names: Iterable[str], version: str, until: Until) -> None:
        """State of the world: these names, and no others. `version` is what the client last accepted; it counts in a first request."""
        first, self.begun = not self.begun, True
        all_names = frozenset(names)
        self.named = self.named or bool(all_names)
        before = self.target, self.missing
        self._ask_for_all(WILDCARD in all_names if self.named else self.legacy_wildcard)
        present, absent = self.state.split(all_names - {WILDCARD})
        wanted, missing = self.state.bits(present), frozenset(absent) or NOTHING
        self._ask_for(self.state.among(wanted & ~self.wanted, present), missing - self.missing)
        self.wanted, self.missing = wanted, missing
        if first:
            self._resume_whole(version, until)
            self.renewed = 0
        elif before[0] & ~self.target or before[1] - missing:
            self._forget_unwanted()

    def amend(self, add: Iterable[str], remove: Iterable[str], held: Mapping[str, str], until: Until) -> None:
        """Delta: these names more, those fewer. `held` counts in a first request: what the client has of an earlier stream (D6, D7)."""
        first, self.begun = not self.begun, True
        added, removed = frozenset(add), frozenset(remove)
        self.named = self.named or bool(added or removed)
        if first and held:
            self.brought = frozenset(self.state.same(held))
        known = self.brought.difference(self.state.among(self.renewed, self.brought))
        self._ask_for_all((self.wildcard or WILDCARD in added) and WILDCARD not in removed if self.named else self.legacy_wildcard, known)
        if added := added - removed.union((WILDCARD,)):
            present, absent = self.state.split(added)
            self.wanted |= self._bits(present)
            self.missing = self.missing.union(absent) or NOTHING
            self._ask_for([n for n in present if n not in known], [n for n in absent if n not in self.withheld])
        if removed:
            self._drop(removed - {WILDCARD})
        if first and held:
            self._resume_each(held, until)
        self.renewed = 0

    def says_the_same(self, names: Iterable[str]) -> bool:
        """State of the world: whether a request with these names would change nothing."""
        wanted = frozenset(names)
        if not wanted and not self.named:
            return True
        known = {*self.missing, *self.state.among(self.wanted)} | ({WILDCARD} if self.wildcard else set())
        return wanted == known

    def _bits(self, names: Collection[str]) -> int:
        """Names that exist, each once, as bits."""
        return self.state.existing if len(names) == len(self.state) else self.state.bits(names)

    def _ask_for_all(self, wildcard: bool, known: frozenset[str] = NOTHING) -> None:
        if wildcard and not self.wildcard:
            if len(known) < len(self.state):
                self.owed |= dict.fromkeys(names := [n for n in self.state if n not in known], UNSURE)
                self.asked |= frozenset(names)
            self.greet = self.full
        elif self.wildcard and not wildcard:
            self.wildcard = False
            self._forget_unwanted()
        self.wildcard = wildcard

    def _ask_for(self, present: Collection[str], absent: Collection[str]) -> None:
        """These are due an answer, whatever the client was told before (S5, D5); whether it still has them is not known."""
        if not self.tells_absence:
            absent = ()
        names = (*present, *absent)
        if names:
            self.owed |= dict.fromkeys(names, UNSURE)
            self.asked |= frozenset(names)
        if present and self.holds:
            self.holds &= ~self.state.bits(present)

    def _drop(self, names: Collection[str]) -> None:
        named = {*self.missing.intersection(names), *self.state.among(self.wanted, names)}
        present, absent = self.state.split(named)
        self.wanted &= ~self.state.bits(present)
        self.missing -= named
        if self.wildcard:  # an answer says what the wildcard makes of them (W6)
            self._ask_for(present, [n for n in absent if n not in self.withheld])
        elif named:
            self._forget_unwanted()

    def _forget_unwanted(self) -> None:
        self.owed = {n: self.owed[n] for n in self.wanted_among(self.owed)}
        self.asked = self.asked.intersection(self.owed) or NOTHING
        self.withheld = {n: self.withheld[n] for n in self.wanted_among(self.withheld)}
        self._trust(self.apart.keys() - self.wanted_among(self.apart))
        self.holds &= self.target
        self.greet = self.greet and self.wildcard

    # What the client has from an earlier stream

    def _resume_whole(self, version: str, until: Until) -> None:
        """State of the world: if the version is ours, nothing is owed (S11); if not, the client may have what is lately gone."""
        self.returning = bool(version)
        if not (version and self.full and self.wildcard):
            return
        if version == self.state.version:
            self.owed, self.asked, self.greet = {}, NOTHING, False
            self.holds = self.target
            self.brought = frozenset(self.state)
            self.state.prove(self.state.select(self.brought), self.brought)
        else:
            self.withheld = dict.fromkeys((name for name, known in self.state.gone.items() if known), until)

    def _resume_each(self, held: Mapping[str, str], until: Until) -> None:
        """Delta: what the client has as it is now (`brought`) need not be said, what is gone is to be taken away (D6)."""
        self.returning, self.greet = True, False
        self.state.prove(self.state.select(self.brought), self.brought)
        if len(self.brought) == len(held) and self.target == self.state.existing:
            self.holds |= self._bits(self.brought)
            return
        present, vanished = self.state.split(self.wanted_among(held))
        self.holds |= self._bits(present)
        for name in vanished:
            self.owed.pop(name, None)
        self.asked = self.asked.difference(vanished) or NOTHING
        self.withheld |= dict.fromkeys(vanished, until)

    # What has changed

    def catch_up(self, until: Until) -> None:
        """Takes note of what has changed in the State. What is gone is withheld if the client has it."""
        told, self.generation = self.generation, self.state.generation
        gone = []
        for name in self.state.since(told):
            if name not in self.state:
                gone.append(name)
                continue
            if name in self.missing:
                self.missing -= {name}
                self.wanted |= self.state.bit(name)
            if self.withheld.pop(name, None):
                self.doubtful |= {name}  # it may have it; that it does is known once it accepts what comes now
            if self.wants(name):
                self.owed.setdefault(name, told)
        if gone:
            self._lose(gone, until)

    def _lose(self, gone: Collection[str], until: Until) -> None:
        bits = self.state.bits(gone)
        self.missing |= frozenset(self.state.among(self.wanted & bits, gone))
        heard = self.doubtful.union(self.state.among(self.holds & bits, gone), *(sent.given for sent in self.in_flight.values()))
        for name in gone:
            self.owed.pop(name, None)
            if name in heard and self.wants(name):
                self.withheld[name] = until
            elif name in self.asked and self.tells_absence:
                self.owed[name] = UNSURE
        self.asked = self.asked.intersection(self.owed) or NOTHING
        if not self.tells_absence:
            self._trust(gone)
        self.wanted &= ~bits
        self.holds &= ~bits
        self.given_up &= ~bits
        self.renewed &= ~bits

    def release(self, names: Iterable[str]) -> None:
        """The removal of these is withheld no longer."""
        released = frozenset(names)
        self.withheld = {n: until for n, until in self.withheld.items() if n not in released}
        if self.tells_absence:
            self.owed |= dict.fromkeys(released, UNSURE)
            self.doubtful |= released

    def renew(self, names: Iterable[str]) -> None:
        """What refers to these was said: the client may wait for them, though they have not changed (O3, O4, O5)."""
        there, _ = self.state.split(names)
        if not self.begun:
            self.renewed |= self.state.bits(there)
            return
        for name in self.wanted_among(there):
            self.owed.setdefault(name, self.generation)

    def settle(self) -> None:
        """If nothing is left to be said or answered to a client that has asked, it is up to date."""
        if self.begun and self.quiet:
            self.accepted, self.version = self.generation, self.state.version
            if self.wanted == self.state.existing:
                self.wanted = self.state.existing  # an equal number, but not one of its own: 10,000 names are shared by all streams
            self.holds = self.target
            self.given_up &= ~self.holds
            if self.agreed or not (self.target or self.missing):
                self._forgive()

    @property
    def quiet(self) -> bool:
        """Whether the client has accepted all there is to say."""
        return not (self.owed or self.withheld or self.in_flight)

    # What is to be said, what was said, and what the client made of it

    def sayable(self) -> Collection[str]:
        """What the next response may be about: the oldest of the names that may be said now, and those that may be said along with it.

        What the client asks for, always (A6, D5); of what is not said apart the others only once all of that is answered.
        """
        if not self.apart and not self.careful:
            return self.asked if self.in_flight else self.owed
        waits = not all(sent.apart for sent in self.in_flight.values())
        names: list[str] = []
        most: int | None = None
        for name in self.owed:
            together = self.together(name)
            if name not in self.asked and (waits if together is None else not self._may_say_apart(name)):
                continue
            if not names:
                most = together
            if together == most:
                names.append(name)
                if len(names) == most:
                    break
        return names

    def together(self, name: str) -> int | None:
        """How many names a response may have that has this one; None if it need not be said apart."""
        if self.careful and name in self.state and name in self.state.unproven:
            return 1
        return self.apart.get(name)

    def _may_say_apart(self, name: str) -> bool:
        """At any time, but for what awaits an answer; and what was rejected alone only when it is different (A5)."""
        if self._version(name) in self.refused.get(name, ()):
            return False
        return not any(name in sent.given or name in sent.taken for sent in self.in_flight.values())

    def _version(self, name: str) -> str:
        return self.state[name].version if name in self.state else GONE

    def sent(self, nonce: str, sent: Sent) -> None:
        """This is on its way to the client."""
        names = sent.given | sent.taken
        if len(names) < len(self.owed):
            for name in names:
                self.owed.pop(name, None)
        else:
            self.owed = {}
        self.asked = self.asked - names if self.owed else NOTHING
        self.greet = False
        self.nonce = nonce
        self.in_flight[nonce] = sent

    def answer(self, nonce: str, error: str | None) -> Sent | None:
        """An ACK, or a NACK, of a response in flight: that response; None if there is none with this nonce."""
        sent = self.in_flight.pop(nonce, None)
        if sent is None:
            return None
        if error is None:
            self._accept(sent)
        else:
            self._reject(sent, error)
        return sent

    def _accept(self, sent: Sent) -> None:
        self.agreed = True
        self.holds |= self.state.bits(n for n in sent.given if n in self.state) & self.target
        self._trust(sent.given | sent.taken)
        self.state.prove(sent.resources, sent.given)
        if sent.whole:
            self._forgive()
            self.doubtful = self.doubtful.intersection(self.owed) or NOTHING
            self.version = sent.version
            if not self.withheld and not self.in_flight:
                self.accepted = sent.generation

    def _trust(self, names: Iterable[str]) -> None:
        """These need not be said apart."""
        if self.apart:
            for name in names:
                self.apart.pop(name, None)
                self.refused.pop(name, None)

    def _forgive(self) -> None:
        self.error, self.rejected, self.refused_states = None, None, ()

    def _reject(self, sent: Sent, error: str) -> None:
        """Which of its names the client took over is uncertain: Envoy applies parts of some types, and nothing of others."""
        self.error, self.rejected, self.agreed = error, sent, False
        if self.says_all and self.state.gone:
            sent.besides = frozenset(r.name for r in sent.resources if r.name in self.state.gone and r.name in self.state.unproven)
        self.state.doubt(sent.given)
        if self.says_all:
            self.refused_states = (*self.refused_states, sent.version)[-MOST_REFUSED:]
        else:
            self._suspect(sent)
        self._owe_again(sent, doubtful=sent.taken if self.says_all else sent.given | sent.taken)
        for other in self.in_flight.values():
            other.whole = False  # it was said before we knew, so its ACK does not settle this

    def kept(self) -> list[Resource]:
        """What a full state has besides what there is: the names whose removal is withheld (O2), but nothing that was ever rejected."""
        return [resource for name in self.withheld if (resource := self.state.gone.get(name)) is not None]

    def _suspect(self, sent: Sent) -> None:
        """The names of a rejected response are said again in as many responses as may be in flight, until the culprit is alone."""
        names = sent.given | sent.taken
        most = -(-len(names) // MOST_IN_FLIGHT)
        for name in names:
            self.apart[name] = min(most, self.apart.get(name, most))
        if len(names) == 1:
            for name, version in [*((r.name, r.version) for r in sent.resources), *((n, GONE) for n in sent.taken)]:
                self.refused[name] = (*self.refused.get(name, ()), version)[-MOST_REFUSED:]

    def unanswered(self) -> None:
        """The client did not answer in time: what it was told is to be said again, together with what is new (S15)."""
        for sent in self.in_flight.values():
            self._owe_again(sent, doubtful=sent.given | sent.taken)
        self.in_flight = {}

    def _owe_again(self, sent: Sent, doubtful: frozenset[str]) -> None:
        """The client may have what is `doubtful`. Of a full state that it rejected nothing new is: kept, it would be rejected again."""
        self.doubtful |= doubtful
        for name in sorted(sent.given | sent.taken):
            if self.wants(name) and name not in self.withheld and (self.tells_absence or name in self.state):
                self.owed[name] = UNSURE

    def has(self, name: str) -> bool:
        """Whether the client has accepted this resource as it is now."""
        if name in self.owed or any(name in sent.given for sent in self.in_flight.values()):
            return False
        return self.generation == self.state.generation and bool(self.holds & self.state.bit(name))

    @property
    def up_to_date(self) -> bool:
        """Whether the client has accepted every resource there is, as it is now, and has nothing besides."""
        current = self.begun and self.quiet and self.generation == self.state.generation
        return current and self.holds == self.state.existing

    @property
    def rejects(self) -> frozenset[str]:
        """The names that the client has rejected alone, as they are now."""
        return frozenset(n for n, versions in self.refused.items() if self._version(n) in versions) if self.refused else NOTHING

    @property
    def settled(self) -> int:
        """The latest generation of which the client has accepted everything but what it `rejects`."""
        others = self.withheld or self.in_flight or not self.owed.keys() <= self.rejects
        return self.accepted if others else max(self.accepted, self.generation)

    def has_since(self, name: str, generation: int) -> bool:
        """Whether the client has accepted this resource as it was in that generation, or later."""
        if not self.holds & self.state.bit(name):
            return False
        if self.accepted >= generation:
            return True
        awaited = name in self.owed or any(name in sent.given for sent in self.in_flight.values())
        return self.generation >= generation and not awaited
