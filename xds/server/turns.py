"""Fairness among streams: work that takes milliseconds, done in slices, between which the loop answers everybody else; and room for so much
at a time. Whoever asks for much, or often, waits for its own turns, not others for theirs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator
from functools import partial
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

Peer = tuple[str, str]
"""Who wants something: the address, and the connection from there."""
ANYBODY: Peer = ("", "")


class Line(Generic[_Item]):
    """Items that wait, in an order in which many of one peer do not keep another one waiting.

    Addresses take turns, and so do the connections of one address; items of one connection keep their order. Items differ from each other.
    """

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, OrderedDict[str, OrderedDict[_Item, None]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, peer: Peer, item: _Item) -> None:
        """It waits from now on."""
        address, connection = peer
        self._addresses.setdefault(address, OrderedDict()).setdefault(connection, OrderedDict())[item] = None
        self._length += 1

    def next(self) -> tuple[Peer, _Item]:
        """Whose turn it is; there must be one. It goes on waiting."""
        address, connections = next(iter(self._addresses.items()))
        connection = next(iter(connections))
        return (address, connection), next(iter(connections[connection]))

    def serve(self) -> tuple[Peer, _Item]:
        """The same, and it waits no longer."""
        peer, item = self.next()
        address, connection = peer
        self._addresses[address].move_to_end(connection)
        self._addresses.move_to_end(address)
        self.remove(peer, item)
        return peer, item

    def remove(self, peer: Peer, item: _Item) -> None:
        """It does not wait any longer, if it did."""
        address, connection = peer
        connections = self._addresses.get(address, OrderedDict())
        items = connections.get(connection, OrderedDict())
        if item not in items:
            return
        del items[item]
        self._length -= 1
        if not items:
            del connections[connection]
        if not connections:
            del self._addresses[address]


class Turns:
    """Does pieces of work, those of different peers in turn, each round of the event loop for about `slice_` seconds, and at least one.

    A thousand streams that all have something to say would otherwise do so in one round, in which no ping is answered (B10).
    """

    def __init__(self, *, slice_: float = 0.01) -> None:
        self._slice = slice_
        self._until = 0.0
        self._in_round = False
        self._waiting: Line[Callable[[], None]] = Line()

    async def run(self, work: Callable[[], _Result], peer: Peer = ANYBODY) -> _Result:
        """The result of `work`, which must not wait for anything: at once where this round has time left, else from a later one.

        Raises what `work` raises. A caller that is cancelled before its turn has come gives it up.
        """
        loop = asyncio.get_running_loop()
        if not self._in_round:
            self._next_round(loop)
        if not self._waiting and loop.time() < self._until:
            return work()
        result: asyncio.Future[_Result] = loop.create_future()
        self._waiting.add(peer, lambda: _settle(result, work))
        return await result

    async def run_in_steps(self, work: Generator[None, None, _Result], peer: Peer = ANYBODY) -> _Result:
        """The same, of work that yields now and then: each of its steps is a turn."""
        while (result := await self.run(partial(_step, work), peer)) is None:
            pass
        return result[0]

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._until = loop.time() + self._slice
        while self._waiting:
            _, work = self._waiting.serve()
            work()
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
    """So much may be there at once; whoever does not fit waits, and those of different peers go in turn (B8).

    What is larger than all of it goes alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._sizes: dict[asyncio.Future[None], int] = {}
        self._line: Line[asyncio.Future[None]] = Line()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    async def take(self, size: int, peer: Peer = ANYBODY) -> None:
        """Returns when there is room; it is to be given back. A caller that is cancelled before has taken nothing."""
        if not self._line and self._fits(size):
            self._taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._sizes[turn] = size
        self._line.add(peer, turn)
        self._let_in()  # whose turn it is may be another one now
        try:
            await turn
        except asyncio.CancelledError:
            self._line.remove(peer, turn)
            if not turn.cancelled():
                self._taken -= size  # its turn came in the same moment
            self._let_in()
            raise
        finally:
            del self._sizes[turn]

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        self._taken -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._line:
            _, turn = self._line.next()
            if not self._fits(self._sizes[turn]):
                return
            self._line.serve()
            if not turn.cancelled():
                self._taken += self._sizes[turn]
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._most
