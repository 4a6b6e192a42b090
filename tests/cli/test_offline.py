"""Objects of an API server as they are now, for a command that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

import xds.offline
from tests.envoy.harness.manifests import endpoint_slice, ingress, service
from tests.kube.scripted import Scripted, serving
from xds.config import Failure, Flags
from xds.kube.objects import Ingress
from xds.offline import load_from_api


def fill(server: Scripted) -> None:
    for plural, item in (
        ("services", service("web")),
        ("endpointslices", endpoint_slice("web", [("10.0.0.1", 8080)])),
        ("ingresses", ingress("web", "a.test", {"/": ("web", 80)}, ingress_class=None)),
    ):
        meta = item["metadata"]
        body = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
        server.put(plural, meta["name"], meta["namespace"], **body, metadata=meta)


def flags(server: Scripted, folder: Path) -> Flags:
    return Flags(kubeconfig=server.kubeconfig(folder / "config"), watch_ingress_without_class=True)


async def test_everything_is_listed_once_and_nothing_is_left_open(tmp_path: Path) -> None:
    async with serving() as server:
        fill(server)
        loaded = await load_from_api(flags(server, tmp_path))
        assert [item.meta.name for item in loaded.world.objects(Ingress)] == ["web"]
        assert "a.test" in loaded.tables.hosts.values
        assert loaded.faults == ()
    assert {request.verb for request in server.requests} <= {"list", "watch", "get"}


async def test_an_api_server_that_does_not_answer_is_a_failure_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds.offline, "LISTING", 1)
    async with serving() as server:
        server.forbidden.add(("list", "ingresses"))
        with pytest.raises(Failure, match="the API server has not answered within 1 s: waiting for "):
            await load_from_api(flags(server, tmp_path))


async def test_a_kubeconfig_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure):
        await load_from_api(Flags(kubeconfig=tmp_path / "none"))
