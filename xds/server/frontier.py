"""How far the Envoys are with one type: the lowest generation that all of them have accepted.

What does not belong here: what was published at which generation, and what was rejected (`xds.server.progress`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

from xds.protocol.session import Session
from xds.server.messages import EnvoyNode


class ConnectedStream(Protocol):
    """What is needed of a stream, such as a `xds.server.stream.EnvoyStream`."""

    @property
    def node(self) -> EnvoyNode | None:
        """The node of its Envoy."""

    @property
    def session(self) -> Session:
        """What it was sent, and what it accepted."""


class Frontier:
    """How far the Envoys are with one type: the lowest generation that all of them have accepted, in O(log Envoys) for each ACK.

    Of an Envoy, by node.id, the furthest stream counts: another client with the same node.id does not hold it back. Any number of clients
    may have one node.id, which makes no ACK dearer. Envoys that have accepted the same generation are counted together, and a heap finds
    the lowest generation.
    """

    __slots__ = ("_at", "_furthest", "_heap", "_nodes")

    def __init__(self) -> None:
        self._nodes: dict[str, dict[ConnectedStream, int]] = {}
        self._furthest: dict[str, int] = {}  # node.id → the highest generation of its streams
        self._at: Counter[int] = Counter()  # generation → Envoys that have accepted it and none after it
        self._heap: list[int] = []  # the keys of _at, and some that are none any more

    def __bool__(self) -> bool:
        return bool(self._nodes)

    @property
    def nodes(self) -> Collection[str]:
        """The Envoys, by node.id."""
        return self._nodes.keys()

    def move(self, stream: ConnectedStream, generation: int) -> None:
        """A stream has accepted everything as of this generation. A lower one than before is ignored."""
        node = node_id(stream)
        streams, before = self._nodes.setdefault(node, {}), self._furthest.get(node)
        streams[stream] = max(generation, streams.get(stream, generation))
        self._furthest[node] = after = max(streams[stream], streams[stream] if before is None else before)
        self._shift(before, after)

    def of(self, stream: ConnectedStream) -> int:
        """The generation that a stream has accepted; -1 for none."""
        return self._nodes.get(node_id(stream), {}).get(stream, -1)

    def beside(self, stream: ConnectedStream) -> Mapping[ConnectedStream, int]:
        """The generations that the streams of the same Envoy have accepted, including this stream."""
        return self._nodes.get(node_id(stream), {})

    def drop(self, stream: ConnectedStream) -> None:
        """A stream has disconnected."""
        streams = self._nodes.get(node := node_id(stream), {})
        if stream not in streams:
            return
        before = self._furthest.pop(node)
        if streams.pop(stream) < before:
            self._furthest[node] = before
        elif streams:
            self._furthest[node] = max(streams.values())
        else:
            del self._nodes[node]
        self._shift(before, self._furthest.get(node))

    def least(self) -> int | None:
        """The generation that all Envoys have accepted; None if there are no Envoys."""
        while self._heap and not self._at.get(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _shift(self, before: int | None, after: int | None) -> None:
        """An Envoy has moved between generations; None: it was not connected before, or is not any more."""
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


def node_id(stream: ConnectedStream) -> str:
    """The node.id of its Envoy; "" before that is known."""
    return stream.node.id if stream.node else ""
