"""An Envoy that is there before the first Snapshot: it waits for that, and serves all or nothing."""

from __future__ import annotations

import asyncio

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, wait_until
from tests.envoy.harness.manifests import backend, ingress

pytestmark = pytest.mark.envoy

HOSTS = 300


async def test_a_new_envoy_is_ready_once_it_has_everything(steady_site: Site) -> None:
    site = steady_site
    app = await site.run(HttpApp("app"))
    names = [f"web{number:03}" for number in range(HOSTS)]
    site.folder.write("ingresses.yaml", *(ingress(name, f"{name}.test", {"/": (name, 80)}) for name in names))
    site.folder.write("backends.yaml", *(item for name in names for item in backend(name, app)))
    plane = await site.start_control_plane(ready=False)

    async def listens() -> bool:
        _, writer = await asyncio.open_connection(*plane.xds)
        writer.close()
        return True

    await wait_until(listens, "the xDS port to be open")
    envoy = await site.start_envoy()
    answers = await asyncio.gather(*(site.get(host=f"{name}.test") for name in [*names[::20], names[-1]]))
    assert {answer.app for answer in answers} == {"app"}
    assert {f"default/{name}/80" for name in names} <= (await envoy.clusters()).keys()
    assert await envoy.stats("^cluster_manager.warming_clusters$") == {"cluster_manager.warming_clusters": 0}
