"""Which addresses are published in the status of Ingresses, chosen as in ingress-nginx (nginx 4.14).

What belongs here: addresses of flags, Services and nodes, parsing pods and nodes, and the form of a status. What does not: requests for
pods and nodes (`xds.report.envoy_nodes`, `xds.report.lookup`), and which Ingresses have a status (`xds.translate.selection`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec
from msgspec import Raw, Struct

from xds.kube.objects import Meta, Node, Pod, Service
from xds.problem import Problem, Ref

Addresses = tuple[str, ...]
"""IPs and host names, sorted, each once."""


_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def normal(addresses: Iterable[str]) -> Addresses:
    """Sorted, each once, as the API server accepts them. What is neither an IP nor a host name is left out."""
    return tuple(sorted({found for text in addresses if (found := usable(text))}))


def usable(text: str) -> str:
    """An IP in its shortest form, or a host name in lower case without a dot at the end; "" where it is neither."""
    text = text.strip()
    if address := _ip(text):
        return str(address)
    name = text.rstrip(".").lower()
    return name if len(name) <= 253 and _SUBDOMAIN.fullmatch(name) else ""


def of_service(found: Service) -> Addresses:
    """The addresses of `--publish-service`."""
    match found.type:
        case "ExternalName":
            return normal([found.external_name])
        case "LoadBalancer":
            return normal([*found.load_balancer, *found.external_ips])
        case "NodePort" if found.external_ips:
            return normal(found.external_ips)
    return normal(found.cluster_ips[:1])


def of_nodes(pods: Iterable[Pod], nodes: Iterable[Node], *, internal: bool) -> Addresses:
    """One address of each node that runs a ready pod: its ExternalIP, or, without one or with `internal`, its InternalIP."""
    names = {pod.node for pod in pods if pod.ready}
    return normal(_of_node(node, internal) for node in nodes if node.meta.name in names)


def _of_node(node: Node, internal: bool) -> str:
    for wanted in ("InternalIP",) if internal else ("ExternalIP", "InternalIP"):
        for kind, address in node.addresses:
            if kind == wanted and address:
                return address
    return ""


def entries(addresses: Addresses) -> list[dict[str, str]]:
    """`status.loadBalancer.ingress` (IngressLoadBalancerIngress: `ip`, or `hostname` for a name)."""
    return [{"ip" if _ip(address) else "hostname": address} for address in addresses]


def differ(current: Sequence[str], wanted: Addresses) -> bool:
    """Whether a status has other addresses. Their order does not matter."""
    return tuple(sorted(current)) != wanted


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class _Continuation(Struct, frozen=True, gc=False):
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Meta(Struct, frozen=True, gc=False, rename="camel"):
    name: str
    namespace: str = ""
    labels: Mapping[str, str] | None = None
    deletion_timestamp: str | None = None


class _PodSpec(Struct, frozen=True, gc=False, rename="camel"):
    node_name: str | None = None


class _Condition(Struct, frozen=True, gc=False):
    type: str
    status: str


class _PodStatus(Struct, frozen=True, gc=False):
    phase: str | None = None
    conditions: list[_Condition] | None = None


class _PodShape(Struct, frozen=True, gc=False):
    metadata: _Meta
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _PodList(Struct, frozen=True):
    metadata: _Continuation
    items: list[_PodShape] | None = None


class _NodeAddress(Struct, frozen=True, gc=False):
    type: str
    address: str


class _NodeStatus(Struct, frozen=True, gc=False):
    addresses: list[_NodeAddress] | None = None


class _NodeShape(Struct, frozen=True, gc=False):
    metadata: _Meta
    status: _NodeStatus | None = None


_PODS = msgspec.json.Decoder(_PodList)
_POD, _NODE = msgspec.json.Decoder(_PodShape), msgspec.json.Decoder(_NodeShape)
_OF_ONE_VERSION = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")


def pods(page: bytes) -> tuple[list[Pod], str]:
    """The pods of a page of a PodList, and the token of the next page. Raises msgspec.DecodeError (a ValueError) for anything else."""
    found = _PODS.decode(page)
    return [_pod(each) for each in found.items or ()], found.metadata.continue_ or ""


def read_pod(raw: Raw) -> Pod | Problem:
    """Parse a pod of an API server."""
    try:
        return _pod(_POD.decode(raw))
    except (ValueError, RecursionError) as error:
        return _unreadable("Pod", error)


def read_node(raw: Raw) -> Node | Problem:
    """Parse a node of an API server."""
    try:
        shape = _NODE.decode(raw)
    except (ValueError, RecursionError) as error:
        return _unreadable("Node", error)
    listed = (shape.status.addresses if shape.status else None) or ()
    return Node(meta=Meta(namespace="", name=shape.metadata.name), addresses=tuple([(one.type, one.address) for one in listed]))


def siblings(found: Sequence[Pod], name: str) -> list[Pod]:
    """All replicas of a pod, in all versions of its template, without itself; none where it is not found, or has no labels."""
    wanted = next((_lasting(pod) for pod in found if pod.meta.name == name), None)
    return [pod for pod in found if pod.meta.name != name and wanted.items() <= pod.meta.labels.items()] if wanted else []


def _lasting(pod: Pod) -> dict[str, str]:
    """The labels that all versions of a pod's template have."""
    return {key: value for key, value in pod.meta.labels.items() if key not in _OF_ONE_VERSION}


def _pod(shape: _PodShape) -> Pod:
    status, meta = shape.status or _PodStatus(), shape.metadata
    running = status.phase == "Running" and meta.deletion_timestamp is None
    ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())
    node = (shape.spec.node_name if shape.spec else None) or ""
    return Pod(
        meta=Meta(namespace=meta.namespace, name=meta.name, labels=meta.labels or {}), node=node, running=running, ready=running and ready
    )


def _unreadable(kind: str, error: Exception) -> Problem:
    return Problem(Ref(kind, "", ""), "", "unreadable", f"The API server sent a {kind} that cannot be read ({error}).")
