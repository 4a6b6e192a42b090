"""`xds status … --wait` in a cluster: what kubectl has just written is on every Envoy, whichever replica is asked."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.cluster.harness import Cluster
from tests.envoy.harness import PATIENCE, ControlPlane, run, wait_until
from tests.envoy.harness.control_plane import XDS

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]


async def waited(replica: ControlPlane, name: str, seconds: int = 30) -> dict[str, Any]:
    """What `--wait` says, and its exit code."""
    words = ["status", "ingress", f"default/{name}", "--wait", "--timeout", f"{seconds}s", "-o", "json"]
    code, out, err = await run([*XDS, *words, "--debug-address", "{}:{}".format(*replica.debug)], deadline=seconds + PATIENCE)
    assert out, err
    return {"code": code} | json.loads(out)


async def test_after_wait_an_ingress_answers_as_it_was_written_last(cluster: Cluster) -> None:
    for app in ("before", "after"):
        await cluster.deploy(app)
    await cluster.kubectl("create ingress waited --class=nginx --rule=waited.test/*=before:80")
    for app in ("before", "after", "before"):
        patch = [{"op": "replace", "path": "/spec/rules/0/http/paths/0/backend/service/name", "value": app}]
        await cluster.kubectl(f"patch ingress waited --type=json -p='{json.dumps(patch)}'")
        assert (await waited(cluster.control_plane, "waited"))["code"] == 0
        assert (await cluster.get("/", host="waited.test")).app == app


async def test_the_envoys_of_every_replica_count_whichever_is_asked(cluster: Cluster) -> None:
    await cluster.deploy("counted")
    await cluster.kubectl("create ingress counted --class=nginx --rule=counted.test/*=counted:80")
    here = (await waited(cluster.control_plane, "counted"))["envoys"]
    async with cluster.replica() as other, cluster.another_envoy(await other.bootstrap("envoy-9")) as theirs:

        async def counted() -> bool:
            found = [await waited(replica, "counted", 5) for replica in (cluster.control_plane, other)]
            assert [(each["accepted"], each["envoys"], each["code"]) for each in found] == [(here + 1, here + 1, 0)] * 2, found
            return True

        await wait_until(counted, "both replicas to count all Envoys")
        theirs.process.signal(signal.SIGSTOP)
        try:
            await cluster.kubectl("annotate ingress counted nginx.ingress.kubernetes.io/proxy-read-timeout=77 --overwrite")

            async def late() -> bool:
                found = await waited(cluster.control_plane, "counted", 4)
                assert (found["accepted"], found["envoys"], found["code"]) == (here, here + 1, 1), found
                assert [node.partition(" of ")[0] for node in found["waiting"]] == ["one"]
                return True

            await wait_until(late, "all Envoys but one to have it")
        finally:
            theirs.process.signal(signal.SIGCONT)
        assert [found["code"] for found in await asyncio.gather(*(waited(r, "counted") for r in (cluster.control_plane, other)))] == [0, 0]

    async def gone() -> bool:
        return bool((await waited(cluster.control_plane, "counted", 5))["envoys"] == here)

    await wait_until(gone, "the replica that ended to be forgotten")
