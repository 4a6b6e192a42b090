"""Many clients at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tests.envoy.harness.process import raise_file_limit

OPENING = 200
"""How many connect at the same time; more would only overflow the queues of the kernel."""


class Closable(Protocol):
    """A client that can be closed."""

    async def close(self) -> None:
        """Close it."""


Client = TypeVar("Client", bound=Closable)
Result = TypeVar("Result")


async def load(
    count: int,
    open_one: Callable[[], Awaitable[Client]],
    use: Callable[[Client, int], Awaitable[Result]],
) -> list[Result | BaseException]:
    """Open `count` clients, then use all of them at the same time (`use` gets a number from 0), then close them.

    Returns what each use returned, or its exception. Raises AssertionError where this machine does not allow that many open files (a client
    and a backend in this process take one each), and whatever stops a client from being opened.
    """
    allowed = raise_file_limit()
    assert allowed > 2 * count + 500, f"{count} clients need more open files than the {allowed} that are allowed here (ulimit -Hn)"
    gate = asyncio.Semaphore(OPENING)

    clients: list[Client] = []

    async def opened() -> None:
        async with gate:
            clients.append(await open_one())

    try:
        await asyncio.gather(*(opened() for _ in range(count)))
        return await asyncio.gather(*(use(client, number) for number, client in enumerate(clients)), return_exceptions=True)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
