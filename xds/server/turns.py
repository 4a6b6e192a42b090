"""Fairness among streams: work that takes milliseconds, done in slices, between which the loop answers everybody else; and room for so much
at a time, given in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from functools import partial
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

    async def run_in_steps(self, work: Generator[None, None, _Result]) -> _Result:
        """The same, of work that yields now and then: each of its steps is a turn."""
        while (result := await self.run(partial(_step, work))) is None:
            pass
        return result[0]

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


def _step(work: Generator[None, None, _Result]) -> tuple[_Result] | None:
    try:
        next(work)
    except StopIteration as end:
        return (end.value,)
    return None


def _settle(result: asyncio.Future[_Result], work: Callable[[], _Result]) -> None:
    if result.cancelled():
        return
    try:
        result.set_result(work())
    except Exception as error:  # noqa: BLE001 - whoever waits for the result gets it
        result.set_exception(error)


class Room:
    """So much may be there at once; whoever does not fit waits, and whoever has waited longest goes first (B8).

    What is larger than all of it goes alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def take(self, size: int) -> None:
        """Returns when there is room; it is to be given back. A caller that is cancelled before has taken nothing."""
        if not self._waiting and self._fits(size):
            self._taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = size
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():
                self._taken -= size  # its turn came in the same moment
            self._let_in()
            raise

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        self._taken -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(next(iter(self._waiting.values()))):
            turn, size = self._waiting.popitem(last=False)
            if not turn.cancelled():
                self._taken += size
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._most
