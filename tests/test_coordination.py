"""A control plane alone, and one of several: what the one does without, and that nobody has to ask which it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.site import WEB, write
from tests.envoy.harness.manifests import ingress
from xds.alone import Alone
from xds.coordination import Coordination
from xds.kube.current import version_of
from xds.kube.manifests import Folder
from xds.problem import Ref

STARTED = """
import asyncio, sys
from pathlib import Path
from xds.app import ControlPlane
from xds.config import Flags

async def start(folder):
    plane = ControlPlane(Flags(manifests=(folder / "m",), state_dir=folder / "state", xds_address=f"unix:{folder}/xds",
                               debug_address=f"unix:{folder}/debug", healthz_host="127.0.0.1", healthz_port=0))
    await plane.start()
    await plane.stop()

asyncio.run(start(Path(sys.argv[1])))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"kubernetes", "xds"}))
"""


def test_serving_folders_never_imports_the_kubernetes_client(tmp_path: Path) -> None:
    """It takes a fifth of the time in which `xds up` would serve without it."""
    write(tmp_path / "m", ingress("web", "a.example.com", {"/": WEB}))
    done = subprocess.run([sys.executable, "-c", STARTED, str(tmp_path)], check=False, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("['xds']\n", 0), done.stderr


async def test_alone_there_are_no_others_and_nothing_is_awaited_of_them(tmp_path: Path) -> None:
    alone: Coordination = Alone(tmp_path)
    await alone.open()
    assert [record async for record in alone.records()] == []
    assert await alone.others() == ()
    assert len([pair async for pair in alone.certificates()]) == 1
    await alone.close()


async def test_alone_a_record_outlives_the_process_where_there_is_a_folder_for_it(tmp_path: Path) -> None:
    Alone(tmp_path).save(b"what is held")
    assert await Alone(tmp_path).load() == b"what is held"
    Alone().save(b"what is held")
    assert await Alone().load() == b""


async def test_alone_the_version_of_an_object_is_that_of_its_file_now(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", ingress("web", "a.example.com", {"/": WEB}))
    alone, web = Alone(manifests=(folder,)), Ref("Ingress", "default", "web")
    [item] = [item for item in Folder((folder,)).read().put if item.meta.name == "web"]
    assert await alone.current(web) == version_of(item)
    assert await alone.current(Ref("Ingress", "default", "gone")) is None
    assert await Alone().current(web) == "", "nobody can say"
