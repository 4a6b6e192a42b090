"""The tcp-services and udp-services ConfigMaps: which port leads to which Service (nginx 4.7)."""

from __future__ import annotations

import re

from xds.addresses import ip_or_none
from xds.config import reserved_ports
from xds.kube.objects import ConfigMap
from xds.kube.world import Reader, config_map, report_about, service, settings
from xds.model import Cluster, Stream
from xds.nginx import registry
from xds.translate.backends import NO_ENDPOINTS, Destination, Reach, external_address, pod_addresses, stream_destination
from xds.translate.configuration import configuration, flagged
from xds.translate.endpoint_addresses import is_ours, rules

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_FORM = "namespace/service:port, with :PROXY behind it to take, and a second one to send, the PROXY protocol"

MOST_ENTRIES = 5_000
"""Entries of one ConfigMap that have an effect: each is a listener of its own."""
_MOST_TOLD = 100


class _Unreadable(ValueError):
    """Why an entry has no effect, as a sentence, with the code of its Problem."""

    def __init__(self, sentence: str, code: str = "stream") -> None:
        super().__init__(sentence)
        self.code = code


def streams(read: Reader, protocol: str) -> tuple[Stream, ...]:
    """The entries that work, by port; each other one is a Problem and disturbs nobody."""
    flags = settings(read)
    name = flags.tcp_services_configmap if protocol == "TCP" else flags.udp_services_configmap
    found = flagged(read, f"--{protocol.lower()}-services-configmap", name, f"no {protocol} port is open")
    if found is None:
        return ()
    defaults = read.unit(configuration).defaults
    taken: dict[int, Stream] = {}
    faults: list[tuple[str, _Unreadable]] = []
    keys = sorted(found.data, key=lambda k: (len(k), k))
    for key in keys[:MOST_ENTRIES]:
        try:
            port = _port(read, key, protocol)
            if port in taken:
                raise _Unreadable(f"The port {port} is there twice; only the first entry counts.")
            taken[port] = registry.stream(defaults, _stream(read, port, protocol, found.data[key]))
        except _Unreadable as fault:
            faults.append((key, fault))
    for key, wrong in faults[:_MOST_TOLD]:
        _report(read, found, key, wrong)
    if len(faults) > _MOST_TOLD:
        _report(read, found, "", _Unreadable(f"{len(faults) - _MOST_TOLD:,} more entries have no effect."))
    if len(keys) > MOST_ENTRIES:
        sentence = f"There are {len(keys):,} entries; those after the first {MOST_ENTRIES:,}, by port, have no effect."
        _report(read, found, "", _Unreadable(sentence, "too-many-entries"))
    return tuple(taken[port] for port in sorted(taken))


def _port(read: Reader, key: str, protocol: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", key.strip()) or not 0 < int(key) < 65536:
        raise _Unreadable(f"{key[:40]!r} is no port: a number from 1 to 65535 is needed.")
    port = int(key)
    reserved = reserved_ports(settings(read))
    if protocol == "TCP" and port in reserved:
        raise _Unreadable(f"The port {port} is reserved ({reserved[port]}).")
    return port


def _stream(read: Reader, port: int, protocol: str, value: str) -> Stream:
    target, *flags = _fields(value)
    namespace, _, rest = target.partition("/")
    name, _, service_port = rest.partition(":")
    if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name) and service_port):
        raise _Unreadable(f"{value[:80]!r} is not of the form {_FORM}.")
    take, send = (*(f.upper() == "PROXY" for f in flags), False, False)[:2]
    if protocol == "UDP" and (take or send):
        raise _Unreadable("The PROXY protocol is for TCP only.")
    found = read.unit(stream_destination, namespace, name, int(service_port) if service_port.isdecimal() else service_port, protocol)
    if why := _fault(read, namespace, name, service_port, found, protocol):
        code = NO_ENDPOINTS if found.reach is Reach.NO_ENDPOINTS else "stream"
        raise _Unreadable(f"Service {namespace}/{name} {why}; the port {port} stays closed.", code)
    cluster = Cluster(namespace, name, found.port, protocol=protocol, send_proxy=send, external=found.reach is Reach.EXTERNAL)
    return Stream(port, protocol, cluster, found.by_client, take)


def _fault(read: Reader, namespace: str, name: str, service_port: str, found: Destination, protocol: str) -> str:
    """Why a Service cannot be what an entry leads to, as the end of a sentence; "" where it can."""
    match found.reach:
        case Reach.NO_PORT:
            return f"has no {protocol} port {service_port[:63]!r}"
        case Reach.EXTERNAL if protocol == "TCP" and (own := _may_be_ours(read, Cluster(namespace, name, found.port))):
            return f"is of type ExternalName, and leads to a port that xds or Envoy uses itself ({own})"
        case Reach.LIVE if _leads_back(read, namespace, name, found.port, protocol):
            return f"leads back to a {protocol} port of this ConfigMap"
        case Reach.LIVE | Reach.EXTERNAL:
            return ""
    return str(found.reach.value)


def _may_be_ours(read: Reader, cluster: Cluster) -> str:
    """The flag of our own socket that has this port, where an ExternalName is no address, so that only Envoy learns where it leads."""
    where = external_address(service(read, cluster.namespace, cluster.service), cluster)
    return read.unit(rules).own.get(where.port, "") if where and ip_or_none(where.ip) is None else ""


def _leads_back(read: Reader, namespace: str, name: str, port: int, protocol: str) -> bool:
    """Whether Envoy would connect to a listener of this very ConfigMap: such a connection comes in again and again, and nobody counts."""
    ports = read.unit(asked_ports, protocol)
    endpoints = read.unit(pod_addresses, namespace, name, port, protocol)
    return any(endpoint.port in ports and is_ours(read, endpoint.ip) for endpoint in endpoints)


def asked_ports(read: Reader, protocol: str) -> frozenset[int]:
    """The ports that the ConfigMap asks for, whether its entries work or not."""
    flags = settings(read)
    name = flags.tcp_services_configmap if protocol == "TCP" else flags.udp_services_configmap
    found = config_map(read, *name.split("/", 1)) if name else None
    return frozenset(int(key) for key in (found.data if found else ()) if re.fullmatch(r"[0-9]{1,5}", key.strip()))


def _fields(value: str) -> list[str]:
    """`ns/name:port[:PROXY][:PROXY]` as the target and up to two more fields, which may be empty."""
    fields = value.strip().split(":")
    if not 2 <= len(fields) <= 4:
        raise _Unreadable(f"{value[:80]!r} is not of the form {_FORM}.")
    for extra in fields[2:]:
        if extra.upper() not in ("", "PROXY"):
            raise _Unreadable(f"{extra[:40]!r} stands where only PROXY may; {_FORM} is the form.")
    return [":".join(fields[:2]), *fields[2:]]


def _report(read: Reader, found: ConfigMap, key: str, fault: _Unreadable) -> None:
    report_about(read, found, f"data[{key[:40]}]" if key else "data", fault.code, str(fault))
