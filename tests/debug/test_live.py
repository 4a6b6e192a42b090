"""The debug server of a whole control plane, on a folder of manifests: what it tells is what is."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy_data_plane.envoy.service.status.v3 import ClientStatusRequest, ClientStatusResponse

from tests.cli import schemas
from tests.cli.site import WEB, good, write
from tests.debug.conftest import Caller
from tests.debug.test_server import SERVING, health
from tests.envoy.harness.manifests import ingress
from tests.envoy.harness.tls import Certificate, make_certificate
from tests.server.client import Client
from xds.app import ControlPlane
from xds.config import Flags
from xds.debug import v1
from xds.debug.csds import SERVICE
from xds.explain.document import explain
from xds.explain.route_of import parse_url
from xds.offline import load
from xds.protocol.discovery import Wire
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET

URL = "https://a.example.com/api/x"


@dataclass
class Site:
    """A control plane that runs on `folder`, and calls to its debug server and its xDS server."""

    folder: Path
    settings: Flags
    plane: ControlPlane
    channel: grpc.aio.Channel
    xds: grpc.aio.Channel

    @property
    def call(self) -> Caller:
        return Caller(self.channel)

    @asynccontextmanager
    async def envoy(self, node: str = "envoy-1") -> AsyncIterator[Client]:
        """One that asks for everything and accepts it, as long as it is there."""
        client = Client(self.xds, Wire.DELTA, node=node)
        for type_url in (SECRET, CLUSTER, ENDPOINT, LISTENER, ROUTE):
            await client.subscribe(type_url, ["*"])
        accepting = asyncio.create_task(self._accept(client))
        yield client
        accepting.cancel()
        client.call.cancel()

    async def _accept(self, client: Client) -> None:
        while True:
            await client.answer(await client.read())

    async def programmed(self, name: str, **more: Any) -> v1.ProgrammedResponse:
        request = v1.ProgrammedRequest(namespace="default", name=name, wait=True, timeout_seconds=50.0, **more)
        found: v1.ProgrammedResponse = await self.call("Debug/Programmed", request)
        return found


@pytest.fixture
def pair() -> Certificate:
    return make_certificate(["*.example.com"])


@pytest.fixture
async def site(tmp_path: Path, pair: Certificate) -> AsyncIterator[Site]:
    folder = write(tmp_path / "m", *good(pair))
    settings = Flags(
        manifests=(folder,),
        watch_ingress_without_class=True,
        xds_address=f"unix:{tmp_path}/xds",
        debug_address=f"unix:{tmp_path}/debug",
        healthz_host="127.0.0.1",
        healthz_port=0,
    )
    plane = ControlPlane(settings)
    await plane.start()
    running = asyncio.create_task(plane.run())
    async with (
        grpc.aio.insecure_channel(settings.debug_address) as channel,
        grpc.aio.insecure_channel(settings.xds_address) as xds,
    ):
        yield Site(folder, settings, plane, channel, xds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await plane.stop()


async def test_explain_is_what_the_command_prints_and_names_what_envoy_names(site: Site) -> None:
    async with site.envoy():
        await site.programmed("web")
        found: v1.ExplainResponse = await site.call("Debug/Explain", v1.ExplainRequest(url=URL))
    document = json.loads(found.json)
    schemas.check("explain", document)
    loaded = load(site.settings)
    assert document == explain(loaded.world, loaded.tables, site.settings, loaded.problems, parse_url(URL))
    assert (found.answered, found.virtual_host, found.cluster) == (True, "a.example.com", "default/api/80")
    assert found.route == document["route"]["name"] != ""
    assert (found.node_ids, found.waiting_node_ids) == (["envoy-1"], [])


async def test_explain_of_a_host_that_nobody_serves_is_about_the_catch_all(site: Site) -> None:
    found: v1.ExplainResponse = await site.call("Debug/Explain", v1.ExplainRequest(url="http://nobody.example/"))
    assert (found.answered, found.virtual_host, found.cluster, found.route) == (False, "*", "", "")


@pytest.mark.parametrize(
    ("request_", "word"), [(v1.ExplainRequest(url="ftp://x"), "ftp"), (v1.ExplainRequest(url="x", method="G T"), "G T")]
)
async def test_explain_of_what_cannot_be_asked_for_is_refused(site: Site, request_: v1.ExplainRequest, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.call("Debug/Explain", request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert word in str(refused.value.details())


async def test_an_ingress_is_programmed_once_every_envoy_has_it_as_it_is_in_its_file(site: Site) -> None:
    async with site.envoy("a"), site.envoy("b"):
        before = await site.programmed("web")
        write(site.folder, ingress("web", "a.example.com", {"/": WEB, "/more": ("api", 80)}))
        after = await site.programmed("web")
    assert (after.accepted, after.envoys, after.programmed) == (2, 2, True)
    assert after.content_hash != before.content_hash
    assert {resource.name for resource in after.resources} >= {"ingress", "default/api/80"}


async def test_what_is_not_there_is_not_waited_for(site: Site) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await site.programmed("nobody")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_all_ingresses_are_listed(site: Site) -> None:
    found: v1.ListProgrammedResponse = await site.call("Debug/ListProgrammed", v1.ListProgrammedRequest())
    assert [one.object.name if one.object else "" for one in found.objects] == ["web", "wild"]


async def test_a_change_stands_in_the_history_with_its_cause(site: Site) -> None:
    async with site.envoy():
        await site.programmed("web")
        write(site.folder, ingress("web", "a.example.com", {"/other": WEB}))
        await site.programmed("web")
        found: v1.HistoryResponse = await site.call("Debug/History", v1.HistoryRequest())
    newest = next(change for change in found.changes if change.causes_total == 1)
    assert newest.causes[0].object == v1.ObjectReference(kind="Ingress", namespace="default", name="web")
    assert newest.causes[0].verb is v1.Verb.CHANGED
    assert ROUTE in {changed.type_url for changed in newest.resources}


async def test_problems_of_files_are_told_with_those_of_objects(site: Site) -> None:
    (site.folder / "bad.yaml").write_text("a: [")
    write(site.folder, ingress("late", "c.example.com", {"/": ("gone", 80)}))
    async with asyncio.timeout(120):
        while True:
            found: v1.ProblemsResponse = await site.call("Debug/Problems", v1.ProblemsRequest())
            files = {problem.place.file if problem.place else "" for problem in found.problems}
            if {"bad.yaml", "ingress-late.json"} <= files:
                break
            await asyncio.sleep(0.01)


async def test_no_answer_has_a_private_key(site: Site, pair: Certificate) -> None:
    """Neither as DER nor as PEM, nor as PEM in base64."""
    async with site.envoy():
        await site.programmed("web")
        asked = [
            ("Fleet", v1.FleetRequest()),
            ("Problems", v1.ProblemsRequest()),
            ("Explain", v1.ExplainRequest(url=URL)),
            ("Programmed", v1.ProgrammedRequest(namespace="default", name="web")),
            ("ListProgrammed", v1.ListProgrammedRequest()),
            ("History", v1.HistoryRequest()),
        ]
        said = [bytes(await site.call(f"Debug/{name}", request)) for name, request in asked]
        raw = await site.channel.unary_unary(f"/{SERVICE}/FetchClientStatus")(bytes(ClientStatusRequest()))
        said.append(raw)
        said += [raw async for raw in site.call.stream("ClientStatusDiscoveryService/StreamClientStatus", ClientStatusRequest())]
    (client,) = ClientStatusResponse.parse(raw).config
    secrets = [config.name for config in client.generic_xds_configs if config.type_url == SECRET]
    assert secrets == ["default", "default/tls"]  # that is, there was something to hide
    everything = b"".join(said)
    assert b"[redacted]" in everything
    shown = _shown(pair.key_pem)
    assert len(shown) > 5
    assert [form for form in shown if form in everything] == []


def _shown(pem: bytes) -> list[bytes]:
    """What would be seen of a key: its number, the pieces of PEM that have some of it, and these in a base64 of their own."""
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    der = base64.b64decode(b"".join(lines))
    start = der.index(number)
    text = base64.b64encode(der)[-(-start // 3) * 4 : (start + len(number)) // 3 * 4]
    pieces = [piece for line in lines for n in range(0, len(line), 8) if (piece := line[n : n + 8]) in text]
    in_base64 = (base64.b64encode(piece[shift:])[:-4] for piece in (*lines, b"PRIVATE KEY") for shift in range(3))
    return [number, *pieces, b"PRIVATE KEY", *(form for form in in_base64 if form in base64.b64encode(pem))]


async def test_it_is_healthy_until_the_control_plane_stops(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    settings = Flags(
        manifests=(folder,),
        xds_address=f"unix:{tmp_path}/xds",
        debug_address=f"unix:{tmp_path}/debug",
        healthz_host="127.0.0.1",
        healthz_port=0,
    )
    plane = ControlPlane(settings)
    await plane.start()
    async with grpc.aio.insecure_channel(settings.debug_address) as channel:
        assert await health(channel) == {SERVING}
        await plane.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await health(channel)


async def test_switched_off_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "m")
    plane = ControlPlane(
        Flags(manifests=(folder,), xds_address=f"unix:{tmp_path}/xds", debug_address="", healthz_host="127.0.0.1", healthz_port=0)
    )
    with caplog.at_level("INFO"):
        await plane.start()
        await plane.stop()
    assert "debug server" not in caplog.text
