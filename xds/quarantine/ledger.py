"""The ledger: which content of each Part was published when, and what an Envoy has accepted of it.

It answers what a response contained: the *suspects* among its Parts, those held by now, and those replaced meanwhile. What does not belong
here: any conclusion from an answer (`xds.quarantine.quarantine`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from xds.problem import Ref
from xds.protocol.discovery import Acknowledgement
from xds.snapshot import CLUSTER, LISTENER, ROUTE, TYPES, Part, Snapshot
from xds.units.parts import Entry, Held, Host, Move, Value, digest, names_cluster, same

K = TypeVar("K")
V = TypeVar("V")
Orders = dict[Part, Held | None]
"""What is to be held from now on, or (None) no longer."""
NAMING = (LISTENER, ROUTE)
"""Types of which some Parts name clusters."""
MOST_CAUSES = 16
"""Objects that are remembered as the causes of one unproven content: the first ones."""
MOST_CONTENTS = 64
"""Contents of one Part that are remembered."""
MOST_PARTS = 4_096
"""Parts of which contents are remembered that are no longer published."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A Part that no Envoy has accepted as it is.

    `since`: the generation of its type in which it became so. `before`: what an Envoy accepted last. `causes`: the objects that have
    changed since then.
    """

    since: int
    before: Value | None = field(repr=False)  # it may be a private key
    causes: tuple[Ref, ...] = ()


@dataclass(slots=True)
class Content:
    """A content (its digest), and the spans of generations in which it was published without being accepted: first, and first without it.

    `value` is kept of what a Part was last before it changed.
    """

    digest: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    value: Value | None = field(default=None, repr=False)  # it may be a private key

    def was_in(self, generation: int) -> bool:
        """Whether a response of this generation had it."""
        return any(since <= generation < until for since, until in self.spans)


class Published(Protocol):
    """What is published: `xds.units.tables.Tables`, as far as it matters here."""

    @property
    def holds(self) -> Mapping[Part, Held]:
        """What is held now."""

    def values(self, parts: Collection[Part], /) -> Mapping[Part, Value]:
        """The contents of Parts, as far as they are there."""

    def naming(self, clusters: Collection[Part], /) -> Mapping[Part, Value]:
        """The Parts that name one of these clusters, with their contents."""


class Ledger:
    """What was published when. `good` are contents (digests) that one Envoy rejects and another one accepts."""

    def __init__(self, published: Published, snapshot: Snapshot) -> None:
        self.good: dict[Part, str] = {}
        self._holds = published.holds
        self._values = published.values
        self._snapshot = snapshot
        self._unproven: dict[str, dict[Part, Unproven]] = {type_url: {} for type_url in TYPES}
        self._past: dict[Part, Content] = {}  # of what is held, or was published before with the content that it has now
        self._replaced: dict[Part, dict[str, Content]] = {}  # other contents that were never accepted, by digest
        self._worked: dict[Part, Value] = {}  # what a Part was before it named new clusters, of those accepted since, or held along
        self._left: dict[Part, Value] = {}  # what was accepted of clusters that are gone
        self._since: dict[Part, int] = {}  # the generation since which a cluster is as it is

    # What is known

    def generation(self, type_url: str) -> int:
        """The generation of a type that is published now."""
        return self._snapshot[type_url].generation

    def awaits(self, type_url: str) -> bool:
        """Whether an ACK may change what is known."""
        return bool(self._unproven[type_url] or self._past)

    def weight(self, type_url: str) -> int:
        """Of how many Parts something is known that may matter to an answer about a type."""
        return len(self._unproven[type_url]) + len(self._past) + len(self._replaced)

    def unproven(self, part: Part) -> Unproven | None:
        """What is known of a Part that no Envoy has accepted as it is published; None if one has."""
        return self._unproven[part.type_url].get(part)

    def suspects(self, answer: Acknowledgement) -> dict[Part, int]:
        """The unproven Parts whose present content was in the response, each with the generation since which it is; the oldest first."""
        unproven = self._unproven[answer.type_url]
        there = [p for p in _of(answer, unproven) if unproven[p].since <= answer.generation or self._was_out(p, answer.generation)]
        return {part: unproven[part].since for part in sorted(there, key=lambda part: (unproven[part].since, order(part)))}

    def held_in(self, answer: Acknowledgement) -> list[Part]:
        """The held Parts whose refused content was in the response."""
        held = (part for part in self._past if part.type_url == answer.type_url and part.resource in answer.names and part in self._holds)
        return [part for part in held if self._was_out(part, answer.generation)]

    def replaced_in(self, answer: Acknowledgement) -> Iterator[tuple[Part, Content]]:
        """What else was in the response, was never accepted, and is there no longer."""
        parts = [part for part in self._replaced if part.type_url == answer.type_url and part.resource in answer.names]
        return ((part, past) for part in parts for past in self._replaced[part].values() if past.was_in(answer.generation))

    def is_as_in(self, part: Part, generation: int) -> bool:
        """Whether a cluster has been the same since that generation."""
        return self._since.get(part, generation) <= generation

    def before(self, part: Part) -> Value | None:
        """What was accepted of a Part before it named a cluster that nobody has accepted."""
        known = self.unproven(part)
        return known.before if known is not None else self._worked.get(part)

    # What happens

    def published(self, moved: Mapping[Part, Move], causes: Iterable[Ref], ordered: Collection[Part]) -> None:
        """The Snapshot has changed, because these Parts moved. `ordered` moved because they are held, or no longer."""
        for part, move in moved.items():
            if part not in ordered:
                self._replace(part, move)
        named = tuple(sorted(causes))
        for part, move in moved.items():
            self._note(part, move, named)

    def accepted(self, answer: Acknowledgement) -> None:
        """A response was accepted: its unproven Parts are proven, and so is what has replaced them meanwhile."""
        suspects = self.suspects(answer)
        # What names clusters that nobody has accepted may have to go back to what it was before.
        values = self._values(suspects) if answer.type_url in NAMING else {}
        for part in suspects:
            before, now = self._unproven[answer.type_url].pop(part).before, values.get(part)
            if isinstance(before, Host | Entry) and isinstance(now, Host | Entry) and not now.clusters <= before.clusters:
                remember(self._worked, part, before, MOST_PARTS)
        self.forget(suspects)
        unproven = self._unproven[answer.type_url]
        for part in [part for part in unproven.keys() & self._replaced.keys() if part.resource in answer.names]:
            for past in self._replaced[part].values():
                if past.value is not None and past.was_in(answer.generation):
                    unproven[part] = replace(unproven[part], before=past.value)

    def hold(self, part: Part, value: Value | None, words: str, *, proven: bool) -> Held:
        """What holds an unproven Part, which has this content."""
        known, refused = self._unproven[part.type_url][part], digest(value)
        self.withdraw(part, refused)
        return Held(refused, known.before, words, proven, known.causes)

    def withdraw(self, part: Part, refused: str) -> None:
        """The content of an unproven Part is held from the next generation on."""
        if (known := self.unproven(part)) is not None:
            self._past.setdefault(part, Content(refused)).spans.append((known.since, self.generation(part.type_url) + 1))

    def go_back(self, part: Part, before: Value) -> None:
        """A Part is held along with clusters that are left out, at what it was before it named them."""
        self._worked[part] = before

    def forget(self, parts: Iterable[Part]) -> None:
        """Nothing more is to be concluded from when these were published with the content that they have."""
        for part in parts:
            self._past.pop(part, None)

    def _note(self, part: Part, move: Move, causes: tuple[Ref, ...]) -> None:
        unproven = self._unproven[part.type_url]
        known, worked = unproven.pop(part, None), self._worked.pop(part, None)
        before = known.before if known else move.old
        if part.type_url == CLUSTER:
            before = self._note_cluster(part, move, before)
        if worked is not None and part in self._holds:
            self._worked[part] = worked
        elif worked is not None and known is None and (same(move.old, worked) or self._names_new(move.old)):
            before = worked
        if move.new is None and part not in self._holds:
            self.good.pop(part, None)
        if move.new is None or part in self._holds or same(move.new, before):
            return
        if part in self.good:
            if self.good[part] == digest(move.new):
                return
            del self.good[part]
        if part in self._replaced and (past := self._replaced[part].pop(digest(move.new), None)) is not None:
            self._past[part] = past
        changed = tuple(dict.fromkeys((*(known.causes if known else ()), *causes)))[:MOST_CAUSES]
        unproven[part] = Unproven(self.generation(part.type_url), before, changed)

    def _note_cluster(self, part: Part, move: Move, before: Value | None) -> Value | None:
        """What was accepted of a cluster before: also of one that was gone, and is back as it was, or because something goes back to it."""
        self._since[part] = self.generation(CLUSTER)
        left = self._left.pop(part, None)
        if move.new is None:
            del self._since[part]
            if before is not None:
                remember(self._left, part, before, MOST_PARTS)
        elif move.old is None and left is not None:
            needed = any(held.along and part in names_cluster(held.instead) for held in self._holds.values())
            return left if needed or same(move.new, left) else before
        return before

    def _replace(self, part: Part, move: Move) -> None:
        """The content that a Part had is gone; where it was never accepted, an Envoy may still be about to reject it."""
        past, known = self._past.pop(part, None), self.unproven(part)
        if past is None and known is None:
            return
        past = past or Content(digest(move.old))
        if known is not None:
            past.spans.append((known.since, self.generation(part.type_url)))
        contents = self._replaced.pop(part, {})
        for earlier in contents.values():
            earlier.value = None
        past.value = move.old
        remember(contents, past.digest, past, MOST_CONTENTS)
        remember(self._replaced, part, contents, MOST_PARTS)

    def _names_new(self, value: Value | None) -> bool:
        """Whether something names a cluster of which nobody has accepted anything."""
        found = (self.unproven(part) for part in names_cluster(value))
        return any(known is not None and known.before is None for known in found)

    def _was_out(self, part: Part, generation: int) -> bool:
        return part in self._past and self._past[part].was_in(generation)


def order(part: Part) -> tuple[str, bool, str]:
    """What holds pieces together comes before them: of a response that is halved it is published as long as possible."""
    return part.resource, part.piece is not None, part.piece or ""


def remember(known: dict[K, V], key: K, value: V, most: int) -> None:
    """Note the latest value; of more than `most` keys that which was noted first is forgotten."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]


def _of(answer: Acknowledgement, parts: Collection[Part]) -> list[Part]:
    """Those of the Parts that belong to the resources of a response. Costs the smaller of the two where there are no pieces."""
    if len(answer.names) >= len(parts):
        return [part for part in parts if part.resource in answer.names]
    resources = [part for name in answer.names if (part := Part(answer.type_url, name)) in parts]
    if len(resources) == len(parts):
        return resources
    return resources + [part for part in parts if part.piece is not None and part.resource in answer.names]
