"""Where the addresses for every status come from: flags, a Service, or the nodes of the Envoys; and whether this replica is the last one.

What belongs here: which of them it is, and what to say where it has none. What does not: how addresses are made of a Service, pods and
nodes (`xds.report.addresses`), and following these (`xds.kube.apiserver.apiserver`, `xds.report.nodes`).
"""

from __future__ import annotations

from collections.abc import Callable

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import ApiError
from xds.kube.objects import Pod, Service
from xds.problem import Problem, Ref
from xds.report.addresses import Addresses, normal, of_service, pods, siblings, usable
from xds.report.nodes import EnvoyNodes

_PAGE = 100
"""Pods have some kilobytes each; a page must not keep the event loop busy."""


class NoAddresses(Exception):
    """Where Ingresses can be reached is not known now; `problem` says why. What was published stays."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def published(settings: Flags, known: Callable[[Ref], Service | None], nodes: EnvoyNodes | None) -> Addresses | None:
    """The addresses for every status (nginx 4.14); None where nodes decide and are not known yet, which they say themselves.

    `known` gives a Service that is watched. Raises NoAddresses where there are none.
    """
    if nodes is not None:
        found = nodes.addresses
        if found == ():
            raise NoAddresses(_no_node(settings))
        return found
    if settings.publish_status_address:
        return _of_flag(settings.publish_status_address)
    which = Ref("Service", *settings.publish_service.split("/", 1))
    return _of_service(which, known(which))


def are_of_nodes(settings: Flags) -> bool:
    """Whether no flag says which addresses to publish, so that those of the Envoys' nodes are."""
    return not settings.publish_status_address and not settings.publish_service


def _of_flag(given: tuple[str, ...]) -> Addresses:
    for text in given:
        if not usable(text):
            sentence = f"{text!r} is neither an IP nor a host name; no status is written."
            raise NoAddresses(Problem(Ref("Flag", "", "--publish-status-address"), "", "bad-address", sentence))
    return normal(given)


def _of_service(which: Ref, found: Service | None) -> Addresses:
    if found is None:
        sentence = "--publish-service names this Service, but it does not exist, or may not be read; no status is written."
        raise NoAddresses(Problem(which, "", "service-missing", sentence))
    addresses = of_service(found)
    if not addresses:
        sentence = f"--publish-service names this Service, but it has no address yet ({found.type}); no status is written."
        raise NoAddresses(Problem(which, "", "no-address", sentence))
    return addresses


def _no_node(settings: Flags) -> Problem:
    sentence = f"No ready pod with labels {settings.envoy_pods} (--envoy-pods) runs on a node with an address; statuses stay as they are."
    return Problem(Ref("Namespace", "", settings.pod_namespace), "", "no-address", sentence)


async def is_last(api: Api, settings: Flags) -> bool:
    """Whether no other replica of this pod runs; where this pod is not found, one may.

    Raises ApiError, ValueError, and what `Api.get` raises.
    """
    found = await _pods(api, settings.pod_namespace)
    is_found = any(pod.meta.name == settings.pod_name and pod.meta.labels for pod in found)
    return is_found and not any(pod.running for pod in siblings(found, settings.pod_name))


async def _pods(api: Api, namespace: str) -> list[Pod]:
    """All pods of a namespace: of one that runs nothing else but us and our Envoys these are few."""
    found: list[Pod] = []
    path, query = f"/api/v1/namespaces/{namespace}/pods", {"limit": str(_PAGE)}
    while True:
        async with api.get(path, query) as answer:
            status, body = answer.status, await answer.read()
        if status != 200:
            raise ApiError(f"GET {path}", status, "", "")
        page, token = pods(body)
        found += page
        if not token:
            return found
        query["continue"] = token
