"""A control plane in this process, whose objects a test puts in, and its metrics as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.envoy.harness.tls import Certificate
from xds.app import ControlPlane
from xds.config import Flags
from xds.kube.objects import Backend, Ingress, Meta, Object, Path, Rule, Secret, Tls
from xds.kube.source import Change
from xds.problem import Ref

LOOPBACK = "127.0.0.1"
SETTINGS = Flags(
    watch_ingress_without_class=True, xds_address=f"{LOOPBACK}:0", healthz_host=LOOPBACK, healthz_port=0, listen_address=LOOPBACK
)


class Given:
    """A Source of the Changes that a test puts in; never stale."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Change] = asyncio.Queue()

    def put(self, *objects: Object, drop: Sequence[Ref] = ()) -> None:
        self._queue.put_nowait(Change(tuple(objects), tuple(drop)))

    async def changes(self) -> AsyncGenerator[Change]:
        while True:
            yield await self._queue.get()

    def waiting(self) -> list[str]:
        return []

    def staleness(self, now: float) -> Mapping[str, float]:
        return {}

    async def close(self) -> None:
        return None


class Site:
    """A control plane that is alone. What `put` puts in is published when it returns; nothing else happens, unless it is `started`."""

    def __init__(self, flags: Flags = SETTINGS) -> None:
        self._source = Given()
        self.control_plane = ControlPlane(flags, self._source)

    async def put(self, *objects: Object, drop: Sequence[Ref] = ()) -> None:
        await self.control_plane.apply(Change(tuple(objects), tuple(drop)))

    @asynccontextmanager
    async def started(self, *objects: Object) -> AsyncIterator[None]:
        """It serves these objects, and runs."""
        self._source.put(*objects)
        try:
            await self.control_plane.start()
            running = asyncio.create_task(self.control_plane.run())
            try:
                yield
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            await self.control_plane.stop()

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The series of one metric: the values of its labels, in the order of their names → value."""
        return values(self.control_plane.registry, name)


def scrape(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(scrape(registry))
    samples = (sample for family in families for sample in family.samples)
    return {tuple(value for _, value in sorted(s.labels.items())): s.value for s in samples if s.name == name}


def ingress(name: str, *, annotations: Mapping[str, str] | None = None, tls: str = "") -> Ingress:
    """One host, `<name>.test`, one path, a Service that does not exist."""
    rule = Rule(f"{name}.test", (Path("/", "Prefix", Backend(name, 80)),))
    entries = (Tls((f"{name}.test",), tls),) if tls else ()
    return Ingress(meta=Meta(namespace="default", name=name, annotations=dict(annotations or {})), rules=(rule,), tls=entries)


def secret(name: str, certificate: Certificate) -> Secret:
    """A kubernetes.io/tls Secret."""
    data = {"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem}
    return Secret(meta=Meta(namespace="default", name=name), type="kubernetes.io/tls", data=data)
