"""A candidate for the Lease: sends the requests of an Elector, and runs the work of a leader while it leads.

The decisions are in `xds.replicas.lease`.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from xds.kube.apiserver.api import Api
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.faults import TRANSIENT, ProblemSink, forbidden, sentence_of
from xds.kube.apiserver.writes import ApiError, Json, create, read, replace
from xds.problem import Problem, Ref
from xds.replicas.lease import Elector, Idle, LeaseRecord, Look, Take

_log = logging.getLogger("xds")
_RELEASE_TIMEOUT = 2.0
"""Seconds to release the Lease at the end."""


class Election:
    """One candidate for the Lease `namespace/name`. `identity` must be unique among processes; `ttl` is that of the Elector."""

    def __init__(self, api: Api, namespace: str, name: str, identity: str, ttl: float, report: ProblemSink) -> None:
        self._api = api
        self._lease = Ref("Lease", namespace, name)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._elector = Elector(identity, ttl, random.random)
        self._denials = Denials(self._elector.pause)
        self._report = report
        self._leading: asyncio.Task[None] | None = None

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run until cancelled, then release the Lease. `lead` runs while this is the leader, and is cancelled when the trust in it ends."""
        try:
            while True:
                match self._elector.next(time.monotonic()):
                    case Idle(seconds):
                        await asyncio.sleep(seconds)
                    case step:
                        await self._do(step)
                await self._follow(lead)
        finally:
            await self._stop_leading()
            await self._release()

    async def _follow(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start or stop leading, as the Elector has decided."""
        if self._leading is not None and self._leading.done():
            _log.error("internal error while leading; please report it", exc_info=self._leading.exception())
            self._leading = None
        if not self._elector.is_leader(time.monotonic()):  # also after a request that failed: trust ends by time alone (E1)
            await self._stop_leading()
        elif self._leading is None:
            _log.info("leader: %s writes status and Events (%s)", self._elector.identity, self._lease)
            self._leading = asyncio.create_task(lead(), name="lead")

    async def _stop_leading(self) -> None:
        if self._leading is not None:
            _log.info("no longer the leader: %s", self._elector.identity)
            self._leading.cancel()
            await asyncio.gather(self._leading, return_exceptions=True)
            self._leading = None

    async def _do(self, step: Look | Take) -> None:
        """One request.

        It times out when the next one would be due: an answer after that could only renew a Lease that is no longer trusted.
        """
        try:
            async with asyncio.timeout(self._elector.pause):
                if isinstance(step, Look):
                    found = await read(self._api, f"{self._collection}/{self._lease.name}")
                    self._elector.found(_record(found), _version(found), time.monotonic())
                else:
                    written = await self._write(step)
                    record = _record(written)
                    assert record is not None
                    self._elector.taken(record, _version(written), time.monotonic())
            self._denials.allowed(_verb(step))
            self._report(str(self._lease), ())
        except ApiError as error:
            if error.status in (404, 409) and isinstance(step, Take):  # certainly not written, unlike after a timeout
                self._elector.conflict(time.monotonic())
            else:
                self._elector.failed(time.monotonic())
            if error.status in (403, 404):
                self._complain(error, step)
        except TRANSIENT as error:
            self._elector.failed(time.monotonic())
            _log.debug("%s: %s", self._lease, sentence_of(self._api, error))
        except Exception:  # noqa: BLE001 - a candidate that stops is the worst outcome
            self._elector.failed(time.monotonic())
            _log.exception("internal error while %s was written; please report it", self._lease)

    def _complain(self, error: ApiError, step: Look | Take) -> None:
        verb = _verb(step)
        if error.status == 404 and verb != "create":
            return  # it was deleted meanwhile: the next request creates it
        if not self._denials.denied(verb, time.monotonic()):
            return
        without = "no status and no Events are written"
        if error.status == 403:
            problem = forbidden(verb, "leases", self._lease, without)
        else:
            sentence = f"There is no namespace {self._lease.namespace} for this Lease (--pod-namespace): {without}."
            problem = Problem(self._lease, "", "namespace-missing", sentence)
        self._report(str(self._lease), (problem,))

    async def _write(self, step: Take) -> Json:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._lease.namespace, "name": self._lease.name},
            "spec": {
                "holderIdentity": step.holder,
                "leaseDurationSeconds": step.seconds,
                "acquireTime": step.acquired or now,
                "renewTime": now,
                "leaseTransitions": step.transitions,
            },
        }
        if not step.version:
            return await create(self._api, self._collection, body)
        body["metadata"]["resourceVersion"] = step.version
        return await replace(self._api, f"{self._collection}/{self._lease.name}", body)

    async def _release(self) -> None:
        step = self._elector.release(time.monotonic())
        if step is None:
            return
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._write(step)
        except (ApiError, *TRANSIENT) as error:
            _log.debug("%s was not released: %s", self._lease, error)


def _verb(step: Look | Take) -> str:
    """The verb that a role must allow."""
    if isinstance(step, Look):
        return "get"
    return "update" if step.version else "create"


def _version(lease: Json | None) -> str:
    return str(lease["metadata"].get("resourceVersion") or "") if lease else ""


def _record(lease: Json | None) -> LeaseRecord | None:
    """The content of a Lease. A missing field is "" or 0."""
    if lease is None:
        return None
    spec: Json = lease.get("spec") or {}
    return LeaseRecord(
        str(spec.get("holderIdentity") or ""),
        int(spec.get("leaseDurationSeconds") or 0),
        str(spec.get("acquireTime") or ""),
        str(spec.get("renewTime") or ""),
        int(spec.get("leaseTransitions") or 0),
    )
