"""xDS over a Unix socket: the server, the bootstrap and a real Envoy at both ends of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.envoy.harness import Site, ingress
from tests.envoy.harness.control_plane import XDS
from tests.envoy.harness.process import run

pytestmark = pytest.mark.envoy


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the paths of sockets are."""
    return tmp_path_factory.mktemp("s")


async def test_an_envoy_is_served_over_a_socket_and_again_after_a_restart(site: Site, folder: Path) -> None:
    """The socket of a server that was killed is still there; the next one takes its place, and Envoy finds it."""
    address = f"--xds-address=unix:{folder}/xds.sock"
    plane = await site.start_control_plane(address)
    code, out, err = await run([*XDS, "bootstrap", address, "--node-id=envoy-1"])
    assert (code, err) == (0, "")
    envoy = await site.static_envoy(out)
    await plane.kill()
    assert (folder / "xds.sock").is_socket()
    await plane.start()
    site.folder.write("web.yaml", ingress("web", "web.example", {"/": ("web", 80)}))
    await envoy.settled(lambda versions: "ingress" in versions["route"], "the route table")
    await site.until_status("/", 503, host="web.example")


async def test_a_second_server_leaves_the_socket_to_the_first(site: Site, folder: Path) -> None:
    address = f"--xds-address=unix:{folder}/xds.sock"
    await site.start_control_plane(address)
    health = ["--healthz-host=127.0.0.1", f"--healthz-port={site.ports.take()}"]
    code, _, err = await run([*XDS, "serve", f"--manifests={site.folder.path}", address, *health])
    assert code == 1
    assert "xds.sock: another program listens there." in err
