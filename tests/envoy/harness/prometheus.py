"""A real Prometheus that scrapes one page, and what it answers to queries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from examples.apps import Address
from tests.envoy.harness.http1 import fetch
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process
from tests.envoy.harness.waiting import wait_until

Sample = tuple[Mapping[str, str], float]
"""The labels of a series, and its value."""


class Prometheus:
    """One Prometheus, which scrapes /metrics of addresses every second. `labels` are those of the targets, such as a pod's namespace.

    Skips the test where there is none (Debian package prometheus).
    """

    def __init__(self, pages: Sequence[Address], folder: Path, ports: Ports, labels: Mapping[str, str]) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("needs prometheus; on Debian: apt-get install prometheus")
        self.address: Address = ("127.0.0.1", ports.take())
        name = f"prometheus-{self.address[1]}"
        targets = [{"targets": [f"{host}:{port}" for host, port in pages], "labels": dict(labels)}]
        job = {"job_name": "pods", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": targets}
        config = folder / f"{name}.yml"
        config.write_text(json.dumps({"scrape_configs": [job]}))
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / name}", "--log.level=warn"]
        self.process = Process(name, [program, *arguments, f"--web.listen-address={self.address[0]}:{self.address[1]}"], folder)

    async def ready(self) -> None:
        """Wait until it answers queries; its process must have been started."""

        async def look() -> bool:
            assert self.process.running, self.process.report()
            return (await fetch(self.address, "/-/ready", host="prometheus")).status == 200

        await wait_until(look, "Prometheus to be ready")

    async def query(self, text: str) -> list[Sample]:
        """The series that a query finds now. Raises AssertionError for a query that is none."""
        found = await self._asked("/api/v1/query", query=text)
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    async def label_values(self, series: str, label: str) -> list[str]:
        """What Grafana's `label_values(series, label)` finds."""
        found: list[str] = await self._asked(f"/api/v1/label/{label}/values", **{"match[]": series})
        return found

    async def _asked(self, path: str, **parameters: str) -> Any:
        response = await fetch(self.address, f"{path}?{urlencode(parameters)}", host="prometheus")
        assert response.status == 200, response.text
        return json.loads(response.body)["data"]
