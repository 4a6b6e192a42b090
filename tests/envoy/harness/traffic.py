"""Traffic that goes on while a test changes things, and what a change must not do to an Envoy."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Self

from examples.apps import Address
from tests.envoy.harness.envoy import Envoy
from tests.envoy.harness.http1 import Http1
from tests.envoy.harness.tls import Tls
from tests.envoy.harness.waiting import wait_until

REQUESTS_PER_CONNECTION = 10
PAUSE = 0.003
"""Seconds between two requests of one client, so that four of them leave the machine something to work with."""

DISTURBANCES = (
    r"^listener_manager\.(listener_modified|listener_in_place_updated|listener_removed|total_filter_chains_draining|total_listeners_draining)$"
    r"|update_rejected$|downstream_cx_drain_close$"
    r"|^runtime\.deprecated_feature_use$|^server\.(wip_protos|dynamic_unknown_fields|static_unknown_fields)$"
)
"""Statistics that stay at 0 while hosts, routes, clusters and endpoints change.

No listener is touched and no connection drained; nothing is rejected; nothing is used that is deprecated, unfinished or unknown.
"""


async def disturbances(envoy: Envoy) -> dict[str, int]:
    """Return those of DISTURBANCES that are not 0."""
    found = await envoy.stats(DISTURBANCES.replace("|", "%7C").replace("^", "%5E").replace("\\", "%5C"))
    missing = {"listener_manager.listener_modified", "listener_manager.lds.update_rejected", "server.wip_protos"} - found.keys()
    assert not missing, f"Envoy does not count {missing}"
    return {name: value for name, value in found.items() if value}


class Traffic:
    """Requests to one URL for the length of a block: some clients, each one request after the other, and again and again a new connection.

    `seen` has (status, name of the HttpApp) of every answer so far in order; a request without an answer is (0, what went wrong).
    """

    def __init__(self, address: Address, target: str = "/", *, host: str, clients: int = 4, tls: Tls | None = None) -> None:
        self.seen: list[tuple[int, str]] = []
        self._address = address
        self._target = target
        self._host = host
        self._clients = clients
        self._tls = tls
        self._ends = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        await self.flows()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ends = True
        await asyncio.gather(*self._tasks)

    def answers(self, since: int = 0) -> dict[tuple[int, str], int]:
        """Count the answers, from one of these numbers on (`len(seen)` at some moment)."""
        return dict(Counter(self.seen[since:]))

    async def flows(self, count: int = 40) -> None:
        """Wait until so many requests that begin after now were answered."""
        enough = len(self.seen) + count + self._clients

        async def look() -> bool:
            return len(self.seen) >= enough

        await wait_until(look, f"{count} more answers")

    async def until_answered(self, by: str) -> None:
        """Wait until all clients get their answers from this HttpApp."""

        async def look() -> bool:
            last = self.seen[-4 * self._clients :]
            return len(last) == 4 * self._clients and {app for _, app in last} == {by}

        await wait_until(look, f"all answers to come from {by}")

    async def _client(self) -> None:
        while not self._ends:
            try:
                async with await Http1.open(self._address, tls=self._tls) as connection:
                    for _ in range(REQUESTS_PER_CONNECTION):
                        answer = await connection.request(target=self._target, host=self._host)
                        self.seen.append((answer.status, answer.app))
                        await asyncio.sleep(PAUSE)
                        if self._ends or answer.header("connection") == "close":
                            break
            except (OSError, EOFError) as error:
                self.seen.append((0, repr(error)))
                await asyncio.sleep(PAUSE)
