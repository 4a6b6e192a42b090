"""Where a gRPC server listens: binds it to an address, and how long its connections may be idle."""

from __future__ import annotations

import socket
from typing import Any

from xds.addresses import SocketAddress
from xds.machine.network import why_not

CONNECTION_TIMEOUTS = {"grpc.server_handshake_timeout_ms": 10_000, "grpc.max_connection_idle_ms": 300_000}
"""Options of a gRPC server: how long a handshake may take, and a connection may have no call. Each connection holds an open file."""


def listen(server: Any, address: SocketAddress, credentials: Any, what: str) -> SocketAddress:
    """Binds a `grpc.aio.Server`, in plaintext without `credentials`; returns the address with its actual port.

    `what` is the server in words, for the sentence of the OSError that is raised where that is not possible.
    """
    if address.path and _accepts_connections(address.path):  # gRPC would replace the socket of another program
        raise OSError(f"{what} cannot listen on {address}: another program listens there")
    try:
        port = server.add_secure_port(str(address), credentials) if credentials else server.add_insecure_port(str(address))
    except RuntimeError:
        raise OSError(f"{what} cannot listen on {address}: {why_not(address)}") from None
    return address if address.path else SocketAddress(address.host, port)


def _accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
