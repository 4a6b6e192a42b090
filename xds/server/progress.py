"""How far the Envoys are with what was published: the last changes with their causes, and which Envoys have which parts of an object.

What belongs here: counting answers against changes. What does not: what is said to an Envoy (`xds.protocol`), which parts an object went
into (`xds.units`), and looking at a clock: `now` is seconds of one that never goes back, `at` the time of day.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram

from xds.problem import Ref, printable
from xds.protocol.discovery import Acknowledgement
from xds.protocol.session import Session
from xds.server.messages import Node
from xds.server.metrics import SHORT
from xds.snapshot import Part, Snapshot

KEPT = 100
"""Changes that are remembered."""
SHOWN = 20
"""Causes, names of a type, and rejections that a change lists; the others are only counted."""
_MOST_OPEN = 10_000
"""Changes of a type that are waited for by themselves, where an Envoy does not answer for long."""
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Verb(Enum):
    """What became of an object."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Cause(NamedTuple):
    """An object because of which something was published; `version` is its resourceVersion, "" where there is none."""

    about: Ref
    version: str
    verb: Verb


class Touched(NamedTuple):
    """The resources of one type that became different: the first SHOWN names, sorted, and how many there are."""

    names: tuple[str, ...]
    total: int


class Rejection(NamedTuple):
    """What an Envoy (its node.id) said of a response, in its own words."""

    node: str
    type_url: str
    words: str


@dataclass(frozen=True, slots=True)
class Change:
    """One Snapshot that was published.

    `number` counts from 1, `at` is in UTC. `causes` are the first SHOWN of `causes_total`. `built` is seconds from the objects to the
    Snapshot, `accepted` seconds from the event until the last Envoy had it: None while one has not answered (`waiting`), and where none was
    connected or all have left. The rejections are of responses that had something of it, the first SHOWN of `rejected` streams.
    """

    number: int
    at: datetime
    causes: tuple[Cause, ...]
    causes_total: int
    resources: Mapping[str, Touched]
    built: float
    accepted: float | None
    waiting: bool
    rejections: tuple[Rejection, ...]
    rejected: int


class Placed(NamedTuple):
    """A part that an object went into: its version, a hash of its content (None: there is no such resource), the generation in which it
    became so, and Envoy's words if it is held.
    """

    part: Part
    version: str | None
    generation: int
    held: str | None = None


class Lacking(NamedTuple):
    """An Envoy, by node.id, that has not accepted these parts, and what it said of responses that had one of them."""

    node: str
    parts: tuple[Part, ...]
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Programmed:
    """On how many Envoys some parts are in effect as they are now: on all of `envoys` but those that lack something."""

    parts: tuple[Placed, ...]
    envoys: int
    lacking: tuple[Lacking, ...]

    @property
    def accepted(self) -> int:
        """How many Envoys have all of it. Where there is nothing, nobody has it: the object is too wrong to have an effect."""
        return self.envoys - len(self.lacking) if self.parts else 0

    @property
    def complete(self) -> bool:
        """Whether every Envoy has it, and there is one. What is held, nobody has."""
        return 0 < self.envoys == self.accepted


class Listening(Protocol):
    """A stream, as far as it matters here; a `xds.server.stream.Stream` is one."""

    @property
    def node(self) -> Node | None:
        """Who it is."""

    @property
    def session(self) -> Session:
        """What it was told, and what it accepted."""


class Envoys(NamedTuple):
    """Those that are connected, at one moment: node.id → its streams, and, of those that have not everything, the types that they lack."""

    by_node: Mapping[str, Sequence[Listening]]
    late: Mapping[str, frozenset[str]]


@dataclass(slots=True, eq=False)
class _Record:
    """A Change in the making. `open` are the types that somebody has not accepted yet, `refused` those who reject something of it."""

    number: int
    at: datetime
    began: float
    built: float
    causes: tuple[Cause, ...]
    causes_total: int
    changed: Mapping[str, Touched]
    generations: Mapping[str, int]
    open: set[str] = field(default_factory=set)
    accepted: float | None = None
    rejections: dict[tuple[str, str], Rejection] = field(default_factory=dict)
    rejecting: set[tuple[str, str]] = field(default_factory=set)
    refused: set[_Key] = field(default_factory=set)

    def frozen(self) -> Change:
        """As it is at this moment."""
        waiting = bool(self.open)
        return Change(
            self.number,
            self.at,
            self.causes,
            self.causes_total,
            self.changed,
            self.built,
            None if waiting else self.accepted,
            waiting,
            tuple(self.rejections.values()),
            len(self.rejecting),
        )


_Key = tuple[Listening, str]
"""A stream and a type."""


class _Open(NamedTuple):
    generation: int
    record: _Record


class _Piece(NamedTuple):
    version: str
    generation: int


class _Said(NamedTuple):
    rejection: Rejection
    names: frozenset[str]
    generation: int


class _Front:
    """How far the Envoys are with one type: the lowest generation that all of them have accepted, in O(log Envoys) an answer.

    An Envoy, by node.id, is as far as that of its streams which is furthest: another one that uses its name does not hold it back. Envoys
    that are equally far are counted together; a heap finds those that are furthest behind.
    """

    __slots__ = ("_at", "_heap", "_nodes", "open")

    def __init__(self) -> None:
        self.open: deque[_Open] = deque()
        self._nodes: dict[str, dict[Listening, int]] = {}
        self._at: Counter[int] = Counter()  # generation → Envoys that have accepted it and none after it
        self._heap: list[int] = []  # the keys of _at, and some that are none any more

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def move(self, stream: Listening, generation: int) -> None:
        """A stream has accepted everything as of this generation; less than before is no news."""
        streams = self._nodes.setdefault(_node_id(stream), {})
        before = max(streams.values(), default=None)
        streams[stream] = max(generation, streams.get(stream, generation))
        self._shift(before, max(streams.values()))

    def of(self, stream: Listening) -> int:
        """How far a stream is; -1 where it has accepted nothing."""
        return self._nodes.get(_node_id(stream), {}).get(stream, -1)

    def beside(self, stream: Listening) -> Mapping[Listening, int]:
        """How far the streams of the same Envoy are, the stream itself among them."""
        return self._nodes.get(_node_id(stream), {})

    def drop(self, stream: Listening) -> None:
        """It has gone."""
        streams = self._nodes.get(node := _node_id(stream), {})
        if stream in streams:
            before = max(streams.values())
            del streams[stream]
            if not streams:
                del self._nodes[node]
            self._shift(before, max(streams.values(), default=None))

    def least(self) -> int | None:
        """What all of them have accepted; None where there are none."""
        while self._heap and not self._at.get(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def wait(self, opened: _Open) -> None:
        """A change is to be accepted. Where too many wait, every other one of those that nobody can see any more is given up."""
        self.open.append(opened)
        if len(self.open) > _MOST_OPEN:
            old = list(self.open)
            self.open = deque([*old[: -2 * KEPT : 2], *old[-2 * KEPT :]])

    def _shift(self, before: int | None, after: int | None) -> None:
        """An Envoy is further than before, or not as far; None: it was not there, or is not any more."""
        if before == after:
            return
        if before is not None:
            self._at[before] -= 1
            if not self._at[before]:
                del self._at[before]
        if after is not None:
            self._at[after] += 1
            if self._at[after] == 1:
                heapq.heappush(self._heap, after)


def _node_id(stream: Listening) -> str:
    return stream.node.id if stream.node else ""


class Progress:
    """The ring of the last changes, and how far each type is.

    The control plane tells it of each publication, the Fleet of each answer and each stream that has ended. `clock` is that of `now`, for
    the metric that is worked out when it is asked for. Belongs to one event loop.
    """

    def __init__(self, snapshot: Snapshot, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        text = "Seconds from an event until the last connected Envoy that wants its resources has accepted them."
        histogram = Histogram("xds_event_to_ack_seconds", text, ["type"], buckets=_BUCKETS, registry=registry)
        self._seconds = {type_url: histogram.labels(short) for type_url, short in SHORT.items()}
        text = "Seconds that the oldest change has waited which not every connected Envoy has accepted; 0 where there is none."
        Gauge("xds_programmed_slowest_seconds", text, registry=registry).set_function(lambda: self.slowest(clock()))
        self._snapshot = snapshot
        self._fronts = {type_url: _Front() for type_url in SHORT}
        self._ring: deque[_Record] = deque(maxlen=KEPT)
        self._pieces: dict[Part, _Piece] = {}
        self._said: dict[_Key, _Said] = {}  # what streams have rejected, and nothing accepted since
        self._refused: dict[_Key, list[_Record]] = {}  # the changes of which streams reject something
        self._numbers = 0

    # What happens

    def published(
        self,
        causes: Sequence[Cause],
        changed: Mapping[str, frozenset[str]],
        generations: Mapping[str, int],
        built_seconds: float,
        now: float,
        at: datetime,
        *,
        causes_total: int | None = None,
        moved: Iterable[tuple[Part, str]] = (),
    ) -> None:
        """Resources have become different: by type their names, and the generation of its State since then.

        `causes` may be the first of `causes_total`. `built_seconds` have passed from the event until `now`. `moved` are the pieces of
        resources that are others now, with a hash of their content, "" for none; others change whenever their resource does.
        """
        for part, version in moved:
            if version:
                self._pieces[part] = _Piece(version, self._snapshot[part.type_url].generation)
            else:
                self._pieces.pop(part, None)
        self._numbers += 1
        touched = {t: Touched(_first(names), len(names)) for t, names in changed.items()}
        total = len(causes) if causes_total is None else causes_total
        began = now - built_seconds
        record = _Record(self._numbers, at, began, built_seconds, tuple(causes[:SHOWN]), total, touched, dict(generations))
        self._ring.append(record)
        for type_url in changed:
            if (front := self._fronts.get(type_url)) is not None and front:
                record.open.add(type_url)
                front.wait(_Open(generations[type_url], record))

    def heard(self, stream: Listening, answer: Acknowledgement, now: float) -> None:
        """An Envoy has accepted something, or rejected it."""
        front = self._fronts.get(answer.type_url)
        if front is None:
            return
        key = (stream, answer.type_url)
        if answer.error is not None:
            self._reject(stream, answer)
        front.move(stream, answer.settled)
        self._close(answer.type_url, now)
        if key in self._said or key in self._refused:
            self._reconsider(key, answer, now)
        for other in front.beside(stream):
            for record in self._refused.get((other, answer.type_url), ()) if other is not stream else ():
                self._perhaps_finish(record, answer.type_url, now)

    def left(self, stream: Listening, now: float) -> None:
        """Nobody waits for it any longer."""
        for type_url, front in self._fronts.items():
            front.drop(stream)
            self._close(type_url, now)
            self._said.pop((stream, type_url), None)
            for record in self._refused.pop((stream, type_url), ()):
                self._pardon(record, (stream, type_url), now)

    def _close(self, type_url: str, now: float) -> None:
        """The changes that everybody has accepted are waited for no longer."""
        front = self._fronts[type_url]
        if not front.open:
            return
        least = front.least()
        while front.open and (least is None or front.open[0].generation <= least):
            record = front.open.popleft().record
            if not self._is_held_up(record, type_url):
                self._finish(record, type_url, now)

    def _is_held_up(self, record: _Record, type_url: str) -> bool:
        """Whether an Envoy rejects something of it, and has not accepted it on another stream."""
        front, generation = self._fronts[type_url], record.generations[type_url]
        for stream, of_type in record.refused:
            if of_type != type_url:
                continue
            others = front.beside(stream).items()
            if not any(at >= generation and (other, type_url) not in record.refused for other, at in others):
                return True
        return False

    def _finish(self, record: _Record, type_url: str, now: float) -> None:
        """Nobody is left who has not accepted it; if anybody is left at all, they have."""
        record.open.discard(type_url)
        if self._fronts[type_url]:
            record.accepted = now - record.began
            self._seconds[type_url].observe(record.accepted)

    def _reconsider(self, key: _Key, answer: Acknowledgement, now: float) -> None:
        """What a stream has rejected before, and may not reject any more."""
        said = self._said.get(key)
        if said is not None and answer.settled >= said.generation and said.names.isdisjoint(answer.rejects):
            del self._said[key]
        still = []
        for record in self._refused.pop(key, ()):
            if _has_any(record.changed[key[1]], answer.rejects):
                still.append(record)
            else:
                self._pardon(record, key, now)
        if still:
            self._refused[key] = still

    def _pardon(self, record: _Record, key: _Key, now: float) -> None:
        """A stream rejects nothing of it any more."""
        record.refused.discard(key)
        self._perhaps_finish(record, key[1], now)

    def _perhaps_finish(self, record: _Record, type_url: str, now: float) -> None:
        if type_url not in record.open or self._is_held_up(record, type_url):
            return
        least = self._fronts[type_url].least()
        if least is None or record.generations[type_url] <= least:
            self._finish(record, type_url, now)

    def _reject(self, stream: Listening, answer: Acknowledgement) -> None:
        node = _node_id(stream)
        rejection = Rejection(node, answer.type_url, printable(answer.error or "", 500))
        self._said[stream, answer.type_url] = _Said(rejection, answer.names, answer.generation)
        had = self._fronts[answer.type_url].of(stream)
        for record in reversed(self._ring):
            generation = record.generations.get(answer.type_url, -1)
            if not had < generation <= answer.generation or answer.type_url not in record.open:
                continue
            if _has_any(record.changed[answer.type_url], answer.names):
                key = (stream, answer.type_url)
                if key not in record.refused:
                    record.refused.add(key)
                    self._refused.setdefault(key, []).append(record)
                record.rejecting.add((node, answer.type_url))
                if (node, answer.type_url) in record.rejections or len(record.rejections) < SHOWN:
                    record.rejections[node, answer.type_url] = rejection

    # What it has come to

    def history(self) -> list[Change]:
        """The last changes, newest first."""
        return [record.frozen() for record in reversed(self._ring)]

    def times(self, type_url: str) -> dict[int, datetime]:
        """Generation of a type → when it was published, as far back as the ring goes."""
        return {record.generations[type_url]: record.at for record in self._ring if type_url in record.generations}

    def slowest(self, now: float) -> float:
        """Seconds since the event of the oldest change that an Envoy has not accepted; 0 where all is accepted."""
        oldest = [front.open[0].record for front in self._fronts.values() if front.open]
        refused = [record for (_, type_url), records in self._refused.items() for record in records if type_url in record.open]
        return max((now - record.began for record in (*oldest, *refused)), default=0.0)

    def envoys(self, streams: Iterable[Listening]) -> Envoys:
        """The Envoys behind these streams, as they are at this moment: to be looked at, and let go before anything else happens."""
        by_node: dict[str, list[Listening]] = {}
        for stream in streams:
            if stream.node is not None:
                by_node.setdefault(stream.node.id, []).append(stream)
        some = [type_url for type_url in SHORT if self._snapshot[type_url]]
        late: dict[str, frozenset[str]] = {}
        for node, of_node in by_node.items():
            behind = frozenset(t for t in some if not any(stream.session.up_to_date(t) for stream in of_node))
            if behind:
                late[node] = behind
        return Envoys(by_node, late)

    def programmed(self, parts: Iterable[Part], envoys: Envoys, held: Mapping[Part, str]) -> Programmed:
        """How many of the Envoys have all of the parts, as they are now; `held`: those that Envoy refused, with its words.

        An Envoy may have several streams, each for some of its types: it has a part once one of them has.
        """
        placed = tuple(self._place(part, held) for part in parts)
        nobody = any(p.held is not None or p.version is None for p in placed)
        lacking = (self._lacking(node, envoys, placed) for node in sorted(envoys.by_node if nobody else envoys.late))
        return Programmed(placed, len(envoys.by_node), tuple(found for found in lacking if found is not None))

    def _place(self, part: Part, held: Mapping[Part, str]) -> Placed:
        state = self._snapshot[part.type_url]
        resource = state.get(part.resource)
        if resource is None:
            return Placed(part, None, 0, held.get(part))
        version, generation = self._pieces.get(part) or (resource.version, state.changed(part.resource))
        return Placed(part, version, generation, held.get(part))

    def _lacking(self, node: str, envoys: Envoys, placed: Iterable[Placed]) -> Lacking | None:
        streams, late = envoys.by_node[node], envoys.late.get(node, frozenset())
        lacks = [p for p in placed if not _has(streams, late, p)]
        if not lacks:
            return None
        said = [self._said[key] for stream in streams for key in ((stream, t) for t in SHORT) if key in self._said]
        lacked = {(p.part.type_url, p.part.resource) for p in lacks}
        about = tuple(s.rejection for s in said if any((s.rejection.type_url, name) in lacked for name in s.names))
        return Lacking(node, tuple(p.part for p in lacks), about)


def _has(streams: Iterable[Listening], late: frozenset[str], placed: Placed) -> bool:
    """Whether the Envoy of these streams has it; `late`: the types of which it has not everything."""
    type_url, name, _ = placed.part
    if placed.held is not None or placed.version is None:
        return False
    return type_url not in late or any(stream.session.accepted(type_url, name, placed.generation) for stream in streams)


def _has_any(touched: Touched, names: frozenset[str]) -> bool:
    """Whether it may have been about one of the names: where not all are remembered, it may."""
    return bool(names) and (touched.total > len(touched.names) or not names.isdisjoint(touched.names))


def _first(names: Collection[str]) -> tuple[str, ...]:
    """The first SHOWN, sorted."""
    return tuple(sorted(names)) if len(names) <= SHOWN else tuple(heapq.nsmallest(SHOWN, names))
