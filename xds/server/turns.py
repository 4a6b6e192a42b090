"""Fairness among peers on one event loop: a queue, a scheduler for work that takes milliseconds, and a byte-weighted semaphore.

A peer that wants much, or often, waits for its own turns; it does not make others wait.
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
"""Whose work it is: an address, and a connection from there."""
ANYBODY: Peer = ("", "")


class FairQueue(Generic[_Item]):
    """A queue with round robin: addresses take turns, and so do the connections of one address.

    Items of one connection keep their order. No item may be in the queue twice.
    """

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, OrderedDict[str, OrderedDict[_Item, None]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, peer: Peer, item: _Item) -> None:
        """Appends an item of this peer."""
        address, connection = peer
        self._addresses.setdefault(address, OrderedDict()).setdefault(connection, OrderedDict())[item] = None
        self._length += 1

    def peek(self) -> tuple[Peer, _Item]:
        """The next item, which stays in the queue. The queue must not be empty."""
        address, connections = next(iter(self._addresses.items()))
        connection = next(iter(connections))
        return (address, connection), next(iter(connections[connection]))

    def pop(self) -> tuple[Peer, _Item]:
        """Removes and returns the next item; its peer goes to the end."""
        peer, item = self.peek()
        address, connection = peer
        self._addresses[address].move_to_end(connection)
        self._addresses.move_to_end(address)
        self.remove(peer, item)
        return peer, item

    def remove(self, peer: Peer, item: _Item) -> None:
        """Removes an item, if it is there."""
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


class FairScheduler:
    """A scheduler for CPU work on the event loop: in each iteration of the loop it works for `slice_` seconds, peers in turn.

    Without it, a thousand streams with a response each would encode all of them in one iteration, in which no ping is answered (B10).
    An iteration does at least one piece of work, however long it takes.
    """

    def __init__(self, *, slice_: float = 0.01) -> None:
        self._slice = slice_
        self._until = 0.0
        self._in_iteration = False
        self._waiting: FairQueue[Callable[[], None]] = FairQueue()
        self._first: FairQueue[Callable[[], None]] = FairQueue()  # the work that comes before all other, see `begin_first`
        self._only_first = False

    def begin_first(self) -> None:
        """From now on until `end_first`, only work with `first` is done. Not if other work waits already, so that none waits for ever."""
        self._only_first = self._only_first or not self._waiting

    def end_first(self) -> None:
        """Other work is done again, after the `first` that waits."""
        self._only_first = False
        if not self._in_iteration:
            self._next_iteration(asyncio.get_running_loop())

    def has_time(self, *, first: bool = False) -> bool:
        """Whether `run` would do its work at once: for who does it then without `run`, which takes longer than a small piece of work."""
        loop = asyncio.get_running_loop()
        if not self._in_iteration:
            self._next_iteration(loop)
        if self._first or (not first if self._only_first else self._waiting):
            return False
        return loop.time() < self._until

    async def run(self, work: Callable[[], _Result], peer: Peer = ANYBODY, *, first: bool = False) -> _Result:
        """Runs `work`, which must not block, and returns its result: at once if this iteration has time left, else in a later one.

        Raises what `work` raises. If the caller is cancelled before its turn, the work is not done. `first`: see `begin_first`.
        """
        if self.has_time(first=first):
            return work()
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        queue = self._first if first and self._only_first else self._waiting
        queue.add(peer, lambda: _settle(result, work))
        return await result

    async def run_in_steps(self, work: Generator[None, None, _Result], peer: Peer = ANYBODY) -> _Result:
        """The same for work that yields between steps: each step is a turn."""
        while (result := await self.run(partial(_step, work), peer)) is None:
            pass
        return result[0]

    def _next_iteration(self, loop: asyncio.AbstractEventLoop) -> None:
        self._until = loop.time() + self._slice
        while self._due:
            _, work = self._due.pop()
            work()
            if loop.time() >= self._until:
                break
        self._in_iteration = True
        loop.call_soon(self._end_iteration, loop)

    def _end_iteration(self, loop: asyncio.AbstractEventLoop) -> None:
        self._in_iteration = False
        if self._due:
            self._next_iteration(loop)

    @property
    def _due(self) -> FairQueue[Callable[[], None]]:
        return self._first if self._first or self._only_first else self._waiting


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
    except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
        result.set_exception(error)


class WeightedSemaphore:
    """A byte-weighted semaphore: `most` bytes may be acquired at once; who does not fit waits, peers in turn (B8).

    A request for more than `most` is granted when nothing else is acquired, so that it does not wait for ever.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._acquired = 0
        self._sizes: dict[asyncio.Future[None], int] = {}
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def acquired(self) -> int:
        """How much is acquired now."""
        return self._acquired

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._queue)

    async def acquire(self, size: int, peer: Peer = ANYBODY) -> None:
        """Waits until `size` bytes are available and takes them, until `release`. A caller that is cancelled has taken nothing."""
        if not self._queue and self._fits(size):
            self._acquired += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._sizes[turn] = size
        self._queue.add(peer, turn)
        self._grant()  # round robin may have put this caller before those that do not fit
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.remove(peer, turn)
            if not turn.cancelled():
                self._acquired -= size  # it was granted in the same iteration as it was cancelled
            self._grant()
            raise
        finally:
            del self._sizes[turn]

    def release(self, size: int) -> None:
        """Returns bytes that were acquired."""
        self._acquired -= size
        self._grant()

    def _grant(self) -> None:
        while self._queue:
            _, turn = self._queue.peek()
            if not self._fits(self._sizes[turn]):
                return
            self._queue.pop()
            if not turn.cancelled():
                self._acquired += self._sizes[turn]
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._acquired or self._acquired + size <= self._most
