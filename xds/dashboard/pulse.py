"""When a page is out of date: a stamp of what pages show, and who waits for the next one.

One task looks for changes, and only while a browser waits. What does not belong here: what has changed; a browser asks for its page again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Iterator

from xds.dashboard.subject import Displayed
from xds.debug.subject import Envoy
from xds.server.metrics import SHORT

EVERY = 0.5
"""Seconds between two looks, and so between two events of a stream."""
MOST_WAITING = 24
"""Streams at a time."""


class Pulse:
    """The stamps of a control plane. `every` is EVERY, but for tests."""

    def __init__(self, subject: Displayed, *, every: float = EVERY) -> None:
        self.stopped = False
        self._subject = subject
        self._every = every
        self._run = secrets.token_bytes(8)  # after a restart everything is another state
        self._beat = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None
        self._last = ""
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether no further stream may wait."""
        return self._waiting >= MOST_WAITING

    def stamp(self) -> str:
        """Of the present state: the same text as long as no page would differ."""
        subject = self._subject
        changes = [(c.number, c.waiting, c.accepted is None, c.rejected) for c in subject.history()]
        state = (subject.snapshot.ready, subject.steps, subject.replica().waiting, changes, [_progress(e) for e in subject.envoys()])
        return hashlib.blake2b(repr(state).encode(), digest_size=8, key=self._run).hexdigest()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A stream waits for as long as this is entered."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def after(self, stamp: str, seconds: float) -> str:
        """The next stamp that is another one than this; "" where none comes in so many seconds, or the server stops."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="dashboard")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._beat:
                await self._beat.wait_for(lambda: self.stopped or self._last not in ("", stamp))
        return "" if self.stopped or self._last == stamp else self._last

    async def stop(self) -> None:
        """Let nobody wait any longer."""
        self.stopped = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        async with self._beat:
            self._beat.notify_all()

    async def _look(self) -> None:
        while self._waiting:
            if (now := self.stamp()) != self._last:
                self._last = now
                async with self._beat:
                    self._beat.notify_all()
            await asyncio.sleep(self._every)
        self._last = ""


def _progress(envoy: Envoy) -> tuple[str, list[int], list[str]]:
    """What of a stream is seen."""
    return envoy.peer, [envoy.session.accepted_all(type_url) for type_url in SHORT], sorted(envoy.session.rejections.values())
