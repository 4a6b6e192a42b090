"""A network namespace for this process: addresses that pods may have, ports that collide with nobody, and no way out.

The thread that enters takes everything along that it opens or starts afterwards: sockets of its event loop, and child processes. So clients
and servers of the other tests work in there as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator

NODE = "10.88.0.1"
"""Where Envoy and a second API server are, and the kubelets of all nodes."""
API = "10.88.0.2"
"""Where the API server is."""
PODS = "10.77.0.0/16"
"""Every address of this range is here: a server that listens on one answers."""

_CLONE_NEWNET = 0x40000000
_NET = "/proc/thread-self/ns/net"
_HOLE = "hole"


class NotPermitted(Exception):
    """Why there can be no network of our own, as a sentence."""


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """A network namespace for the length of a block, without the proxies of the world outside. Raises NotPermitted.

    It is gone when the last process in it ends.
    """
    if shutil.which("ip") is None:
        raise NotPermitted("there is no `ip` (package iproute2)")
    before = os.open(_NET, os.O_RDONLY | os.O_CLOEXEC)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            for name in proxies:
                del os.environ[name]
            _set_up()
            yield
        finally:
            os.environ.update(proxies)
            _call("setns", before, _CLONE_NEWNET)
    finally:
        os.close(before)


def cut() -> None:
    """Swallow every packet to and from API, without a word to anybody, until `mend`."""
    _ip("address", "delete", f"{API}/32", "dev", "lo")


def mend() -> None:
    """Let packets through again."""
    _ip("address", "add", f"{API}/32", "dev", "lo")


def _set_up() -> None:
    """Bring the addresses up; behind API there is a cable that ends nowhere, which counts once the address is not here any more."""
    _ip("link", "set", "lo", "up")
    for address in (NODE, API):
        _ip("address", "add", f"{address}/32", "dev", "lo")
    _ip("route", "add", "local", PODS, "dev", "lo")
    _ip("link", "add", _HOLE, "type", "veth", "peer", "name", f"{_HOLE}-end")
    for end in (_HOLE, f"{_HOLE}-end"):
        _ip("link", "set", end, "arp", "off", "up")
    _ip("route", "add", f"{API}/32", "dev", _HOLE, "src", NODE)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"`ip {' '.join(arguments)}` says: {done.stderr.strip()}")


def _call(name: str, *arguments: int) -> None:
    """A function of libc; the standard library has these two from Python 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise NotPermitted(f"no network namespace may be made here ({os.strerror(ctypes.get_errno())}): it takes root")
