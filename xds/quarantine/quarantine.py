"""Which resources are to blame when Envoy rejects a response, and what is held until a user fixes them: without clocks and streams.

It is called with what was published (`published`) and with the ACKs and NACKs of the Envoys (`accepted`, `rejected`). Each call returns
Orders: what is to be held from now on, or (None) no longer. `xds.units.tables` carries them out. The rules:

1. A Part is *unproven* from the moment in which its content changes until one Envoy has accepted a response with it. What one Envoy has
   accepted is good. If another one rejects it, only that one is reported, and nothing is held.
2. Of a rejected response only the unproven Parts are suspects. If Envoy's words accuse one of them, or there is but one, it is the
   culprit. It stays held, at what was last proven or at nothing, and all others are published at once.
3. Otherwise the culprit is searched for by halves (`xds.quarantine.search`). Only those Envoys are asked that rejected the response: others
   may not have received it.
4. A NACK of a response with Parts that are held by now says nothing new. A NACK of one such Part alone says that it is a culprit.
5. An Envoy that rejects what others have accepted is *odd*. Until it accepts something again, its NACKs say nothing about new content.
6. A late NACK may be about content that was replaced meanwhile. Then nobody is convicted by elimination, and nothing is known of the half
   that is held for it. Where all of it was replaced or is gone, it says nothing: what is left of it is sent again without that.
7. What is held is tried again when its content changes, never otherwise (`xds.units.tables.Holds`).
8. What names a cluster that is left out, even for the time of a search, is held *along* with it: at what was accepted before it named that
   cluster. If nothing was, it stays as it is, for it may lead to other clusters, too (`xds.quarantine.dependents`).
9. A new cluster that one Envoy accepts and another one, which serves already, rejects: all that names it goes back, and it is left out, for
   as long as that Envoy is connected. Otherwise that Envoy would lose what it served before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from xds.problem import Ref
from xds.protocol.discovery import Acknowledgement
from xds.quarantine.dependents import Dependents, Divided
from xds.quarantine.ledger import Ledger, Orders, Published
from xds.quarantine.refusal import accused
from xds.quarantine.replays import Replays
from xds.quarantine.search import Search, Step
from xds.snapshot import CLUSTER, ENDPOINT, PASSWORDS, SECRET, TYPES, Part, Snapshot
from xds.units.parts import Held, Move, content, digest

_SENT_APART = (ENDPOINT, SECRET)
"""Types of which a Session resends what was rejected, one resource a response: that finds the culprit as well."""
_WHOLE = (CLUSTER, ENDPOINT, SECRET, PASSWORDS)
"""Types whose resources have no pieces."""


class Quarantine:
    """What is held, and the searches that are going on.

    An Envoy is the stream on which it answers; `serves` returns whether one has accepted routes.
    """

    def __init__(self, published: Published, snapshot: Snapshot, serves: Callable[[Any], bool]) -> None:
        self._holds = published.holds
        self._values = published.values
        self._snapshot = snapshot
        self._ledger = Ledger(published, snapshot)
        self._replays = Replays()
        self._dependents = Dependents(published, self._ledger)
        self._divided = Divided(published, self._ledger, serves)
        self._searches: dict[str, Search[Part]] = {type_url: Search() for type_url in TYPES}
        self._odd: set[tuple[Hashable, str]] = set()  # Envoy and type
        self._latest: dict[tuple[Hashable, str], int] = {}  # Envoy and type → the generation of its last ACK

    @property
    def culprits(self) -> dict[Part, Held]:
        """What stays held, by Part; without what is held for the time of a search."""
        return {part: held for part, held in self._holds.items() if held.proven}

    @property
    def remembered(self) -> dict[Part, Held]:
        """The culprits that outlive a restart: not what is held for the sake of an Envoy that is connected now (rule 9)."""
        return {p: held for p, held in self.culprits.items() if p not in self._divided and not self._divided.concerns(held)}

    @property
    def good(self) -> dict[Part, str]:
        """The contents (digests) that one Envoy has rejected and another one accepted."""
        return dict(self._ledger.good)

    @property
    def searching(self) -> bool:
        """Whether a culprit is searched for: what is published changes again as soon as Envoys have answered."""
        return any(self._searches.values())

    def weight(self, type_url: str) -> int:
        """How many Parts are looked at to judge an answer about a type, at most."""
        return self._ledger.weight(type_url)

    def cares(self, answer: Acknowledgement) -> bool:
        """Whether an ACK may change anything; they come by the thousand."""
        return bool(self._ledger.awaits(answer.type_url) or self._odd or self._replays or self._searches[answer.type_url])

    def knows(self, envoy: Hashable) -> bool:
        """Whether it matters that this Envoy leaves."""
        if any((envoy, type_url) in self._latest or (envoy, type_url) in self._odd for type_url in TYPES):
            return True
        asked = any(envoy in search.refusers for search in self._searches.values())
        return asked or self._divided.knows(envoy) or self._replays.knows(envoy)

    # What happens

    def published(self, moved: Mapping[Part, Move], causes: Iterable[Ref] = (), ordered: Collection[Part] = ()) -> Orders:
        """The Snapshot has changed, because these Parts moved.

        `causes` are the objects that changed; `ordered` are the Parts of Orders that were carried out. Returns further Orders.
        """
        self._ledger.published(moved, causes, ordered)
        changed = moved.keys() - set(ordered)
        orders: Orders = {}
        for type_url, search in self._searches.items():
            if search:
                orders |= self._carry_out(search.published(self._ledger.generation(type_url), self._holds, changed))
        bad = self._come_back(changed)
        self._divided.published(self._holds)
        self._note_culprits(ordered)
        for type_url in sorted({part.type_url for part in moved} - {part.type_url for part in bad}):
            if (replayed := self._replays.published(type_url, self._snapshot[type_url])) is not None:
                orders |= self._reject(*replayed)
        again = {p.resource for p in ordered if p.type_url == CLUSTER and p in self._ledger.good and p not in self._holds}
        return self._dependents.along(orders | self._divided.leave_out_again(again) | bad, moved)

    def accepted(self, answer: Acknowledgement, envoy: Hashable) -> Orders:
        """An Envoy has accepted a response."""
        type_url = answer.type_url
        self._odd.discard((envoy, type_url))
        self._latest[envoy, type_url] = answer.generation
        self._replays.accepted(answer)
        self._ledger.accepted(answer)
        orders = self._acquit(type_url, [part for part in self._ledger.held_in(answer) if not self._holds[part].along])
        step = self._searches[type_url].accepted(envoy, lambda part: part.resource in answer.names, answer.generation)
        return self._dependents.along(orders | self._carry_out(step))

    def rejected(self, answer: Acknowledgement, envoy: Hashable) -> Orders:
        """An Envoy has rejected a response. No Orders where that says nothing about what nobody else has accepted."""
        return self._dependents.along(self._reject(answer, envoy))

    def left(self, envoy: Hashable) -> Orders:
        """An Envoy has gone: what it alone rejected is forgotten, and a search in which nobody else can be asked ends."""
        for type_url in TYPES:
            self._odd.discard((envoy, type_url))
            self._latest.pop((envoy, type_url), None)
        self._replays.left(envoy)
        orders: Orders = {}
        for search in self._searches.values():
            orders |= self._carry_out(search.left(envoy))
        return self._dependents.along(orders | self._divided.left(envoy))

    def learn(self, held: Mapping[Part, Held], good: Mapping[Part, str]) -> Orders:
        """What another replica, or this one before a restart, has found out: as far as it is about what is published now."""
        orders: Orders = {}
        for part, refused in good.items():
            if part in self._holds and self._holds[part].refused == refused:
                orders |= self._acquit(part.type_url, [part])
        values = self._values([part for part in {*held, *good} if part not in self._holds])
        now = {part: digest(value) for part, value in values.items()}
        self._ledger.good |= {part: refused for part, refused in good.items() if now.get(part) == refused}
        for part, found in held.items():
            if now.get(part) != found.refused or part in self._ledger.good or found.along:
                continue
            if self._ledger.unproven(part) is not None:
                self._ledger.withdraw(part, found.refused)
                orders[part] = found
            else:
                self._ledger.good[part] = found.refused
        return self._dependents.along(orders | self._dependents.recalled(held, values, orders))

    # What follows

    def _reject(self, answer: Acknowledgement, envoy: Hashable) -> Orders:
        if answer.retained:
            return {}
        type_url = answer.type_url
        if type_url == CLUSTER:
            self._divided.note(answer, envoy)
        state = self._snapshot[type_url]
        if answer.version == state.version:  # it was replaced and has come back: streams do not resend it (A5)
            answer = replace(answer, generation=state.generation)
        suspects, held, replaced = self._ledger.suspects(answer), self._ledger.held_in(answer), [*self._ledger.replaced_in(answer)]
        self._replays.rejected_too(answer, envoy)
        if replaced and len(answer.names) == 1 and type_url in _WHOLE:
            # It was rejected alone. Where it comes back the stream does not resend it (A5).
            for part, past in replaced:
                self._replays.convict(part, past.digest, answer.error or "")
        search = self._searches[type_url]
        if held:
            if search:
                search.refusers.add(envoy)
            alone = len(held) == 1 and not suspects and not replaced
            return self._carry_out(search.confirmed(held[0])) if alone else {}
        if not suspects and not replaced:
            return self._reject_proven(answer, envoy)
        if (envoy, type_url) in self._odd or (type_url in _SENT_APART and len(suspects) > 1):
            return {}
        self._replays.rejected(answer, envoy)
        return self._narrow(answer, envoy, suspects, late=bool(replaced)) if suspects else {}

    def _reject_proven(self, answer: Acknowledgement, envoy: Hashable) -> Orders:
        """All that was in the response has been accepted by an Envoy."""
        type_url = answer.type_url
        orders: Orders = {}
        if answer.generation > self._latest.get((envoy, type_url), -1):  # else the NACK is late: this Envoy has accepted something since
            self._odd.add((envoy, type_url))
            orders = self._carry_out(self._searches[type_url].left(envoy))
        return orders | self._divided.leave_out(answer, envoy)

    def _narrow(self, answer: Acknowledgement, envoy: Hashable, suspects: Mapping[Part, int], *, late: bool) -> Orders:
        """One of the suspects is a culprit; if it is `late`, that may be what has been replaced."""
        words = answer.error or ""
        values = self._values(suspects)
        certain, likely = accused(words, {part: content(value) for part, value in values.items()})
        return self._carry_out(self._searches[answer.type_url].rejected(envoy, suspects, certain, likely, late=late), words)

    def _carry_out(self, step: Step[Part], words: str = "") -> Orders:
        """The Orders for a step of a search; `words` are those with which something unproven is held."""
        orders: Orders = dict.fromkeys(step.publish)
        new = [part for part in (*step.hold, *step.convict) if part not in self._holds]
        values = self._values(new) if new else {}
        orders |= {part: self._ledger.hold(part, values.get(part), words, proven=part in step.convict) for part in new}
        return orders | {part: replace(self._holds[part], proven=True) for part in step.convict if part in self._holds}

    def _acquit(self, type_url: str, innocents: Collection[Part]) -> Orders:
        """These were rejected by one Envoy and accepted by another one: they are good (rule 1)."""
        for part in innocents:
            self._replays.acquit(part)
            self._ledger.good[part] = self._holds[part].refused
        if innocents:
            self._searches[type_url].acquit(innocents)
        self._ledger.forget(innocents)
        return dict.fromkeys(innocents)

    def _note_culprits(self, ordered: Iterable[Part]) -> None:
        """Orders were carried out by which some are held for good."""
        for part in ordered:
            held = self._holds.get(part)
            if held is not None and held.proven and not held.along and part not in self._divided:
                self._replays.convict(part, held.refused, held.words)

    def _come_back(self, changed: Iterable[Part]) -> Orders:
        """Orders for content that was found to be a culprit, and is published again."""
        suspects = {p: found for p in changed if (found := self._replays.verdicts(p)) and self._ledger.unproven(p) is not None}
        values = self._values(suspects) if suspects else {}
        known = {part: suspects[part].get(digest(value)) for part, value in values.items()}
        return {part: self._ledger.hold(part, values[part], words, proven=True) for part, words in known.items() if words is not None}
