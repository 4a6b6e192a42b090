"""Closing one connection of the gRPC server.

When a stream is ended, gRPC first delivers what is already written on it, and keeps that in memory until the client reads. A client that
never reads can keep megabytes for as long as its connection lasts. gRPC has no call that closes one connection, so this module looks for
its socket among the open files of the process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from ipaddress import ip_address
from urllib.parse import unquote

from xds.server.turns import Peer

_FILES = "/dev/fd"
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: what is not sent yet is dropped when the socket is closed."""


def peer_of(text: str) -> Peer:
    """The address and the connection of a gRPC peer, such as "ipv4:10.0.0.1:5000". All clients of a Unix socket are one peer."""
    return text.rpartition(":")[0] if text.startswith("ip") else text, text


def cut(peer: str) -> bool:
    """Closes the connection from this peer (as gRPC writes it), with all of its streams. Returns False if there is none to be found."""
    if (wanted := _address(peer)) is None:
        return False
    found = False
    for name in os.listdir(_FILES):
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile, or not an internet socket
            number = int(name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if _is(connection, wanted):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    connection.shutdown(socket.SHUT_RDWR)
                    found = True
    return found


def _is(connection: socket.socket, wanted: tuple[str, int]) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host, port = connection.getpeername()[:2]
    return port == wanted[1] and _plain(host) == wanted[0]


def _address(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _plain(host.strip("[]")), int(port)


def _plain(host: str) -> str:
    """One spelling of an address, whichever family the socket has."""
    address = ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
