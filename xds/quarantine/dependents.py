"""What names a cluster that is left out is held along with it, at what was accepted before it named that cluster (rules 8 and 9).

Envoy answers 500 where a route leads to a cluster that it does not have. So a cluster that Envoy rejects must not take a virtual host, or a
stream's listener, with it that worked before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from xds.protocol.discovery import Acknowledgement
from xds.quarantine.ledger import NAMING, Ledger, Orders, Published
from xds.quarantine.refusal import accused
from xds.snapshot import CLUSTER, Part
from xds.units.parts import Held, Move, Value, content, digest, names_cluster

MOST_DIVIDED = 8
"""Clusters that one Envoy may keep from the others (rule 9). One that refuses more is not well."""
MOST_NEW = 256
"""Clusters in a response beyond which it is no change of what an Envoy serves."""


class Dependents:
    """Orders for what names a cluster that is left out."""

    def __init__(self, published: Published, ledger: Ledger) -> None:
        self._holds = published.holds
        self._naming = published.naming
        self._ledger = ledger

    def along(self, orders: Orders, moved: Mapping[Part, Move] = MappingProxyType({})) -> Orders:
        """The orders, and those for what names a cluster that they leave out; `moved` may name one that was left out before."""
        if not (orders or moved) or not (missing := self._left_out(orders)):
            return orders
        naming = {part: move.new for part, move in moved.items() if part.type_url in NAMING and move.new is not None}
        if new := [part for part in missing if part in orders]:
            naming |= self._naming(new)
        found = {part: self._held_along(part, value, missing) for part, value in naming.items() if orders.get(part) is None}
        return orders | {part: held for part, held in found.items() if held is not None and held != self._holds.get(part)}

    def recalled(self, held: Mapping[Part, Held], values: Mapping[Part, Value], orders: Orders) -> Orders:
        """Of what was held along before a restart (`held`), what is so again; `orders` are those for the clusters."""
        missing = self._left_out(orders)
        again = {part: self._held_along(part, values[part], missing, was) for part, was in held.items() if was.along and part in values}
        return {part: held for part, held in again.items() if held is not None}

    def _left_out(self, orders: Orders) -> dict[Part, Held]:
        """The clusters that are not there, once the orders are carried out, because Envoy rejects all there ever was of them."""
        return {p: held for p, held in {**self._holds, **orders}.items() if held and held.instead is None and p.type_url == CLUSTER}

    def _held_along(self, part: Part, value: Value, missing: Mapping[Part, Held], recalled: Held | None = None) -> Held | None:
        """What holds a Part that names some of these clusters; None if it does not, is held itself, or nothing was accepted before.

        `recalled` is how it was held before a restart.
        """
        held, known = self._holds.get(part, recalled), self._ledger.unproven(part)
        before = held.instead if held is not None else self._ledger.before(part)
        named = names_cluster(value).intersection(missing)
        if before is None or not named or (held is not None and not held.along):
            return None
        if held is None and not names_cluster(before).isdisjoint(missing):
            return None
        self._ledger.withdraw(part, digest(value))
        refusals = [missing[name] for name in sorted(named)]
        words, proven = refusals[0].words, any(refusal.proven for refusal in refusals)
        if held is None:
            held = Held(digest(value), before, "", causes=known.causes if known is not None else ())
        self._ledger.go_back(part, before)
        return replace(held, words=words, proven=proven, along=named)


class Divided:
    """Clusters on which the Envoys are divided: one accepts them, and another one, which serves already, refuses them (rule 9).

    `serves` returns whether an Envoy has accepted routes.
    """

    def __init__(self, published: Published, ledger: Ledger, serves: Callable[[Any], bool]) -> None:
        self._values = published.values
        self._naming = published.naming
        self._ledger = ledger
        self._serves = serves
        self._refusals: dict[Hashable, deque[Acknowledgement]] = {}  # the last NACKs of clusters of each Envoy
        self._refusers: dict[Part, set[Hashable]] = {}  # the clusters that are held for the sake of these Envoys

    def __contains__(self, part: object) -> bool:
        return part in self._refusers

    def concerns(self, held: Held) -> bool:
        """Whether something is held along with such a cluster."""
        return not self._refusers.keys().isdisjoint(held.along)

    def knows(self, envoy: Hashable) -> bool:
        """Whether this Envoy has refused a cluster."""
        return envoy in self._refusals

    def note(self, answer: Acknowledgement, envoy: Hashable) -> None:
        """An Envoy has rejected clusters."""
        self._refusals.setdefault(envoy, deque(maxlen=MOST_DIVIDED)).append(answer)

    def leave_out(self, answer: Acknowledgement, envoy: Hashable) -> Orders:
        """Orders for the clusters that this Envoy alone refuses, if all that names them can go back."""
        if answer.type_url != CLUSTER or len(answer.names) > MOST_NEW or not self._serves(envoy):
            return {}
        parts = [Part(CLUSTER, name) for name in answer.names]
        users = self._naming(parts)
        new = {
            user: names_cluster(now) - names_cluster(before)
            for user, now in users.items()
            if (before := self._ledger.before(user)) is not None
        }
        values = self._values([part for part in parts if self._ledger.is_as_in(part, answer.generation)])
        found = accused(answer.error or "", {part: content(value) for part, value in values.items()}).certain
        orders: Orders = {}
        for part in sorted(found or (values if len(values) == 1 else ())):
            using = [user for user, now in users.items() if part in names_cluster(now)]
            mine = sum(envoy in envoys for envoys in self._refusers.values())
            if using and mine < MOST_DIVIDED and all(part in new.get(user, ()) for user in using):
                self._refusers[part] = {envoy}
                orders[part] = Held(digest(values[part]), None, answer.error or "")
        return orders

    def leave_out_again(self, clusters: Collection[str]) -> Orders:
        """These were held, and are published as another Envoy accepts them: those who refuse them will not be asked again."""
        orders: Orders = {}
        for envoy, answers in self._refusals.items() if clusters else ():
            for answer in [answer for answer in answers if not answer.names.isdisjoint(clusters)]:
                names = answer.names.intersection(clusters)
                orders |= self.leave_out(replace(answer, names=names, generation=self._ledger.generation(CLUSTER)), envoy)
        return orders

    def published(self, holds: Collection[Part]) -> None:
        """These are held now."""
        self._refusers = {part: envoys for part, envoys in self._refusers.items() if part in holds}

    def left(self, envoy: Hashable) -> Orders:
        """An Envoy has gone; what was held for its sake alone is published."""
        self._refusals.pop(envoy, None)
        orders: Orders = {}
        for part, envoys in [*self._refusers.items()]:
            envoys.discard(envoy)
            if not envoys:
                del self._refusers[part]
                orders[part] = None
        return orders
