"""The dashboard of a control plane in a cluster: what kubectl has just written is on it, as the API server has it."""

from __future__ import annotations

import html
import re

import pytest

from tests.cluster.harness import Cluster
from tests.envoy.harness import fetch, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]


async def shown(cluster: Cluster, path: str) -> tuple[int, str]:
    """The status of a page and what is read on it, in one line."""
    found = await fetch(cluster.control_plane.dashboard, path, host="localhost")
    return found.status, " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found.text)).split())


async def test_what_kubectl_writes_and_deletes_is_shown_and_programmed(cluster: Cluster) -> None:
    await cluster.deploy("looked")
    await cluster.kubectl("create ingress looked --class=nginx --rule=looked.test/*=looked:80")
    version = await cluster.kubectl("get ingress looked -o jsonpath={.metadata.resourceVersion}")

    async def programmed() -> bool:
        status, text = await shown(cluster, "/ingress/default/looked")
        return status == 200 and re.search(r"on ([1-9]\d*) of \1 Envoy", text) is not None and "default/looked 80 1 of 1" in text

    await wait_until(programmed, "the page to show that every Envoy has it")
    read = re.search(r"Version (\d+) ", (await shown(cluster, "/ingress/default/looked"))[1])
    assert read is not None
    assert int(read[1]) >= int(version)  # the addresses in its status make one more
    assert "looked.test / default/looked looked:80 ok" in (await shown(cluster, "/?q=looked.test"))[1]
    assert re.search(r"Ingress [\d.]+ (s|min) ago", (await shown(cluster, "/fleet"))[1])
    assert "default/looked added" in (await shown(cluster, "/changes"))[1]
    await cluster.kubectl("delete ingress looked")

    async def gone() -> bool:
        return (await shown(cluster, "/ingress/default/looked"))[0] == 404

    await wait_until(gone, "the page of what was deleted to go")
