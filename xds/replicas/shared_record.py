"""The shared record of resources that Envoy rejects, so that no replica searches for what another one has found (decision 1).

It is in the Secret of the shared default certificate, because it has private keys as well: those of held certificates. What belongs here:
reading it every few seconds, and writing it when it changes. What does not: its content (`xds.units.record`).
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator

from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import TRANSIENT, ChangedProblems, ProblemSink, sentence_of
from xds.kube.apiserver.writes import ApiError, Json, read, replace
from xds.problem import Problem, Ref

_log = logging.getLogger("xds")
EVERY = 5.0
"""Seconds between two reads."""
KEY = "held.json"
MOST = 700_000
"""Bytes of the record. An API server accepts an object of about 1 MB, and base64 adds a third."""


class SharedRecord:
    """The record of all replicas. `name` is that of the Secret, which `SharedCertificate` creates. `api` must be open.

    `report` takes the Problem where the record cannot be written.
    """

    def __init__(self, api: Api, namespace: str, name: str, report: ProblemSink, *, every: float = EVERY) -> None:
        self._api = api
        self._secret = Ref("Secret", namespace, name)
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self._report = ChangedProblems(report)
        self._every = every
        self._mine: bytes | None = None
        self._last = b""
        self._due = asyncio.Event()

    def write(self, body: bytes) -> None:
        """Share this record from now on. It must contain all that `bodies` has returned."""
        self._mine = body
        self._due.set()

    async def now(self) -> bytes:
        """The shared record. It is empty where there is none, or no response within `every` seconds."""
        try:
            async with asyncio.timeout(self._every):
                return _body(await read(self._api, self._path))
        except (ApiError, *TRANSIENT) as error:
            _log.debug("%s: %s", self._secret, sentence_of(self._api, error))
            return b""

    async def bodies(self) -> AsyncGenerator[bytes]:
        """The shared record, each time that another replica has changed it."""
        while True:
            try:
                found = await read(self._api, self._path)
                body = _body(found)
                if body and body not in (self._mine, self._last):
                    self._last = body
                    yield body  # before the write below: the caller may merge it into its own record first
                self._complain(await self._agree(found, body))
            except ApiError as error:
                if error.status != 409:  # another replica was first, and its record is read next
                    self._complain(str(error))
            except TRANSIENT as error:
                _log.debug("%s: %s", self._secret, sentence_of(self._api, error))
            await self._wait()

    async def _agree(self, found: Json | None, body: bytes) -> str:
        """Write the own record if it differs from the shared one, in the version that was read.

        Returns why that is impossible, as a sentence, and "" if it is possible.
        """
        if found is None or self._mine is None or self._mine == body:
            return ""
        if len(self._mine) > MOST:
            return f"The record of what Envoy rejects has {len(self._mine)} bytes, more than a Secret can hold."
        found["data"] = {**(found.get("data") or {}), KEY: base64.b64encode(self._mine).decode()}
        await replace(self._api, self._path, found)
        return ""

    def _complain(self, why: str) -> None:
        """Report why the record cannot be shared. "" withdraws the Problem."""
        sentence = f"{why} So each replica searches by itself for what Envoy rejects, and starts again after a restart."
        self._report(self._place, (Problem(self._secret, f"data[{KEY}]", "not-shared", sentence),) if why else ())

    @property
    def _place(self) -> str:
        return f"{self._secret} {KEY}"

    async def _wait(self) -> None:
        self._due.clear()
        try:
            async with asyncio.timeout(self._every):
                await self._due.wait()
        except TimeoutError:
            pass


def _body(found: Json | None) -> bytes:
    """The record in a Secret. It is empty where there is none, or it is no base64."""
    try:
        return base64.b64decode(((found or {}).get("data") or {}).get(KEY) or "")
    except (TypeError, ValueError):
        return b""
