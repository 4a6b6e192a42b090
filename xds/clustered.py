"""This process as one of several in a cluster: what it shares with the others, and what one of them writes back.

Imported only where there is an API server; a folder of manifests has neither others nor anybody to write to.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import Tell
from xds.kube.current import of_api
from xds.kube.source import Change
from xds.kube.world import World
from xds.problem import Problem, Ref
from xds.replicas.census import Census
from xds.replicas.peers import Peer, Peers, fleet_name
from xds.replicas.shared_certificate import Pair, SharedCertificate, secret_name
from xds.replicas.shared_record import SharedRecord
from xds.report.reporter import Reporter
from xds.server.progress import Listening
from xds.snapshot import Snapshot


class Clustered:
    """From `open` to `close`: the shared default certificate, how far whose Envoys are, and status and Events while this replica leads.

    `tell` takes Problems of sharing and reporting itself. No two replicas have the same identity, however their pods are called.
    """

    def __init__(self, settings: Flags, world: World, tell: Tell) -> None:
        self._api = Api(settings)
        secret = secret_name(settings.election_id)
        self._certificate = SharedCertificate(self._api, settings.pod_namespace, secret, tell)
        self._record = SharedRecord(self._api, settings.pod_namespace, secret, tell)
        identity = f"{settings.pod_name}_{uuid.uuid4()}"
        self._reporter = Reporter(settings, world, self._api, identity, tell)
        self._census = Census()
        self._peers = Peers(self._api, settings.pod_namespace, fleet_name(settings.election_id), identity, settings.pod_name, tell)

    async def open(self) -> None:
        """Raises Failure where there is no API server to be asked."""
        await self._api.open()

    async def certificates(self) -> AsyncGenerator[Pair]:
        """The default certificate that all replicas serve, soon whatever happens, and then each that takes its place."""
        async with aclosing(self._certificate.pairs()) as pairs:
            async for pair in pairs:
                yield pair

    async def recall(self) -> bytes:
        """What is remembered of what Envoy refuses; nothing where there is nothing, or no answer within seconds."""
        return await self._record.now()

    async def records(self) -> AsyncGenerator[bytes]:
        """What other replicas have found out of what Envoy refuses, or this one before a restart."""
        async with aclosing(self._record.bodies()) as bodies:
            async for body in bodies:
                yield body

    def remember(self, body: bytes) -> None:
        """What this replica has found out, with what it has learnt from others."""
        self._record.write(body)

    def report(self) -> None:
        """Stand for election and report, now that the World has everything."""
        self._reporter.start()

    def changed(self, change: Change) -> None:
        """A Change was taken over."""
        self._reporter.changed(change)
        self._census.read(change)

    def judged(self, problems: Iterable[Problem]) -> None:
        """All Problems that there are now."""
        self._reporter.judged(problems)

    async def current(self, about: Ref) -> str | None:
        """The version of an object that the API server has; None where there is none, "" where it does not say."""
        return await of_api(self._api, about)

    async def count(self, snapshot: Snapshot, streams: Callable[[], Iterable[Listening]]) -> None:
        """Tell the other replicas how far the Envoys of these streams are, until cancelled."""
        await self._peers.run(lambda: self._census.take(snapshot, streams()))

    async def others(self) -> list[Peer]:
        """The other replicas, and how far their Envoys are."""
        return await self._peers.others()

    async def close(self) -> None:
        """Give the Lease back and let go."""
        await self._reporter.stop()
        await self._api.close()
