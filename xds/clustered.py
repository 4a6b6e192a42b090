"""A control plane as one replica of several beside an API server: what they share, and what one of them writes back.

Imported only where there is an API server: it needs the kubernetes client, which takes a quarter of a second to import.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from xds.config import Flags
from xds.coordination import ChainAndKey
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import ProblemSink
from xds.kube.current import of_api
from xds.kube.source import Change
from xds.kube.world import Reader, World
from xds.problem import Problem, Ref
from xds.replicas.census import Census
from xds.replicas.peers import Peer, Peers, fleet_name
from xds.replicas.shared_certificate import SharedCertificate, secret_name
from xds.replicas.shared_record import SharedRecord
from xds.report.reporter import Reporter
from xds.server.frontier import ConnectedStream
from xds.snapshot import Snapshot


class Clustered:
    """Is a `xds.coordination.Coordination`. One Secret has the default certificate and the record, two Leases elect and count.

    `read` is asked which Ingresses are ours; `sink` takes the Problems of sharing and writing back.
    """

    def __init__(self, flags: Flags, world: World, read: Reader, sink: ProblemSink) -> None:
        self._api = Api(flags)
        secret = secret_name(flags.election_id)
        self._certificate = SharedCertificate(self._api, flags.pod_namespace, secret, sink)
        self._record = SharedRecord(self._api, flags.pod_namespace, secret, sink)
        identity = f"{flags.pod_name}_{uuid.uuid4()}"  # two pods may have one name, in two clusters or one after the other
        self._reporter = Reporter(flags, world, read, self._api, identity, sink)
        self._census = Census()
        self._peers = Peers(self._api, flags.pod_namespace, fleet_name(flags.election_id), identity, flags.pod_name, sink)

    async def open(self) -> None:
        """Raises Failure where no API server can be asked."""
        await self._api.open()

    async def certificates(self) -> AsyncGenerator[ChainAndKey]:
        """The one that all replicas serve."""
        async with aclosing(self._certificate.pairs()) as pairs:
            async for pair in pairs:
                yield pair

    async def load(self) -> bytes:
        """From the Secret; nothing if the API server does not answer within seconds."""
        return await self._record.now()

    def save(self, record: bytes) -> None:
        """Into the Secret, soon. It has what was learnt from others."""
        self._record.write(record)

    async def records(self) -> AsyncGenerator[bytes]:
        """From the Secret, whenever another replica has written it."""
        async with aclosing(self._record.bodies()) as bodies:
            async for body in bodies:
                yield body

    def start(self) -> None:
        """Stand for election; the leader writes."""
        self._reporter.start()

    def leads(self) -> bool:
        """While it is elected."""
        return self._reporter.is_leading

    def published(self, change: Change) -> None:
        """Statuses may have to be written, and versions have been published."""
        self._reporter.changed(change)
        self._census.read(change)

    def problems(self, problems: Sequence[Problem]) -> None:
        """The leader makes Events of them."""
        self._reporter.judged(problems)

    async def share_progress(self, snapshot: Snapshot, streams: Callable[[], Iterable[ConnectedStream]]) -> None:
        """In an annotation of a Lease, every second if it differs."""
        await self._peers.run(lambda: self._census.take(snapshot, streams()))

    async def others(self) -> Sequence[Peer]:
        """As that Lease has them."""
        return await self._peers.others()

    async def current(self, about: Ref) -> str | None:
        """As the API server has it."""
        return await of_api(self._api, about)

    async def close(self) -> None:
        """Give the Lease back, and disconnect."""
        await self._reporter.stop()
        await self._api.close()
