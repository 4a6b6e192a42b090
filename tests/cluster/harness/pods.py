"""What runs in pods: the applications of the examples, each pod at an address of its own.

kwok plays the kubelets as the API server sees them. What belongs here is what it cannot do: give a pod a node (the scheduler's work), run
its containers, tell where they listen, and end them. The last part of an image's name says what it is: `apps/http`, `apps/tcp`, `apps/udp`.

A pod that is deleted ends as on a node: its containers go on serving for as long as their preStop hook sleeps, and then end at once, with
their connections; after that its object is deleted for good. Without a hook they end while others still send requests there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
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
    """Runs pods from `start` to `stop`. A pod's servers listen before it is ready; no address is given twice.

    What the API server refuses is tried again, for as long as it takes: a busy one refuses what it takes a moment later. A pod of which it
    refuses everything is in nobody's way.

    An application's name is the value of the pod's label `app`, which `kubectl create deployment` writes.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._addresses = ipaddress.ip_network(network.PODS).hosts()
        self._pods: dict[str, _Pod] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._running: asyncio.Task[None] | None = None
        self._refused: deque[str] = deque(maxlen=20)

    async def start(self) -> None:
        """Begin to run pods, those that are there and those that come."""
        self._running = asyncio.create_task(self._run(), name="pods")

    async def stop(self) -> None:
        """End all applications."""
        tasks = [*self._ending.values(), *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keep(set())

    def report(self) -> str:
        """Return what the API server refused last, and what has ended this, for people."""
        ended = self._running is not None and self._running.done() and not self._running.cancelled() and self._running.exception()
        return "\n".join([f"pods ({f'ended with {ended!r}' if ended else 'running'}), refused:", *self._refused])

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
        if not all([await self._took(session, pod) for pod in found["items"]]):
            return
        query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        async with session.get("/api/v1/pods", params=query, raise_for_status=True, timeout=SILENCE) as answer:
            while line := await answer.content.readline():
                event = json.loads(line)
                if event["type"] == "DELETED":
                    await self._end(event["object"]["metadata"]["uid"])
                elif event["type"] == "ERROR" or not await self._took(session, event["object"]):
                    return

    async def _took(self, session: aiohttp.ClientSession, pod: Json) -> bool:
        """Do what is next for a pod. Returns False where the API server refuses that: then all pods are to be looked at again."""
        try:
            await self._take(session, pod)
        except aiohttp.ClientResponseError as error:
            self._refused.append(f"{error.request_info.method} {error.request_info.url.path}: {error.status} {error.message}")
            return False
        return True

    async def _take(self, session: aiohttp.ClientSession, pod: Json) -> None:
        """Do what is next for a pod: give it a node, run it, or end it. Where the API server went away meanwhile, that is done again."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if "deletionTimestamp" in meta:
            if meta["uid"] not in self._ending:
                self._ending[meta["uid"]] = asyncio.create_task(self._terminate(session, pod, path), name=f"ending of {meta['name']}")
            return
        if ADDRESS in meta.get("annotations", {}):
            return
        if "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
            await _write(session.post(f"{path}/binding", json=binding))
            return
        if meta["uid"] not in self._pods:
            address = str(next(self._addresses))
            apps = [await _started(container, meta, address) for container in pod["spec"]["containers"] if _runs(container)]
            self._pods[meta["uid"]] = _Pod(address, apps)
        patch = json.dumps({"metadata": {"annotations": {ADDRESS: self._pods[meta["uid"]].address}}})
        await _write(session.patch(path, data=patch, headers={"Content-Type": "application/merge-patch+json"}))

    async def _terminate(self, session: aiohttp.ClientSession, pod: Json, path: str) -> None:
        """Let a pod serve for as long as its hook sleeps, then end it, and delete its object, as soon as an API server lets us."""
        uid = pod["metadata"]["uid"]
        await asyncio.sleep(_hook(pod))
        await self._end(uid)
        for_good = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                return await _write(session.delete(path, json=for_good), HTTPStatus.CONFLICT)  # another pod has its name by now
            await asyncio.sleep(PAUSE)

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


async def _write(request: Any, *done: HTTPStatus) -> None:
    """Send what is to be written to a pod, which may be gone by then. What is refused, unless `done`, raises aiohttp.ClientResponseError.

    A conflict is refused as well: somebody else has written, and what is to be done now may be something else.
    """
    async with request as answer:
        if not answer.ok and answer.status not in (HTTPStatus.NOT_FOUND, *done):
            sentence = json.loads(await answer.text()).get("message", "") if answer.content_type == "application/json" else ""
            raise aiohttp.ClientResponseError(answer.request_info, answer.history, status=answer.status, message=sentence)


def _hook(pod: Json) -> float:
    """The seconds that the preStop hooks of a pod sleep, within its grace period."""
    hooks = [container.get("lifecycle", {}).get("preStop", {}) for container in pod["spec"]["containers"]]
    return min(float(pod["metadata"]["deletionGracePeriodSeconds"]), max(float(hook.get("sleep", {}).get("seconds", 0)) for hook in hooks))


def _runs(container: Mapping[str, Any]) -> bool:
    return str(container["image"]).startswith("apps/")


async def _started(container: Json, meta: Json, address: str) -> App:
    """An application on the first port of its container."""
    app = APPS[container["image"].partition(":")[0].removeprefix("apps/")](meta.get("labels", {}).get("app", meta["name"]))
    await app.start(address, container["ports"][0]["containerPort"])
    return app
