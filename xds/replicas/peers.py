"""What the Envoys of the other replicas have: each replica tells how far its own are in an annotation of one Lease, and reads the others'.

One Lease for all, and not a question to each other replica: nobody needs an address, a port, a certificate or a network policy for it, two
verbs on one more name are enough, and what a replica said last is there when it does not answer. What belongs here: that Lease. What does
not: finding out how far the own Envoys are (`xds.replicas.census`).
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
"""Seconds between two looks at the own Envoys, and the age of what was read of the others that is new enough for an answer."""
BEAT = 10.0
"""Seconds after which the same is said again."""
ALIVE = 40.0
"""Seconds after which a replica that has said nothing is taken for gone. The clocks of nodes may differ by some of them."""
_FORGOTTEN = 600.0
_LAST_WORD = 2.0
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
"""How many Envoys have come how far."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another replica and its Envoys."""

    replica: str
    counts: Counts

    @property
    def envoys(self) -> int:
        """How many are connected to it."""
        return sum(self.counts.values())

    def lacking(self, kind: str, version: int) -> int:
        """How many of them do not have an object of this kind as of this resourceVersion."""
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

    `identity` is a name that no other replica has, `pod` the one for people. `tell` takes the Problem where the role forbids it. `clock` is
    the time of day, in seconds; `every` as EVERY.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        pod: str,
        tell: ProblemSink,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._lease = Ref("Lease", namespace, name)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._pod = pod
        self._key = _PREFIX + _short(identity)
        self._tell = ChangedProblems(tell)
        self._denials = Denials(_CONFIRM_DENIAL)
        self._every = every
        self._clock = clock
        self._known: Json | None = None  # the Lease as it was last read or written
        self._known_at = -math.inf
        self._is_old = True  # to be read before it is written
        self._said: Counts | None = None
        self._said_at = -math.inf

    async def run(self, count: Callable[[], Counts]) -> None:
        """Tell how far the own Envoys are, until cancelled; then take it back."""
        try:
            while True:
                await self._try(self._say(count()))
                await asyncio.sleep(self._every)
        finally:
            if self._said is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORD):
                        for _ in range(_LAST_ATTEMPTS):
                            if await self._try(self._write(None)):
                                break

    async def others(self) -> list[Peer]:
        """The other replicas that are alive, as they were a second ago at most; those of the last answer where there is none now."""
        if self._clock() - self._known_at > self._every:
            await self._try(self._look())
        found = [_read(value) for key, value in _annotations(self._known).items() if key.startswith(_PREFIX) and key != self._key]
        alive = [said for said in found if said is not None and self._clock() - said.at.timestamp() <= ALIVE]
        return [Peer(s.replica, {Reached(one, other): n for one, other, n in s.have}) for s in sorted(alive, key=lambda s: s.replica)]

    async def _say(self, counts: Counts) -> None:
        if counts == self._said and self._clock() - self._said_at < BEAT:
            return
        await self._write(counts)
        self._said, self._said_at = counts, self._clock()

    async def _look(self) -> None:
        self._take(await read(self._api, f"{self._collection}/{self._lease.name}"))

    def _take(self, lease: Json | None) -> None:
        self._known, self._known_at, self._is_old = lease, self._clock(), False

    async def _write(self, counts: Counts | None) -> None:
        """Replace the own annotation in the version that is known, or make the Lease; None takes it away."""
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
        """Whether it went well. If not, it is to be tried again: somebody was faster, or there is no answer."""
        try:
            async with asyncio.timeout(ALIVE / 4):
                await step
            self._denials.allowed("")
            self._tell(str(self._lease), ())
            return True
        except ApiError as refused:
            self._is_old = True
            if refused.status == 403 and self._denials.denied("", time.monotonic()):
                verb = refused.asked.partition(" ")[0]
                self._tell(str(self._lease), (forbidden(_VERBS.get(verb, verb), "leases", self._lease, _WITHOUT),))
            _log.debug("%s: %s", self._lease, refused)
        except TRANSIENT as wrong:
            self._is_old = True
            _log.debug("%s: %s", self._lease, sentence_of(self._api, wrong))
        return False

    def _in_json(self, counts: Counts) -> str:
        have = [(*reached, count) for reached, count in sorted(counts.items())]
        at = datetime.fromtimestamp(self._clock(), UTC)
        return msgspec.json.encode(_Annotation(self._pod, at, have)).decode()

    def _is_forgotten(self, key: str, value: str) -> bool:
        if not key.startswith(_PREFIX):
            return False
        said = _read(value)
        return said is None or self._clock() - said.at.timestamp() > _FORGOTTEN


_VERBS = {"GET": "get", "POST": "create", "PUT": "update"}


def _annotations(lease: Json | None) -> dict[str, str]:
    return dict(((lease or {}).get("metadata") or {}).get("annotations") or {})


def _read(value: str) -> _Annotation | None:
    """What a replica said; None for what is nothing of the kind."""
    try:
        found = msgspec.json.decode(value, type=_Annotation)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return found if found.at.tzinfo else None


def _short(identity: str) -> str:
    """The name of an annotation has 63 characters at most."""
    return identity if len(identity) <= 63 else f"{identity[:54]}-{hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()}"
