"""The way from objects to responses without the ports around it: what `xds.app` strings together, and one Envoy's side of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterable

from bench import objects
from xds.certificates import default_certificate
from xds.config import Flags
from xds.kube.objects import Object
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.machine.process import first_build
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.server.messages import Encoder
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Snapshot
from xds.units.tables import Tables


class Pipeline:
    """World, Tables and Snapshot."""

    def __init__(self, settings: Flags) -> None:
        self.world = World(settings, {DEFAULT_CERTIFICATE: default_certificate.make(), NOW: int(time.time())})
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()

    @classmethod
    def of(cls, n: int, settings: Flags | None = None) -> Pipeline:
        """One that has taken in the World of `n` applications."""
        made = cls(settings or Flags(configmap=objects.CONFIG_MAP))
        with first_build():
            made.take([objects.parsed(raw) for raw in objects.world(n)])
        made.snapshot.ready = True
        made.check()
        return made

    def take(self, put: Iterable[Object]) -> None:
        """Objects that are new or different, up to the Snapshot."""
        self.tables.apply(self.world.apply(put)).publish(self.snapshot)

    def check(self) -> None:
        """A build that went wrong is not worth a measurement."""
        assert not self.tables.build.faults, next(iter(self.tables.build.faults.values())).traceback
        assert not self.tables.problems(), self.tables.problems()[0]

    def bodies(self) -> int:
        """Join every body, and return how many bytes they have."""
        return sum(
            len(resource.body) for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET) for resource in self.snapshot[type_url].values()
        )


class Conversation:
    """One delta ADS stream as an Envoy leads it, without gRPC: it asks for everything and accepts everything."""

    def __init__(self, snapshot: Snapshot, encoder: Encoder) -> None:
        self.session = Session(Wire.DELTA, snapshot)
        self._snapshot = snapshot
        self._encoder = encoder

    def open(self) -> int:
        """Ask as Envoy does at its start, and take all answers in; returns their bytes."""
        asked = (
            DiscoveryRequest(CLUSTER),
            DiscoveryRequest(ENDPOINT, subscribe=tuple(self._snapshot[ENDPOINT])),
            DiscoveryRequest(LISTENER),
            DiscoveryRequest(ROUTE, subscribe=tuple(self._snapshot[ROUTE])),
            DiscoveryRequest(SECRET, subscribe=tuple(self._snapshot[SECRET])),
        )
        return sum(self.accept(self.session.receive(request, 0.0)) for request in asked)

    def publish(self) -> list[DiscoveryResponse]:
        """The responses of the stream after a change of the Snapshot."""
        return self.session.publish(0.0)

    def encode(self, responses: Iterable[DiscoveryResponse]) -> int:
        """Make the bytes of the responses, and return how many they are."""
        return sum(len(self._encoder.encode(Wire.DELTA, response)) for response in responses)

    def accept(self, responses: list[DiscoveryResponse]) -> int:
        """Acknowledge responses, and those that follow, until there are none. Returns the bytes."""
        written = 0
        while responses:
            written += self.encode(responses)
            answers = [DiscoveryRequest(response.type_url, response.nonce) for response in responses]
            responses = [response for answer in answers for response in self.session.receive(answer, 0.0)]
        return written
