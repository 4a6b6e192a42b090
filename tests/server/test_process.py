"""The real process: `python -m xds serve`, and what its clients see when it is told to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from tests.envoy.harness import ControlPlane, Folder, Ports
from tests.server.client import Client
from xds.protocol.session import Wire
from xds.snapshot import CLUSTER


async def test_sigterm_ends_the_streams_one_after_the_other_and_then_the_process(tmp_path: Path) -> None:
    ports = Ports()
    control_plane = ControlPlane(Folder(tmp_path / "manifests").path, tmp_path, ports)
    loop = asyncio.get_running_loop()
    async with control_plane, grpc.aio.insecure_channel(":".join(map(str, control_plane.xds))) as channel:
        clients = [Client(channel, Wire.DELTA, node=str(n)) for n in range(20)]
        for client in clients:
            await client.subscribe(CLUSTER)
            await client.read()

        async def ended(client: Client) -> float:
            assert await client.ended() == (grpc.StatusCode.UNAVAILABLE, "the management server is stopping")
            return loop.time()

        ending = asyncio.gather(*map(ended, clients))
        code = await control_plane.stop()
        ends = await ending
        assert code == 0, control_plane.process.report()
        assert max(ends) - min(ends) > 0.1, "20 streams have a second"
    ports.release()
