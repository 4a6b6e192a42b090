"""A control plane with its dashboard in this process, on a folder of manifests."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from tests.cli.site import write
from tests.dashboard.scene import write_company
from tests.envoy.harness.manifests import Manifest
from tests.server.client import Client
from xds.app import ControlPlane
from xds.config import Flags
from xds.protocol.discovery import Wire
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    text: str


@dataclasses.dataclass
class Looked:
    """A control plane on `folder`, and a client of its dashboard."""

    folder: Path
    flags: Flags
    plane: ControlPlane
    session: aiohttp.ClientSession

    @property
    def base(self) -> str:
        assert self.plane.dashboard_address is not None
        return f"http://{self.plane.dashboard_address}"

    async def get(self, path: str, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.base + path, headers=sent) as response:
            return Answer(response.status, response.headers, await response.text())

    async def put(self, *items: Manifest) -> None:
        """Write objects, and wait until there is a page of each Ingress among them."""
        for item in items:
            write(self.folder / item["metadata"]["namespace"], item)
        for meta in (item["metadata"] for item in items if item["kind"] == "Ingress"):
            await self.until(f"/ingress/{meta['namespace']}/{meta['name']}", lambda answer: answer.status == 200)

    async def until(self, path: str, true: Callable[[Answer], bool]) -> None:
        """Ask for a page again and again, for half a minute at most."""
        end = time.monotonic() + 30
        while not true(answer := await self.get(path)):
            assert time.monotonic() < end, answer.text
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def envoy(self, node: str, *, rejects: str = "") -> AsyncIterator[None]:
        """One that asks for everything and accepts it; or rejects the routes with these words."""
        async with grpc.aio.insecure_channel(self.flags.xds_address) as channel:
            client = Client(channel, Wire.DELTA, node=node)
            for type_url in (SECRET, CLUSTER, ENDPOINT, LISTENER, ROUTE):
                await client.subscribe(type_url, ["*"])

            async def answer() -> None:
                while True:
                    response = await client.read()
                    await client.answer(response, error=rejects if rejects and response.type_url == ROUTE else None)

            answering = asyncio.create_task(answer())
            yield
            answering.cancel()
            client.call.cancel()


def flags_of(folder: Path, tmp_path: Path, **more: Any) -> Flags:
    return Flags(
        manifests=(folder,),
        watch_ingress_without_class=True,
        xds_address=f"unix:{tmp_path}/xds",
        debug_address="",
        dashboard_address="127.0.0.1:0",
        healthz_host="127.0.0.1",
        healthz_port=0,
        **more,
    )


@asynccontextmanager
async def looked_at(folder: Path, flags: Flags) -> AsyncIterator[Looked]:
    plane = ControlPlane(flags)
    await plane.start()
    running = asyncio.create_task(plane.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield Looked(folder, flags, plane, session)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await plane.stop()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Looked]:
    folder = write_company(tmp_path / "m", datetime.datetime.now(datetime.UTC))
    async with looked_at(folder, flags_of(folder, tmp_path)) as found:
        yield found
