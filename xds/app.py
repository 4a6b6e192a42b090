"""The control plane as one process: its parts and how they are connected, what it starts in which order, and how it stops.

What does not belong here: parsing words (`xds.cli`), and every decision about traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import CollectorRegistry

from xds import __version__
from xds.addresses import SocketAddress, parse_address
from xds.alone import Alone
from xds.config import Failure, Flags, has_dashboard
from xds.coordination import ChainAndKey, Coordination
from xds.kube.manifests import Manifests
from xds.kube.objects import Ingress
from xds.kube.source import Change, Source
from xds.kube.unending import unending
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, OWN_ADDRESSES, Reader, World
from xds.machine import network
from xds.machine.process import collect_seldom, first_build, raise_file_limit, return_large_blocks
from xds.nginx.registry import features
from xds.problem import Problem
from xds.publish.answers import Answers, serves
from xds.publish.notices import Notices
from xds.publish.publisher import Observers, Publisher
from xds.quarantine.quarantine import Quarantine
from xds.server.fleet import Fleet
from xds.server.metrics import SHORT
from xds.server.progress import Progress
from xds.server.server import Server
from xds.server.tls import CertificateFiles
from xds.snapshot import Part, Snapshot
from xds.units.memo import Beside
from xds.units.parts import Held, Raw
from xds.units.tables import Tables
from xds.web.held import HeldParts
from xds.web.ingress_nginx import IngressNginx
from xds.web.process_metrics import ProcessMetrics
from xds.web.server import WebServer, application

if TYPE_CHECKING:
    from xds.admission.server import AdmissionServer
    from xds.dashboard.server import Dashboard
    from xds.debug.live import Live
    from xds.debug.server import DebugServer
    from xds.kube.apiserver.faults import ProblemSink

_log = logging.getLogger("xds")
_RAW_PARTS = "XDS_RAW_PARTS"
_TICK = 3600.0
"""Seconds between two looks at the clock, for certificates that expire."""


class ControlPlane:
    """Objects in, resources out, for as long as `run` is awaited. Without a `source`, objects come from where the flags say.

    `start` raises Failure, one sentence, where something cannot be used: a folder, a port, a certificate file.

    Tests, benchmarks and who embeds it look at it through `snapshot`, `held`, `problems`, `settled` and the addresses.
    """

    def __init__(self, flags: Flags, source: Source | None = None) -> None:
        self._flags = flags = replace(flags, listen_address=network.usable(flags.listen_address))
        self.registry = CollectorRegistry()
        """All metrics of the process."""
        self.snapshot = Snapshot()
        """What is published: what Envoys hold, or are about to."""
        self._source, coordination = _surroundings(flags, source)
        self._world = World(flags, {NOW: _now(), OWN_ADDRESSES: network.addresses()})
        self._tables = Tables(self._world, raws=_raws())
        metrics = ProcessMetrics(self.registry, self._world, self.snapshot, types=SHORT, staleness=self._source.staleness)
        self._progress = Progress(self.snapshot, self.registry)
        self._notices = Notices(metrics.problems)
        self._changes = unending(self._source, self._notices.replace)
        self._coordination = coordination(self._world, Beside(self._tables.build), self._notices.replace)
        self._certificates: AsyncGenerator[ChainAndKey] | None = None
        quarantine = Quarantine(self._tables, self.snapshot, serves)
        answers = Answers(self._progress, quarantine)  # the Fleet fills it, the Publisher empties it and wakes the Fleet
        name = f"xds/{__version__} {socket.gethostname()}"
        self._fleet = Fleet(
            self.snapshot, self.registry, identifier=name, on_acknowledgement=answers.received, on_disconnect=answers.disconnected
        )
        observers = Observers(metrics, self._progress, self._fleet, self._notices, self._coordination)
        self._publisher = Publisher(self._world, self._tables, self.snapshot, quarantine, answers, observers)
        self.registry.register(HeldParts(lambda: self.held, SHORT))
        if flags.enable_metrics:
            self.registry.register(
                IngressNginx(flags, self._tables.certificates_of_hosts, metrics.certificates, metrics.problems, self._coordination.leads)
            )
        web = application(self.registry, self._waiting, healthz_path=flags.health_check_path)
        web.cleanup_ctx.append(metrics.lag.watching)
        self._web = WebServer(web, host=flags.healthz_host, port=flags.healthz_port)
        self._server: Server | None = None
        self._admission: AdmissionServer | None = None
        self._debug: DebugServer | None = None
        self._dashboard: Dashboard | None = None

    # What it is at this moment

    @property
    def held(self) -> Mapping[Part, Held]:
        """What is held because Envoy rejects it; without what is held only while a culprit is searched for."""
        return self._publisher.held

    @property
    def xds_address(self) -> str:
        """Where Envoys connect. Once it has started, the port in it is the one that the system has chosen for 0."""
        return self._flags.xds_address if self._server is None else self._server.address

    @property
    def webhook_address(self) -> SocketAddress | None:
        """Where the validating webhook is served; None where it is not. As above."""
        return self._admission.address if self._admission is not None else None

    @property
    def dashboard_address(self) -> SocketAddress | None:
        """Where the page of the fleet is; None where it is off, or its port was taken. As above."""
        return self._dashboard.address if self._dashboard is not None else None

    @property
    def health_port(self) -> int:
        """Where health and metrics are served; as above."""
        return self._web.port

    async def problems(self) -> list[Problem]:
        """All that there are now: of objects, files, forbidden kinds, and of what Envoy rejects."""
        async with self._publisher.lock:
            return self._publisher.all_problems()

    async def settled(self) -> None:
        """Wait until the Snapshot changes no more by itself, while `run` is awaited.

        Every Change that the Source has yielded is published, every answer that was received has been judged, and no culprit is searched
        for. It is not known here what the Source is about to yield, nor what an Envoy is about to answer.
        """
        await self._publisher.settled()

    # From start to stop

    async def start(self) -> None:
        """Listen, read all objects meanwhile, and publish the first Snapshot; until then Envoys are sent nothing (O7)."""
        begun = time.monotonic()
        raise_file_limit()
        return_large_blocks()
        collect_seldom()
        async with _meanwhile(anext(self._changes), asyncio.to_thread(features)) as reading:
            await self._listen()
            await self._coordination.open()
            self._certificates = self._coordination.certificates()
            self._world.set_constant(DEFAULT_CERTIFICATE, await anext(self._certificates))
            first, _ = await reading  # whole: half of the objects would be half of the routes
        with first_build():
            await self.apply(first)
        # Before any Envoy is sent what it would reject once more, and not before the objects: an API server may have come back with them.
        await self.learn(await self._coordination.load())
        self.snapshot.ready = True
        self._fleet.publish()
        self._coordination.start()
        _log.info(
            "serving %d Ingress%s from %d object%s (%.2f s); xDS on %s, health on port %d",
            ingresses := len(self._world.objects(Ingress)),
            "" if ingresses == 1 else "es",
            len(self._world),
            "" if len(self._world) == 1 else "s",
            time.monotonic() - begun,
            self._flags.xds_address,
            self.health_port,
        )

    async def run(self) -> None:
        """Publish what changes, until cancelled."""
        sharing = self._coordination.share_progress(self.snapshot, self._fleet.connected)
        beside = (self._tick(), self._renew_certificate(), self._publisher.judge(), self._learn_from_others(), sharing)
        tasks = [asyncio.create_task(_logged(task)) for task in beside]
        try:
            async for change in self._changes:
                try:
                    await self.apply(change)
                except Exception:  # noqa: BLE001 - the control plane never dies of its input; what is served stays served
                    _log.exception("internal error while a change was published; please report it")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End the streams, spread over a few seconds where there are many, and close the ports. What was not started is left alone.

        The Lease is given back before the streams end, for another replica to write statuses meanwhile. The debug server is the last to go:
        it answers NOT_SERVING as long as anything is served.
        """
        await self._changes.aclose()
        await self._source.close()
        if self._certificates is not None:
            await self._certificates.aclose()
        await self._coordination.close()
        if self._debug is not None:
            await self._debug.drain()
        if self._server is not None:
            await self._server.stop(min(5.0, 0.05 * len(self._fleet.connected())))
        await self._web.stop()
        if self._dashboard is not None:
            await self._dashboard.stop()
        if self._admission is not None:
            await self._admission.stop()
        if self._debug is not None:
            await self._debug.stop()

    async def apply(self, change: Change) -> None:
        """Publish a Change, as `run` does with each that the Source yields."""
        await self._publisher.apply(change)

    async def learn(self, record: bytes) -> None:
        """Hold what is held in a record (`xds.units.record`), as far as it is published now. b"" is an empty one."""
        try:
            if record:
                await self._publisher.learn(record)
        except ValueError as error:
            _log.warning("the record of what Envoy rejected cannot be read, so the search for it starts again: %s", error)

    # Servers

    async def _listen(self) -> None:
        f = self._flags
        certificates = None
        if f.xds_tls_cert and f.xds_tls_key and f.xds_tls_ca:
            certificates = CertificateFiles(str(f.xds_tls_cert), str(f.xds_tls_key), str(f.xds_tls_ca))
        try:
            self._server = Server(self._fleet, f.xds_address, certificates=certificates, client_names=f.xds_client_names)
            await self._web.start()
            await self._server.start()
        except (OSError, ValueError) as error:
            raise Failure(f"{error}.") from None
        if f.validating_webhook:
            self._admission = await self._serve_admission(parse_address(f.validating_webhook))
        if f.debug_address:
            from xds.debug.live import serve  # what it needs takes 0.2 s to import

            self._debug = await serve(self.live(), f.debug_address)
        if has_dashboard(f):
            self._dashboard = await self._serve_dashboard(f)

    async def _serve_admission(self, address: SocketAddress) -> AdmissionServer:
        from xds.admission.server import AdmissionServer, Judge

        judge = Judge(self._tables, self.snapshot, self._publisher, self.registry)
        flags = self._flags
        files = flags.validating_webhook_certificate or Path(), flags.validating_webhook_key or Path()
        server = AdmissionServer(judge, address, *files)
        try:
            await server.start()
        except (OSError, ValueError) as error:
            raise Failure(f"{error}.") from None
        return server

    async def _serve_dashboard(self, flags: Flags) -> Dashboard | None:
        from xds.dashboard.server import serve

        return await serve(self.live(), parse_address(flags.dashboard_address), flags.dashboard_names)

    def live(self) -> Live:
        """It as the debug server and the dashboard read it."""
        from xds.debug.live import Live

        return Live(
            name=self._flags.pod_name or socket.gethostname(),
            flags=self._flags,
            snapshot=self.snapshot,
            tables=self._tables,
            publisher=self._publisher,
            fleet=self._fleet,
            progress=self._progress,
            coordination=self._coordination,
            waiting=self._waiting,
            staleness=lambda: self._source.staleness(time.monotonic()),
        )

    def _waiting(self) -> list[str]:
        """What readiness waits for. Once there was a Snapshot nothing takes it back: what is served stays served."""
        return [] if self.snapshot.ready else self._source.waiting() or ["waiting for the first Snapshot"]

    # Beside the changes of objects

    async def _renew_certificate(self) -> None:
        assert self._certificates is not None, "run comes after start"
        async for pair in self._certificates:
            await self._publisher.set(DEFAULT_CERTIFICATE, pair)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            await self._publisher.set(NOW, _now())
            await self._publisher.set(OWN_ADDRESSES, await asyncio.to_thread(network.addresses))

    async def _learn_from_others(self) -> None:
        async with contextlib.aclosing(self._coordination.records()) as records:
            async for record in records:
                await self.learn(record)


def _surroundings(flags: Flags, source: Source | None) -> tuple[Source, Callable[[World, Reader, ProblemSink], Coordination]]:
    """Where objects come from, and what shares the state: folders, and no other process; or an API server, and other replicas.

    The only place that asks which of the two it is. What the latter needs takes a quarter of a second to import.
    """
    if source is not None or flags.manifests:
        return source or Manifests(flags.manifests), lambda *_: Alone(flags.state_dir, flags.manifests)
    from xds.clustered import Clustered
    from xds.kube.apiserver.apiserver import ApiServer

    return ApiServer(flags), partial(Clustered, flags)


def _raws() -> tuple[Raw, ...]:
    """For tests of what Envoy rejects, and nothing else: the file that the variable names, a JSON list of type_url, marker and body.

    No flag sets it, no object can, and it is logged as a warning.
    """
    if not (path := os.environ.get(_RAW_PARTS)):
        return ()
    found = msgspec.json.decode(Path(path).read_bytes(), type=tuple[Raw, ...])
    _log.warning("%s is set: %d kinds of parts are replaced before Envoy sees them; this is for tests alone", _RAW_PARTS, len(found))
    return found


@contextlib.asynccontextmanager
async def _meanwhile(*work: Awaitable[Any]) -> AsyncGenerator[asyncio.Future[list[Any]]]:
    """Work that is under way during the block, to be awaited in it. Whatever of it is not done when the block ends is cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    done = asyncio.gather(*tasks)
    try:
        yield done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(done, *tasks, return_exceptions=True)  # `done` as well: nobody may have awaited what it raises


async def _logged(work: Awaitable[None]) -> None:
    """Run a background task, and log its exception at once: nobody awaits it before the process ends."""
    try:
        await work
    except Exception:  # noqa: BLE001 - what is served stays served
        _log.exception("internal error beside the changes; please report it")


def _now() -> int:
    """The hour, in seconds since 1970: the clock is an input like any other, and a coarse one."""
    return int(time.time() // 3600 * 3600)
