"""Which addresses may be endpoints: the one table of rules, for whatever may name an address.

Two rules. What listens for this program itself (xDS, debug, health, Envoy's admin page) is never an endpoint, by address and port: it shows
the private keys of everybody, or ends Envoy. And where objects come from an API server, their authors are strangers to the machines that
Envoy runs on: no endpoint is loopback, link-local (the metadata service of a cloud), unspecified, multicast or broadcast, unless
`--allowed-endpoints` lists it. In a folder of manifests loopback is where everybody's applications are.

What does not belong here: reading addresses of objects (`xds.translate.backends`), and rendering the rules for Envoy, which judges names
that only it resolves (`xds.render.clusters`).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from xds.config import Flags, tcp_port
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
"""What no endpoint may be where objects come from an API server: range and what it is."""

_NETWORKS: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(text), what) for text, what in RANGES)
_FIRST_OCTETS = frozenset(str(octet) for octet in (0, 127, 169, 255, *range(224, 240)))
"""An IPv4 address that begins otherwise is in none of the ranges."""
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""No name of the DNS ends in a number; what does is an IPv4 address to some resolvers: 127.1, 0x7f000001, 2130706433, 127.000.000.001."""
_LOOPBACK_NAMES = (
    *("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"),
    *("localhost.localdomain", "localhost4.localdomain4", "localhost6.localdomain6"),
)
"""What a file /etc/hosts may call it; Envoy reads that of its node."""


_HERE = ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128", "::ffff:0.0.0.0/104", "::ffff:127.0.0.0/104")
"""Where a socket of this machine answers, whatever address it was bound to."""
_HERE_NETWORKS = tuple(ipaddress.ip_network(text) for text in _HERE)


@dataclass(frozen=True, slots=True)
class Rules:
    """`ranges`: whether the table of ranges holds; `allowed` are the exceptions.

    `own` has the ports of our own sockets, each with its flag.
    """

    ranges: bool
    allowed: tuple[Network, ...]
    own: Mapping[int, str]


class Denied(NamedTuple):
    """CIDRs that a name must not resolve to: `ranges` without `allowed`, and `own`, from which nothing is excepted."""

    ranges: tuple[str, ...]
    allowed: tuple[str, ...]
    own: tuple[str, ...]


NOTHING_DENIED = Denied((), (), ())


def rules(read: Reader) -> Rules:
    """The rules under these settings. A Unit: they are the same as long as the process lives."""
    flags = settings(read)
    allowed = tuple(ipaddress.ip_network(text) for text in flags.allowed_endpoints)
    return Rules(not flags.manifests, allowed, own_ports(flags))


def refusal(read: Reader, known: Rules, ip: str, port: int, protocol: str = "TCP") -> str:
    """Why nothing may be sent to an address, as the end of a sentence ("is …"); "" where it may. `ip` must be an IP address."""
    if known.ranges and (what := _kind(ip, known.allowed)):
        return f"is {what}, which no endpoint may be (--allowed-endpoints lists exceptions)"
    whose = known.own.get(port, "") if protocol == "TCP" else ""
    if whose and is_ours(read, ip):
        return f"is ours, and there, on port {port}, this program or its Envoy itself listens ({whose})"
    return ""


def name_refusal(read: Reader, host: str, port: int, protocol: str = "TCP") -> str:
    """As `refusal`, for a host name or an IP address; of a name only what it says by itself is known here."""
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
    """Whether an address is one of our own machine or pods: loopback in any spelling, or one that is known to be ours."""
    address = _unmapped(ip)
    return _is_here(address) or address in own_addresses(read) or address in read.unit(our_addresses)


def denied(read: Reader, port: int) -> Denied:
    """What the name of a cluster with this port may not resolve to: the same rules, for Envoy."""
    known = read.unit(rules)
    ranges = tuple(text for text, _ in RANGES) if known.ranges else ()
    own: tuple[str, ...] = ()
    if port in known.own:
        ours = sorted(own_addresses(read) | read.unit(our_addresses))
        own = (*_HERE, *(network for ip in ours for network in _in_both_spellings(ip)))
    return Denied(ranges, tuple(str(network) for network in known.allowed) if ranges else (), own)


def our_addresses(read: Reader) -> frozenset[str]:
    """The addresses of pods and Services of our own namespace: where the control plane and the Envoys are in a cluster.

    Unknown are pods that no Service selects, as Envoys in the network of their nodes may be.
    """
    slices = own_slices(read)
    pods = (text for piece in slices for endpoint in piece.endpoints for text in endpoint.addresses)
    found = (service(read, piece.meta.namespace, piece.service) for piece in slices)
    return frozenset(_readable([*pods, *(text for one in found if one for text in (*one.cluster_ips, *one.external_ips))]))


def own_ports(flags: Flags) -> dict[int, str]:
    """The ports on which this program and the Envoys listen for it alone. An Envoy's own bootstrap may name another admin page."""
    found = {flags.healthz_port: "--healthz-port"}
    for text, flag in (
        (flags.probe_address, "--probe-address"),
        (flags.admin_address, "--admin-address"),
        (flags.debug_address, "--debug-address"),
        (flags.xds_address, "--xds-address"),
    ):
        if port := tcp_port(text):
            found[port] = flag
    return found


def _kind(ip: str, allowed: tuple[Network, ...]) -> str:
    """What is wrong with an address by itself; "" for what is not. Most addresses are told by their first octet."""
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
    """An address as CIDRs; an IPv4 address also as a record of an IPv6 address may have it."""
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
