"""Fairness on one event loop: work that takes milliseconds, done in slices, between which the loop answers everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


class Turns:
    """Takes pieces of work in the order in which they come, each round of the event loop for about `slice_` seconds,
    and at least one.

    A thousand streams that all have something to say would otherwise do so in one round, in which no ping is answered (B10).
    """

    def __init__(self, *, slice_: float = 0.01) -> None:
        self._slice = slice_
        self._until = 0.0
        self._in_round = False
        self._waiting: deque[Callable[[], None]] = deque()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The result of `work`, which must not wait for anything: at once where this round has time left, else from a later one.

        Raises what `work` raises. A caller that is cancelled before its turn has come gives it up.
        """
        loop = asyncio.get_running_loop()
        if not self._in_round:
            self._next_round(loop)
        if not self._waiting and loop.time() < self._until:
            return work()
        result: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append(lambda: _settle(result, work))
        return await result

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._until = loop.time() + self._slice
        while self._waiting:
            self._waiting.popleft()()
            if loop.time() >= self._until:
                break
        self._in_round = True
        loop.call_soon(self._end_round, loop)

    def _end_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._in_round = False
        if self._waiting:
            self._next_round(loop)


def _settle(result: asyncio.Future[_Result], work: Callable[[], _Result]) -> None:
    if result.cancelled():
        return
    try:
        result.set_result(work())
    except Exception as error:  # noqa: BLE001 - whoever waits for the result gets it
        result.set_exception(error)
