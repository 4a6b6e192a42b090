"""How Kubernetes writes the objects that matter here, and how each becomes one of ours.

What belongs here: the fields of every API version, as the API reference of Kubernetes names them, and what a missing field stands for.
What does not: the kind of a document, and the sentences about invalid ones (`xds.kube.parse`).

Every field may be null, which counts as missing (as Go reads JSON). Unknown fields are ignored.
"""

from __future__ import annotations

import binascii
import datetime
import re
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from xds.kube import objects
from xds.problem import Place

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Truth = bool | Literal["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"]
"""A condition; YAML 1.1's other words for true and false reach us as text."""

SERVICE_NAME = "kubernetes.io/service-name"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_NO_MAP: Mapping[str, str] = {}
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_SHOWN = 60
_intern = sys.intern


class InvalidObject(Exception):
    """An object that is of the right shape and still cannot be: the field, a code (decision 17) and a sentence."""

    def __init__(self, where: str, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = where
        self.code = code
        self.sentence = sentence


class MetaShape(Struct, frozen=True, gc=False, rename="camel"):
    """`metadata` (ObjectMeta)."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    creation_timestamp: str | None = None
    resource_version: str | None = None
    annotations: dict[str, str | None] | None = None
    labels: dict[str, str | None] | None = None


class BackendPortShape(Struct, frozen=True, gc=False):
    """`backend.service.port` (ServiceBackendPort)."""

    name: str | None = None
    number: Port | None = None


class BackendServiceShape(Struct, frozen=True, gc=False):
    """`backend.service` (IngressServiceBackend)."""

    name: str | None = None
    port: BackendPortShape | None = None


class ResourceShape(Struct, frozen=True, gc=False):
    """`backend.resource` (TypedLocalObjectReference)."""

    kind: str | None = None
    name: str | None = None


class BackendShape(Struct, frozen=True, gc=False, rename="camel"):
    """`backend` (IngressBackend): `service` in v1, `serviceName` and `servicePort` in v1beta1."""

    service: BackendServiceShape | UnsetType | None = UNSET
    service_name: str | UnsetType | None = UNSET
    service_port: Port | str | None = None
    resource: ResourceShape | None = None


class PathShape(Struct, frozen=True, gc=False, rename="camel"):
    """One of `http.paths` (HTTPIngressPath)."""

    path: str | None = None
    path_type: str | None = None
    backend: BackendShape | None = None


class HttpShape(Struct, frozen=True, gc=False):
    """`http` of a rule (HTTPIngressRuleValue)."""

    paths: list[PathShape] | None = None


class RuleShape(Struct, frozen=True, gc=False):
    """One of `rules` (IngressRule)."""

    host: str | None = None
    http: HttpShape | None = None


class TlsShape(Struct, frozen=True, gc=False, rename="camel"):
    """One of `tls` (IngressTLS)."""

    hosts: tuple[str, ...] | None = None
    secret_name: str | None = None


class IngressSpecShape(Struct, frozen=True, gc=False, rename="camel"):
    """`spec` (IngressSpec): `defaultBackend` in v1, `backend` in v1beta1."""

    ingress_class_name: str | None = None
    default_backend: BackendShape | UnsetType | None = UNSET
    backend: BackendShape | UnsetType | None = UNSET
    tls: list[TlsShape] | None = None
    rules: list[RuleShape] | None = None


class LoadBalancerIngressShape(Struct, frozen=True, gc=False):
    """One of `status.loadBalancer.ingress` (IngressLoadBalancerIngress, LoadBalancerIngress)."""

    ip: str | None = None
    hostname: str | None = None


class LoadBalancerShape(Struct, frozen=True, gc=False):
    """`status.loadBalancer` (IngressLoadBalancerStatus, LoadBalancerStatus)."""

    ingress: list[LoadBalancerIngressShape] | None = None


class StatusShape(Struct, frozen=True, gc=False, rename="camel"):
    """`status` (IngressStatus, ServiceStatus)."""

    load_balancer: LoadBalancerShape | None = None


class IngressShape(Struct, frozen=True, gc=False):
    """Ingress, networking.k8s.io/v1, networking.k8s.io/v1beta1 and extensions/v1beta1."""

    metadata: MetaShape | None = None
    spec: IngressSpecShape | None = None
    status: StatusShape | None = None


class IngressClassSpecShape(Struct, frozen=True, gc=False):
    """`spec` (IngressClassSpec)."""

    controller: str | None = None


class IngressClassShape(Struct, frozen=True, gc=False):
    """IngressClass, networking.k8s.io/v1 and v1beta1."""

    metadata: MetaShape | None = None
    spec: IngressClassSpecShape | None = None


class PortShape(Struct, frozen=True, gc=False, rename="camel"):
    """One of `ports` of a Service (ServicePort)."""

    port: Port
    name: str | None = None
    target_port: Port | str | None = None
    protocol: str | None = None


class ServiceSpecShape(Struct, frozen=True, gc=False, rename="camel"):
    """`spec` (ServiceSpec)."""

    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = field(default=None, name="clusterIPs")
    ports: list[PortShape] | None = None
    external_name: str | None = None
    session_affinity: str | None = None
    external_ips: tuple[str, ...] | None = field(default=None, name="externalIPs")


class ServiceShape(Struct, frozen=True, gc=False):
    """Service, v1."""

    metadata: MetaShape | None = None
    spec: ServiceSpecShape | None = None
    status: StatusShape | None = None


class EndpointPortShape(Struct, frozen=True, gc=False):
    """One of `ports` of an EndpointSlice, or of a subset of Endpoints."""

    name: str | None = None
    port: Port | None = None
    protocol: str | None = None


class ConditionsShape(Struct, frozen=True, gc=False):
    """`conditions` (EndpointConditions)."""

    ready: Truth | None = None
    serving: Truth | None = None
    terminating: Truth | None = None


class EndpointShape(Struct, frozen=True, gc=False):
    """One of `endpoints` (Endpoint)."""

    addresses: tuple[str, ...] | None = None
    conditions: ConditionsShape | None = None


class EndpointSliceShape(Struct, frozen=True, gc=False, rename="camel"):
    """EndpointSlice, discovery.k8s.io/v1 and v1beta1."""

    metadata: MetaShape | None = None
    address_type: str | None = None
    ports: list[EndpointPortShape] | None = None
    endpoints: list[EndpointShape] | None = None


class AddressShape(Struct, frozen=True, gc=False):
    """One of `addresses` and `notReadyAddresses` (EndpointAddress)."""

    ip: str | None = None


class SubsetShape(Struct, frozen=True, gc=False, rename="camel"):
    """One of `subsets` (EndpointSubset)."""

    addresses: list[AddressShape] | None = None
    not_ready_addresses: list[AddressShape] | None = None
    ports: list[EndpointPortShape] | None = None


class EndpointsShape(Struct, frozen=True, gc=False):
    """Endpoints, v1."""

    metadata: MetaShape | None = None
    subsets: list[SubsetShape] | None = None


class SecretShape(Struct, frozen=True, gc=False, rename="camel"):
    """Secret, v1. Its repr must not show its data."""

    metadata: MetaShape | None = None
    type: str | None = None
    data: dict[str, str | None] | None = None
    string_data: dict[str, str | None] | None = None

    def __repr__(self) -> str:
        return "SecretShape(…)"


class ConfigMapShape(Struct, frozen=True, gc=False):
    """ConfigMap, v1. Unquoted numbers and booleans are taken as text."""

    metadata: MetaShape | None = None
    data: dict[str, str | int | float | bool | None] | None = None


class NamespaceShape(Struct, frozen=True, gc=False):
    """Namespace, v1."""

    metadata: MetaShape | None = None


def ingress_v1(shape: IngressShape, place: Place | None) -> list[objects.Object]:
    """An Ingress of networking.k8s.io/v1."""
    spec = shape.spec or IngressSpecShape()
    if spec.backend is not UNSET:
        raise InvalidObject("spec.backend", "wrong-version", "This belongs to v1beta1; in networking.k8s.io/v1 write spec.defaultBackend.")
    return [_ingress(shape, spec, spec.default_backend, "spec.defaultBackend", place, old=False)]


def ingress_v1beta1(shape: IngressShape, place: Place | None) -> list[objects.Object]:
    """An Ingress of networking.k8s.io/v1beta1 or extensions/v1beta1."""
    spec = shape.spec or IngressSpecShape()
    if spec.default_backend is not UNSET:
        raise InvalidObject("spec.defaultBackend", "wrong-version", "This belongs to networking.k8s.io/v1; in v1beta1 write spec.backend.")
    return [_ingress(shape, spec, spec.backend, "spec.backend", place, old=True)]


def _ingress(
    shape: IngressShape, spec: IngressSpecShape, default: BackendShape | UnsetType | None, where: str, place: Place | None, *, old: bool
) -> objects.Ingress:
    return objects.Ingress(
        meta=_meta(shape.metadata, place, annotated=True),
        uid=(shape.metadata.uid if shape.metadata else None) or "",
        addresses=_addresses(shape.status),
        class_name=_intern(spec.ingress_class_name) if spec.ingress_class_name else None,
        default_backend=_backend(default, old, where) if default else None,
        rules=tuple([_rule(rule, old, at) for at, rule in enumerate(spec.rules or ())]),
        tls=tuple([objects.Tls(entry.hosts or (), entry.secret_name or "") for entry in spec.tls or ()]),
    )


def _rule(rule: RuleShape, old: bool, at: int) -> objects.Rule:
    paths = rule.http.paths if rule.http else None
    return objects.Rule(rule.host or "", tuple([_path(path, old, at, index) for index, path in enumerate(paths or ())]))


_PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific", "")


def _path(path: PathShape, old: bool, rule: int, at: int) -> objects.Path:
    kind = path.path_type or ""
    if kind not in _PATH_TYPES:
        raise _unknown(f"spec.rules[{rule}].http.paths[{at}].pathType", kind, _PATH_TYPES[:3])
    backend = _backend(path.backend, old, f"spec.rules[{rule}].http.paths[{at}].backend") if path.backend else objects.Backend()
    return objects.Path(path.path or "", _intern(kind), backend)


def _backend(shape: BackendShape, old: bool, where: str) -> objects.Backend:
    service, name, port = shape.service, shape.service_name, shape.service_port
    if old:
        if service is not UNSET:
            raise InvalidObject(f"{where}.service", "wrong-version", "This belongs to networking.k8s.io/v1; in v1beta1 write serviceName.")
        target = objects.Backend(_intern(name or ""), _number_or_name(port))
    elif name is not UNSET or port is not None:
        raise InvalidObject(f"{where}.serviceName", "wrong-version", "This belongs to v1beta1; in networking.k8s.io/v1 write service.name.")
    elif service:
        given = service.port
        target = objects.Backend(_intern(service.name or ""), ((given.number or _intern(given.name or "")) or 0) if given else 0)
    else:
        target = objects.Backend()
    if shape.resource and not target.service:
        return objects.Backend(resource=f"{shape.resource.kind or ''}/{shape.resource.name or ''}")
    return target


def ingress_class(shape: IngressClassShape, place: Place | None) -> list[objects.Object]:
    """An IngressClass."""
    controller = (shape.spec.controller if shape.spec else None) or ""
    return [objects.IngressClass(meta=_meta(shape.metadata, place, namespaced=False), controller=_intern(controller))]


_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_AFFINITIES = ("None", "ClientIP")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def service(shape: ServiceShape, place: Place | None) -> list[objects.Object]:
    """A Service of any type."""
    spec = shape.spec or ServiceSpecShape()
    kind = _one_of("spec.type", spec.type, _SERVICE_TYPES)
    external = kind == "ExternalName"
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    return [
        objects.Service(
            meta=_meta(shape.metadata, place),
            type=kind,
            cluster_ips=() if external else tuple([address for address in addresses if address not in ("", "None")]),
            headless="None" in addresses and not external,
            ports=tuple([_service_port(port, at) for at, port in enumerate(spec.ports or ())]),
            external_name=(spec.external_name or "") if external else "",
            affinity=_one_of("spec.sessionAffinity", spec.session_affinity, _AFFINITIES),
            external_ips=spec.external_ips or (),
            load_balancer=_addresses(shape.status),
        )
    ]


def _addresses(status: StatusShape | None) -> tuple[str, ...]:
    """The addresses in the status of an object: IPs, and host names where there is no IP."""
    entries = status.load_balancer.ingress if status and status.load_balancer else None
    return tuple([_intern(entry.ip or entry.hostname or "") for entry in entries]) if entries else ()


def _service_port(shape: PortShape, at: int) -> objects.ServicePort:
    protocol = _one_of(f"spec.ports[{at}].protocol", shape.protocol, _PROTOCOLS)
    return objects.ServicePort(shape.port, _intern(shape.name or ""), _number_or_name(shape.target_port), protocol)


_ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN", "IP")
_ADDRESSES = {"IPv4": IPv4Address, "IPv6": IPv6Address}


def endpoint_slice(shape: EndpointSliceShape, place: Place | None) -> list[objects.Object]:
    """An EndpointSlice; the address type "IP" of early v1beta1 is taken as what its first address is."""
    metadata = shape.metadata
    labels = (metadata.labels if metadata else None) or _NO_MAP
    endpoints = shape.endpoints or ()
    kind = _one_of("addressType", shape.address_type, _ADDRESS_TYPES)
    if kind == "IP":
        kind = _family(next((address for endpoint in endpoints for address in endpoint.addresses or ()), ""))
    check = _ADDRESSES.get(kind)
    if check:
        for at, endpoint in enumerate(endpoints):
            for index, address in enumerate(endpoint.addresses or ()):
                _check_address(address, kind, f"endpoints[{at}].addresses[{index}]")
    return [
        objects.EndpointSlice(
            meta=_meta(metadata, place),
            service=_intern(labels.get(SERVICE_NAME) or ""),
            address_type=kind,
            ports=tuple([_endpoint_port(port, f"ports[{at}]") for at, port in enumerate(shape.ports or ())]),
            endpoints=tuple([_endpoint(endpoint) for endpoint in endpoints]),
        )
    ]


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _check_address(address: str, kind: str, where: str) -> None:
    try:
        _ADDRESSES[kind](address)
    except ValueError:
        raise InvalidObject(where, "bad-value", f"{_shown(address)} is not an {kind} address.") from None


def _endpoint_port(shape: EndpointPortShape, where: str) -> objects.EndpointPort:
    return objects.EndpointPort(_intern(shape.name or ""), shape.port, _one_of(f"{where}.protocol", shape.protocol, _PROTOCOLS))


def _endpoint(shape: EndpointShape) -> objects.Endpoint:
    conditions = shape.conditions
    if conditions is None:
        return objects.Endpoint(shape.addresses or ())
    ready = _true(conditions.ready, missing=True)
    serving = _true(conditions.serving, missing=ready)
    return objects.Endpoint(shape.addresses or (), ready, serving, _true(conditions.terminating, missing=False))


def _true(value: bool | str | None, *, missing: bool) -> bool:
    if value is None:
        return missing
    return value if isinstance(value, bool) else value.lower() in ("y", "yes", "on")


def endpoints(shape: EndpointsShape, place: Place | None) -> list[objects.Object]:
    """Endpoints: one EndpointSlice (`legacy`) for all subsets with the same ports; the second is called `<name>#1`, and so on."""
    meta = _meta(shape.metadata, place)
    by_ports: dict[tuple[objects.EndpointPort, ...], list[objects.Endpoint]] = {}
    for at, subset in enumerate(shape.subsets or ()):
        ports = tuple([_endpoint_port(port, f"subsets[{at}].ports[{index}]") for index, port in enumerate(subset.ports or ())])
        by_ports.setdefault(ports, []).extend(_subset(subset, f"subsets[{at}]"))
    slices: list[objects.Object] = []
    for number, (ports, members) in enumerate((by_ports or {(): []}).items()):
        slices.append(
            objects.EndpointSlice(
                meta=msgspec.structs.replace(meta, name=f"{meta.name}#{number}") if number else meta,
                service=meta.name,
                address_type=_family(members[0].addresses[0]) if members else "IPv4",
                ports=ports,
                endpoints=tuple(members),
                legacy=True,
            )
        )
    return slices


def _subset(subset: SubsetShape, where: str) -> Iterator[objects.Endpoint]:
    for name, ready, addresses in (("addresses", True, subset.addresses), ("notReadyAddresses", False, subset.not_ready_addresses)):
        for at, address in enumerate(addresses or ()):
            ip = address.ip or ""
            _check_address(ip, _family(ip), f"{where}.{name}[{at}].ip")
            yield objects.Endpoint((ip,), ready, ready)


def secret(shape: SecretShape, place: Place | None) -> list[objects.Object]:
    """A Secret; `stringData` wins over `data`."""
    contents = {_intern(key): _decoded(key, value or "") for key, value in (shape.data or {}).items()}
    contents.update({key: (value or "").encode() for key, value in (shape.string_data or {}).items()})
    return [objects.Secret(meta=_meta(shape.metadata, place), type=_intern(shape.type or "Opaque"), data=contents)]


def _decoded(key: str, value: str) -> bytes:
    written = value.replace("\n", "").replace("\r", "")
    try:
        if written.endswith("===") or len(written) % 4:  # a2b_base64 lets too many of them pass
            raise ValueError
        return binascii.a2b_base64(written, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidObject(
            f"data[{key}]", "bad-base64", "The value is not base64; write text as it is under stringData instead."
        ) from None


def config_map(shape: ConfigMapShape, place: Place | None) -> list[objects.Object]:
    """A ConfigMap."""
    contents = {key: value if isinstance(value, str) else _as_text(value) for key, value in (shape.data or {}).items()}
    return [objects.ConfigMap(meta=_meta(shape.metadata, place), data=contents)]


def _as_text(value: float | bool | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def namespace(shape: NamespaceShape, place: Place | None) -> list[objects.Object]:
    """A Namespace."""
    return [objects.Namespace(meta=_meta(shape.metadata, place, namespaced=False, labelled=True))]


def _meta(
    shape: MetaShape | None, place: Place | None, *, namespaced: bool = True, annotated: bool = False, labelled: bool = False
) -> objects.Meta:
    """The stored part of `metadata`: annotations with a slash in their name for an Ingress, labels for a Namespace, else neither."""
    if shape is None or not shape.name:
        raise InvalidObject("metadata.name", "missing", "The object has no name; write metadata.name.")
    space = (shape.namespace or "default") if namespaced else ""
    if len(shape.name) > 253 or not _SUBDOMAIN.fullmatch(shape.name):
        rule = "lower-case letters, digits, '-' and '.', starting and ending with a letter or a digit, at most 253 characters"
        raise InvalidObject("metadata.name", "bad-name", f"{_shown(shape.name)} is not a name; a name has {rule}.")
    if space and (len(space) > 63 or not _LABEL.fullmatch(space)):
        rule = "lower-case letters, digits and '-', starting and ending with a letter or a digit, at most 63 characters"
        raise InvalidObject("metadata.namespace", "bad-name", f"{_shown(space)} is not a namespace; its name has {rule}.")
    return objects.Meta(
        namespace=_intern(space),
        name=_intern(shape.name),
        created=_created(shape.creation_timestamp),
        version=shape.resource_version or "",
        annotations=_kept(shape.annotations) if annotated and shape.annotations else _NO_MAP,
        labels={_intern(key): _intern(value or "") for key, value in shape.labels.items()} if labelled and shape.labels else _NO_MAP,
        place=place,
    )


def _kept(annotations: dict[str, str | None]) -> Mapping[str, str]:
    kept = {_intern(key): value or "" for key, value in annotations.items() if "/" in key and key != LAST_APPLIED}
    return kept or _NO_MAP


def _created(text: str | None) -> str:
    if not text or _CREATED.fullmatch(text):
        return text or ""
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        sentence = f"{_shown(text)} is not a time such as 2026-03-01T12:00:00Z; leave the line out if you do not need it."
        raise InvalidObject("metadata.creationTimestamp", "bad-value", sentence) from None


def _number_or_name(port: int | str | None) -> int | str:
    """A port that Kubernetes types IntOrString; digits are a number however they were quoted, for no port has such a name."""
    if isinstance(port, str):
        return int(port) if _PORT.fullmatch(port) and int(port) <= 65535 else _intern(port)
    return port or 0


def _one_of(where: str, value: str | None, allowed: tuple[str, ...]) -> str:
    """The value, the first of the allowed ones where it is missing."""
    if not value:
        return allowed[0]
    if value not in allowed:
        raise _unknown(where, value, allowed)
    return _intern(value)


def _unknown(where: str, value: str, allowed: tuple[str, ...]) -> InvalidObject:
    return InvalidObject(where, "bad-value", f"{_shown(value)} is not one of {', '.join(allowed)}.")


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
