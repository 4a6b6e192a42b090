"""Kubernetes objects as dictionaries, and a folder that they are written into."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from examples.apps import Address
from tests.envoy.harness.tls import Certificate

Manifest = dict[str, Any]
Port = int | str

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The one in C: thousands of objects take others seconds."""

PREFIX = "nginx.ingress.kubernetes.io/"


def _meta(name: str, namespace: str, **more: object) -> Manifest:
    return {"name": name, "namespace": namespace} | {key: value for key, value in more.items() if value}


def _backend(service: str, port: Port) -> Manifest:
    return {"service": {"name": service, "port": {"name" if isinstance(port, str) else "number": port}}}


def ingress(
    name: str,
    host: str,
    paths: Mapping[str, tuple[str, Port]],
    annotations: Mapping[str, object] | None = None,
    *,
    tls: Mapping[str, Sequence[str]] | None = None,
    path_type: str = "Prefix",
    default: tuple[str, Port] | None = None,
    ingress_class: str | None = "nginx",
    namespace: str = "default",
    created: str = "",
) -> Manifest:
    """Make an Ingress of one host (""  for none): path → (service, port); `tls` is Secret → hosts; `default` its default backend.

    Annotations get ingress-nginx's prefix unless they have one.
    """
    given = {key if "/" in key else PREFIX + key: str(value) for key, value in (annotations or {}).items()}
    rule: Manifest = {"host": host} if host else {}
    rule["http"] = {"paths": [{"path": p, "pathType": path_type, "backend": _backend(*to)} for p, to in paths.items()]}
    spec: Manifest = {"rules": [rule]} if paths else {}
    if ingress_class is not None:
        spec["ingressClassName"] = ingress_class
    if default:
        spec["defaultBackend"] = _backend(*default)
    if tls:
        spec["tls"] = [{"secretName": secret, "hosts": list(hosts)} for secret, hosts in tls.items()]
    meta = _meta(name, namespace, annotations=given, creationTimestamp=created)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}


def service(
    name: str,
    ports: Mapping[str, int] | int = 80,
    *,
    namespace: str = "default",
    protocol: str = "TCP",
    cluster_ip: str = "",
    external_name: str = "",
) -> Manifest:
    """Make a Service; `ports` is name → number, or one number for a port without a name."""
    named = {"": ports} if isinstance(ports, int) else ports
    spec: Manifest = {"ports": [({"name": key} if key else {}) | {"port": number, "protocol": protocol} for key, number in named.items()]}
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    if external_name:
        spec |= {"type": "ExternalName", "externalName": external_name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(name, namespace), "spec": spec}


def endpoint_slice(
    service: str,
    addresses: Sequence[Address],
    *,
    ready: bool = True,
    terminating: bool = False,
    port_name: str = "",
    protocol: str = "TCP",
    namespace: str = "default",
    name: str = "",
) -> Manifest:
    """Make an EndpointSlice of a Service; `addresses` are where applications listen, all with one port and of one family."""
    ports = {port for _, port in addresses} or {80}
    assert len(ports) == 1, f"one EndpointSlice has one port, not {sorted(ports)}: use endpoint_slices"
    port = ({"name": port_name} if port_name else {}) | {"port": ports.pop(), "protocol": protocol}
    conditions = {"ready": ready and not terminating, "serving": ready, "terminating": terminating}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _meta(name or f"{service}-1", namespace, labels={"kubernetes.io/service-name": service}),
        "addressType": "IPv6" if any(":" in ip for ip, _ in addresses) else "IPv4",
        "ports": [port],
        "endpoints": [{"addresses": [ip], "conditions": conditions} for ip, _ in addresses],
    }


def endpoint_slices(service: str, addresses: Sequence[Address], **more: Any) -> list[Manifest]:
    """Make one EndpointSlice for each address: applications on loopback share an address and differ by port."""
    return [endpoint_slice(service, [address], name=f"{service}-{index}", **more) for index, address in enumerate(addresses)]


def backend(name: str, *addresses: Address, namespace: str = "default") -> list[Manifest]:
    """Make a Service with the port 80, and the EndpointSlices of what is behind it."""
    return [service(name, namespace=namespace), *endpoint_slices(name, addresses, namespace=namespace)]


def secret_tls(name: str, certificate: Certificate, *, namespace: str = "default", ca: bytes = b"") -> Manifest:
    """Make a TLS Secret."""
    data = {"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem} | ({"ca.crt": ca} if ca else {})
    return secret(name, data, kind="kubernetes.io/tls", namespace=namespace)


def secret(name: str, data: Mapping[str, bytes], *, kind: str = "Opaque", namespace: str = "default") -> Manifest:
    """Make a Secret of any type; the values are encoded here."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": _meta(name, namespace), "data": encoded}


def config_map(name: str, data: Mapping[str, object], *, namespace: str = "default") -> Manifest:
    """Make a ConfigMap; values become strings."""
    values = {str(key): str(value) for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(name, namespace), "data": values}


def ingress_class(name: str = "nginx", controller: str = "k8s.io/ingress-nginx", *, default: bool = False) -> Manifest:
    """Make an IngressClass."""
    meta: Manifest = {"name": name} | ({"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}} if default else {})
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta, "spec": {"controller": controller}}


class Folder:
    """A folder of manifests; a file appears in it whole, as it does with a careful editor or `git pull`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, filename: str, *objects: Manifest) -> Path:
        """Write a file of these objects, or replace it."""
        return self.write_text(filename, yaml.dump_all(objects, Dumper=_DUMPER, sort_keys=False))

    def write_text(self, filename: str, text: str) -> Path:
        """Write a file as it is given, or replace it."""
        path = self.path / filename
        unfinished = path.with_name(f".{path.name}.new")
        unfinished.write_text(text)
        os.replace(unfinished, path)
        return path

    def remove(self, filename: str) -> None:
        """Delete a file."""
        (self.path / filename).unlink()
