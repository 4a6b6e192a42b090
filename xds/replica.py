"""This process as one of several in a cluster: what it shares with the others, and what one of them writes back.

Imported only where there is an API server; a folder of manifests has neither others nor anybody to write to.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from xds.config import Settings
from xds.kube.api import Api
from xds.kube.shared_certificate import Pair, SharedCertificate, secret_name
from xds.kube.source import Change
from xds.kube.status.faults import Tell
from xds.kube.status.reporter import Reporter
from xds.kube.world import World
from xds.model import Problem


class Replica:
    """From `open` to `close`: the shared default certificate, and status and Events while this replica leads.

    `tell` takes Problems of sharing and reporting itself. No two replicas have the same identity, however their pods are called.
    """

    def __init__(self, settings: Settings, world: World, tell: Tell) -> None:
        self._api = Api(settings)
        self._certificate = SharedCertificate(self._api, settings.pod_namespace, secret_name(settings.election_id), tell)
        self._reporter = Reporter(settings, world, self._api, f"{settings.pod_name}_{uuid.uuid4()}", tell)

    async def open(self) -> None:
        """Raises Failure where there is no API server to be asked."""
        await self._api.open()

    async def certificates(self) -> AsyncGenerator[Pair]:
        """The default certificate that all replicas serve, soon whatever happens, and then each that takes its place."""
        async with aclosing(self._certificate.pairs()) as pairs:
            async for pair in pairs:
                yield pair

    def report(self) -> None:
        """Stand for election and report, now that the World has everything."""
        self._reporter.start()

    def changed(self, change: Change, problems: Iterable[Problem] | None) -> None:
        """A Change was taken over; `problems` are all that there are now, None where they are as before."""
        self._reporter.changed(change)
        if problems is not None:
            self._reporter.judged(problems)

    async def close(self) -> None:
        """Give the Lease back and let go."""
        await self._reporter.stop()
        await self._api.close()
