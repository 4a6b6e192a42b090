"""Writes Events about Ingresses, one after the other, as many as may be.

Which ones, and when, is decided in `xds.report.events`.
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
"""Seconds between two looks at what lasts."""
_TURN = 500
"""Problems that are compared before others have a turn."""


class EventWriter:
    """`claimed` gives an Ingress as it is known now, and None for one that is none of our class; `pod` is who says it."""

    def __init__(self, api: Api, claimed: Callable[[Ref], Ingress | None], pod: str, tell: ProblemSink, pauses: WritePauses) -> None:
        self._api = api
        self._claimed = claimed
        self._pod = pod
        self._tell = tell
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
        """All Problems that there are now."""
        self._problems, self._is_judged = problems, True
        self._news.set()

    def changed(self, which: Iterable[Ref]) -> None:
        """These Ingresses are other ones than before, or somebody else's."""
        self._others.update(which)
        self.judged(self._problems)

    def taken_over(self, which: Ref, uid: str) -> None:
        """An Ingress is ours now."""
        self._recorder.happened(scheduled(which, uid))
        self._news.set()

    def gone(self, which: Ref) -> None:
        """An Ingress does not exist any more."""
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
        """The Problems that there are, with those that were told. What is only worth knowing is for `xds check`."""
        others, self._others = self._others, set()
        now: dict[Problem, Event] = {}
        for number, problem in enumerate(self._problems):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if problem.about.kind != "Ingress" or problem.severity is Severity.NOTE:
                continue
            told = self._warned.get(problem)
            if told is None or problem.about in others or not told.message.endswith(problem.sentence):
                found = self._claimed(problem.about)
                if found is None or not found.uid:
                    continue
                event = warning(problem, found.uid)
                if event != told:
                    self._recorder.happened(event)
                told = event
            now[problem] = told
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
            self._tell(f"events {event.about.namespace}", ())
        except ApiError as refused:
            self._refused(action, refused)
        except TRANSIENT:
            self._recorder.failed(event, time.monotonic(), answered=False)

    def _refused(self, action: Create | Patch, refused: ApiError) -> None:
        event, now = action.event, time.monotonic()
        if refused.status == 409 and isinstance(action, Create):
            self._recorder.exists(event)
        elif refused.status == 404 and isinstance(action, Patch):
            self._recorder.missing(event)
        elif refused.status in (401, 409, 429) or refused.status >= 500:
            self._recorder.failed(event, now, answered=refused.status >= 500)
        elif refused.status != 403 or "being terminated" in str(refused):  # nothing can be made in a namespace that goes
            self._recorder.refused(event, now)
        elif not self._denials.denied(event.about.namespace, now):
            self._recorder.failed(event, now, answered=False)
        else:
            self._recorder.refused(event, now)
            verb = "create" if isinstance(action, Create) else "patch"
            about = Ref("Namespace", "", event.about.namespace)
            problem = forbidden(verb, "events", about, "what is wrong with an Ingress there is not told as an Event")
            self._tell(f"events {event.about.namespace}", (problem,))


async def wait(news: asyncio.Event, seconds: float) -> None:
    """Wait for news, but not for longer."""
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
    """What changes nothing is no write to an API server: without a count, an Event that says the same already stays as it is."""
    body: dict[str, Any] = {"message": action.event.message, "reason": action.event.reason, "type": action.event.type}
    return body | {"count": action.count, "lastTimestamp": _now()} if action.count else body


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
