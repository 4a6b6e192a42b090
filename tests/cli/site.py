"""A folder of manifests that the tests of the offline commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli import schemas
from tests.envoy.harness.manifests import Manifest, config_map, endpoint_slice, ingress, secret_tls, service
from tests.envoy.harness.tls import Certificate, make_certificate
from xds.cli import main

WEB = ("web", 80)


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Say = Callable[..., Said]


def write(folder: Path, *objects: Manifest) -> Path:
    """Write each object into a file named after it; returns the folder."""
    folder.mkdir(exist_ok=True)
    for item in objects:
        (folder / f"{item['kind'].lower()}-{item['metadata']['name']}.json").write_text(json.dumps(item))
    return folder


def certificate() -> Certificate:
    """One for *.example.com."""
    return make_certificate(["*.example.com"])


def good(pair: Certificate) -> tuple[Manifest, ...]:
    """No problems found."""
    return (
        ingress("web", "a.example.com", {"/": WEB, "/api": ("api", 80)}, tls={"tls": ["a.example.com"]}),
        ingress("wild", "*.wild.example.com", {"/": WEB}),
        *(service("web"), endpoint_slice("web", [("10.0.0.1", 8080)])),
        *(service("api"), endpoint_slice("api", [("10.0.0.2", 8080)])),
        secret_tls("tls", pair),
    )


def bad() -> tuple[Manifest, ...]:
    """An Ingress that loses a path, has a value that cannot be read, and a Service that is not there."""
    given = {"proxy-body-size": "much", "no-such-thing": "x", "load-balance": "ewma"}
    return (
        ingress("late", "a.example.com", {"/api": WEB, "/gone": ("gone", 80)}, given),
        ingress("foreign", "b.example.com", {"/": WEB}, {"proxy-body-size": "8m"}, ingress_class=None)
        | {"metadata": {"name": "foreign", "namespace": "default", "annotations": {"kubernetes.io/ingress.class": "traefik"}}},
        config_map("config", {"proxy-read-timeout": "soon", "worker-processes": "4"}),
    )


def _schema(command: str, words: tuple[object, ...]) -> str:
    if command == "check" and "--live" in words:
        return "check-live"
    return "status-object" if command == "status" and {"ingress", "configmap"}.intersection(words) else command


def speaker(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process; JSON output is checked against its schema."""

    def say(command: str, *words: object) -> Said:
        code = main([command, *map(str, words)])
        said = Said(code, *capsys.readouterr())
        if "json" in words and said.out and "--static" not in words:
            schemas.check(_schema(command, words), said.json)
        return said

    return say
