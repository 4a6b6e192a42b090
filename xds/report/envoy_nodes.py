"""The nodes that run ready Envoys. Only the leader watches them, and only where no flag names the addresses to publish.

What belongs here: which pods and nodes are watched, and their known state. What does not: how a kind is watched
(`xds.kube.apiserver.follow`), and which address of a node counts (`xds.report.status_addresses`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import ProblemSink
from xds.kube.apiserver.follow import follow
from xds.kube.apiserver.reflector import Backoff, Reflector, Watched
from xds.kube.objects import Node, Pod, ref
from xds.kube.source import Change
from xds.problem import Ref
from xds.report.status_addresses import Addresses, of_nodes, read_node, read_pod

_WITHOUT = "no status is written without --publish-service or --publish-status-address"
PODS = Watched("Pod", "v1", "pods", _WITHOUT)
NODES = Watched("Node", "v1", "nodes", _WITHOUT, namespaced=False)


class EnvoyNodes:
    """Up to date while `run` is awaited. `changed` is called when `addresses` change. `report` takes the Problems of a forbidden watch."""

    def __init__(self, api: Api, settings: Flags, changed: Callable[[], None], report: ProblemSink, backoff: Backoff | None = None) -> None:
        self.addresses: Addresses | None = None
        """None until pods and nodes are known. Empty where no ready Envoy runs on a node with an address."""
        self._api = api
        self._internal = settings.report_node_internal_ip_address
        self._changed = changed
        self._report = report
        ours = replace(PODS, namespace=settings.pod_namespace, labels=settings.envoy_pods)
        self._reflectors = [
            Reflector(which, time.monotonic(), random.random, backoff, read) for which, read in ((ours, read_pod), (NODES, read_node))
        ]
        self._pods: dict[Ref, Pod] = {}
        self._nodes: dict[Ref, Node] = {}

    async def run(self) -> None:
        """Watch them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in self._reflectors:
                group.create_task(follow(self._api, each, self._take), name=f"watch {each.resource}")

    def _take(self, change: Change) -> None:
        for place, problems in change.problems.items():
            self._report(place, problems)
        for gone in change.drop:
            self._pods.pop(gone, None)
            self._nodes.pop(gone, None)
        for item in change.put:
            if isinstance(item, Pod):
                self._pods[ref(item)] = item
            elif isinstance(item, Node):
                self._nodes[ref(item)] = item
        if all(each.has_listed for each in self._reflectors):
            found = of_nodes(self._pods.values(), self._nodes.values(), internal=self._internal)
            if found != self.addresses:
                self.addresses = found
                self._changed()
