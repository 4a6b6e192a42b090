"""What replicas tell each other of what Envoy refuses, so that none of them searches for what another one has found (decision 1).

It stands beside the shared default certificate, in the same Secret: the certificates that are kept are in it. What belongs here: reading it
every few seconds, and writing it when it is another. What does not: what it says (`xds.units.record`).
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
"""Seconds between two looks."""
KEY = "held.json"
MOST = 700_000
"""Bytes; an API server takes an object of about 1 MB, and base64 makes four of three."""


class SharedRecord:
    """The record of all replicas. `name` is that of the Secret, which is made by `SharedCertificate`; `api` must be open.

    `tell` takes the Problem where what is to be shared cannot be written.
    """

    def __init__(self, api: Api, namespace: str, name: str, tell: ProblemSink, *, every: float = EVERY) -> None:
        self._api = api
        self._secret = Ref("Secret", namespace, name)
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self._tell = ChangedProblems(tell)
        self._every = every
        self._mine: bytes | None = None
        self._told = b""
        self._due = asyncio.Event()

    def write(self, body: bytes) -> None:
        """This is to be shared from now on. Whoever calls it has learnt from all that `bodies` has given."""
        self._mine = body
        self._due.set()

    async def now(self) -> bytes:
        """What is shared at this moment; nothing where there is nothing, or no answer within `every` seconds."""
        try:
            async with asyncio.timeout(self._every):
                return _body(await read(self._api, self._path))
        except (ApiError, *TRANSIENT) as wrong:
            _log.debug("%s: %s", self._secret, sentence_of(self._api, wrong))
            return b""

    async def bodies(self) -> AsyncGenerator[bytes]:
        """What is shared, whenever another replica has changed it, as long as somebody asks."""
        while True:
            try:
                found = await read(self._api, self._path)
                body = _body(found)
                if body and body not in (self._mine, self._told):
                    self._told = body
                    yield body  # who asks may say something else of its own now, with what it has learnt
                self._complain(await self._agree(found, body))
            except ApiError as refused:
                if refused.status != 409:  # somebody was faster, and is to be read first
                    self._complain(str(refused))
            except TRANSIENT as wrong:
                _log.debug("%s: %s", self._secret, sentence_of(self._api, wrong))
            await self._wait()

    async def _agree(self, found: Json | None, body: bytes) -> str:
        """Write what this replica says where that is another thing than what is there, in the version that was read.

        Returns why that cannot be, as a sentence; "" where it can.
        """
        if found is None or self._mine is None or self._mine == body:
            return ""
        if len(self._mine) > MOST:
            return f"What Envoy refuses takes {len(self._mine)} bytes, more than a Secret holds."
        found["data"] = {**(found.get("data") or {}), KEY: base64.b64encode(self._mine).decode()}
        await replace(self._api, self._path, found)
        return ""

    def _complain(self, why: str) -> None:
        """Why it cannot be shared; "" where it can."""
        sentence = f"{why} So each replica finds out for itself what Envoy refuses, and does so anew after a restart."
        self._tell(self._place, (Problem(self._secret, f"data[{KEY}]", "not-shared", sentence),) if why else ())

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
    """What a Secret holds of it; nothing where that is no base64."""
    try:
        return base64.b64decode(((found or {}).get("data") or {}).get(KEY) or "")
    except (TypeError, ValueError):
        return b""
