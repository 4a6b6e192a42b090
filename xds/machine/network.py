"""The addresses of this machine: what our own sockets can be reached at, which ones can be listened on, and why one cannot; and the
start of a gRPC server on one.

What does not belong here: what follows from that (`xds.translate.endpoint_addresses`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xds.addresses import SocketAddress

_IPV4 = Path("/proc/net/fib_trie")
_IPV6 = Path("/proc/net/if_inet6")
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of documentation (RFC 5737, RFC 3849): no packet is sent to them."""


def addresses() -> frozenset[str]:
    """All addresses of the machine, or of the pod, in their shortest form: those of the kernel's tables, and those it would send from.

    Nothing is sent. Where neither is known, the set is empty.
    """
    found: set[str] = set()
    for table, path in ((local_ipv4, _IPV4), (local_ipv6, _IPV6)):
        with contextlib.suppress(OSError, ValueError):
            found.update(table(path.read_text(encoding="ascii")))
    for family, elsewhere in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.add(str(ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])))
    return frozenset(found)


def usable(listen_address: str) -> str:
    """`::` accepts both families. Where the system has no IPv6, it becomes 0.0.0.0. Other addresses stay the same."""
    if listen_address != "::":
        return listen_address
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104 - `::` means all addresses
    return listen_address


def local_ipv4(table: str) -> Iterator[str]:
    """The local addresses in Linux' routing table (proc(5), net/fib_trie): a leaf "|-- ADDRESS" is followed by its entries."""
    leaf = ""
    for line in table.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            yield str(ipaddress.IPv4Address(leaf))


def local_ipv6(table: str) -> Iterator[str]:
    """The addresses in Linux' list of interfaces (proc(5), net/if_inet6): the first word of each line, 32 hexadecimal digits."""
    for line in table.splitlines():
        yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))


def reason(error: OSError) -> str:
    """Why an address cannot be used, as the operating system words it. asyncio puts the address into `strerror` once more."""
    if error.errno is not None and error.errno > 0:  # a name that is not resolved has a negative number, of getaddrinfo
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def why_not(address: SocketAddress) -> str:
    """Why nothing can listen there, found out by trying: gRPC has no reason in its error."""
    try:
        if address.path:
            _bind(socket.AF_UNIX, socket.SOCK_STREAM, 0, address.path)
            os.unlink(address.path)
            return "it was refused"
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in found:
            _bind(family, kind, protocol, target)
    except OSError as error:
        return reason(error)
    return "it was refused"


def _bind(family: int, kind: int, protocol: int, target: Any) -> None:
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)
        probe.listen()


async def started(server: Any) -> None:
    """Start a `grpc.aio.Server`, and wait until it has, even if this is cancelled meanwhile: then it is stopped before that is raised.

    A start that is cancelled itself leaves a task in the library that fails, with a traceback in the log.
    """
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await starting
        await server.stop(None)
        raise
