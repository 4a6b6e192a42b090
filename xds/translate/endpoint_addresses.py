"""Which addresses may be endpoints: the one table of rules, for every object that may name an address.

1. Sockets of this program and of Envoy itself (xDS, debug, dashboard, health, Envoy's admin page) are never endpoints, by address and
   port. Through them a client could read everybody's private keys, or stop Envoy.
2. Where objects come from an API server, their authors must not reach the machine that Envoy runs on. No endpoint is loopback, link-local
   (the metadata service of a cloud), unspecified, multicast or broadcast, unless `--allowed-endpoints` lists it. In a folder of manifests
   this rule does not hold: there applications listen on loopback.

What does not belong here: reading addresses from objects (`xds.translate.backends`), and rendering the rules for Envoy, which applies them
to names that only it resolves (`xds.render.addresses`).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from xds.addresses import tcp_port
from xds.config import Flags
from xds.kube.objects import Service
from xds.kube.world import Reader, own_addresses, own_slices, service, settings

Network = IPv4Network | IPv6Network

RANGES: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("::/128", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("fe80::/10", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::ffff:0:0/96", "an IPv4 address in the spelling of IPv6"),
    ("fd00:ec2::254/128", "the metadata service of a cloud"),
    ("fd20:ce::254/128", "the metadata service of a cloud"),
)
"""Ranges in which no endpoint may be where objects come from an API server, and the name of each."""

_NETWORKS: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(text), what) for text, what in RANGES)
_FIRST_OCTETS = frozenset(str(octet) for octet in (0, 127, 169, 255, *range(224, 240)))
"""An IPv4 address with another first octet is in none of the ranges."""
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""No DNS name ends in a number. Some resolvers take such a text for an IPv4 address: 127.1, 0x7f000001, 2130706433, 127.000.000.001."""
_LOOPBACK_NAMES = (
    *("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"),
    *("localhost.localdomain", "localhost4.localdomain4", "localhost6.localdomain6"),
)
"""Names of loopback in an /etc/hosts; Envoy reads that of its node."""


_HERE = ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128", "::ffff:0.0.0.0/104", "::ffff:127.0.0.0/104")
"""Addresses at which a socket of this machine can be reached, whatever address it is bound to."""
_HERE_NETWORKS = tuple(ipaddress.ip_network(text) for text in _HERE)


@dataclass(frozen=True, slots=True)
class Rules:
    """`ranges`: whether the table of ranges applies; `allowed` are the exceptions. `own` has our own ports, each with its flag."""

    ranges: bool
    allowed: tuple[Network, ...]
    own: Mapping[int, str]


class Denied(NamedTuple):
    """CIDRs to which a name must not resolve: `ranges` without `allowed`, and `own` without exception."""

    ranges: tuple[str, ...]
    allowed: tuple[str, ...]
    own: tuple[str, ...]


NOTHING_DENIED = Denied((), (), ())


def rules(read: Reader) -> Rules:
    """The rules under these flags. A Unit: they are the same as long as the process runs."""
    flags = settings(read)
    allowed = tuple(ipaddress.ip_network(text) for text in flags.allowed_endpoints)
    return Rules(not flags.manifests, allowed, own_ports(flags))


def refusal(read: Reader, known: Rules, ip: str, port: int, protocol: str = "TCP") -> str:
    """Why an address may not be an endpoint, as the end of a sentence ("is …"); "" where it may. `ip` must be an IP address."""
    if known.ranges and (what := _kind(ip, known.allowed)):
        return f"is {what}, which no endpoint may be (--allowed-endpoints lists exceptions)"
    whose = known.own.get(port, "") if protocol == "TCP" else ""
    if whose and is_ours(read, ip):
        return f"is ours, and there, on port {port}, this program or its Envoy itself listens ({whose})"
    return ""


def external_host(found: Service) -> str:
    """The DNS name that an ExternalName Service points to, in lower case and without the final dot."""
    return found.external_name.strip().rstrip(".").lower()


def name_refusal(read: Reader, host: str, port: int, protocol: str = "TCP") -> str:
    """As `refusal`, for a host name or an IP address. A name is not resolved here: only the names of loopback are known."""
    known = read.unit(rules)
    try:
        ip = str(ipaddress.ip_address(host))
    except ValueError:
        if known.ranges and _NUMBER_AT_END.fullmatch(host):
            return "is no name but an address in a spelling of its own, which no endpoint may be"
        if host not in _LOOPBACK_NAMES and not host.endswith(".localhost"):
            return ""
        ip = "127.0.0.1"
    return refusal(read, known, ip, port, protocol)


def is_ours(read: Reader, ip: str) -> bool:
    """Whether an address is one of our own machine or pods: loopback in any spelling, or known to be ours."""
    address = _unmapped(ip)
    return _is_here(address) or address in own_addresses(read) or address in read.unit(our_addresses)


def denied(read: Reader, port: int) -> Denied:
    """The addresses to which the name of a cluster with this port must not resolve: the same rules, for Envoy."""
    known = read.unit(rules)
    ranges = tuple(text for text, _ in RANGES) if known.ranges else ()
    own: tuple[str, ...] = ()
    if port in known.own:
        ours = sorted(own_addresses(read) | read.unit(our_addresses))
        own = (*_HERE, *(network for ip in ours for network in _in_both_spellings(ip)))
    return Denied(ranges, tuple(str(network) for network in known.allowed) if ranges else (), own)


def our_addresses(read: Reader) -> frozenset[str]:
    """The addresses of pods and Services in our own namespace, in which the control plane and the Envoys of a cluster run.

    Pods that no Service selects are unknown; Envoys with `hostNetwork` may be such.
    """
    slices = own_slices(read)
    pods = (text for piece in slices for endpoint in piece.endpoints for text in endpoint.addresses)
    found = (service(read, piece.meta.namespace, piece.service) for piece in slices)
    return frozenset(_readable([*pods, *(text for one in found if one for text in (*one.cluster_ips, *one.external_ips))]))


def own_ports(flags: Flags) -> dict[int, str]:
    """The ports of this program's own sockets and of Envoy's. A bootstrap written by hand may have another admin page: that is unknown."""
    found = {flags.healthz_port: "--healthz-port"}
    for text, flag in (
        (flags.probe_address, "--probe-address"),
        (flags.admin_address, "--admin-address"),
        (flags.debug_address, "--debug-address"),
        (flags.dashboard_address, "--dashboard-address"),
        (flags.xds_address, "--xds-address"),
        (flags.validating_webhook, "--validating-webhook"),
        (flags.metrics_address if flags.enable_metrics else "", "--metrics-address"),
    ):
        if port := tcp_port(text):
            found[port] = flag
    return found


def _kind(ip: str, allowed: tuple[Network, ...]) -> str:
    """The denied range that an address is in; "" for none. For most addresses the first octet is enough."""
    if ":" not in ip and ip.partition(".")[0] not in _FIRST_OCTETS:
        return ""
    return _in_range(ip, allowed)


@functools.lru_cache(maxsize=4096)
def _in_range(ip: str, allowed: tuple[Network, ...]) -> str:
    address = ipaddress.ip_address(ip)
    if any(address in network for network in allowed):
        return ""
    return next((what for network, what in _NETWORKS if address in network), "")


def _unmapped(ip: str) -> str:
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _in_both_spellings(ip: str) -> tuple[str, ...]:
    """An address as CIDRs; an IPv4 address also as an AAAA record may map it."""
    return (f"{ip}/128",) if ":" in ip else (f"{ip}/32", f"::ffff:{ip}/128")


def _is_here(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address in network for network in _HERE_NETWORKS)


def _readable(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        try:
            yield _unmapped(text)
        except ValueError:
            continue
