"""From the backend that an object names to the port of a Service, and to the endpoints behind it (nginx 4.6).

What does not belong here: which addresses endpoints may have (`xds.translate.endpoint_addresses`), and what answers in place of a backend
that cannot be reached (`xds.translate.hosts`).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from xds.kube.objects import EndpointPort, EndpointSlice, Service, ServicePort
from xds.kube.world import Reader, report_about, service, settings, slices_of
from xds.model import Cluster
from xds.nginx.registry import asks
from xds.problem import Severity
from xds.translate.configuration import configuration
from xds.translate.endpoint_addresses import external_host, is_ours, name_refusal, refusal, rules

_IPV4 = re.compile(r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(?!$)|$)){4}", re.ASCII)
_MOST_REPORTED = 20
"""Problems about addresses of one EndpointSlice."""


NO_SERVICE = "no-service"
"""Code of the Problem about a backend that is no Service, or none that may be used."""
NO_ENDPOINTS = "no-endpoints"
"""The code of Problems about a Service that exists and has no ready endpoint."""


MOST_PORTS = 1_000
"""Ports of one Service that have an effect: each may be a cluster of its own with all endpoints."""
MOST_ENDPOINTS = 200_000
"""Endpoints of one Service, summed over its ports: each port may be a cluster of its own with all endpoints."""
_FEW = 16
"""Ports of a Service up to which no index is kept."""


class Reach(Enum):
    """Whether a backend can be reached; all but LIVE and EXTERNAL answer 503."""

    LIVE = "live"
    EXTERNAL = "external"
    NO_ENDPOINTS = "has no ready endpoint"
    NO_SERVICE = "does not exist"
    NO_PORT = "has no such port"
    REFUSED = "is of type ExternalName, which is not allowed"
    NOT_REACHABLE = "leads to an address that endpoints may not have"


class Destination(NamedTuple):
    """The target of a backend: `port` is the Service's port number; with `by_client` one client address stays with one endpoint."""

    reach: Reach
    port: int = 0
    by_client: bool = False


class Address(NamedTuple):
    """An endpoint. `draining`: it finishes its requests, and gets no new ones."""

    ip: str
    port: int
    draining: bool = False


class _Ports(NamedTuple):
    """Indexes of a Service's ports by protocol and key; of two ports with the same key the first wins, as in ingress-nginx."""

    named: dict[tuple[str, str], ServicePort]
    """By number or name."""
    targeted: dict[tuple[str, str], ServicePort]
    """By number, name or targetPort."""
    numbered: dict[tuple[str, int], ServicePort]


def ports_of(read: Reader, namespace: str, name: str) -> _Ports:
    """The indexes of a Service with many ports, shared by all that refer to it. A Unit."""
    found = service(read, namespace, name)
    if found and len(found.ports) > MOST_PORTS:
        sentence = f"The Service has {len(found.ports):,} ports; those after the first {MOST_PORTS:,} have no effect."
        report_about(read, found, "spec.ports", "too-many-ports", sentence)
    index = _Ports({}, {}, {})
    for port in reversed(found.ports[:MOST_PORTS] if found else ()):
        ways = {(port.protocol, text): port for text in (str(port.port), port.name)}
        index.named.update(ways)
        index.targeted.update({**ways, (port.protocol, str(port.target)): port})
        index.numbered[port.protocol, port.port] = port
    return index


def find_port(read: Reader, found: Service, port: int | str, protocol: str, *, by_target: bool) -> ServicePort | None:
    """The Service's port that an Ingress or ConfigMap names by number or name, and with `by_target` by its targetPort.

    The first port that matches wins, as in ingress-nginx. 0 (no port given) matches none.
    """
    if not port:
        return None
    wanted = str(port)
    if len(found.ports) > _FEW:
        index = read.unit(ports_of, found.meta.namespace, found.meta.name)
        return (index.targeted if by_target else index.named).get((protocol, wanted))
    for each in found.ports:
        ways = (str(each.port), each.name, str(each.target)) if by_target else (str(each.port), each.name)
        if each.protocol == protocol and wanted in ways:
            return each
    return None


def _numbered(read: Reader, found: Service, port: int, protocol: str) -> ServicePort | None:
    """The Service's port of this number."""
    if len(found.ports) > _FEW:
        return read.unit(ports_of, found.meta.namespace, found.meta.name).numbered.get((protocol, port))
    return next((each for each in found.ports if each.port == port and each.protocol == protocol), None)


def destination(read: Reader, namespace: str, name: str, port: int | str, by_address: bool = False) -> Destination:
    """The target of an Ingress's backend.

    A Unit of its own: when endpoints change, its readers run again only if the result differs. With `by_address` (service-upstream) the
    Service's own address is used instead of its endpoints, whether it has any or not.
    """
    found = service(read, namespace, name)
    if found is None:
        return Destination(Reach.NO_SERVICE)
    by_client = by_client_address(read, namespace, name)
    if found.type == "ExternalName":
        return _external(read, found, port, "TCP")
    declared = find_port(read, found, port, "TCP", by_target=True)
    if declared is None:
        return Destination(Reach.NO_PORT)
    if by_address and _own_addresses(read, found, declared.port):
        return Destination(Reach.LIVE, declared.port, by_client)
    live = read.unit(pod_addresses, namespace, name, declared.port, "TCP")
    return Destination(Reach.LIVE if live else Reach.NO_ENDPOINTS, declared.port, by_client)


def stream_destination(read: Reader, namespace: str, name: str, port: int | str, protocol: str) -> Destination:
    """The target of an entry of the tcp- or udp-services ConfigMap, which cannot name a targetPort. A Unit, as `destination` is."""
    found = service(read, namespace, name)
    if found is None:
        return Destination(Reach.NO_SERVICE)
    if found.type == "ExternalName":
        return _external(read, found, port, protocol)
    declared = find_port(read, found, port, protocol, by_target=False)
    if declared is None:
        return Destination(Reach.NO_PORT)
    live = read.unit(pod_addresses, namespace, name, declared.port, protocol)
    return Destination(Reach.LIVE if live else Reach.NO_ENDPOINTS, declared.port, by_client_address(read, namespace, name))


def by_client_address(read: Reader, namespace: str, name: str) -> bool:
    """Whether one client address stays with one endpoint of a Service: its `sessionAffinity` requests it, and the ConfigMap allows it.

    ingress-nginx ignores `sessionAffinity`. Behind a load balancer that hides client addresses it would send all clients to one pod.
    """
    found = service(read, namespace, name)
    return found is not None and found.affinity == "ClientIP" and asks("by_affinity", read.unit(configuration).defaults)


def first_port(read: Reader, namespace: str, name: str) -> int:
    """The number of a Service's first TCP port; 0 where there is none."""
    found = service(read, namespace, name)
    return next((p.port for p in found.ports if p.protocol == "TCP"), 0) if found else 0


def addresses(read: Reader, cluster: Cluster) -> tuple[Address, ...]:
    """The endpoints of a cluster, sorted: those of the pods, or with service-upstream the Service's own addresses."""
    if cluster.by_address or asks("by_address", dict(cluster.policy)):
        found = service(read, cluster.namespace, cluster.service)
        if found and (own := _own_addresses(read, found, cluster.port)):
            return tuple(Address(ip, cluster.port) for ip in own)
    return read.unit(pod_addresses, cluster.namespace, cluster.service, cluster.port, cluster.protocol)


def pod_addresses(read: Reader, namespace: str, name: str, port: int, protocol: str) -> tuple[Address, ...]:
    """The ready endpoints of a Service's port, and those that serve while they terminate; each address once, sorted.

    Terminating endpoints drain while another one is ready. If none is, they get all requests, as with kube-proxy: a pod that still serves
    is better than 503.
    """
    found = service(read, namespace, name)
    declared = _numbered(read, found, port, protocol) if found else None
    if declared is None:
        return ()
    known: dict[tuple[str, int], bool] = {}
    candidates = itertools.chain.from_iterable(_of_slice(read, piece, declared) for piece in slices_of(read, namespace, name))
    for ip, number, terminates in _judged(read, declared.protocol, itertools.islice(candidates, _most_endpoints(found))):
        known[ip, number] = terminates and known.get((ip, number), True)
    if found and next(candidates, None):
        sentence = (
            f"A port of this Service has more than {_most_endpoints(found):,} endpoints, its part of {MOST_ENDPOINTS:,} for all ports; "
        )
        sentence += "the rest is left out."
        report_about(read, found, "spec.ports", "too-many-endpoints", sentence)
    some_ready = not all(known.values())
    return tuple(Address(ip, number, terminates and some_ready) for (ip, number), terminates in sorted(known.items()))


def has_refused(read: Reader, namespace: str, name: str, port: int) -> bool:
    """Whether a TCP port of a Service has an endpoint, ready or not, whose address is denied. A Unit."""
    known = read.unit(rules)
    return any(refusal(read, known, ip, number) for ip, number in _every_endpoint(read, namespace, name, port))


def leads_to_us(read: Reader, namespace: str, name: str, port: int, ports: frozenset[int]) -> bool:
    """Whether a TCP port of a Service has an endpoint, ready or not, that is one of these ports of ours. A Unit."""
    return any(number in ports and is_ours(read, ip) for ip, number in _every_endpoint(read, namespace, name, port))


def _every_endpoint(read: Reader, namespace: str, name: str, port: int) -> Iterator[tuple[str, int]]:
    """The addresses of a Service's TCP port in any state: kube-proxy may send requests to each of them sooner or later."""
    found = service(read, namespace, name)
    declared = _numbered(read, found, port, "TCP") if found else None
    if declared is None:
        return
    for piece in slices_of(read, namespace, name):
        for number in _targets(piece.ports, declared):
            yield from ((ip, number) for endpoint in piece.endpoints for text in endpoint.addresses if (ip := _ip(text)))


def external_address(found: Service | None, cluster: Cluster) -> Address | None:
    """The target of a cluster whose Service is an ExternalName: a host name or an IP address; None for other Services.

    The port is the targetPort if that is a number, since there is no pod to resolve a name. An undeclared port is used as it is.
    """
    if found is None or found.type != "ExternalName":
        return None
    return Address(external_host(found), _external_port(found, cluster.port, cluster.protocol))


def _external_port(found: Service, port: int, protocol: str) -> int:
    declared = next((p for p in found.ports if (p.port, p.protocol) == (port, protocol)), None)
    return declared.target_number if declared else port


def _own_addresses(read: Reader, found: Service, port: int) -> tuple[str, ...]:
    """The cluster IPs of a Service that are not denied, sorted; none for a headless one.

    None either if one of its endpoints is denied: behind the cluster IP kube-proxy chooses among all endpoints.
    """
    if found.headless or not found.cluster_ips:
        return ()
    if read.unit(has_refused, found.meta.namespace, found.meta.name, port):
        sentence = (
            "Some endpoints have addresses that are not allowed. So requests go directly to the others, not to the Service's own address."
        )
        report_about(read, found, "spec.clusterIPs", "address-passed-by", sentence, Severity.WARNING)
        return ()
    known = read.unit(rules)
    own: list[str] = []
    for number, ip in enumerate(ip for text in found.cluster_ips if (ip := _ip(text))):
        if why := refusal(read, known, ip, port):
            sentence = f"The address {ip} {why}; it is left out."
            report_about(read, found, f"spec.clusterIPs[{number}]", "address-refused", sentence)
        else:
            own.append(ip)
    return tuple(sorted(own))


def _external(read: Reader, found: Service, port: int | str, protocol: str) -> Destination:
    flags = settings(read)
    host = external_host(found)
    if flags.disable_svc_external_name or not host:
        return Destination(Reach.REFUSED)
    declared = find_port(read, found, port, protocol, by_target=False)
    number = declared.port if declared else int(port) if str(port).isdecimal() else 0
    target = _external_port(found, number, protocol)
    if not (0 < number < 65536 and 0 < target < 65536):
        return Destination(Reach.NO_PORT)
    if why := name_refusal(read, host, target, protocol):
        sentence = f"{host!r} {why}; nothing is sent there."
        report_about(read, found, "spec.externalName", "address-refused", sentence)
        return Destination(Reach.NOT_REACHABLE)
    return Destination(Reach.EXTERNAL, number, by_client_address(read, found.meta.namespace, found.meta.name))


def _most_endpoints(found: Service | None) -> int:
    """The limit of endpoints for each port of a Service."""
    return MOST_ENDPOINTS // max(1, min(len(found.ports), MOST_PORTS)) if found else 0


class _Candidate(NamedTuple):
    """An address of a slice with a port; `field` has the indexes of its endpoint and address in the slice."""

    piece: EndpointSlice
    field: tuple[int, int]
    text: str
    port: int
    terminates: bool


def _of_slice(read: Reader, piece: EndpointSlice, declared: ServicePort) -> Iterator[_Candidate]:
    """The endpoints of a slice that are ready, or serve while they terminate; their addresses are not checked yet."""
    for number in _targets(piece.ports, declared):
        if not 0 < number < 65536:
            sentence = f"The port {number} is not between 1 and 65535; its endpoints are left out."
            report_about(read, piece, "ports", "port", sentence)
            continue
        for at, endpoint in enumerate(piece.endpoints):
            if endpoint.ready or (endpoint.serving and endpoint.terminating):
                for index, text in enumerate(endpoint.addresses):
                    yield _Candidate(piece, (at, index), text, number, not endpoint.ready)


def _judged(read: Reader, protocol: str, candidates: Iterable[_Candidate]) -> Iterator[tuple[str, int, bool]]:
    """The candidates with allowed addresses: (address, port, whether it terminates). The others become Problems of their slices."""
    known = read.unit(rules)
    refused: dict[str, tuple[EndpointSlice, list[tuple[str, str]]]] = {}
    for piece, (at, index), text, number, terminates in candidates:
        ip = _ip(text)
        why = refusal(read, known, ip, number, protocol) if ip else "is no IP address"
        if why:
            wrong = (f"endpoints[{at}].addresses[{index}]", f"The address {text[:60]!r} {why}")
            refused.setdefault(piece.meta.name, (piece, []))[1].append(wrong)
        else:
            yield ip, number, terminates
    for piece, found in refused.values():
        _report_refused(read, piece, found)


def _report_refused(read: Reader, piece: EndpointSlice, refused: list[tuple[str, str]]) -> None:
    """Report each address, up to a number that a user can read."""
    for field, what in refused[:_MOST_REPORTED]:
        report_about(read, piece, field, "address", f"{what}; this endpoint is left out.")
    if len(refused) > _MOST_REPORTED:
        sentence = f"{len(refused) - _MOST_REPORTED} more addresses are left out, for reasons like these."
        report_about(read, piece, "endpoints", "addresses", sentence)


def _ip(text: str) -> str:
    """An address in the form that Envoy accepts; "" for none. One with a zone is none, since it is valid on one host only."""
    if _IPV4.fullmatch(text):
        return text
    try:
        return "" if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _targets(ports: tuple[EndpointPort, ...], declared: ServicePort) -> tuple[int, ...]:
    """The port numbers of a slice for a Service's port, sorted.

    They are those of the slice's ports with the same name. A Service's port without a name is its only one, so all ports of the slice
    count. Slices written by hand may have other names or no ports: then it is the targetPort if that is a number, as in ingress-nginx.
    """
    of_protocol = [p for p in ports if p.protocol == declared.protocol]
    number = declared.target_number
    if found := {number if p.port is None else p.port for p in of_protocol if declared.name in ("", p.name)}:
        return tuple(sorted(found))
    return () if isinstance(declared.target, str) or (ports and not of_protocol) else (number,)
