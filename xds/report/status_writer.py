"""Writes addresses into the status of Ingresses: each one that differs, once, some of them concurrently.

What belongs here: requests, their order and retries. What does not: which addresses (`xds.report.status_addresses`), and which replica
writes (`xds.replicas.election`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from xds.kube.apiserver.api import Api
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.faults import TRANSIENT, ProblemSink, UnconfirmedDenial, WritePauses, forbidden, is_transient, sentence_of
from xds.kube.apiserver.writes import ApiError, patch
from xds.kube.objects import Ingress
from xds.problem import Ref
from xds.report.status_addresses import Addresses, differ, entries

_log = logging.getLogger("xds")

AT_ONCE = 16
"""Concurrent requests."""
ATTEMPTS = 6
"""Attempts in a row. A 403 is retried until it is believed. What still fails is retried by `look_again`."""
_COMPLAIN_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class _Written:
    """Our write to the version `basis`, which the World still has: the result is this `version` with these addresses."""

    basis: str
    version: str
    addresses: Addresses


class StatusWriter:
    """`current` returns the known Ingress, and None if its status is not ours to write.

    Each write has the resourceVersion of the known Ingress. So it fails with a conflict if the Ingress has meanwhile been given to another
    controller, or was replaced by another one. `wanted` is None until the addresses are known.
    """

    def __init__(self, api: Api, current: Callable[[Ref], Ingress | None], report: ProblemSink, pauses: WritePauses | None = None) -> None:
        self.wanted: Addresses | None = None
        self._api = api
        self._current = current
        self._report = report
        self._pauses = pauses or WritePauses()
        self._queue: asyncio.Queue[Ref] = asyncio.Queue()
        self._queued: set[Ref] = set()
        self._busy: set[Ref] = set()
        self._written: dict[Ref, _Written] = {}
        self._failed: set[Ref] = set()
        self._denials = Denials(self._pauses.confirm_denial)
        self._denied: set[str] = set()
        self._reported: set[str] = set()
        self._complained = -math.inf

    def look(self, which: Iterable[Ref]) -> None:
        """Queue these: their status may differ from `wanted`."""
        for each in which:
            if each not in self._queued:
                self._queued.add(each)
                if each not in self._busy:
                    self._queue.put_nowait(each)

    def look_again(self) -> None:
        """Retry what could not be written."""
        self._denied.clear()
        failed, self._failed = self._failed, set()
        self.look(failed)

    async def settled(self) -> None:
        """Wait until the queue is empty."""
        await self._queue.join()

    async def run(self) -> None:
        """Write, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            which = await self._queue.get()
            self._queued.discard(which)
            self._busy.add(which)
            await self._update(which)
            self._busy.discard(which)
            if which in self._queued:
                self._queue.put_nowait(which)
            self._queue.task_done()
            await asyncio.sleep(0)  # the event loop runs others, even where thousands need no write

    async def _update(self, which: Ref) -> None:
        """Write the status of one Ingress, with retries."""
        attempts = AsyncRetrying(stop=_is_final, wait=self._pause, retry=retry_if_exception(is_transient), reraise=True)
        try:
            await attempts(self._write, which)
        except (ApiError, *TRANSIENT) as error:
            status = error.status if isinstance(error, ApiError) else 0
            if status == 404:
                return  # deleted; the watch will report it
            self._failed.add(which)
            if status == 403:
                self._denied.add(which.namespace)
                self._report_denied(self._reported | {which.namespace})
            else:
                self._complain(which, sentence_of(self._api, error))
        except Exception:  # noqa: BLE001 - one Ingress must not stop the others
            _log.exception("internal error while the status of %s was written; please report it", which)

    async def _write(self, which: Ref) -> None:
        found = self._current(which)
        if found is None or self.wanted is None:
            self._written.pop(which, None)
            return
        version, addresses = self._known(which, found)
        if not differ(addresses, self.wanted):
            return
        if which.namespace in self._denied:
            self._failed.add(which)
            return
        wanted = self.wanted
        path = f"/apis/networking.k8s.io/v1/namespaces/{which.namespace}/ingresses/{which.name}/status"
        body = {"metadata": {"resourceVersion": version}, "status": {"loadBalancer": {"ingress": entries(wanted)}}}
        try:
            answer = await patch(self._api, path, body)
        except ApiError as error:
            if error.status == 403 and not self._denials.denied(which.namespace, time.monotonic()):
                raise UnconfirmedDenial from error
            raise
        self._denials.allowed(which.namespace)
        self._written[which] = _Written(found.meta.version, str(answer["metadata"]["resourceVersion"]), wanted)
        self._report_denied(self._reported - {which.namespace})

    def _known(self, which: Ref, found: Ingress) -> tuple[str, tuple[str, ...]]:
        """Version and addresses. Our own write counts before the watch has reported it."""
        written = self._written.get(which)
        if written is not None and written.basis == found.meta.version:
            return written.version, written.addresses
        self._written.pop(which, None)
        return found.meta.version, found.addresses

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        least = self._pauses.throttled if isinstance(error, ApiError) and error.status == 429 else 0.0
        return max(least, wait_random_exponential(multiplier=self._pauses.first, max=self._pauses.longest)(state))

    def _report_denied(self, namespaces: set[str]) -> None:
        """One Problem a namespace, reported only on a change."""
        if namespaces != self._reported:
            self._reported = namespaces
            without = "Ingresses there do not show where they can be reached"
            self._report(
                "status", tuple(forbidden("patch", "ingresses/status", Ref("Namespace", "", n), without) for n in sorted(namespaces))
            )

    def _complain(self, which: Ref, why: str) -> None:
        """Log it, at most every 30 s: an API server that is away fails every write."""
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            _log.warning("the status of %s was not written: %s", which, why)


def _is_final(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return state.attempt_number >= ATTEMPTS and not isinstance(error, UnconfirmedDenial)
