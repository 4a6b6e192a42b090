"""Where the URL of an annotation leads: an HTTP server beside the backend, such as one that gets copies, or says who may come.

What belongs here: from a URL's scheme, host and port to a cluster, and how it is spoken to. What does not: paths, and what is sent there.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)

from xds.model import Cluster
from xds.nginx.feature import Objects
from xds.nginx.values import shown
from xds.wire.encode import pack

_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[-A-Za-z0-9_.]*[A-Za-z0-9_])?\.?")
_SERVICE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\.?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A server: "http" or "https", a name or an IP address (IPv6 in brackets), and a port."""

    scheme: str
    host: str
    port: int


def target(scheme: str, host: str, port: str) -> Target:
    """A server from the parts of a URL; without a port it is that of the scheme. Raises ValueError with the end of "…, whose port is …"."""
    if not _HOST.fullmatch(host) or ".." in host:
        raise ValueError(f"whose host {shown(host)} is no name")
    if port and not 0 < int(port) < 65536:
        raise ValueError("whose port is not between 1 and 65535")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("whose host is no IPv6 address") from None
    return Target(scheme, host.lower(), int(port) if port else _PORTS[scheme])


def cluster_of(place: Target, feature: str, namespace: str, objects: Objects) -> Cluster | str:
    """The cluster of a server that an Ingress of this namespace names, under a policy of the feature; or why there is none ("leads to …").

    A Service of the same namespace is asked at its endpoints; any other name is what the DNS says.
    """
    named = _SERVICE.fullmatch(place.host)
    if named is None:
        return _judged(named_cluster(place, feature, namespace), objects)
    name, home = named.groups()
    found = objects.service(home, name)
    if found is None:
        missing = home == namespace
        return (
            f"leads to Service {home}/{name}, which does not exist"
            if missing
            else _judged(named_cluster(place, feature, namespace), objects)
        )
    if found.type == "ExternalName":
        external = objects.external_host(found)
        if not external:
            return f"leads to Service {home}/{name} of type ExternalName, which stands for no name here"
        return _judged(Cluster(namespace, "", place.port, ((feature, _policy(place)),), host=external, aside=True), objects)
    if not any(port.port == place.port and port.protocol == "TCP" for port in found.ports):
        return f"leads to Service {home}/{name}, which has no TCP port {place.port}"
    return Cluster(home, name, place.port, ((feature, _policy(place)),), aside=True)


def named_cluster(place: Target, feature: str, namespace: str) -> Cluster:
    """The cluster of what the DNS says of a name, or of an IP address."""
    return Cluster(namespace, "", place.port, ((feature, _policy(place)),), host=place.host.strip("[]").rstrip("."), aside=True)


def _judged(cluster: Cluster, objects: Objects) -> Cluster | str:
    why = objects.refusal(cluster.host, cluster.port)
    return f"leads to {shown(cluster.host)}, which {why}" if why else cluster


def _policy(place: Target) -> str:
    """How the server is spoken to: `http`, or `https:` with the name to ask for, which an IP address is not."""
    name = place.host.strip("[]").rstrip(".")
    return place.scheme if place.scheme == "http" else f"https:{'' if _is_address(name) else name}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def speak(how: str, cluster: EnvoyCluster) -> None:
    """TLS as towards a backend, where the policy says so: with the name that is asked for, and without verification, as nginx does."""
    scheme, _, name = how.partition(":")
    if scheme == "https":
        versions = TlsParameters(tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3)
        context = UpstreamTlsContext(common_tls_context=CommonTlsContext(tls_params=versions), sni=name)
        cluster.transport_socket = TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
