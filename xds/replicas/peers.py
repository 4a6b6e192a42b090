"""What the Envoys of the other replicas have. Each replica writes how far its own Envoys are into an annotation of one Lease.

Replicas share a Lease instead of sending each other requests. So they need no addresses, ports, certificates or network policies for each
other, and only two verbs on one more name. The last state of a replica is there even if it does not respond. What belongs here: that
Lease. What does not: counting the own Envoys (`xds.replicas.census`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from xds.kube.apiserver.api import Api
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.faults import TRANSIENT, ChangedProblems, ProblemSink, forbidden, sentence_of
from xds.kube.apiserver.writes import ApiError, Json, create, read, replace
from xds.problem import Ref

EVERY = 1.0
"""Seconds between two counts of the own Envoys. What was read of the others is reused for as long."""
BEAT = 10.0
"""Seconds after which an unchanged count is written again."""
ALIVE = 40.0
"""Seconds after which a replica that has written nothing counts as gone. They allow for clocks of nodes that differ."""
REMOVED_AFTER = 600.0
"""Seconds after which others remove the annotation of a replica that was killed."""
_RELEASE_TIMEOUT = 2.0
_LAST_ATTEMPTS = 5
_CONFIRM_DENIAL = 5.0
_PREFIX = "fleet.xds-ingress/"
_WITHOUT = "Envoys of other replicas are not counted where an object is programmed"
_log = logging.getLogger("xds")


class Reached(NamedTuple):
    """The resourceVersions of Ingresses, and of ConfigMaps, up to which an Envoy has everything."""

    ingresses: int = 0
    config_maps: int = 0


Counts = Mapping[Reached, int]
"""The number of Envoys by what they have reached."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another replica and its Envoys."""

    replica: str
    counts: Counts

    @property
    def envoys(self) -> int:
        """The number of connected Envoys."""
        return sum(self.counts.values())

    def lacking(self, kind: str, version: int) -> int:
        """The number of Envoys that do not have an object of this kind as of this resourceVersion."""
        which = 0 if kind == "Ingress" else 1
        return sum(count for reached, count in self.counts.items() if reached[which] < version)


class _Annotation(msgspec.Struct):
    """The annotation: `have` lists (Ingresses, ConfigMaps, Envoys)."""

    replica: str
    at: datetime
    have: list[tuple[int, int, int]]


def fleet_name(election_id: str) -> str:
    """The name of the Lease."""
    return f"{election_id}-fleet"


class Peers:
    """The Lease `namespace/name`, as one replica writes and reads it. `api` must be open.

    `identity` is a name that no other replica has, `pod` the one for people. `report` gets the Problem where the role forbids it. `clock`
    is the time of day, in seconds; `every` as EVERY.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        pod: str,
        report: ProblemSink,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._lease = Ref("Lease", namespace, name)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._pod = pod
        self._key = annotation_of(identity)
        self._report = ChangedProblems(report)
        self._denials = Denials(_CONFIRM_DENIAL)
        self._every = every
        self._clock = clock
        self._known: Json | None = None  # the Lease, as last read or written
        self._known_at = -math.inf
        self._is_old = True  # read it before the next write
        self._written: Counts | None = None
        self._written_at = -math.inf

    async def run(self, count: Callable[[], Counts]) -> None:
        """Write the counts of the own Envoys, until cancelled. Then remove the annotation."""
        try:
            while True:
                await self._try(self._publish(count()))
                await asyncio.sleep(self._every)
        finally:
            if self._written is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RELEASE_TIMEOUT):
                        for _ in range(_LAST_ATTEMPTS):
                            if await self._try(self._write(None)):
                                break

    async def others(self) -> list[Peer]:
        """The other replicas that are alive, as of a second ago at most. Without a response, the last known ones."""
        if self._clock() - self._known_at > self._every:
            await self._try(self._look())
        found = [_read(value) for key, value in _annotations(self._known).items() if key.startswith(_PREFIX) and key != self._key]
        # The clock of another node dates the annotation, so ALIVE is much longer than BEAT.
        alive = [each for each in found if each is not None and self._clock() - each.at.timestamp() <= ALIVE]
        return [Peer(s.replica, {Reached(one, other): n for one, other, n in s.have}) for s in sorted(alive, key=lambda s: s.replica)]

    async def _publish(self, counts: Counts) -> None:
        if counts == self._written and self._clock() - self._written_at < BEAT:
            return  # no request a second from each replica while nothing changes
        await self._write(counts)
        self._written, self._written_at = counts, self._clock()

    async def _look(self) -> None:
        self._take(await read(self._api, f"{self._collection}/{self._lease.name}"))

    def _take(self, lease: Json | None) -> None:
        self._known, self._known_at, self._is_old = lease, self._clock(), False

    async def _write(self, counts: Counts | None) -> None:
        """Replace the own annotation in the known version of the Lease, or create the Lease. None removes the annotation.

        The version makes a write fail that would undo the write of another replica. The Lease is read again before the next attempt.
        """
        if self._is_old:
            await self._look()
        annotations = {key: value for key, value in _annotations(self._known).items() if not self._is_forgotten(key, value)}
        annotations.pop(self._key, None)
        if counts is not None:
            annotations[self._key] = self._in_json(counts)
        metadata: dict[str, Any] = {"namespace": self._lease.namespace, "name": self._lease.name, "annotations": annotations}
        body: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        if self._known is None:
            self._take(await create(self._api, self._collection, body))
        else:
            metadata["resourceVersion"] = str(self._known["metadata"].get("resourceVersion") or "")
            self._take(await replace(self._api, f"{self._collection}/{self._lease.name}", body))

    async def _try(self, step: Coroutine[Any, Any, None]) -> bool:
        """Whether a step succeeded. If not, the caller retries: another replica was first, or there was no response."""
        try:
            async with asyncio.timeout(ALIVE / 4):
                await step
            self._denials.allowed("")
            self._report(str(self._lease), ())
            return True
        except ApiError as error:
            self._is_old = True
            if error.status == 403 and self._denials.denied("", time.monotonic()):
                verb = error.asked.partition(" ")[0]
                self._report(str(self._lease), (forbidden(_VERBS.get(verb, verb), "leases", self._lease, _WITHOUT),))
            _log.debug("%s: %s", self._lease, error)
        except TRANSIENT as error:
            self._is_old = True
            _log.debug("%s: %s", self._lease, sentence_of(self._api, error))
        return False

    def _in_json(self, counts: Counts) -> str:
        have = [(*reached, count) for reached, count in sorted(counts.items())]
        at = datetime.fromtimestamp(self._clock(), UTC)
        return msgspec.json.encode(_Annotation(self._pod, at, have)).decode()

    def _is_forgotten(self, key: str, value: str) -> bool:
        if not key.startswith(_PREFIX):
            return False
        found = _read(value)
        return found is None or self._clock() - found.at.timestamp() > REMOVED_AFTER


_VERBS = {"GET": "get", "POST": "create", "PUT": "update"}


def _annotations(lease: Json | None) -> dict[str, str]:
    return dict(((lease or {}).get("metadata") or {}).get("annotations") or {})


def _read(value: str) -> _Annotation | None:
    """The content of an annotation. None where it has another form."""
    try:
        found = msgspec.json.decode(value, type=_Annotation)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return found if found.at.tzinfo else None


def annotation_of(identity: str) -> str:
    """The annotation of a replica. A name after the prefix may have 63 characters, so a longer identity ends in a hash."""
    short = identity if len(identity) <= 63 else f"{identity[:54]}-{hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()}"
    return _PREFIX + short
