"""Kubernetes objects as frozen, typed structs: only the fields that have an effect here.

What belongs here: the shape of an object once it has been read. What does not: reading it (`xds.kube.parse`), finding it again
(`xds.kube.world`), or deciding what it means (`xds.translate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from xds.problem import Place, Ref


class Meta(Struct, frozen=True, kw_only=True, gc=False):
    """What every object has.

    `created` is `metadata.creationTimestamp` (RFC 3339, UTC), "" where there is none; `version` is `metadata.resourceVersion`.
    """

    namespace: str
    name: str
    created: str = ""
    version: str = ""
    annotations: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    place: Place | None = None


class Backend(Struct, frozen=True, gc=False):
    """A `backend` of an Ingress.

    `port` is a number or a name, 0 where none was given; `resource` is "kind/name" of a backend that is no Service.
    """

    service: str = ""
    port: int | str = 0
    resource: str = ""


class Path(Struct, frozen=True, gc=False):
    """One path of a rule, as it was written; `type` is "Exact", "Prefix", "ImplementationSpecific" or "" where it is missing."""

    path: str
    type: str
    backend: Backend


class Rule(Struct, frozen=True, gc=False):
    """One rule; `host` is as it was written, "" for all hosts. A rule may have no paths."""

    host: str = ""
    paths: tuple[Path, ...] = ()


class Tls(Struct, frozen=True, gc=False):
    """One entry of `spec.tls`; `secret` is "" where none was named."""

    hosts: tuple[str, ...] = ()
    secret: str = ""


class Ingress(Struct, frozen=True, kw_only=True, gc=False):
    """A networking.k8s.io Ingress of any version.

    `addresses` are those of `status.loadBalancer.ingress`, an IP or a host name each. They and `uid` are for those who write to the API
    server; traffic does not depend on them (see `without_report`).
    """

    meta: Meta
    uid: str = ""
    addresses: tuple[str, ...] = ()
    class_name: str | None = None
    default_backend: Backend | None = None
    rules: tuple[Rule, ...] = ()
    tls: tuple[Tls, ...] = ()

    @property
    def most_locations(self) -> int:
        """How many locations there can be of it: each path, and what is left of each host."""
        return sum(len(rule.paths) + 1 for rule in self.rules) + 1


class IngressClass(Struct, frozen=True, kw_only=True, gc=False):
    """An IngressClass: the name of a class, and the controller that it belongs to."""

    meta: Meta
    controller: str = ""


class ServicePort(Struct, frozen=True, gc=False):
    """One port of a Service; `target` is a number or the name of a container port, 0 where it is the same as `port`."""

    port: int
    name: str = ""
    target: int | str = 0
    protocol: str = "TCP"

    @property
    def target_number(self) -> int:
        """The targetPort, or the port itself where that is a name or not there."""
        return self.target if isinstance(self.target, int) and self.target else self.port


class Service(Struct, frozen=True, kw_only=True, gc=False):
    """`cluster_ips` is () for a headless Service and for an ExternalName; `affinity` is "None" or "ClientIP".

    `load_balancer` are the addresses of `status.loadBalancer.ingress`, as in an Ingress.
    """

    meta: Meta
    type: str = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    ports: tuple[ServicePort, ...] = ()
    external_name: str = ""
    affinity: str = "None"
    external_ips: tuple[str, ...] = ()
    load_balancer: tuple[str, ...] = ()


class EndpointPort(Struct, frozen=True, gc=False):
    """`port` is None where the slice leaves it open (any port)."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"


class Endpoint(Struct, frozen=True, gc=False):
    """One pod behind a Service. In core/v1 Endpoints only `ready` is known."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False


class EndpointSlice(Struct, frozen=True, kw_only=True, gc=False):
    """An EndpointSlice, or one subset of core/v1 Endpoints (`legacy`), which counts only where a Service has no slices."""

    meta: Meta
    service: str
    address_type: str = "IPv4"
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    legacy: bool = False


class Secret(Struct, frozen=True, kw_only=True, gc=False):
    """`data` is decoded. Its values never show in a repr."""

    meta: Meta
    type: str = "Opaque"
    data: Mapping[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Secret({self.meta.namespace}/{self.meta.name}, type={self.type!r}, keys={sorted(self.data)})"


class ConfigMap(Struct, frozen=True, kw_only=True, gc=False):
    """A ConfigMap; values are text, whatever they were in YAML."""

    meta: Meta
    data: Mapping[str, str] = {}


class Namespace(Struct, frozen=True, kw_only=True, gc=False):
    """A Namespace: only its labels matter."""

    meta: Meta


class Pod(Struct, frozen=True, kw_only=True, gc=False):
    """A pod of an Envoy or of the control plane: its node ("" while it has none), whether it runs, and whether it is ready besides.

    Pods and nodes matter to the status of Ingresses alone; no traffic depends on them, and no World has them.
    """

    meta: Meta
    node: str = ""
    running: bool = False
    ready: bool = False


class Node(Struct, frozen=True, kw_only=True, gc=False):
    """A node and its addresses: (type, address), as `status.addresses` lists them."""

    meta: Meta
    addresses: tuple[tuple[str, str], ...] = ()


Reported = TypeVar("Reported", Ingress, Service)
Object = Ingress | IngressClass | Service | EndpointSlice | Secret | ConfigMap | Namespace | Pod | Node


def ref(item: Object) -> Ref:
    """The object's own reference; core/v1 Endpoints keep their own kind, so that they never hide a slice of the same name."""
    kind = "Endpoints" if isinstance(item, EndpointSlice) and item.legacy else type(item).__name__
    return Ref(kind, item.meta.namespace, item.meta.name)


def without_report(item: Reported) -> Reported:
    """The object without what controllers report in its status, and without its version: what traffic depends on."""
    meta = replace(item.meta, version="")
    return replace(item, meta=meta, addresses=()) if isinstance(item, Ingress) else replace(item, meta=meta, load_balancer=())
