"""Addresses to listen on: parses them from a command line, and binds a gRPC server to them."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any

CONNECTION_TIMEOUTS = {"grpc.server_handshake_timeout_ms": 10_000, "grpc.max_connection_idle_ms": 300_000}
"""Options of a gRPC server: how long a handshake may take, and a connection may have no call. Each connection holds an open file."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`host` and `port`, or the `path` of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it. Names other than "localhost" are not resolved: their addresses may change."""
        if self.path or self.host == "localhost":
            return True
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return ip.is_loopback or (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None and ip.ipv4_mapped.is_loopback)


def parse(text: str) -> ListenAddress:
    """`host:port`, `[IPv6 address]:port` or `unix:path`; port 0 lets the system choose. Raises ValueError with a sentence."""
    if text.startswith("unix:"):
        if path := text.removeprefix("unix:"):
            return ListenAddress(path=path)
        raise ValueError(f"the address {text!r} has no path; write unix:/run/xds.sock")
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"the address {text!r} is not host:port, [IPv6 address]:port or unix:path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"the address {text!r} has no IPv6 address between its brackets") from None
    elif ":" in host:
        raise ValueError(f"the address {text!r} is ambiguous; write an IPv6 address in brackets, such as [::1]:18000")
    return ListenAddress(host, int(port))


def listen(server: Any, address: ListenAddress, credentials: Any, what: str) -> ListenAddress:
    """Binds a `grpc.aio.Server`, in plaintext without `credentials`; returns the address with its actual port.

    `what` is the server in words, for the sentence of the OSError that is raised where that is not possible.
    """
    if address.path and _accepts_connections(address.path):  # gRPC would replace the socket of another program
        raise OSError(f"{what} cannot listen on {address}: another program listens there")
    try:
        port = server.add_secure_port(str(address), credentials) if credentials else server.add_insecure_port(str(address))
    except RuntimeError:
        raise OSError(f"{what} cannot listen on {address}: {why_not(address)}") from None
    return address if address.path else ListenAddress(address.host, port)


def _accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def why_not(address: ListenAddress) -> str:
    """Why nothing can listen there, as the operating system reports it: gRPC has no reason in its error."""
    try:
        if address.path:
            _bind(socket.AF_UNIX, socket.SOCK_STREAM, 0, address.path)
            os.unlink(address.path)
            return "it was refused"
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in found:
            _bind(family, kind, protocol, target)
    except OSError as error:
        return error.strerror or str(error)
    return "it was refused"


def _bind(family: int, kind: int, protocol: int, target: Any) -> None:
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)
        probe.listen()
