"""The real process: `python -m xds serve`, and what its clients see when it is told to end."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import grpc

from tests.envoy.harness import ControlPlane, Folder, Ports
from tests.envoy.harness.manifests import ingress
from tests.envoy.harness.waiting import wait_until
from tests.server.client import Client
from xds.protocol.discovery import Wire
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


async def test_no_name_and_no_link_in_the_folder_ends_or_blinds_the_process(tmp_path: Path) -> None:
    ports = Ports()
    folder = Folder(tmp_path / "manifests")
    control_plane = ControlPlane(folder.path, tmp_path, ports)
    async with control_plane:
        folder.write_text(os.fsdecode(b"\xff.yaml"), "# no more than a comment\n")
        (folder.path / "proc").symlink_to("/proc/self")
        os.mkfifo(folder.path / "fifo.yaml")
        (folder.path / "loop").symlink_to("loop")
        folder.write("late.yaml", ingress("late", "late.example", {"/": ("late", 80)}))

        async def serves_what_came_after() -> bool:
            metrics = (await control_plane.get("/metrics")).body.decode()
            return 'xds_objects{kind="Ingress"} 1.0' in metrics

        await wait_until(serves_what_came_after, "the Ingress that came last to be known")
        assert control_plane.process.running, control_plane.process.report()
        assert await control_plane.stop() == 0, control_plane.process.report()
    ports.release()


async def test_the_process_may_open_as_many_files_as_the_system_allows(tmp_path: Path) -> None:
    ports = Ports()
    control_plane = ControlPlane(Folder(tmp_path / "manifests").path, tmp_path, ports)
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, most))
    try:
        async with control_plane:
            assert resource.prlimit(control_plane.process.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
    ports.release()
