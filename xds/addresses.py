"""Where servers listen and are reached: addresses as flags write them, and the URLs of a server without a path.

What does not belong here: opening a socket, and whether an address is one of this machine (`xds.machine.network`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

DEBUG_ADDRESS = "127.0.0.1:18001"
"""Where the debug service of `xds serve` is."""
DASHBOARD_ADDRESS = "127.0.0.1:18002"
"""Where the page of the fleet is."""
PRIVATE = "private"
"""In place of an address: a Unix socket in a folder that only this user can open."""
RUNNING = "auto"
"""In place of an address: that of the `xds up` that runs on this machine, else DEBUG_ADDRESS."""
LONGEST_SOCKET_PATH = 107
"""Bytes that the path of a Unix socket may have: Linux' sun_path holds 108 with the zero that ends it."""


class SocketAddress(NamedTuple):
    """Where a server listens or is reached: `host` and `port`, or the `path` of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        if self.path or self.host == "localhost":
            return True
        address = ip_or_none(self.host)
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        return address is not None and address.is_loopback

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def ip_or_none(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """`host` as an IP address; None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_HOST = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")


def parse_address(text: str) -> SocketAddress:
    """`host:port`, `[IPv6]:port`, `:port` (every interface) or `unix:/path`. Port 0 means any free port. Raises ValueError.

    A path is absolute: the programs at both ends of a socket start in folders of their own.
    """
    if text.startswith("unix:"):
        path = re.sub(r"^//(?=/)", "", text.removeprefix("unix:"))
        if not path.startswith("/") or "\0" in path:
            raise ValueError(text)
        return SocketAddress("", 0, path)
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or not 0 <= int(port) <= 65535:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        return SocketAddress(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if host and not _HOST.fullmatch(host):
        raise ValueError(text)
    return SocketAddress(host or "::", int(port))


def tcp_port(text: str) -> int:
    """The port in an address of Flags; 0 for what has none: a Unix socket, or an address that is off."""
    if text in ("", PRIVATE):
        return 0
    return parse_address(DEBUG_ADDRESS if text == RUNNING else text).port


_ORIGIN = re.compile(r"(https?)://([A-Za-z0-9][-A-Za-z0-9_.]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?")


class HttpOrigin(NamedTuple):
    """Where a server answers http or https."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_origin(text: str) -> HttpOrigin:
    """`http://host:port`, without a path; the port may be left out. Raises ValueError."""
    match = _ORIGIN.fullmatch(text)
    if match is None or not 0 < int(match[3] or 80) <= 65535:
        raise ValueError(text)
    host = str(ipaddress.IPv6Address(match[2][1:-1])) if match[2].startswith("[") else match[2]
    return HttpOrigin(match[1], host, int(match[3] or (443 if match[1] == "https" else 80)))
