"""Secrets with passwords, as people change them with kubectl: who comes in follows."""

from __future__ import annotations

import base64

import pytest

from tests.cluster.harness import Cluster
from tests.envoy.harness import wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="package")]

HOST = "shut.test"
PREFIX = "nginx.ingress.kubernetes.io"


async def until(cluster: Cluster, status: int, password: str) -> None:
    headers = [("Authorization", "Basic " + base64.b64encode(f"ada:{password}".encode()).decode())]

    async def look() -> bool:
        return (await cluster.get("/", host=HOST, headers=headers)).status == status

    await wait_until(look, f"{password} to get {status}")


async def test_passwords_follow_the_secret_that_is_named(cluster: Cluster) -> None:
    await cluster.deploy("shut")
    await cluster.kubectl("create secret generic users --from-literal=auth='ada:{PLAIN}first'")
    notes = f"--annotation={PREFIX}/auth-type=basic --annotation={PREFIX}/auth-secret=users"
    try:
        await cluster.kubectl(f"create ingress shut --class=nginx --rule='{HOST}/*=shut:80' {notes}")
        await until(cluster, 200, "first")
        await until(cluster, 401, "second")
        await cluster.kubectl("""patch secret users --type=merge -p='{"stringData": {"auth": "ada:{PLAIN}second"}}'""")
        await until(cluster, 200, "second")
        await until(cluster, 401, "first")
        await cluster.kubectl("delete secret users")
        await until(cluster, 503, "second")
        await cluster.kubectl("create secret generic users --from-literal=auth='ada:{PLAIN}third'")
        await until(cluster, 200, "third")
    finally:
        await cluster.kubectl("delete ingress shut")
        await cluster.kubectl("delete secret users --ignore-not-found")
