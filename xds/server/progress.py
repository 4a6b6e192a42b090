"""How far the Envoys are: the last publications with their causes, and which Envoys have accepted which parts of an object.

Acknowledgements are compared with publications here. What is sent to an Envoy is in `xds.protocol`; into which parts an object went, in
`xds.units`. Nothing here looks at a clock: `now` is seconds of one that never goes back, `at` the time of day.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import chain
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Histogram

from xds.problem import Ref, printable
from xds.protocol.discovery import Acknowledgement
from xds.server.frontier import ConnectedStream, Frontier, node_id
from xds.server.metrics import SHORT
from xds.snapshot import Part, Snapshot

KEPT = 100
"""Publications that are remembered."""
SHOWN = 20
"""Causes, names of a type, and rejections that a publication lists; the others are only counted."""
_MOST_OPEN = 10_000
"""Publications of a type that are tracked one by one while an Envoy does not answer."""
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Verb(Enum):
    """What became of an object."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Cause(NamedTuple):
    """An object whose change led to a publication; `version` is its resourceVersion, "" where there is none."""

    about: Ref
    version: str
    verb: Verb


class ChangedNames(NamedTuple):
    """The resources of one type that changed: the first SHOWN names, sorted, and how many there are."""

    names: tuple[str, ...]
    total: int


class Rejection(NamedTuple):
    """A NACK: the node.id of the Envoy, and the text of its error."""

    node: str
    type_url: str
    words: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A change of the Snapshot that was published.

    `number` counts from 1, `at` is in UTC. `causes` are the first SHOWN of `causes_total`. `built` is seconds from the objects to the
    Snapshot. `accepted` is seconds from the event until the last Envoy had accepted it: None while one has not (`waiting`), and if none was
    connected or all have disconnected. `rejections` are NACKs of responses with a part of it, the first SHOWN of `rejected` streams.
    """

    number: int
    at: datetime
    causes: tuple[Cause, ...]
    causes_total: int
    resources: Mapping[str, ChangedNames]
    built: float
    accepted: float | None
    waiting: bool
    rejections: tuple[Rejection, ...]
    rejected: int


class PlacedPart(NamedTuple):
    """A part into which an object went: its version, which is a hash of its content (None: there is no such resource), the generation since
    which it has that content, and the text of Envoy's error if it is held.
    """

    part: Part
    version: str | None
    generation: int
    held: str | None = None


class LaggingEnvoy(NamedTuple):
    """An Envoy, by node.id, that has not accepted these parts, and its NACKs of responses with one of them."""

    node: str
    parts: tuple[Part, ...]
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Programmed:
    """On how many Envoys some parts are in effect as they are now: on all of `envoys` except those that `lacking` lists."""

    parts: tuple[PlacedPart, ...]
    envoys: int
    lacking: tuple[LaggingEnvoy, ...]

    @property
    def accepted(self) -> int:
        """How many Envoys have all parts. Without any part, none: the object is too invalid to have an effect."""
        return self.envoys - len(self.lacking) if self.parts else 0

    @property
    def complete(self) -> bool:
        """Whether every Envoy has all parts, and there is an Envoy. No Envoy has a part that is held."""
        return 0 < self.envoys == self.accepted


class ConnectedEnvoys(NamedTuple):
    """The connected Envoys at one moment: node.id → its streams, with those of its authorisation service.

    `late` has node.id → the types of which it lacks something, if there are any.
    """

    by_node: Mapping[str, Sequence[ConnectedStream]]
    late: Mapping[str, frozenset[str]]


@dataclass(slots=True, eq=False)
class _PublicationRecord:
    """The mutable state of a Publication.

    `open` are the types that an Envoy has not accepted yet, `rejecters` the streams that reject a part of it.
    """

    number: int
    at: datetime
    began: float
    built: float
    causes: tuple[Cause, ...]
    causes_total: int
    changed: Mapping[str, ChangedNames]
    generations: Mapping[str, int]
    open: set[str] = field(default_factory=set)
    accepted: float | None = None
    rejections: dict[tuple[str, str], Rejection] = field(default_factory=dict)
    rejecting: set[tuple[str, str]] = field(default_factory=set)
    rejecters: set[_Key] = field(default_factory=set)

    def frozen(self) -> Publication:
        """An immutable copy."""
        waiting = bool(self.open)
        return Publication(
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


_Key = tuple[ConnectedStream, str]
"""A stream and a type."""


class _OpenPublication(NamedTuple):
    generation: int
    record: _PublicationRecord


class _PieceVersion(NamedTuple):
    version: str
    generation: int


class _LastRejection(NamedTuple):
    rejection: Rejection
    names: frozenset[str]
    generation: int


class Remembered(NamedTuple):
    """How much a Progress keeps beside the last publications.

    Publications that an Envoy has yet to accept, Envoys, and pairs of a stream and a type of which the stream rejects something.
    """

    publications: int
    envoys: int
    rejections: int


class Progress:
    """The last publications in a ring buffer, and how far the Envoys are with each type.

    It is called with each publication, each acknowledgement, and each stream that has ended. `clock` is that of `now`, for the metric that
    is computed when Prometheus reads it. Belongs to one event loop.
    """

    def __init__(self, snapshot: Snapshot, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        text = "Seconds from an event until the last connected Envoy that wants its resources has accepted them."
        histogram = Histogram("xds_event_to_ack_seconds", text, ["type"], buckets=_BUCKETS, registry=registry)
        self._seconds = {type_url: histogram.labels(short) for type_url, short in SHORT.items()}
        text = "Seconds that the oldest change has waited which not every connected Envoy has accepted; 0 where there is none."
        Gauge("xds_programmed_slowest_seconds", text, registry=registry).set_function(lambda: self.slowest(clock()))
        self._snapshot = snapshot
        self._frontiers = {type_url: Frontier() for type_url in SHORT}
        self._open: dict[str, deque[_OpenPublication]] = {type_url: deque() for type_url in SHORT}  # that some Envoy has not accepted yet
        self._ring: deque[_PublicationRecord] = deque(maxlen=KEPT)
        self._pieces: dict[Part, _PieceVersion] = {}
        self._last_rejections: dict[_Key, _LastRejection] = {}  # the last NACK of each stream and type, until it accepts something
        self._rejected: dict[_Key, list[_PublicationRecord]] = {}  # the publications of which a stream rejects a part
        self._numbers = 0

    @property
    def remembered(self) -> Remembered:
        """How much is kept until Envoys answer or disconnect."""
        records = [opened.record for opened in chain.from_iterable(self._open.values())]
        records += [record for rejected in self._rejected.values() for record in rejected if record.open]
        nodes = {node for frontier in self._frontiers.values() for node in frontier.nodes}
        return Remembered(len({record.number for record in records}), len(nodes), len(self._last_rejections.keys() | self._rejected.keys()))

    # Events

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
        """Resources have changed: by type their names, and the generation of its State since then.

        `causes` may be the first of `causes_total`. `built_seconds` have passed from the event until `now`. `moved` are the changed pieces
        of resources, each with a hash of its content, "" for a removed one. Other parts change with their resource.
        """
        for part, version in moved:
            if version:
                self._pieces[part] = _PieceVersion(version, generations.get(part.type_url) or self._snapshot[part.type_url].generation)
            else:
                self._pieces.pop(part, None)
        self._numbers += 1
        touched = {t: ChangedNames(_first(names), len(names)) for t, names in changed.items()}
        total = len(causes) if causes_total is None else causes_total
        began = now - built_seconds
        record = _PublicationRecord(self._numbers, at, began, built_seconds, tuple(causes[:SHOWN]), total, touched, dict(generations))
        self._ring.append(record)
        for type_url in changed:
            if (frontier := self._frontiers.get(type_url)) is not None and frontier:
                record.open.add(type_url)
                self._wait(type_url, _OpenPublication(generations[type_url], record))

    def acknowledged(self, stream: ConnectedStream, ack: Acknowledgement, now: float) -> None:
        """An Envoy has sent an ACK or a NACK."""
        frontier = self._frontiers.get(ack.type_url)
        if frontier is None:
            return
        key = (stream, ack.type_url)
        if ack.error is not None:
            self._reject(stream, ack)
        frontier.move(stream, ack.settled)
        self._close(ack.type_url, now)
        if key in self._last_rejections or key in self._rejected:
            self._reconsider(key, ack, now)
        for other in frontier.beside(stream) if self._rejected else ():
            for record in self._rejected.get((other, ack.type_url), ()) if other is not stream else ():
                self._perhaps_finish(record, ack.type_url, now)

    def disconnected(self, stream: ConnectedStream, now: float) -> None:
        """A stream has ended, so that no publication waits for it."""
        for type_url, frontier in self._frontiers.items():
            frontier.drop(stream)
            self._close(type_url, now)
            self._last_rejections.pop((stream, type_url), None)
            for record in self._rejected.pop((stream, type_url), ()):
                self._drop_rejection(record, (stream, type_url), now)

    def _wait(self, type_url: str, opened: _OpenPublication) -> None:
        """Tracks a publication until it is accepted. Of too many, every second one that `history` no longer shows is dropped."""
        waiting = self._open[type_url]
        waiting.append(opened)
        if len(waiting) > _MOST_OPEN:
            old = list(waiting)
            self._open[type_url] = deque([*old[: -2 * KEPT : 2], *old[-2 * KEPT :]])

    def _close(self, type_url: str, now: float) -> None:
        """Finishes the publications that all Envoys have accepted."""
        waiting = self._open[type_url]
        if not waiting:
            return
        least = self._frontiers[type_url].least()
        while waiting and (least is None or waiting[0].generation <= least):
            record = waiting.popleft().record
            if not self._is_rejected(record, type_url):
                self._finish(record, type_url, now)

    def _is_rejected(self, record: _PublicationRecord, type_url: str) -> bool:
        """Whether an Envoy rejects a part of it, and has not accepted that on another stream."""
        frontier, generation = self._frontiers[type_url], record.generations[type_url]
        for stream, of_type in record.rejecters:
            if of_type != type_url:
                continue
            others = frontier.beside(stream).items()
            if not any(at >= generation and (other, type_url) not in record.rejecters for other, at in others):
                return True
        return False

    def _finish(self, record: _PublicationRecord, type_url: str, now: float) -> None:
        """No connected Envoy still has to accept it. If there are Envoys at all, they have accepted it."""
        record.open.discard(type_url)
        if self._frontiers[type_url]:
            record.accepted = now - record.began
            self._seconds[type_url].observe(record.accepted)

    def _reconsider(self, key: _Key, ack: Acknowledgement, now: float) -> None:
        """Drops what a stream rejected before and does not reject any more."""
        last = self._last_rejections.get(key)
        if last is not None and ack.settled >= last.generation and last.names.isdisjoint(ack.rejects):
            del self._last_rejections[key]
        still = []
        for record in self._rejected.pop(key, ()):
            if _has_any(record.changed[key[1]], ack.rejects):
                still.append(record)
            else:
                self._drop_rejection(record, key, now)
        if still:
            self._rejected[key] = still

    def _drop_rejection(self, record: _PublicationRecord, key: _Key, now: float) -> None:
        """A stream rejects no part of it any more."""
        record.rejecters.discard(key)
        self._perhaps_finish(record, key[1], now)

    def _perhaps_finish(self, record: _PublicationRecord, type_url: str, now: float) -> None:
        if type_url not in record.open or self._is_rejected(record, type_url):
            return
        least = self._frontiers[type_url].least()
        if least is None or record.generations[type_url] <= least:
            self._finish(record, type_url, now)

    def _reject(self, stream: ConnectedStream, ack: Acknowledgement) -> None:
        node = node_id(stream)
        rejection = Rejection(node, ack.type_url, printable(ack.error or "", 500))
        self._last_rejections[stream, ack.type_url] = _LastRejection(rejection, ack.names, ack.generation)
        had = self._frontiers[ack.type_url].of(stream)
        for record in reversed(self._ring):
            generation = record.generations.get(ack.type_url, -1)
            if not had < generation <= ack.generation or ack.type_url not in record.open:
                continue
            if _has_any(record.changed[ack.type_url], ack.names):
                key = (stream, ack.type_url)
                if key not in record.rejecters:
                    record.rejecters.add(key)
                    self._rejected.setdefault(key, []).append(record)
                record.rejecting.add((node, ack.type_url))
                if (node, ack.type_url) in record.rejections or len(record.rejections) < SHOWN:
                    record.rejections[node, ack.type_url] = rejection

    # How far the Envoys are

    def history(self) -> list[Publication]:
        """The last publications, newest first."""
        return [record.frozen() for record in reversed(self._ring)]

    def times(self, type_url: str) -> dict[int, datetime]:
        """Generation of a type → when it was published, as far back as the ring goes."""
        return {record.generations[type_url]: record.at for record in self._ring if type_url in record.generations}

    def slowest(self, now: float) -> float:
        """Seconds since the event of the oldest publication that an Envoy has not accepted; 0 if all are accepted."""
        oldest = [waiting[0].record for waiting in self._open.values() if waiting]
        refused = [record for (_, type_url), records in self._rejected.items() for record in records if type_url in record.open]
        return max((now - record.began for record in (*oldest, *refused)), default=0.0)

    def envoys(self, streams: Iterable[ConnectedStream]) -> ConnectedEnvoys:
        """The Envoys of these streams at this moment. The result is valid until the next await only."""
        by_node = by_envoy(streams)
        some = [type_url for type_url in SHORT if self._snapshot[type_url]]
        late: dict[str, frozenset[str]] = {}
        for node, of_node in by_node.items():
            behind = frozenset(t for t in some if not any(stream.session.up_to_date(t) for stream in of_node))
            if behind:
                late[node] = behind
        return ConnectedEnvoys(by_node, late)

    def programmed(self, parts: Iterable[Part], envoys: ConnectedEnvoys, held: Mapping[Part, str]) -> Programmed:
        """How many of the Envoys have all of the parts as they are now. `held`: the parts that are held, with the text of Envoy's error.

        An Envoy may have several streams, each for some of its types: it has a part once one of them has.
        """
        placed = tuple(self._place(part, held) for part in parts)
        nobody = any(p.held is not None or p.version is None for p in placed)
        lacking = (self._lacking(node, envoys, placed) for node in sorted(envoys.by_node if nobody else envoys.late))
        return Programmed(placed, len(envoys.by_node), tuple(found for found in lacking if found is not None))

    def _place(self, part: Part, held: Mapping[Part, str]) -> PlacedPart:
        state = self._snapshot[part.type_url]
        resource = state.get(part.resource)
        if resource is None:
            return PlacedPart(part, None, 0, held.get(part))
        version, generation = self._pieces.get(part) or (resource.version, state.changed(part.resource))
        return PlacedPart(part, version, generation, held.get(part))

    def _lacking(self, node: str, envoys: ConnectedEnvoys, placed: Iterable[PlacedPart]) -> LaggingEnvoy | None:
        streams, late = envoys.by_node[node], envoys.late.get(node, frozenset())
        lacks = [p for p in placed if not _has(streams, late, p)]
        if not lacks:
            return None
        rejected = [
            self._last_rejections[key] for stream in streams for key in ((stream, t) for t in SHORT) if key in self._last_rejections
        ]
        lacked = {(p.part.type_url, p.part.resource) for p in lacks}
        about = tuple(last.rejection for last in rejected if any((last.rejection.type_url, name) in lacked for name in last.names))
        return LaggingEnvoy(node, tuple(p.part for p in lacks), about)


def by_envoy(streams: Iterable[ConnectedStream]) -> dict[str, list[ConnectedStream]]:
    """The streams of each Envoy by its node.id, with those of the authorisation service beside it; that alone is no Envoy."""
    found: dict[str, list[ConnectedStream]] = {}
    for stream in streams:
        if stream.node is not None:
            found.setdefault(stream.node.envoy, []).append(stream)
    return {node: of_node for node, of_node in found.items() if any(stream.node and stream.node.id == node for stream in of_node)}


def _has(streams: Iterable[ConnectedStream], late: frozenset[str], placed: PlacedPart) -> bool:
    """Whether the Envoy of these streams has a part; `late`: the types of which it lacks something."""
    type_url, name, _ = placed.part
    if placed.held is not None or placed.version is None:
        return False
    return type_url not in late or any(stream.session.accepted(type_url, name, placed.generation) for stream in streams)


def _has_any(touched: ChangedNames, names: frozenset[str]) -> bool:
    """Whether one of the names may be among those that changed. If not all of them are remembered, any name may."""
    return bool(names) and (touched.total > len(touched.names) or not names.isdisjoint(touched.names))


def _first(names: Collection[str]) -> tuple[str, ...]:
    """The first SHOWN, sorted."""
    return tuple(sorted(names)) if len(names) <= SHOWN else tuple(heapq.nsmallest(SHOWN, names))
