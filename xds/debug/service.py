"""Our debug service: the state of a Subject as the messages of protos/xds/debug/v1/debug.proto, where each field is documented.

What does not belong here: gRPC. A method takes a request and returns a response, or yields them. It raises InvalidArgument, NotFound or
NotReady.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping

from xds.debug import v1
from xds.debug.descriptors import Method
from xds.debug.subject import Effect, Envoy, InvalidArgument, Subject
from xds.kube.current import has_come
from xds.problem import Place, Problem, Ref, Severity
from xds.protocol.discovery import Wire
from xds.server.progress import PlacedPart, Programmed, Publication, Rejection, Verb
from xds.snapshot import TYPES
from xds.units.traces import Asked
from xds.web.problems import feature_of

SERVICE = "xds.debug.v1.Debug"
METHODS: Mapping[str, Method] = {
    "Fleet": Method(v1.FleetRequest, v1.FleetResponse),
    "Problems": Method(v1.ProblemsRequest, v1.ProblemsResponse),
    "Explain": Method(v1.ExplainRequest, v1.ExplainResponse),
    "Programmed": Method(v1.ProgrammedRequest, v1.ProgrammedResponse),
    "ListProgrammed": Method(v1.ListProgrammedRequest, v1.ListProgrammedResponse),
    "History": Method(v1.HistoryRequest, v1.HistoryResponse),
    "Watch": Method(v1.WatchRequest, v1.WatchResponse, server_streams=True),
}
POLL_EVERY = 0.05
"""Seconds between two looks of a call that waits. Envoys may acknowledge thousands of times in a second: that must not wake each call."""
BELIEVE_AFTER = 2.0
"""Seconds for which a part must be held before a call that waits gives up: a search for a culprit holds innocent parts for a moment."""
LONGEST_WAIT = 3600.0
_USUAL_WAIT = 30.0
_MANY = 50
"""Envoys, or Problems, that are converted between two yields to other tasks."""
_WIRES = {Wire.SOTW: v1.Wire.STATE_OF_THE_WORLD, Wire.DELTA: v1.Wire.DELTA}
_SEVERITIES = {Severity.ERROR: v1.Severity.ERROR, Severity.WARNING: v1.Severity.WARNING, Severity.NOTE: v1.Severity.NOTE}
_VERBS = {Verb.ADDED: v1.Verb.ADDED, Verb.CHANGED: v1.Verb.CHANGED, Verb.REMOVED: v1.Verb.REMOVED}
_FOREIGN = {
    False: "belongs to another ingress class or an unwatched namespace",
    True: "is in no ConfigMap that --tcp-services-configmap or --udp-services-configmap names",
}
"""Why something that is there is not served, by whether it is an entry of a ConfigMap."""


class NotFound(LookupError):
    """There is no such object. The text is a sentence for the client."""


class NotReady(RuntimeError):
    """There is no Snapshot yet. The text is a sentence for the client."""


class Debug:
    """Responds for a Subject. `poll_every` and `believe_after` are POLL_EVERY and BELIEVE_AFTER, but for tests."""

    def __init__(self, subject: Subject, *, poll_every: float = POLL_EVERY, believe_after: float = BELIEVE_AFTER) -> None:
        self._subject = subject
        self._poll_every = poll_every
        self._believe_after = believe_after

    async def fleet(self, request: v1.FleetRequest) -> v1.FleetResponse:
        """Before there is a Snapshot as well: the response has what it waits for."""
        replica = self._subject.replica()
        found = v1.FleetResponse(
            replica=replica.name,
            version=replica.version,
            ready=self._subject.snapshot.ready,
            waiting=list(replica.waiting),
            staleness_seconds=dict(replica.staleness),
        )
        for type_url in TYPES:
            state = self._subject.snapshot[type_url]
            found.published.append(v1.Published(type_url=type_url, resources=len(state), version=state.version))
        for n, envoy in enumerate(self._subject.envoys()):
            if n % _MANY == _MANY - 1:
                await asyncio.sleep(0)
            if envoy.node is not None and request.node_id in ("", envoy.node.id):
                found.envoys.append(_envoy(envoy))
        return found

    async def problems(self, request: v1.ProblemsRequest) -> v1.ProblemsResponse:
        """Sorted by object, field and code."""
        about = Ref(request.kind, request.namespace, request.name)
        wanted = [p for p in await self._subject.problems() if all(w in ("", had) for w, had in zip(about, p.about, strict=True))]
        found = v1.ProblemsResponse()
        for n, problem in enumerate(sorted(wanted, key=lambda p: (p.about, p.field, p.code))):
            if n % _MANY == _MANY - 1:
                await asyncio.sleep(0)
            found.problems.append(_problem(problem))
        return found

    async def explain(self, request: v1.ExplainRequest) -> v1.ExplainResponse:
        """Raises InvalidArgument for a text that is no URL."""
        self._check_ready()
        explained = await self._subject.explain(request.url, request.method or "GET")
        waiting = [lacking.node for lacking in explained.programmed.lacking]
        nodes = sorted({envoy.node.id for envoy in self._subject.envoys() if envoy.node and envoy.node.id == envoy.node.envoy})
        return v1.ExplainResponse(
            json=json.dumps(explained.document, ensure_ascii=False),
            answered=bool(explained.document["answered"]),
            route=explained.route,
            virtual_host=explained.virtual_host,
            cluster=explained.cluster,
            node_ids=[node for node in nodes if node not in waiting],
            waiting_node_ids=waiting,
        )

    async def programmed(self, request: v1.ProgrammedRequest) -> v1.ProgrammedResponse:
        """Raises InvalidArgument, NotFound and NotReady. A call that waits waits for the object, or the Snapshot, to exist as well."""
        asked = _asked(request)
        seconds = request.timeout_seconds or _USUAL_WAIT
        if not 0 < seconds <= LONGEST_WAIT:
            raise InvalidArgument(f"timeout_seconds is more than 0 and at most {LONGEST_WAIT:g}, not {seconds:g}.")
        found: v1.ProgrammedResponse | None = None
        now = asyncio.get_running_loop().time
        held_since = math.inf
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds if request.wait else None):
                version = request.resource_version or (await self._subject.current(asked) if request.wait else "")
                while version is not None:
                    found = await self._read(asked, version)
                    held_since = min(held_since, now()) if found is not None and found.held else math.inf
                    if not request.wait or (found is not None and found.programmed) or now() - held_since >= self._believe_after:
                        break
                    await asyncio.sleep(self._poll_every)
        if found is None:
            self._check_ready()
            raise NotFound(f"{asked} is not served here: there is none, or it {_FOREIGN[bool(asked.entry)]}.")
        return found

    async def _read(self, asked: Asked, version: str) -> v1.ProgrammedResponse | None:
        effect = await self._subject.programmed(asked) if self._subject.snapshot.ready else None
        return None if effect is None else _programmed(effect, version)

    async def list_programmed(self, request: v1.ListProgrammedRequest) -> v1.ListProgrammedResponse:
        """Without the resources, which would be most of the answer."""
        self._check_ready()
        found = v1.ListProgrammedResponse()
        async for effect in self._subject.all_programmed(request.namespace):
            message = _programmed(effect, "")
            message.resources = []
            if not (request.unfinished and message.programmed):
                found.objects.append(message)
        return found

    async def history(self, request: v1.HistoryRequest) -> v1.HistoryResponse:
        """Newest first."""
        changes = self._subject.history()
        return v1.HistoryResponse(changes=[_change(change) for change in changes[: request.limit or len(changes)]])

    def watch(self, _: v1.WatchRequest) -> AsyncIterator[v1.WatchResponse]:
        """Each publication after this moment, without end, and again whenever its state changes while the history has it."""
        changes = self._subject.history()
        return self._watch_after(changes[0].number if changes else 0)

    async def _watch_after(self, last: int) -> AsyncIterator[v1.WatchResponse]:
        sent: dict[int, Publication] = {}
        while True:
            now = {change.number: change for change in reversed(self._subject.history()) if change.number > last}
            new = [change for number, change in now.items() if sent.get(number) != change]
            sent = now
            for change in new:
                yield v1.WatchResponse(change=_change(change))
            await asyncio.sleep(self._poll_every)

    def _check_ready(self) -> None:
        if not self._subject.snapshot.ready:
            waiting = " ".join(self._subject.replica().waiting)
            raise NotReady(f"there is no Snapshot yet{f': {waiting}' if waiting else ''}")


def _envoy(envoy: Envoy) -> v1.Envoy:
    assert envoy.node is not None
    return v1.Envoy(
        node_id=envoy.node.id,
        cluster=envoy.node.cluster,
        user_agent=envoy.node.agent,
        peer=envoy.peer,
        wire=_WIRES[envoy.wire],
        connected_since=envoy.since,
        only_type_url=envoy.only or "",
        types=[
            v1.EnvoyType(
                type_url=type_url,
                accepted_version=summary.accepted,
                nonces_in_flight=list(summary.nonces),
                wildcard=summary.wildcard,
                names=summary.names,
                rejection=None
                if summary.error is None
                else v1.Rejection(resources=[resource.name for resource in summary.rejected], error=summary.error),
                in_sync=summary.settled,
            )
            for type_url, summary in envoy.session.summaries.items()
        ],
    )


def _object(about: Ref) -> v1.ObjectReference:
    return v1.ObjectReference(kind=about.kind, namespace=about.namespace, name=about.name)


def _place(place: Place) -> v1.Place:
    return v1.Place(file=place.file, line=place.line, document=place.document)


def _problem(problem: Problem) -> v1.Problem:
    return v1.Problem(
        object=_object(problem.about),
        field=problem.field,
        code=problem.code,
        severity=_SEVERITIES[problem.severity],
        sentence=problem.sentence,
        place=_place(problem.place) if problem.place else None,
        feature=feature_of(problem),
    )


# Programmed


def _asked(request: v1.ProgrammedRequest) -> Asked:
    kind = request.kind or "Ingress"
    if kind not in ("Ingress", "ConfigMap"):
        raise InvalidArgument(f"kind is Ingress or ConfigMap, not {kind[:60]!r}.")
    if not request.namespace or not request.name:
        raise InvalidArgument(f"name the {kind} by namespace and name.")
    if bool(request.entry) != (kind == "ConfigMap"):
        raise InvalidArgument("entry is the port in the data of a ConfigMap: it is needed for one, and means nothing for an Ingress.")
    return Asked(Ref(kind, request.namespace, request.name), request.entry)


def _programmed(effect: Effect, version: str) -> v1.ProgrammedResponse:
    found = effect.programmed
    read = not version or has_come(effect.version, version)
    held = [f"{placed.part.resource}: {placed.held}" for placed in found.parts if placed.held is not None]
    return v1.ProgrammedResponse(
        object=_object(effect.asked.about),
        entry=effect.asked.entry,
        resource_version=effect.version,
        content_hash=_content(found),
        accepted=found.accepted if read else 0,
        envoys=found.envoys,
        waiting_node_ids=[lacking.node for lacking in found.lacking],
        rejections=[_rejection(rejection) for lacking in found.lacking for rejection in lacking.rejections],
        held="; ".join(dict.fromkeys(held)) if read else "",
        resources=[_resource(placed) for placed in found.parts],
        programmed=read and found.complete,
    )


def _content(found: Programmed) -> str:
    """64 bits, in hex."""
    placed = sorted((p.part.type_url, p.part.resource, p.part.piece or "", p.version or "") for p in found.parts)
    return hashlib.blake2b(repr(placed).encode(), digest_size=8).hexdigest()


def _resource(placed: PlacedPart) -> v1.ProgrammedResource:
    type_url, name, piece = placed.part
    return v1.ProgrammedResource(type_url=type_url, name=name, piece="" if piece is None else piece or "*", version=placed.version or "")


def _rejection(rejection: Rejection) -> v1.NodeRejection:
    return v1.NodeRejection(node_id=rejection.node, type_url=rejection.type_url, error=rejection.words)


# History


def _change(change: Publication) -> v1.Change:
    return v1.Change(
        number=change.number,
        time=change.at,
        causes=[v1.Cause(object=_object(c.about), resource_version=c.version, verb=_VERBS[c.verb]) for c in change.causes],
        causes_total=change.causes_total,
        resources=[v1.ChangedResources(type_url=t, names=list(d.names), total=d.total) for t, d in sorted(change.resources.items())],
        build_milliseconds=change.built * 1000,
        accepted_milliseconds=None if change.accepted is None else change.accepted * 1000,
        rejections=[_rejection(rejection) for rejection in change.rejections],
        rejections_total=change.rejected,
        waiting=change.waiting,
    )
