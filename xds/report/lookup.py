"""Where the addresses for every status come from: flags, a Service, or the nodes of the Envoys. Also, whether this is the last replica.

What belongs here: the choice among them, and the Problem where it has no address. What does not: the addresses of a Service, pods and nodes
(`xds.report.status_addresses`), and watching these (`xds.kube.apiserver.apiserver`, `xds.report.envoy_nodes`).
"""

from __future__ import annotations

from collections.abc import Callable

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import ApiError
from xds.kube.objects import Pod, Service
from xds.problem import Problem, Ref
from xds.report.envoy_nodes import EnvoyNodes
from xds.report.status_addresses import Addresses, normal, of_service, pods, siblings, usable

_PAGE = 100
"""A pod has some kilobytes. Parsing a page must not block the event loop."""


class NoAddresses(Exception):
    """The addresses of Ingresses are unknown, for the reason in `problem`. The published ones stay."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def published(settings: Flags, known: Callable[[Ref], Service | None], nodes: EnvoyNodes | None) -> Addresses | None:
    """The addresses for every status (nginx 4.14). None while the nodes that decide are unknown; their watch has the Problem then.

    `known` returns a watched Service. Raises NoAddresses where there are none.
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
    """Whether the addresses of the Envoys' nodes are published, because no flag names others."""
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
    """Whether no other replica of this pod runs. False where this pod is not found.

    Raises ApiError, ValueError, and what `Api.get` raises.
    """
    found = await _pods(api, settings.pod_namespace)
    is_found = any(pod.meta.name == settings.pod_name and pod.meta.labels for pod in found)
    return is_found and not any(pod.running for pod in siblings(found, settings.pod_name))


async def _pods(api: Api, namespace: str) -> list[Pod]:
    """All pods of a namespace. There are few: it runs nothing but the control plane and Envoys."""
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
