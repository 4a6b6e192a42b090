"""Bytes that streams have in memory, all together, and who goes where that is too much: the newest of those that have much.

What belongs here: adding up. What does not: how much a stream has (`xds.server.stream`, `xds.protocol`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Stream = TypeVar("_Stream", bound=Hashable)


class Budget(Generic[_Stream]):
    """`most` bytes. A stream that has less than `light` goes only where no other one has more."""

    def __init__(self, most: int, *, light: int = 64 * 2**10) -> None:
        self.most = most
        self.total = 0
        self._light = light
        self._weights: dict[_Stream, int] = {}  # oldest first

    def weigh(self, stream: _Stream, weight: int) -> list[_Stream]:
        """A stream has so many bytes now; returns those that have to go. They count no longer."""
        self.total += weight - self._weights.get(stream, 0)
        self._weights[stream] = weight
        if self.total <= self.most:
            return []
        newest = list(reversed(self._weights))
        going = []
        for each in (*(n for n in newest if self._weights[n] >= self._light), *(n for n in newest if self._weights[n] < self._light)):
            if self.total <= self.most:
                break
            self.drop(each)
            going.append(each)
        return going

    def drop(self, stream: _Stream) -> None:
        """It has ended."""
        self.total -= self._weights.pop(stream, 0)
