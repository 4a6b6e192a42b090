"""What the debug server reads: one Protocol, `Subject`, and the values that it returns.

What does not belong here: gRPC, and messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from xds.json_forms import Json
from xds.problem import Problem
from xds.protocol.discovery import Wire
from xds.protocol.session import Session
from xds.server.messages import EnvoyNode
from xds.server.progress import Programmed, Publication
from xds.snapshot import Snapshot
from xds.units.traces import Asked


class InvalidArgument(ValueError):
    """A request cannot be understood. The text is a sentence for its client."""


@dataclass(frozen=True, slots=True)
class Replica:
    """The process that responds. `waiting`: sentences on what the first Snapshot waits for; `staleness`: as in `xds.kube.source.Source`."""

    name: str
    version: str
    waiting: tuple[str, ...]
    staleness: Mapping[str, float]


class Envoy(Protocol):
    """A stream whose Envoy has sent its node, such as a `xds.server.stream.EnvoyStream`. `only`: the type url of a single-type service."""

    node: EnvoyNode | None
    wire: Wire
    only: str | None
    peer: str
    since: datetime
    session: Session


@dataclass(frozen=True, slots=True)
class Explained:
    """The document of `xds explain -o json`; the names in Envoy's own dumps of what answers; and which Envoys have that."""

    document: Json
    route: str
    virtual_host: str
    cluster: str
    programmed: Programmed


@dataclass(frozen=True, slots=True)
class Effect:
    """On which Envoys an object is in effect, as it was read. `version` is its resourceVersion, or without one a hash of its content."""

    asked: Asked
    version: str
    programmed: Programmed


class Subject(Protocol):
    """The state of a running control plane. All methods are called in its event loop."""

    @property
    def snapshot(self) -> Snapshot:
        """What is published."""

    @property
    def ready(self) -> asyncio.Event:
        """Set once there is a complete Snapshot."""

    def replica(self) -> Replica:
        """This process."""

    def envoys(self) -> Sequence[Envoy]:
        """The streams of connected Envoys, oldest first."""

    def history(self) -> Sequence[Publication]:
        """The last publications as they are now, newest first."""

    def times(self, type_url: str) -> Mapping[int, datetime]:
        """Generation of the State of a type → when it was published, for the last publications."""

    async def problems(self) -> Sequence[Problem]:
        """All Problems that there are now."""

    async def explain(self, url: str, method: str) -> Explained:
        """What answers a URL. Raises InvalidArgument for a text that is no URL."""

    async def current(self, asked: Asked) -> str | None:
        """The version of an object at its origin, not as it was read. None if it does not exist, "" if that is not known."""

    async def programmed(self, asked: Asked) -> Effect | None:
        """On which Envoys an object is in effect, as it was read. None if it does not exist, or is not served here."""

    def all_programmed(self, namespace: str) -> AsyncIterator[Effect]:
        """The same for all objects of a namespace ("": of all), by kind, namespace, name and entry. It yields to other tasks."""
