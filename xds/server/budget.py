"""Bytes that streams have in memory, all together, and who goes where that is too much: of the peer that has most, the newest that makes
room enough. So whoever opens many streams takes none of the room of those that open one.

What belongs here: adding up. What does not: how much a stream has (`xds.server.stream`, `xds.protocol`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from xds.server.turns import ANYBODY, Peer

_Stream = TypeVar("_Stream", bound=Hashable)


class Budget(Generic[_Stream]):
    """`most` bytes for all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self._weights: dict[_Stream, tuple[int, int, Peer]] = {}  # oldest first
        self._of_address: Counter[str] = Counter()
        self._of_peer: Counter[Peer] = Counter()

    def weigh(self, stream: _Stream, weight: int, peer: Peer = ANYBODY, *, passing: int = 0) -> list[_Stream]:
        """A stream of a peer, always the same, has so many bytes now; returns those that have to go. They count no longer.

        `passing`: bytes beside those, of what is being written. They are no reason to go, for they are soon gone, and bounded elsewhere.
        """
        if stream in self._weights:
            self._forget(stream)
        self._weights[stream] = weight, passing, peer
        self._add(weight, passing, peer)
        going = []
        while self.total > self.most:
            going.append(gone := self._newest(self.total - self.most))
            self.drop(gone)
        return going

    def drop(self, stream: _Stream) -> None:
        """It has ended."""
        if stream in self._weights:
            self._forget(stream)
            del self._weights[stream]

    def _forget(self, stream: _Stream) -> None:
        weight, passing, peer = self._weights[stream]
        self._add(-weight, -passing, peer)
        if not self._of_peer[peer]:
            del self._of_peer[peer]
        if not self._of_address[peer[0]]:
            del self._of_address[peer[0]]

    def _add(self, weight: int, passing: int, peer: Peer) -> None:
        self.total += weight + passing
        self._of_address[peer[0]] += weight
        self._of_peer[peer] += weight

    def _newest(self, excess: int) -> _Stream:
        """Of the connection that has most, of the address that has most: the newest that has as much as is too much, else the largest."""
        address = max(self._of_address, key=self._of_address.__getitem__)
        most = max((peer for peer in self._of_peer if peer[0] == address), key=self._of_peer.__getitem__)
        largest, size = None, -1
        for stream, (weight, passing, peer) in reversed(self._weights.items()):
            if peer == most:
                if weight + passing >= excess:
                    return stream
                if weight + passing > size:
                    largest, size = stream, weight + passing
        assert largest is not None
        return largest
