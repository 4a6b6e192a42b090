"""Bytes that streams have in memory, all together, and who goes where that is too much: the newest that makes room enough.

What belongs here: adding up. What does not: how much a stream has (`xds.server.stream`, `xds.protocol`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Stream = TypeVar("_Stream", bound=Hashable)


class Budget(Generic[_Stream]):
    """`most` bytes for all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self._weights: dict[_Stream, int] = {}  # oldest first

    def weigh(self, stream: _Stream, weight: int) -> list[_Stream]:
        """A stream has so many bytes now; returns those that have to go. They count no longer."""
        self.total += weight - self._weights.get(stream, 0)
        self._weights[stream] = weight
        going = []
        while self.total > self.most:
            going.append(gone := self._newest(self.total - self.most))
            self.drop(gone)
        return going

    def drop(self, stream: _Stream) -> None:
        """It has ended."""
        self.total -= self._weights.pop(stream, 0)

    def _newest(self, excess: int) -> _Stream:
        """The newest that has as much as is too much; where none has, the one that has most."""
        for stream, weight in reversed(self._weights.items()):
            if weight >= excess:
                return stream
        return max(self._weights, key=self._weights.__getitem__)
