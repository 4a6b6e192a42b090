"""What the debug server asks the rest of the house: one Protocol, and the values in which it answers.

What belongs here: the words between who knows and who tells. What does not: gRPC, and messages.
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


class Senseless(ValueError):
    """What was asked for makes no sense: a sentence for who asked."""


@dataclass(frozen=True, slots=True)
class Replica:
    """Who answers. `waiting`: sentences on what the first Snapshot waits for; `staleness`: kind → seconds, as a Source tells it."""

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
    """The document of `xds explain -o json`, with the names under which Envoy shows what answers, and who has it."""

    document: Json
    route: str
    virtual_host: str
    cluster: str
    programmed: Programmed


@dataclass(frozen=True, slots=True)
class Effect:
    """How far an object is as it was read: `version` is its resourceVersion, or a hash of what it says where it has none."""

    asked: Asked
    version: str
    programmed: Programmed


class Subject(Protocol):
    """A running control plane, as those who debug look at it. Its methods belong to its event loop."""

    @property
    def snapshot(self) -> Snapshot:
        """What is published."""

    @property
    def ready(self) -> asyncio.Event:
        """Set once there is a complete Snapshot."""

    def replica(self) -> Replica:
        """Who and how it is."""

    def envoys(self) -> Sequence[Envoy]:
        """The streams of connected Envoys, oldest first."""

    def history(self) -> Sequence[Publication]:
        """The last changes as they stand now, newest first."""

    def times(self, type_url: str) -> Mapping[int, datetime]:
        """Generation of the State of a type → when it was published, as far back as is remembered."""

    async def problems(self) -> Sequence[Problem]:
        """All that there are."""

    async def explain(self, url: str, method: str) -> Explained:
        """What answers a URL. Raises Senseless for what is no URL."""

    async def current(self, asked: Asked) -> str | None:
        """The version of an object where it comes from, whatever was read of it; None where there is none, "" where nobody can say."""

    async def programmed(self, asked: Asked) -> Effect | None:
        """How far an object is, as it was read; None where there is no such object, or it is not ours."""

    def all_programmed(self, namespace: str) -> AsyncIterator[Effect]:
        """All objects of a namespace ("": of all), by kind, namespace, name and entry. Others go on meanwhile."""
