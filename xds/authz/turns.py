"""Turns for expensive verifications: they run in threads, a few at a time, and no client's guesses stop those of others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

MOST_OF_ONE = 16
"""Verifications of one key that may wait."""
MOST = 1_000
"""Verifications that may wait."""


class Overloaded(Exception):
    """Too many verifications wait."""


class _Job(NamedTuple):
    work: Callable[[], bool]
    done: asyncio.Future[bool]


class Turns:
    """`at_once` verifications run at a time, one of each key; the keys that wait take turns. Belongs to one event loop."""

    def __init__(self, at_once: int) -> None:
        self._threads = ThreadPoolExecutor(at_once, "verify")
        self._free = at_once
        self._waiting: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._running: set[Hashable] = set()
        self._number = 0

    async def run(self, key: Hashable, work: Callable[[], bool]) -> bool:
        """The result of `work`, run in a thread when its turn comes. Raises Overloaded where too many wait."""
        mine = self._waiting.get(key, ())
        if self._number >= MOST or len(mine) >= MOST_OF_ONE:
            raise Overloaded
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(key, deque()).append(job)
        self._number += 1
        self._start()
        return await job.done

    def close(self) -> None:
        """Start nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Start what may run. Of the keys that wait the one that has waited longest comes first."""
        for key in [key for key in self._waiting if key not in self._running][: self._free]:
            jobs = self._waiting.pop(key)
            job = jobs.popleft()
            self._number -= 1
            self._free -= 1
            self._running.add(key)
            if jobs:
                self._waiting[key] = jobs  # behind the others
            running = asyncio.get_running_loop().run_in_executor(self._threads, job.work)
            running.add_done_callback(lambda ended, key=key, job=job: self._ended(key, job, ended))  # type: ignore[misc]

    def _ended(self, key: Hashable, job: _Job, ended: asyncio.Future[bool]) -> None:
        self._free += 1
        self._running.discard(key)
        if not job.done.done():
            if ended.cancelled() or ended.exception() is not None:
                job.done.set_exception(Overloaded())
            else:
                job.done.set_result(ended.result())
        self._start()
