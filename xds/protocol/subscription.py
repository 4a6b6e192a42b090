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
MOST_REFUSED = 64
"""How many rejected contents are remembered until the client accepts one."""

Content = int
"""A hash of what a response says: names, versions and removals."""


class Until(NamedTuple):
    """How long the removal of a name is withheld: until the client has accepted these generations of other types, or until a time."""

    accepted: tuple[tuple[str, int], ...]
    deadline: float


@dataclass(slots=True)
class Sent:
    """What a response said.

    `given` and `taken` are the names about which it says something new: resources, and removals (in state of the world: by absence).
    `whole`: it said all that was owed at that generation; otherwise only what was asked for out of turn.
    """

    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    given: frozenset[str]
    taken: frozenset[str]
    version: str
    generation: int
    at: float
    whole: bool


@dataclass(slots=True, eq=False)
class Subscription:
    """The server's view of one type on one stream.

    `full`: an LDS or CDS, which answers a wildcard even with nothing (S12). `legacy_wildcard`: a first request without names asks for
    everything (W4). `tells_absence`: the wire has a way to say that a resource is gone: delta, and state of the world for LDS and CDS (S3).
    """

    state: State
    full: bool
    legacy_wildcard: bool
    tells_absence: bool
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
    refused: tuple[Content, ...] = ()
    """What it has rejected since it last accepted something: never to be said again as it was (A5)."""

    def __post_init__(self) -> None:
        self.generation = self.state.generation

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
        wanted, missing = self.state.bits(present), frozenset(absent)
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
        self._ask_for_all((self.wildcard or WILDCARD in added) and WILDCARD not in removed if self.named else self.legacy_wildcard)
        if added := added - removed - {WILDCARD}:
            present, absent = self.state.split(added)
            self.wanted |= self.state.bits(present)
            self.missing |= frozenset(absent)
            self._ask_for(present, [n for n in absent if n not in self.withheld])
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

    def _ask_for_all(self, wildcard: bool) -> None:
        if wildcard and not self.wildcard:
            self.owed |= dict.fromkeys(self.state, UNSURE)
            self.asked |= frozenset(self.state)
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
        else:
            self.withheld = dict.fromkeys(self.state.gone, until)

    def _resume_each(self, held: Mapping[str, str], until: Until) -> None:
        """Delta: what the client has as it is now need not be said, what is gone is to be taken away (D6)."""
        self.returning, self.greet = True, False
        present, vanished = self.state.split(self.wanted_among(held))
        self.holds |= self.state.bits(present)
        self.brought = frozenset(self.state.same(held))
        settled = self.brought.union(vanished).difference(self.state.among(self.renewed, present))
        self.owed = {n: told for n, told in self.owed.items() if n not in settled}
        self.asked = self.asked - settled or NOTHING
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
        """If nothing is left to be said or answered, the client is up to date."""
        if self.quiet:
            self.accepted, self.version = self.generation, self.state.version
            if self.wanted == self.state.existing:
                self.wanted = self.state.existing  # an equal number, but not one of its own: 10,000 names are shared by all streams
            self.holds = self.target
            self.given_up &= ~self.holds
            if self.agreed:
                self._forgive()

    @property
    def quiet(self) -> bool:
        """Whether the client has accepted all there is to say."""
        return not (self.owed or self.withheld or self.in_flight)

    # What was said, and what the client made of it

    def sent(self, nonce: str, sent: Sent) -> None:
        """This is on its way to the client."""
        names = sent.given | sent.taken
        self.owed = {n: told for n, told in self.owed.items() if n not in names} if len(names) < len(self.owed) else {}
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
        if sent.whole:
            self._forgive()
            self.doubtful = self.doubtful.intersection(self.owed) or NOTHING
            self.version = sent.version
            if not self.withheld and not self.in_flight:
                self.accepted = sent.generation

    def _forgive(self) -> None:
        self.error, self.rejected, self.refused = None, None, ()

    def _reject(self, sent: Sent, error: str) -> None:
        """Which of its names the client took over is uncertain: Envoy applies parts of some types, and nothing of others."""
        self.error, self.rejected, self.agreed = error, sent, False
        self.refused = (*self.refused, content_of(sent.resources, sent.removed))[-MOST_REFUSED:]
        self._owe_again(sent)
        for other in self.in_flight.values():
            other.whole = False  # it was said before we knew, so its ACK does not settle this

    def unanswered(self) -> None:
        """The client did not answer in time: what it was told is to be said again, together with what is new (S15)."""
        for sent in self.in_flight.values():
            self._owe_again(sent)
        self.in_flight = {}

    def _owe_again(self, sent: Sent) -> None:
        self.doubtful |= sent.given | sent.taken
        for name in sent.given | sent.taken:
            if self.wants(name) and name not in self.withheld and (self.tells_absence or name in self.state):
                self.owed[name] = UNSURE

    def has(self, name: str) -> bool:
        """Whether the client has accepted this resource as it is now."""
        if name in self.owed or any(name in sent.given for sent in self.in_flight.values()):
            return False
        return self.generation == self.state.generation and bool(self.holds & self.state.bit(name))


def content_of(resources: Iterable[Resource], removed: Iterable[str]) -> Content:
    """What a response says, for comparing it with what was rejected."""
    return hash((frozenset((r.name, r.version) for r in resources), frozenset(removed)))
