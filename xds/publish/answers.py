"""What the Envoys answer, on its way from the streams to the quarantine.

What belongs here: counting each answer at once, and keeping in order those that the quarantine has to judge. What does not: judging them
(`xds.quarantine`), and when that is done (`xds.publish.publisher`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from xds.protocol.discovery import Acknowledgement
from xds.quarantine.quarantine import Quarantine
from xds.server.progress import Progress
from xds.server.stream import EnvoyStream
from xds.snapshot import ROUTE


class Received(NamedTuple):
    """An ACK or NACK of a stream; without an `answer`, the stream has ended. `postponed`: it was put back once."""

    stream: EnvoyStream
    answer: Acknowledgement | None
    postponed: bool = False


class Answers:
    """The queue between the Fleet and the Publisher: one calls `received` and `disconnected`, the other `available` and `pop`.

    It exists before both, so that neither has to be wired to the other later. Progress counts an answer before the stream goes on. ACKs
    come by the thousand: one is queued only if the quarantine would conclude something from it.
    """

    def __init__(self, progress: Progress, quarantine: Quarantine) -> None:
        self._progress = progress
        self._quarantine = quarantine
        self._queue: deque[Received] = deque()
        self._queued: Counter[EnvoyStream] = Counter()  # how many are in the queue, of each stream that has any
        self._postponed: list[Received] = []
        self._keeps_all = 0
        self._available = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether something is to be judged, now or later."""
        return bool(self._queue or self._postponed)

    def received(self, stream: EnvoyStream, answer: Acknowledgement) -> None:
        """An Envoy has acknowledged or rejected a response."""
        self._progress.acknowledged(stream, answer, time.monotonic())
        if answer.error is not None or self._keeps_all or self._quarantine.cares(answer):
            self._put(Received(stream, answer))

    def disconnected(self, stream: EnvoyStream) -> None:
        """A stream has ended."""
        self._progress.disconnected(stream, time.monotonic())
        if self._keeps_all or self._quarantine.knows(stream) or self._is_to_be_judged(stream):
            for received in [each for each in self._postponed if each.stream is stream]:
                self._put_back(received)  # now, for what it answered is judged before it leaves
            self._put(Received(stream, None))

    @contextlib.contextmanager
    def keeping_all(self) -> Iterator[None]:
        """Queue whatever comes during a block, in which the quarantine learns what it would care for, or is at work in another thread."""
        self._keeps_all += 1
        try:
            yield
        finally:
            self._keeps_all -= 1

    async def available(self) -> None:
        """Returns once there is something to take."""
        await self._available.wait()

    def pop(self) -> Received | None:
        """The next one; None where there is none now."""
        if not self._queue:
            self._available.clear()
            return None
        received = self._queue.popleft()
        self._queued[received.stream] -= 1
        if not self._queued[received.stream]:
            del self._queued[received.stream]
        return received

    def postpone(self, received: Received, seconds: float) -> None:
        """Put it back, at the end of the queue, that much later."""
        again = received._replace(postponed=True)
        self._postponed.append(again)
        asyncio.get_running_loop().call_later(seconds, self._put_back, again)

    def _put_back(self, received: Received) -> None:
        if received in self._postponed:  # else it was put back when its stream ended
            self._postponed.remove(received)
            self._put(received)

    def _is_to_be_judged(self, stream: EnvoyStream) -> bool:
        """Whether an answer of a stream waits, from which the quarantine may learn of it only after it has ended."""
        return stream in self._queued or any(received.stream is stream for received in self._postponed)

    def _put(self, received: Received) -> None:
        self._queue.append(received)
        self._queued[received.stream] += 1
        self._available.set()


def serves(stream: EnvoyStream) -> bool:
    """Whether an Envoy has acknowledged routes: it has traffic to lose."""
    return stream.session.accepted_all(ROUTE) >= 0
