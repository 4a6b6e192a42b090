"""The control plane as one process: who tells whom, in which order it starts, and how it ends. The only place that knows everyone.

What does not belong here: parsing words (`xds.cli`), and every decision about traffic.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import resource
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry

from xds import __version__
from xds.alone import Alone
from xds.config import Failure, Flags
from xds.coordination import ChainAndKey, Coordination, Report
from xds.kube.manifests import Manifests
from xds.kube.objects import Ingress
from xds.kube.source import Change, Source
from xds.kube.unending import unending
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, OWN_ADDRESSES, World
from xds.machine import network as machine
from xds.protocol.discovery import Acknowledgement
from xds.publish.notices import Notices
from xds.publish.publisher import Published, Publisher
from xds.server.fleet import Fleet
from xds.server.metrics import SHORT
from xds.server.progress import Progress
from xds.server.server import Server
from xds.server.stream import Stream
from xds.server.tls import CertificateFiles
from xds.snapshot import SECRET, Snapshot
from xds.units.memo import Recorder
from xds.units.parts import Raw, digest
from xds.units.tables import Tables
from xds.web.held import HeldParts
from xds.web.process_metrics import ProcessMetrics
from xds.web.server import WebServer, application

if TYPE_CHECKING:
    from xds.debug.server import DebugServer

_log = logging.getLogger("xds")
_RAW_PARTS = "XDS_RAW_PARTS"
_GC = (50_000, 20, 20)
"""A thousand streams are more than Python's defaults expect: they have the collector look at all of them every few changes, for 50 ms."""
_TICK = 3600.0
"""Seconds between two looks at the clock, for certificates that expire."""


class ControlPlane:
    """Objects in, resources out, for as long as `run` is awaited. Without a `source`, they come from where the settings say.

    `start` raises Failure, one sentence, where something cannot be used: a folder, a port, a certificate file.
    """

    def __init__(self, settings: Flags, source: Source | None = None) -> None:
        settings = self._settings = _with_usable_address(settings)
        self.registry = CollectorRegistry()
        """All metrics of the process."""
        self._snapshot = Snapshot()
        self._source, coordination = _surroundings(settings, source)
        self._world = World(settings, {NOW: _now(), OWN_ADDRESSES: machine.addresses()})
        self._tables = Tables(self._world, raws=_raws())
        self._metrics = ProcessMetrics(self.registry, self._world, self._snapshot, types=SHORT, staleness=self._source.staleness)
        self._progress = Progress(self._snapshot, self.registry)
        self._notices = Notices(self._metrics.problems)
        self._changes = unending(self._source, self._notices.hear)
        self._coordination = coordination(self._world, self._notices.hear)
        self._publisher = Publisher(
            self._world,
            self._tables,
            self._snapshot,
            self._notices,
            published=self._published,
            judged=self._coordination.problems,
            remember=self._coordination.save,
        )
        self.registry.register(HeldParts(lambda: self._publisher.culprits, SHORT))
        self._certificates: AsyncGenerator[ChainAndKey] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        identifier = f"xds/{__version__} {socket.gethostname()}"
        self._fleet = Fleet(self._snapshot, self.registry, identifier=identifier, heard=self._heard, left=self._left)
        self._publisher.serve(self._fleet)
        self._server: Server | None = None
        self._debug: DebugServer | None = None
        web = application(self.registry, self._waiting, healthz_path=settings.health_check_path)
        web.cleanup_ctx.append(self._metrics.lag.watching)
        self._web = WebServer(web, host=settings.healthz_host, port=settings.healthz_port)

    async def start(self) -> None:
        """Listen, read all objects, and publish the first Snapshot; until then Envoys wait in silence (O7)."""
        begun = time.monotonic()
        _raise_file_limit()
        await self._listen()
        await self._coordination.open()
        self._certificates = self._coordination.certificates()
        self._world.set_constant(DEFAULT_CERTIFICATE, await anext(self._certificates))
        first = await anext(self._changes)
        gc.disable()  # a first build makes much and drops nothing (decision 5)
        try:
            await self._take(first)
        finally:
            gc.enable()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC)
        await self.learn(await self._coordination.load())
        self._snapshot.ready = True
        self._fleet.publish()
        self._coordination.start()
        _log.info(
            "serving %d Ingress%s from %d object%s (%.2f s); xDS on %s, health on port %d",
            ingresses := len(self._world.objects(Ingress)),
            "" if ingresses == 1 else "es",
            len(self._world),
            "" if len(self._world) == 1 else "s",
            time.monotonic() - begun,
            self._settings.xds_address,
            self._web.port,
        )

    async def run(self) -> None:
        """Take over what changes, until cancelled."""
        sharing = self._coordination.share_progress(self._snapshot, self._fleet.connected)
        beside = (self._tick(), self._renew_certificate(), self._publisher.judge(), self._learn_from_others(), sharing)
        self._tasks = [asyncio.create_task(_told(task)) for task in beside]
        try:
            async for change in self._changes:
                try:
                    await self._take(change)
                except Exception:  # noqa: BLE001 - the control plane never dies of its input; what is served stays served
                    _log.exception("internal error while a change was taken over; please report it")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End the streams, spread over a few seconds where there are many, and close the ports."""
        await self._changes.aclose()
        await self._source.close()
        if self._certificates is not None:
            await self._certificates.aclose()
        await self._coordination.close()
        if self._debug is not None:
            await self._debug.drain()
        if self._server is not None:
            await self._server.stop(min(5.0, 0.05 * len(list(self._fleet.connected()))))
        await self._web.stop()
        if self._debug is not None:
            await self._debug.stop()

    async def _listen(self) -> None:
        s = self._settings
        certificates = None
        if s.xds_tls_cert and s.xds_tls_key and s.xds_tls_ca:
            certificates = CertificateFiles(str(s.xds_tls_cert), str(s.xds_tls_key), str(s.xds_tls_ca))
        try:
            self._server = Server(self._fleet, s.xds_address, certificates=certificates, client_names=s.xds_client_names)
            await self._web.start()
            await self._server.start()
        except (OSError, ValueError) as error:
            raise Failure(f"{error}.") from None
        if s.debug_address:
            self._debug = await self._serve_debug(s.debug_address)

    async def _serve_debug(self, address: str) -> DebugServer | None:
        """For those who debug."""
        from xds.debug.live import Live, serve  # what it needs takes 0.2 s to import
        from xds.debug.programmed import Effects

        coordination = self._coordination
        live = Live(
            name=self._settings.pod_name or socket.gethostname(),
            settings=self._settings,
            snapshot=self._snapshot,
            tables=self._tables,
            notices=self._notices,
            publisher=self._publisher,
            fleet=self._fleet,
            progress=self._progress,
            effects=Effects(
                self._tables, self._progress, self._fleet.connected, coordination.current, self._publisher.lock, coordination.others
            ),
            waiting=self._waiting,
            staleness=lambda: self._source.staleness(time.monotonic()),
        )
        return await serve(live, address)

    async def _renew_certificate(self) -> None:
        if self._certificates is None:
            return
        async for pair in self._certificates:
            await self._publisher.tell(DEFAULT_CERTIFICATE, pair)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            await self._publisher.tell(NOW, _now())
            await self._publisher.tell(OWN_ADDRESSES, await asyncio.to_thread(machine.addresses))

    async def _take(self, change: Change) -> None:
        await self._publisher.take(change)
        self._coordination.published(change)

    def _published(self, published: Published) -> None:
        self._metrics.built.observe(published.took)
        self._metrics.certificates.take(published.changed.get(SECRET, ()), self._snapshot[SECRET], Recorder(self._tables.build))
        self._progress.published(
            published.causes,
            published.changed,
            {type_url: self._snapshot[type_url].generation for type_url in published.changed},
            published.took,
            time.monotonic(),
            datetime.now(UTC),
            causes_total=published.causes_total,
            moved=[(part, digest(move.new)) for part, move in published.moved.items() if part.piece is not None],
        )

    async def learn(self, record: bytes) -> None:
        """Hold what a record (`xds.units.record`) says that Envoy refuses; nothing is in it where nothing was saved."""
        try:
            if record:
                await self._publisher.recall(record)
        except ValueError as error:
            _log.warning("what was remembered of what Envoy refuses cannot be read, so it will be found out anew: %s", error)

    async def _learn_from_others(self) -> None:
        async with aclosing(self._coordination.records()) as records:
            async for record in records:
                await self.learn(record)

    def _heard(self, stream: Stream, answer: Acknowledgement) -> None:
        self._progress.heard(stream, answer, time.monotonic())
        self._publisher.heard(stream, answer)

    def _left(self, stream: Stream) -> None:
        self._progress.left(stream, time.monotonic())
        self._publisher.gone(stream)

    def _waiting(self) -> list[str]:
        """What readiness waits for. Once there was a Snapshot nothing takes it back: what is served stays served."""
        return [] if self._snapshot.ready else self._source.waiting() or ["waiting for the first Snapshot"]


async def _told(work: Awaitable[None]) -> None:
    """Work that goes on beside the main one: that it has failed must not stay unknown until the process ends."""
    try:
        await work
    except Exception:  # noqa: BLE001 - what is served stays served
        _log.exception("internal error beside the changes; please report it")


def _raise_file_limit() -> None:
    """As many open files as the system allows, for us and for an Envoy that `xds up` starts: without any, neither accepts connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _raws() -> tuple[Raw, ...]:
    """For tests of what Envoy refuses, and nothing else: the file that the variable names, a JSON list of type_url, marker and body.

    No flag sets it, no object can, and it is said aloud.
    """
    if not (path := os.environ.get(_RAW_PARTS)):
        return ()
    found = msgspec.json.decode(Path(path).read_bytes(), type=tuple[Raw, ...])
    _log.warning("%s is set: %d kinds of parts are replaced before Envoy sees them; this is for tests alone", _RAW_PARTS, len(found))
    return found


def _surroundings(flags: Flags, source: Source | None) -> tuple[Source, Callable[[World, Report], Coordination]]:
    """Where objects come from, and with whom state is shared: folders, and nobody; or an API server, and other replicas.

    The only place that asks which of the two it is. What the latter needs takes a quarter of a second to import.
    """
    if source is not None or flags.manifests:
        return source or Manifests(flags.manifests), lambda _, __: Alone(flags.state_dir, flags.manifests)
    from xds.clustered import Clustered
    from xds.kube.apiserver.apiserver import ApiServer

    return ApiServer(flags), partial(Clustered, flags)


def _with_usable_address(settings: Flags) -> Flags:
    """`--listen-address ::` takes both families; where the system has no IPv6, 0.0.0.0 is what is left of them."""
    if settings.listen_address != "::":
        return settings
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return dataclasses.replace(settings, listen_address="0.0.0.0")  # noqa: S104 - all addresses are what was asked for
    return settings


def _now() -> int:
    """The hour, in seconds since 1970: the clock is an input like any other, and a coarse one."""
    return int(time.time() // 3600 * 3600)
