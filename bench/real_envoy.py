"""A real Envoy that takes a Snapshot in, and what that costs it. One worker thread; the xDS server is in this process."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from bench.machine import cpu_of, memory
from tests.envoy.harness import Envoy, Ports, fetch, wait_until
from xds.config import Flags
from xds.render.bootstrap import bootstrap
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import CLUSTER, LISTENER, Snapshot

AS_DEPLOYED = ("--ignore-unknown-dynamic-fields",)
"""The flags of a deployed Envoy that count here. Tests have an Envoy without them: it counts the fields that it does not know."""
DEADLINE = 60.0
"""Seconds that an Envoy may take to take a Snapshot in."""
_STILL = 0.1
"""Seconds in which a process uses no CPU, after which it counts as done."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Seconds of CPU of an Envoy from its start until it serves all of a Snapshot, and its memory then, in MB."""

    cpu: float
    memory: float


def settings_for(ports: Ports, **more: object) -> Flags:
    """Listeners on loopback, on ports that are free."""
    taken = {"http_port": ports.take(), "https_port": ports.take(), "listen_address": "127.0.0.1"}
    return Flags(**{**taken, **more})  # type: ignore[arg-type]


async def take_in(snapshot: Snapshot, ports: Ports) -> Intake:
    """Serve a Snapshot, which must be ready, to a new Envoy over delta ADS until it has all of it."""
    fleet = Fleet(snapshot, CollectorRegistry(), identifier="bench")
    fleet.publish()
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="xds-bench-") as folder:
            begin = bootstrap(Flags(xds_address=server.address, node_id="bench"))
            envoy = Envoy(begin, Path(folder), ports, flags=AS_DEPLOYED)
            try:
                await envoy.start(ready=False)
                return await _all_taken_in(envoy, snapshot, len(begin["static_resources"]["clusters"]))
            finally:
                await envoy.stop()
    finally:
        await server.stop(0)


async def _all_taken_in(envoy: Envoy, snapshot: Snapshot, own_clusters: int) -> Intake:
    """What it has used once it has the Snapshot, beside as many clusters of its bootstrap."""
    pid = envoy.process.pid

    async def ready() -> bool:
        return (await fetch(envoy.admin, "/ready", host="admin")).status == 200

    await wait_until(ready, "Envoy to be ready", deadline=DEADLINE)
    used = await until_still(pid)
    found = Intake(used, memory(pid))
    stats = await envoy.stats("^(cluster_manager|listener_manager)\\.")
    assert stats["cluster_manager.active_clusters"] == len(snapshot[CLUSTER]) + own_clusters, stats
    assert stats["cluster_manager.warming_clusters"] == 0, stats
    assert stats["listener_manager.total_listeners_active"] == len(snapshot[LISTENER]), stats
    return found


async def until_still(pid: int) -> float:
    """Wait until a process has used next to nothing for a moment; returns the seconds of CPU that it had used by then."""
    before = cpu_of(pid)
    while True:
        await asyncio.sleep(_STILL)
        now = cpu_of(pid)
        if now - before <= _STILL / 10:
            return before
        before = now
