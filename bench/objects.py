"""Worlds of N applications as an API server writes them: JSON with `managedFields` and `status`, 1.5 to 3 kB an object.

Application `i` is an Ingress of one host and one path, a Service with one port, an EndpointSlice with three addresses; every tenth has a
certificate of its own.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from xds.kube import parse
from xds.kube.objects import Object
from xds.problem import Problem

CONFIG_MAP = "ingress-nginx/controller"
"""The name to give to `--configmap`."""

_TLS_EVERY = 10
_NAMESPACES = 50
_BORN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_DAY = datetime.timedelta(days=1)
_NETWORKING, _DISCOVERY, _CORE = "networking.k8s.io/v1", "discovery.k8s.io/v1", "v1"


class Raw(NamedTuple):
    """An object as JSON. A list response says the kind and version once, for all of its entries."""

    kind: str
    api_version: str
    body: bytes


def parsed(raw: Raw) -> Object:
    """The object, read as an entry of a list."""
    found = parse.from_json(raw.body, kind=raw.kind, api_version=raw.api_version)
    assert found is not None, raw.kind
    assert not isinstance(found, Problem), found
    return found


def world(n: int) -> Iterator[Raw]:
    """All objects of `n` applications, kind by kind, as the lists of an API server come."""
    yield ingress_class()
    yield config_map({})
    yield from map(service, range(n))
    yield from map(endpoint_slice, range(n))
    yield from map(secret, with_tls(n))
    yield from map(ingress, range(n))


def with_tls(n: int) -> range:
    """Those of `n` applications that have a certificate."""
    return range(0, n, _TLS_EVERY)


def host(i: int) -> str:
    """The host of application `i`."""
    return f"web-{i}.example.com"


def ingress(i: int, *, path: str = "/", service: int | None = None) -> Raw:
    """The Ingress of application `i`; `service` is the application in the same namespace whose Service it leads to."""
    name = f"web-{i if service is None else service}"
    backend = {"service": {"name": name, "port": {"number": 80}}}
    spec: dict[str, Any] = {
        "ingressClassName": "nginx",
        "rules": [{"host": host(i), "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}],
    }
    if i % _TLS_EVERY == 0:
        spec["tls"] = [{"hosts": [host(i)], "secretName": f"web-{i}-tls"}]
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}}
    fields = ["f:ingressClassName", "f:rules", "f:tls", "f:defaultBackend"]
    return _raw("Ingress", _NETWORKING, _meta(f"web-{i}", i, fields, applied=spec), {"spec": spec, "status": status})


def service(i: int) -> Raw:
    """The Service of application `i`."""
    address = f"172.{16 + (i >> 16 & 15)}.{i >> 8 & 255}.{i & 255}"
    spec = {
        "clusterIP": address,
        "clusterIPs": [address],
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        "selector": {"app.kubernetes.io/name": f"web-{i}"},
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }
    fields = ["f:internalTrafficPolicy", "f:ports", "f:selector", "f:sessionAffinity", "f:type"]
    return _raw("Service", _CORE, _meta(f"web-{i}", i, fields, applied=spec), {"spec": spec, "status": {"loadBalancer": {}}})


def endpoint_slice(i: int, *, addresses: Sequence[str] = (), port: int = 8080) -> Raw:
    """The EndpointSlice of application `i`."""
    first = 3 * i
    found = addresses or [f"10.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}" for a in range(first, first + 3)]
    conditions = {"ready": True, "serving": True, "terminating": False}
    pods = [
        {
            "addresses": [address],
            "conditions": conditions,
            "nodeName": f"node-{k}",
            "targetRef": {
                "kind": "Pod",
                "name": f"web-{i}-6d4cf56db6-{k:05d}",
                "namespace": _namespace(i),
                "uid": f"7b0c3a86-0000-4000-8000-{first + k:012d}",
            },
            "zone": f"eu-1{'abc'[k % 3]}",
        }
        for k, address in enumerate(found)
    ]
    meta = _meta(f"web-{i}-x7k2p", i, ["f:addressType", "f:endpoints", "f:ports"], more_labels={"kubernetes.io/service-name": f"web-{i}"})
    return _raw(
        "EndpointSlice",
        _DISCOVERY,
        meta,
        {"addressType": "IPv4", "endpoints": pods, "ports": [{"name": "http", "port": port, "protocol": "TCP"}]},
    )


def secret(i: int) -> Raw:
    """The certificate of application `i`, made on the spot: no two are alike."""
    chain, key = certificate(host(i))
    encoded = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    meta = _meta(f"web-{i}-tls", i, ["f:data", "f:type"])
    return _raw("Secret", _CORE, meta, {"data": encoded, "type": "kubernetes.io/tls"})


def secret_name(i: int) -> str:
    """The certificate of application `i` as Envoy asks for it."""
    return f"{_namespace(i)}/web-{i}-tls"


def config_map(values: dict[str, str]) -> Raw:
    """The ConfigMap CONFIG_MAP."""
    namespace, name = CONFIG_MAP.split("/")
    meta = {**_meta(name, 0, ["f:data"]), "namespace": namespace}
    return _raw("ConfigMap", _CORE, meta, {"data": values})


def ingress_class() -> Raw:
    """The IngressClass of all Ingresses."""
    meta = {"name": "nginx", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return _raw("IngressClass", _NETWORKING, meta, {"spec": {"controller": "k8s.io/ingress-nginx"}})


def certificate(name: str) -> tuple[bytes, bytes]:
    """A self-signed EC certificate for one host: PEM chain and PEM key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - _DAY, now + 90 * _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _namespace(i: int) -> str:
    """Neighbours share a namespace, so that the Ingress of one can lead to the Service of the next."""
    return f"team-{i // 2 % _NAMESPACES}"


def _meta(name: str, i: int, fields: Iterable[str], *, applied: object = None, more_labels: dict[str, str] | None = None) -> dict[str, Any]:
    """`metadata` as a cluster has it: with what kubectl notes of itself, and who owns which field."""
    created = (_BORN + datetime.timedelta(minutes=i)).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "app.kubernetes.io/name": f"web-{i}",
        "app.kubernetes.io/instance": f"web-{i}",
        "app.kubernetes.io/version": "1.4.2",
        "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": "web-0.9.1",
        **(more_labels or {}),
    }
    meta: dict[str, Any] = {
        "name": name,
        "namespace": _namespace(i),
        "uid": f"0e6c1d0e-8ba8-4ad0-9a1c-{i:012d}",
        "resourceVersion": str(100_000 + i),
        "generation": 1,
        "creationTimestamp": created,
        "labels": labels,
    }
    annotations = {"meta.helm.sh/release-name": f"web-{i}", "meta.helm.sh/release-namespace": _namespace(i)}
    if applied is not None:
        annotations["kubectl.kubernetes.io/last-applied-configuration"] = json.dumps({"metadata": {"name": name}, "spec": applied}) + "\n"
    owned = {"f:metadata": {"f:annotations": _owned(annotations), "f:labels": _owned(labels)}, "f:spec": _owned(fields)}
    meta["annotations"] = annotations
    meta["managedFields"] = [
        {
            "manager": "helm",
            "operation": "Update",
            "apiVersion": "v1",
            "time": created,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned,
        }
    ]
    return meta


def _owned(names: Iterable[str]) -> dict[str, Any]:
    return {".": {}, **{name if name.startswith("f:") else f"f:{name}": {} for name in names}}


def _raw(kind: str, api_version: str, meta: dict[str, Any], rest: dict[str, Any]) -> Raw:
    return Raw(kind, api_version, msgspec.json.encode({"kind": kind, "apiVersion": api_version, "metadata": meta, **rest}))
