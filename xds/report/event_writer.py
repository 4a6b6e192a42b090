"""Writes Events about Ingresses, one after the other, within their rate limits.

`xds.report.events` decides which ones, and when.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Iterable
from typing import Any

from xds.kube.apiserver.api import Api
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.faults import TRANSIENT, ProblemSink, WritePauses, forbidden
from xds.kube.apiserver.writes import ApiError, create, patch
from xds.kube.objects import Ingress
from xds.problem import Problem, Ref, Severity
from xds.report.events import Create, Event, EventRecorder, Patch, Throttled, scheduled, warning

_LOOK_EVERY = 60.0
"""Seconds between two checks for lasting Problems."""
_TURN = 500
"""Problems that are compared before the event loop may run something else."""


class EventWriter:
    """`claimed` returns the known Ingress, and None if it is not of our class. `pod` is the reporting instance."""

    def __init__(self, api: Api, claimed: Callable[[Ref], Ingress | None], pod: str, report: ProblemSink, pauses: WritePauses) -> None:
        self._api = api
        self._claimed = claimed
        self._pod = pod
        self._report = report
        self._pauses = pauses
        self._denials = Denials(pauses.confirm_denial)
        self._recorder = EventRecorder(time.monotonic())
        self._problems: Iterable[Problem] = ()
        self._warned: dict[Problem, Event] = {}
        self._others: set[Ref] = set()
        self._is_judged = False
        self._remind_at = time.monotonic() + _LOOK_EVERY
        self._news = asyncio.Event()

    def judged(self, problems: Iterable[Problem]) -> None:
        """All present Problems."""
        self._problems, self._is_judged = problems, True
        self._news.set()

    def changed(self, which: Iterable[Ref]) -> None:
        """These Ingresses have changed, or belong to another controller now."""
        self._others.update(which)
        self.judged(self._problems)

    def taken_over(self, which: Ref, uid: str) -> None:
        """An Ingress is ours now."""
        self._recorder.happened(scheduled(which, uid))
        self._news.set()

    def gone(self, which: Ref) -> None:
        """An Ingress was deleted."""
        self._recorder.forget(which)

    async def run(self) -> None:
        """Write, until cancelled."""
        while True:
            self._news.clear()
            if self._is_judged:
                self._is_judged = False
                await self._compare()
            if time.monotonic() >= self._remind_at:
                self._remind_at = time.monotonic() + _LOOK_EVERY
                self._recorder.remind(time.monotonic())
            match self._recorder.next(time.monotonic()):
                case None:
                    await wait(self._news, _LOOK_EVERY)
                    await asyncio.sleep(self._pauses.debounce)
                case Throttled(seconds):
                    await asyncio.sleep(seconds)
                case action:
                    await self._write(action)

    async def _compare(self) -> None:
        """Compare the present Problems with those that have Events. Notes have none: they are for `xds check`."""
        others, self._others = self._others, set()
        now: dict[Problem, Event] = {}
        for number, problem in enumerate(self._problems):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if problem.about.kind != "Ingress" or problem.severity is Severity.NOTE:
                continue
            current = self._warned.get(problem)
            if current is None or problem.about in others or not current.message.endswith(problem.sentence):
                found = self._claimed(problem.about)
                if found is None or not found.uid:
                    continue
                event = warning(problem, found.uid)
                if event != current:
                    self._recorder.happened(event)
                current = event
            now[problem] = current
        for problem in self._warned.keys() - now.keys():
            self._recorder.over(self._warned[problem].name)
        self._warned = now

    async def _write(self, action: Create | Patch) -> None:
        event = action.event
        collection = f"/api/v1/namespaces/{event.about.namespace}/events"
        try:
            if isinstance(action, Create):
                found = await create(self._api, collection, _created(event, self._pod))
            else:
                found = await patch(self._api, f"{collection}/{event.name}", _patched(action))
            self._recorder.written(event, int(found.get("count") or 1), time.monotonic())
            self._denials.allowed(event.about.namespace)
            self._report(f"events {event.about.namespace}", ())
        except ApiError as error:
            self._rejected(action, error)
        except TRANSIENT:
            self._recorder.failed(event, time.monotonic(), answered=False)

    def _rejected(self, action: Create | Patch, error: ApiError) -> None:
        event, now = action.event, time.monotonic()
        if error.status == 409 and isinstance(action, Create):
            self._recorder.exists(event)
        elif error.status == 404 and isinstance(action, Patch):
            self._recorder.missing(event)
        elif error.status in (401, 409, 429) or error.status >= 500:
            self._recorder.failed(event, now, answered=error.status >= 500)
        elif error.status != 403 or "being terminated" in str(error):  # nothing can be created in a namespace that is being deleted
            self._recorder.rejected(event, now)
        elif not self._denials.denied(event.about.namespace, now):
            self._recorder.failed(event, now, answered=False)
        else:
            self._recorder.rejected(event, now)
            verb = "create" if isinstance(action, Create) else "patch"
            about = Ref("Namespace", "", event.about.namespace)
            problem = forbidden(verb, "events", about, "Problems of Ingresses there are not written as Events")
            self._report(f"events {event.about.namespace}", (problem,))


async def wait(news: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most for so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        pass


def _created(event: Event, pod: str) -> dict[str, Any]:
    """An Event (core/v1) about an Ingress."""
    now = _now()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": event.about.namespace, "name": event.name},
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "namespace": event.about.namespace,
            "name": event.about.name,
            "uid": event.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "xds"},
        "reportingComponent": "xds",
        "reportingInstance": pod,
    }


def _patched(action: Patch) -> dict[str, Any]:
    """The body of a PATCH. Without a count, it leaves an equal Event as it is: for an API server, a patch without a change is no write."""
    body: dict[str, Any] = {"message": action.event.message, "reason": action.event.reason, "type": action.event.type}
    return body | {"count": action.count, "lastTimestamp": _now()} if action.count else body


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
