"""Free ports on loopback that no other user of the harness takes at the same time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path


def outside(ephemeral: str) -> range:
    """The wider of the ranges below and above the ports that the system gives to outgoing connections and to port 0."""
    first, last = map(int, ephemeral.split())
    below, above = range(12_000, min(first, 28_000)), range(last + 1, 65_536)
    return max(below, above, key=len) or range(12_000, 28_000)


_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
RANGE = outside(_EPHEMERAL.read_text() if _EPHEMERAL.exists() else "32768 60999")


class Ports:
    """Ports for one test. A lock file keeps each to its taker until `release`, or until the process ends, however it ends.

    A lock is needed because Envoy listens with SO_REUSEPORT: two Envoys on one port would both start, and share the connections.
    """

    def __init__(self) -> None:
        self._locks: list[int] = []

    def take(self) -> int:
        """Return a port that is free for TCP and UDP on every address, and keep it."""
        folder = Path(tempfile.gettempdir()) / f"xds-test-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        start = random.randrange(len(RANGE))
        for port in itertools.chain(RANGE[start:], RANGE[:start]):
            lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _try(port)
                self._locks.append(lock)
                return port
            os.close(lock)
        raise OSError(errno.EADDRINUSE, f"no free port between {RANGE.start} and {RANGE.stop}")

    def release(self) -> None:
        """Give all ports back."""
        while self._locks:
            os.close(self._locks.pop())


def _try(port: int) -> None:
    """Raise OSError if somebody has the port."""
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as found:
            if kind == socket.SOCK_STREAM:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            found.bind(("", port))
