"""The values that pass between a Session and its surroundings: requests in, responses and acknowledgements out, and its status.

They are the messages of `envoy.service.discovery.v3`, as far as a Session needs them, in one form for both wires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from xds.snapshot import Resource

NOTHING: frozenset[str] = frozenset()
NEVER = -1
"""The generation of which a client has accepted everything, where there is none."""


class Wire(Enum):
    """The two variants of the protocol: state of the world, and delta (incremental)."""

    SOTW = auto()
    DELTA = auto()


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """A DiscoveryRequest or DeltaDiscoveryRequest.

    `names` and `version` (version_info: what the client accepted last) are state of the world; `subscribe`, `unsubscribe` and
    `initial_versions` are delta. `error` is the message of error_detail where there is one, which makes it a NACK (A4).
    """

    type_url: str
    nonce: str = ""
    error: str | None = None
    names: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class DiscoveryResponse:
    """A DiscoveryResponse or DeltaDiscoveryResponse. `removed` is delta; the resources are sorted by name."""

    type_url: str
    nonce: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A client's ACK (`error` is None) or NACK.

    It is about the `names` that were new or different in a response, as of a `generation` of their State. What a client lists when it
    reconnects counts as accepted if it is still current. An ACK without names means: nothing that the client subscribes to has changed up
    to `settled`.

    `settled` is the latest generation of which the client has accepted everything that it subscribes to (NEVER for none), except
    `rejects`: names that it has rejected alone and whose content is still the same. `retained` are deleted resources that stood in a
    rejected full state and that no client has accepted or rejected before: they may be the culprit.
    """

    type_url: str
    names: frozenset[str]
    generation: int
    version: str
    error: str | None = None
    settled: int = NEVER
    rejects: frozenset[str] = NOTHING
    retained: frozenset[str] = NOTHING


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """How far a client is with one type at this moment, for CSDS and the fleet.

    `accepted` is the version last accepted ("" for none on this stream), `nonces` those of the responses that await an answer, `names`
    what the client subscribed to by name. `error` and `rejected` are the message and the resources of the last response if it was
    rejected. Of existing names, `held` are those that the client has in any version, `current` those that it has in the present version,
    and `in_flight` those in a response that awaits an answer.
    """

    accepted: str
    nonces: tuple[str, ...]
    wildcard: bool
    names: tuple[str, ...]
    error: str | None = None
    rejected: tuple[Resource, ...] = ()
    held: frozenset[str] = NOTHING
    current: frozenset[str] = NOTHING
    in_flight: frozenset[str] = NOTHING


@dataclass(frozen=True, slots=True)
class SubscriptionSummary:
    """The part of a SubscriptionStatus that costs nothing to compute.

    `names` is how many names the client subscribed to by name. `settled`: it has accepted everything, and rejects nothing.
    """

    accepted: str
    nonces: tuple[str, ...]
    wildcard: bool
    names: int
    error: str | None
    rejected: tuple[Resource, ...]
    settled: bool
