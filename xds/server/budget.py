"""The memory of all streams together, and which stream is evicted when it exceeds a limit.

It is the newest stream of the peer that uses most. So a peer that opens many streams does not evict those of peers that open one. How much
memory a stream uses is estimated in `xds.server.stream` and `xds.protocol`; here it is added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from xds.server.turns import ANYBODY, Peer

_Stream = TypeVar("_Stream", bound=Hashable)


class Budget(Generic[_Stream]):
    """Accounts for the memory of streams, which together may use `most` bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self._weights: dict[_Stream, tuple[int, int, Peer]] = {}  # oldest first
        self._of_address: Counter[str] = Counter()
        self._of_peer: Counter[Peer] = Counter()

    def weigh(self, stream: _Stream, weight: int, peer: Peer = ANYBODY, *, passing: int = 0) -> list[_Stream]:
        """Sets how many bytes a stream uses; returns the streams to evict, which are not counted any more. A stream keeps its peer.

        `passing`: further bytes, of a response that is being written. They count for the total, but not for which peer uses most: they are
        freed soon, and bounded elsewhere.
        """
        if stream in self._weights:
            self._forget(stream)
        self._weights[stream] = weight, passing, peer
        self._add(weight, passing, peer)
        evicted = []
        while self.total > self.most:
            evicted.append(stream := self._newest(self.total - self.most))
            self.drop(stream)
        return evicted

    def drop(self, stream: _Stream) -> None:
        """A stream has ended."""
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
        """The stream to evict: of the connection that uses most, of the address that uses most.

        It is the newest one that uses at least `excess` bytes, so that one eviction is enough; else the largest.
        """
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
