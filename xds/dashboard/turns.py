"""One page at a time, and a pause after each: a client that asks for many gets a part of the time, and the control plane the rest."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

_REST = 3
"""The rest after a page, in times of the page."""
_LONGEST_REST = 0.25
MOST_WAITING = 32


class Busy(Exception):
    """Too many requests wait."""


class PageTurns:
    """Of one server."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(1)
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no other page is made and the rest is over. Raises Busy where too many wait already."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        begun = time.monotonic()
        try:
            yield
        finally:
            rest = min(_LONGEST_REST, _REST * (time.monotonic() - begun))
            asyncio.get_running_loop().call_later(rest, self._free.release)
