"""The control plane as one process: who tells whom, in which order it starts, and how it ends. The only place that knows everyone.

What does not belong here: parsing words (`xds.cli`), and every decision about traffic.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from xds import __version__, default_certificate
from xds.build.memo import Failure as UnitFailure
from xds.build.tables import Tables
from xds.config import Failure, Settings
from xds.kube.manifests import Manifests
from xds.kube.objects import Ingress
from xds.kube.source import Change, Source
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, Key, World
from xds.model import Problem, Severity
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.server.tls import CertificateFiles
from xds.snapshot import Snapshot
from xds.web.server import WebServer, application
from xds.web.staleness import Staleness

if TYPE_CHECKING:
    from xds.replica import Replica

Tell = Callable[[str, tuple[Problem, ...]], None]
_log = logging.getLogger("xds")
_TICK = 3600.0
"""Seconds between two looks at the clock, for certificates that expire."""
_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.NOTE: logging.DEBUG}
_MANY = 200
"""Objects or keys of a change beyond which it is worked out in a thread, so that streams are answered meanwhile (B10)."""
_FAR = frozenset(("ConfigMap", "IngressClass", "Namespace"))
"""Kinds of which one object may concern everything."""


class ControlPlane:
    """Objects in, resources out, for as long as `run` is awaited. Without a `source`, they come from where the settings say.

    `start` raises Failure, one sentence, where something cannot be used: a folder, a port, a certificate file.
    """

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        settings = self._settings = _with_usable_address(settings)
        self._registry = CollectorRegistry()
        self._snapshot = Snapshot()
        self._source = source or _source(settings)
        self._changes = self._source.changes()
        self._world = World(settings, {NOW: _now()})
        self._tables = Tables(self._world)
        self._one_at_a_time = asyncio.Lock()
        self._replica = _replica(settings, self._world, self._hear) if source is None else None
        self._certificates: AsyncGenerator[tuple[bytes, bytes]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._source_problems: dict[str, tuple[Problem, ...]] = {}
        self._told: set[Problem] = set()
        self._failed: set[UnitFailure] = set()
        self._fleet = Fleet(self._snapshot, self._registry, identifier=f"xds/{__version__} {socket.gethostname()}")
        self._server: Server | None = None
        web = application(self._registry, self._waiting, healthz_path=settings.health_check_path)
        self._registry.register(Staleness(self._source.staleness))
        self._web = WebServer(web, host=settings.healthz_host, port=settings.healthz_port)

    async def start(self) -> None:
        """Listen, read all objects, and publish the first Snapshot; until then Envoys wait in silence (O7)."""
        begun = time.monotonic()
        await self._listen()
        self._world.tell(DEFAULT_CERTIFICATE, await self._certificate())
        first = await anext(self._changes)
        gc.disable()  # a first build makes much and drops nothing (DESIGN 10.5)
        try:
            await self._take(first)
        finally:
            gc.enable()
            gc.collect()
            gc.freeze()
        self._snapshot.ready = True
        self._fleet.publish()
        if self._replica is not None:
            self._replica.report()
        _log.info(
            "serving %d Ingresses from %d objects (%.2f s); xDS on %s, health on port %d",
            len(self._world.objects(Ingress)),
            len(self._world),
            time.monotonic() - begun,
            self._settings.xds_address,
            self._web.port,
        )

    async def run(self) -> None:
        """Take over what changes, until cancelled. Raises Failure where the Source has nothing more to give."""
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._renew_certificate())]
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
        if self._replica is not None:
            await self._replica.close()
        if self._server is not None:
            await self._server.stop(min(5.0, 0.05 * len(list(self._fleet.connected()))))
        await self._web.stop()

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

    async def _certificate(self) -> tuple[bytes, bytes]:
        """The generated default certificate: shared by the replicas of a cluster, or kept in the state folder, or made anew."""
        if self._replica is not None:
            await self._replica.open()
            self._certificates = self._replica.certificates()
            return await anext(self._certificates)
        state = self._settings.state_dir
        return await asyncio.to_thread(default_certificate.keep, state) if state else await asyncio.to_thread(default_certificate.make)

    async def _renew_certificate(self) -> None:
        if self._certificates is None:
            return
        async for pair in self._certificates:
            async with self._one_at_a_time:
                await self._publish(self._world.tell(DEFAULT_CERTIFICATE, pair))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            async with self._one_at_a_time:
                await self._publish(self._world.tell(NOW, _now()))

    async def _take(self, change: Change) -> None:
        """One Change of the Source, from its objects to the streams. A big one is worked out in a thread, and streams go on meanwhile."""
        async with self._one_at_a_time:
            if len(change.put) + len(change.drop) > _MANY:
                keys = await asyncio.to_thread(self._world.apply, change.put, change.drop)
            else:
                keys = self._world.apply(change.put, change.drop)
            moved = await self._publish(keys)
            for place, problems in change.problems.items():
                self._hear(place, problems)
            if self._replica is not None:
                self._replica.changed(change, self._tables.problems() if moved else None)

    async def _publish(self, keys: Collection[Key]) -> bool:
        """From touched keys to the streams; returns whether Problems have come or gone."""
        begun = time.monotonic()
        far = len(keys) > _MANY or any(key[0] in _FAR for key in keys)
        update = await asyncio.to_thread(self._tables.apply, keys) if far else self._tables.apply(keys)
        changed = update.publish(self._snapshot)
        if changed:
            self._fleet.publish()
            _log.info("%s (%.1f ms)", _in_words(changed), (time.monotonic() - begun) * 1000)
        moved = self._tables.build.problem_changes()
        self._tell(moved)
        self._tell_failures()
        return bool(moved)

    def _hear(self, place: str, problems: tuple[Problem, ...]) -> None:
        """All Problems of a place that is no object: a file, a kind that is forbidden, reporting itself."""
        before = self._source_problems.get(place, ())
        self._source_problems[place] = problems
        self._tell(dict.fromkeys(before, False) | dict.fromkeys(problems, True))

    def _tell(self, moved: Mapping[Problem, bool]) -> None:
        """Log each Problem once, when it appears, and once when it is gone."""
        of_source = {p for problems in self._source_problems.values() for p in problems}
        for problem in sorted(moved, key=lambda p: (p.about, p.field, p.code)):
            stands = moved[problem] or problem in of_source
            if stands and problem not in self._told:
                self._told.add(problem)
                _log.log(_LEVELS[problem.severity], "%s", problem)
            elif not stands and problem in self._told:
                self._told.discard(problem)
                _log.info("no longer: %s", problem)

    def _waiting(self) -> list[str]:
        """What readiness waits for. Once there was a Snapshot nothing takes it back: what is served stays served."""
        return [] if self._snapshot.ready else self._source.waiting() or ["waiting for the first Snapshot"]

    def _tell_failures(self) -> None:
        failures = set(self._tables.build.failures.values())
        for failure in failures - self._failed:
            name, arguments = failure.unit.function.__name__, failure.unit.arguments
            _log.error("internal error in %s%r; please report it.\n%s", name, arguments, failure.traceback)
        self._failed = failures


def _replica(settings: Settings, world: World, tell: Tell) -> Replica | None:
    if settings.manifests:
        return None
    from xds.replica import Replica

    return Replica(settings, world, tell)


def _source(settings: Settings) -> Source:
    """Folders where there are any, else the API server; what the latter needs takes a quarter of a second to import."""
    if settings.manifests:
        return Manifests(settings.manifests)
    from xds.kube.cluster import Cluster

    return Cluster(settings)


def _in_words(changed: Mapping[str, frozenset[str]]) -> str:
    """What was published, such as "2 Cluster, 1 RouteConfiguration"."""
    return ", ".join(f"{len(names)} {type_url.rsplit('.', 1)[1]}" for type_url, names in changed.items())


def _with_usable_address(settings: Settings) -> Settings:
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
