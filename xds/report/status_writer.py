"""Writes addresses into the status of Ingresses: into each that differs, once, some at a time.

What belongs here: requests, their order and repetition. What does not: which addresses (`xds.report.addresses`), and whose turn it is
to write (`xds.replicas.election`).
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
from xds.report.addresses import Addresses, differ, entries

_log = logging.getLogger("xds")

AT_ONCE = 16
"""Requests on their way at a time."""
ATTEMPTS = 6
"""In a row, but for 403, which is tried until it is believed; what fails still is tried again when somebody says so (`look_again`)."""
_COMPLAIN_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class _Written:
    """What we made of a `basis`, the version that the World still has: this `version` with these addresses."""

    basis: str
    version: str
    addresses: Addresses


class StatusWriter:
    """`current` gives an Ingress as it is known now, and None for one that is none of ours.

    Each write names the version of the Ingress that was looked at, so that it hits that Ingress and no other: one that became somebody
    else's meanwhile is left alone. `wanted` is None until it is known what to write.
    """

    def __init__(self, api: Api, current: Callable[[Ref], Ingress | None], tell: ProblemSink, pauses: WritePauses | None = None) -> None:
        self.wanted: Addresses | None = None
        self._api = api
        self._current = current
        self._tell = tell
        self._pauses = pauses or WritePauses()
        self._queue: asyncio.Queue[Ref] = asyncio.Queue()
        self._queued: set[Ref] = set()
        self._busy: set[Ref] = set()
        self._written: dict[Ref, _Written] = {}
        self._failed: set[Ref] = set()
        self._denials = Denials(self._pauses.confirm_denial)
        self._denied: set[str] = set()
        self._told: set[str] = set()
        self._complained = -math.inf

    def look(self, which: Iterable[Ref]) -> None:
        """These may differ from what they should say."""
        for each in which:
            if each not in self._queued:
                self._queued.add(each)
                if each not in self._busy:
                    self._queue.put_nowait(each)

    def look_again(self) -> None:
        """What could not be written is tried again."""
        self._denied.clear()
        failed, self._failed = self._failed, set()
        self.look(failed)

    async def settled(self) -> None:
        """Wait until there is nothing more to do, for now."""
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
            await self._bring(which)
            self._busy.discard(which)
            if which in self._queued:
                self._queue.put_nowait(which)
            self._queue.task_done()
            await asyncio.sleep(0)  # others have a turn, even where thousands need no write

    async def _bring(self, which: Ref) -> None:
        """One Ingress to what it should say."""
        attempts = AsyncRetrying(stop=_gives_up, wait=self._pause, retry=retry_if_exception(is_transient), reraise=True)
        try:
            await attempts(self._write, which)
        except (ApiError, *TRANSIENT) as wrong:
            status = wrong.status if isinstance(wrong, ApiError) else 0
            if status == 404:
                return  # gone; the watch will say so
            self._failed.add(which)
            if status == 403:
                self._denied.add(which.namespace)
                self._tell_denied(self._told | {which.namespace})
            else:
                self._complain(which, sentence_of(self._api, wrong))
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
        except ApiError as refused:
            if refused.status == 403 and not self._denials.denied(which.namespace, time.monotonic()):
                raise UnconfirmedDenial from refused
            raise
        self._denials.allowed(which.namespace)
        self._written[which] = _Written(found.meta.version, str(answer["metadata"]["resourceVersion"]), wanted)
        self._tell_denied(self._told - {which.namespace})

    def _known(self, which: Ref, found: Ingress) -> tuple[str, tuple[str, ...]]:
        """Version and addresses: what we wrote ourselves counts before the watch has told us of it."""
        written = self._written.get(which)
        if written is not None and written.basis == found.meta.version:
            return written.version, written.addresses
        self._written.pop(which, None)
        return found.meta.version, found.addresses

    def _pause(self, state: RetryCallState) -> float:
        wrong = state.outcome.exception() if state.outcome else None
        least = self._pauses.throttled if isinstance(wrong, ApiError) and wrong.status == 429 else 0.0
        return max(least, wait_random_exponential(multiplier=self._pauses.first, max=self._pauses.longest)(state))

    def _tell_denied(self, namespaces: set[str]) -> None:
        """One Problem a namespace, and only when that changes."""
        if namespaces != self._told:
            self._told = namespaces
            without = "Ingresses there do not show where they can be reached"
            self._tell(
                "status", tuple(forbidden("patch", "ingresses/status", Ref("Namespace", "", n), without) for n in sorted(namespaces))
            )

    def _complain(self, which: Ref, why: str) -> None:
        """Now and then, for an API server that is away is away for all of them."""
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            _log.warning("the status of %s was not written: %s", which, why)


def _gives_up(state: RetryCallState) -> bool:
    wrong = state.outcome.exception() if state.outcome else None
    return state.attempt_number >= ATTEMPTS and not isinstance(wrong, UnconfirmedDenial)
