"""Asks the API server for what published addresses are made of: a Service, pods and their nodes.

What belongs here: requests. What does not: which addresses follow from the answers (`xds.kube.status.addresses`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from xds.config import Settings
from xds.kube import parse
from xds.kube.api import Api
from xds.kube.objects import Ref, Service
from xds.kube.status.addresses import Addresses, Pod, nodes, normal, of_nodes, of_service, pods, siblings, usable
from xds.kube.status.faults import forbidden
from xds.kube.writes import Refused, read
from xds.model import Problem

T = TypeVar("T")
_PAGE = 100
"""Nodes have ten kilobytes and more each; a page must not keep the event loop busy."""


class Unknown(Exception):
    """Where Ingresses can be reached is not known now; `problem` says why. What was published stays."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


async def published(api: Api, settings: Settings, known: Callable[[Ref], Service | None]) -> Addresses:
    """The addresses for every status (reference 4.14); `known` gives a Service that is watched.

    Raises Unknown where there are none, and what `xds.kube.writes.read` raises.
    """
    if settings.publish_status_address:
        return _of_flag(settings.publish_status_address)
    if settings.publish_service:
        return await _of_service(api, Ref("Service", *settings.publish_service.split("/", 1)), known)
    return await _of_nodes(api, settings)


def _of_flag(given: tuple[str, ...]) -> Addresses:
    for text in given:
        if not usable(text):
            sentence = f"{text!r} is neither an IP nor a host name; no status is written."
            raise Unknown(Problem(Ref("Flag", "", "--publish-status-address"), "", "bad-address", sentence))
    return normal(given)


async def _of_service(api: Api, which: Ref, known: Callable[[Ref], Service | None]) -> Addresses:
    found = known(which) or await _service(api, which)
    addresses = of_service(found)
    if not addresses:
        sentence = f"--publish-service names this Service, but it has no address yet ({found.type}); no status is written."
        raise Unknown(Problem(which, "", "no-address", sentence))
    return addresses


async def _service(api: Api, which: Ref) -> Service:
    """A Service outside of --watch-namespace is not watched."""
    try:
        body = await read(api, f"/api/v1/namespaces/{which.namespace}/services/{which.name}")
    except Refused as refused:
        if refused.status != 403:
            raise
        raise Unknown(forbidden("get", "services", which, "--publish-service cannot have an effect")) from None
    made = parse.from_json(msgspec.json.encode(body), kind="Service", api_version="v1") if body else None
    if not isinstance(made, Service):
        sentence = "--publish-service names this Service, but it does not exist; no status is written."
        raise Unknown(Problem(which, "", "service-missing", sentence))
    return made


async def _of_nodes(api: Api, settings: Settings) -> Addresses:
    home = Ref("Namespace", "", settings.pod_namespace)
    try:
        ours = await _pods(api, settings.pod_namespace, settings.envoy_pods)
    except Refused as refused:
        raise _unless_forbidden(refused, "pods", home) from None
    addresses: Addresses = ()
    if any(pod.ready for pod in ours):
        try:
            found = await _list(api, "/api/v1/nodes", "", nodes)
        except Refused as refused:
            raise _unless_forbidden(refused, "nodes", Ref("Node", "", "")) from None
        addresses = of_nodes(ours, found, internal=settings.report_node_internal_ip_address)
    if not addresses:
        sentence = (
            f"No ready pod with labels {settings.envoy_pods} (--envoy-pods) runs on a node with an address; statuses stay as they are."
        )
        raise Unknown(Problem(home, "", "no-address", sentence))
    return addresses


def _unless_forbidden(refused: Refused, resource: str, about: Ref) -> Exception:
    if refused.status != 403:
        return refused
    return Unknown(
        forbidden("list", resource, about, "no status is written, unless --publish-service or --publish-status-address says what")
    )


async def is_last(api: Api, settings: Settings) -> bool:
    """Whether no other replica of this pod runs; where that cannot be known, one may. Raises what `xds.kube.writes.read` raises."""
    own = await read(api, f"/api/v1/namespaces/{settings.pod_namespace}/pods/{settings.pod_name}")
    labels = siblings(msgspec.json.encode(own)) if own else ""
    if not labels:
        return False
    found = await _pods(api, settings.pod_namespace, labels)
    return all(pod.name == settings.pod_name or not pod.running for pod in found)


async def _pods(api: Api, namespace: str, labels: str) -> list[Pod]:
    return await _list(api, f"/api/v1/namespaces/{namespace}/pods", labels, pods)


async def _list(api: Api, path: str, labels: str, decode: Callable[[bytes], tuple[list[T], str]]) -> list[T]:
    """All pages of a list. Raises Refused, ValueError, and what `Api.get` raises."""
    found: list[T] = []
    query = {"limit": str(_PAGE)} | ({"labelSelector": labels} if labels else {})
    while True:
        async with api.get(path, query) as answer:
            status, body = answer.status, await answer.read()
        if status != 200:
            raise Refused(f"GET {path}", status, "", "")
        page, token = decode(body)
        found += page
        if not token:
            return found
        query["continue"] = token
