"""The generated default certificate, shared by all replicas through a Secret (decision 1), so that all of them serve the same bytes.

The first replica creates it, and the others read it. The first one that finds less than a month left replaces it. What belongs here:
agreeing on a certificate. What does not: making one (`xds.certificates.default_certificate`), and certificates of Ingresses.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from xds.certificates import default_certificate
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.faults import TRANSIENT, ChangedProblems, ProblemSink, UnconfirmedDenial, forbidden, is_transient, sentence_of
from xds.kube.apiserver.writes import ApiError, Json, create, read, replace
from xds.problem import Problem, Ref

_log = logging.getLogger("xds")

Pair = tuple[bytes, bytes]
"""PEM chain and PEM key."""

WITHIN = 15.0
"""Seconds until there is a certificate, shared or not."""
LOOK_EVERY, TRY_EVERY = 3600.0, 60.0
"""Seconds between two reads of the Secret, and between two attempts to share a certificate."""
CONFIRM_DENIAL = 5.0
"""Seconds for which an API server must respond with 403 before that is believed."""
_OURS = {"app.kubernetes.io/managed-by": "xds"}
_WITHOUT = "each replica serves a default certificate of its own"


def secret_name(election_id: str) -> str:
    """The name of the Secret: replicas of one election share a certificate."""
    return f"{election_id}-default-certificate"


class SharedCertificate:
    """The certificate in a Secret. `api` must be open. `report` takes the Problem where the certificate cannot be shared."""

    def __init__(self, api: Api, namespace: str, name: str, report: ProblemSink, *, within: float = WITHIN) -> None:
        self._api = api
        self._secret = Ref("Secret", namespace, name)
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._report = ChangedProblems(report)
        self._within = within
        self._denials = Denials(CONFIRM_DENIAL)
        self._held: Pair | None = None

    async def pairs(self) -> AsyncGenerator[Pair]:
        """First a certificate, within seconds in any case. Then each of its successors."""
        last: Pair | None = None
        while True:
            is_shared = await self._agree()
            assert self._held is not None
            if self._held != last:
                last = self._held
                yield last
            await asyncio.sleep(LOOK_EVERY if is_shared else TRY_EVERY)

    async def _agree(self) -> bool:
        """Use the certificate of the Secret, or, if that fails, the present one or a new one. Returns whether it is shared."""
        problem: Problem | None = None
        try:
            async with asyncio.timeout(self._within):
                pauses = wait_random_exponential(multiplier=0.1, max=2.0)
                problem = await AsyncRetrying(wait=pauses, retry=retry_if_exception(is_transient), reraise=True)(self._try)
        except ApiError as error:
            problem = self._denial(error)
        except TRANSIENT as error:
            problem = Problem(self._secret, "", "not-shared", f"It could not be read or made in time, so {_WITHOUT}.")
            _log.debug("%s: %s", self._secret, sentence_of(self._api, error))
        if self._held is None:
            self._held = await asyncio.to_thread(default_certificate.make)
        self._report(str(self._secret), (problem,) if problem else ())
        return problem is None

    async def _try(self) -> Problem | None:
        """`_once`, but it raises UnconfirmedDenial for a 403 that is not believed yet."""
        try:
            problem = await self._once()
        except ApiError as error:
            if error.status == 403 and not self._denials.denied("", time.monotonic()):
                raise UnconfirmedDenial from error
            raise
        self._denials.allowed("")
        return problem

    async def _once(self) -> Problem | None:
        """Read the Secret, or create it. Raises ApiError, with 409 where another replica was first."""
        found = await read(self._api, f"{self._collection}/{self._secret.name}")
        pair = _pair(found)
        if pair is not None and await asyncio.to_thread(default_certificate.usable, *pair):
            self._held = pair
            return None
        labels = found["metadata"].get("labels") or {} if found else _OURS
        if not _OURS.items() <= labels.items():
            sentence = (
                f"It holds no certificate that is valid for another month. It was not made by xds, so it is not overwritten; {_WITHOUT}."
            )
            return Problem(self._secret, "", "not-ours", sentence)
        mine = self._held
        if mine is None or not await asyncio.to_thread(default_certificate.usable, *mine):
            mine = await asyncio.to_thread(default_certificate.make)
        await self._write(found, mine)
        self._held = mine
        _log.info("%s has a new default certificate", self._secret)
        return None

    async def _write(self, found: Json | None, pair: Pair) -> None:
        body: dict[str, Any] = found or {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"namespace": self._secret.namespace, "name": self._secret.name, "labels": _OURS},
        }
        pems = {"tls.crt": base64.b64encode(pair[0]).decode(), "tls.key": base64.b64encode(pair[1]).decode()}
        body["data"] = {**(body.get("data") or {}), **pems}  # `xds.replicas.shared_record` has its record there as well
        if found is None:
            await create(self._api, self._collection, body)
        else:  # with the resourceVersion that was read, so that of two replicas that renew it one succeeds
            await replace(self._api, f"{self._collection}/{self._secret.name}", body)

    def _denial(self, error: ApiError) -> Problem:
        if error.status == 403:
            return forbidden("get, create or update", "secrets", self._secret, _WITHOUT)
        return Problem(self._secret, "", "not-shared", f"{error} So {_WITHOUT}.")


def _pair(found: Json | None) -> Pair | None:
    """The content of the Secret, if it has any."""
    data = (found or {}).get("data") or {}
    try:
        return base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"])
    except (KeyError, TypeError, ValueError):
        return None
