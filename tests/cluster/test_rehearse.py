"""`xds rehearse` with the objects of a real API server."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli import schemas
from tests.cluster.harness import HTTP, Cluster
from tests.envoy.harness import Balancer, run
from tests.envoy.harness.process import ROOT

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]


async def test_the_ingresses_of_an_api_server_are_rehearsed(cluster: Cluster) -> None:
    await cluster.deploy("rehearsed")
    await cluster.kubectl("create ingress rehearsed --class=nginx '--rule=rehearsed.test/cart*=rehearsed:80'")
    await cluster.until_answered("rehearsed", host="rehearsed.test", target="/cart")
    old = Balancer(HTTP)  # Envoy under another address stands for ingress-nginx
    sides = "--from http://{}:{} --to http://{}:{}".format(*await old.start(), *HTTP).split()
    words = ["--kubeconfig", str(cluster.kube.kubeconfig), *sides, "--allow", "rehearsed.test", "--rate", "200", "-o", "json"]
    code, out, err = await run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "xds", "rehearse", *words])
    await old.stop()
    await cluster.kubectl("delete ingress,service,deployment rehearsed")
    assert code == 0, err
    found = json.loads(out)
    schemas.check("rehearse", found)
    assert found["summary"]["rules_asked"] >= 1
    assert found["summary"]["alike"] == found["summary"]["requests"] > 5
