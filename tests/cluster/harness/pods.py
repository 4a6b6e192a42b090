"""What runs in pods: the applications of the examples, each pod at an address of its own.

kwok plays the kubelets as the API server sees them. What belongs here is what it cannot do: give a pod a node (the scheduler's work), run
its containers, and tell where they listen. The last part of an image's name says what it is: `apps/http`, `apps/tcp`, `apps/udp`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from examples.apps import APPS, App
from tests.cluster.harness import network
from tests.cluster.harness.kube import NODE_NAME, PORT, Kube

ADDRESS = "xds.test/address"
"""The annotation by which kwok learns of the address, and that all servers listen there."""
PAUSE = 0.1
"""Seconds until an API server that went away is asked again."""

SILENCE = aiohttp.ClientTimeout(total=None, sock_read=60)
"""After which a watch is begun anew: the API server may have gone without a word."""

Json = dict[str, Any]


class Pods:
    """Runs pods from `start` to `stop`. A pod's servers listen before it is ready, until it is gone; no address is given twice.

    An application's name is the value of the pod's label `app`, which `kubectl create deployment` writes.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._addresses = ipaddress.ip_network(network.PODS).hosts()
        self._pods: dict[str, _Pod] = {}
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to run pods, those that are there and those that come."""
        self._running = asyncio.create_task(self._run(), name="pods")

    async def stop(self) -> None:
        """End all applications."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._keep(set())

    async def _run(self) -> None:
        """Follow the API server, through its absences."""
        headers = {"Authorization": f"Bearer {self._kube.token}"}
        connector = aiohttp.TCPConnector(ssl=self._kube.trust())
        async with aiohttp.ClientSession(f"https://{network.API}:{PORT}", headers=headers, connector=connector) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    await self._follow(session)
                await asyncio.sleep(PAUSE)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        async with session.get("/api/v1/pods", raise_for_status=True) as answer:
            found = await answer.json()
        await self._keep({pod["metadata"]["uid"] for pod in found["items"]})
        for pod in found["items"]:
            await self._take(session, pod)
        query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        async with session.get("/api/v1/pods", params=query, raise_for_status=True, timeout=SILENCE) as answer:
            while line := await answer.content.readline():
                event = json.loads(line)
                if event["type"] == "DELETED":
                    await self._end(event["object"]["metadata"]["uid"])
                elif event["type"] == "ERROR":
                    return
                else:
                    await self._take(session, event["object"])

    async def _take(self, session: aiohttp.ClientSession, pod: Json) -> None:
        """Do what is next for a pod: give it a node, or run it. Where the API server went away meanwhile, that is done again."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if "deletionTimestamp" in meta or ADDRESS in meta.get("annotations", {}):
            return
        if "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
            await self._write(session.post(f"{path}/binding", json=binding))
            return
        if meta["uid"] not in self._pods:
            address = str(next(self._addresses))
            apps = [await _started(container, meta, address) for container in pod["spec"]["containers"] if _runs(container)]
            self._pods[meta["uid"]] = _Pod(address, apps)
        patch = json.dumps({"metadata": {"annotations": {ADDRESS: self._pods[meta["uid"]].address}}})
        await self._write(session.patch(path, data=patch, headers={"Content-Type": "application/merge-patch+json"}))

    async def _write(self, request: Any) -> None:
        """Send what is to be written; a pod may be gone by then."""
        async with request as answer:
            assert answer.status in (200, 201, 404, 409), await answer.text()

    async def _keep(self, uids: set[str]) -> None:
        """End the applications of all pods but these."""
        for uid in self._pods.keys() - uids:
            await self._end(uid)

    async def _end(self, uid: str) -> None:
        if pod := self._pods.pop(uid, None):
            await asyncio.gather(*(app.stop() for app in pod.apps))


@dataclass(frozen=True, slots=True)
class _Pod:
    """Where it is, and what runs in it."""

    address: str
    apps: list[App]


def _runs(container: Mapping[str, Any]) -> bool:
    return str(container["image"]).startswith("apps/")


async def _started(container: Json, meta: Json, address: str) -> App:
    """An application on the first port of its container."""
    app = APPS[container["image"].partition(":")[0].removeprefix("apps/")](meta.get("labels", {}).get("app", meta["name"]))
    await app.start(address, container["ports"][0]["containerPort"])
    return app
