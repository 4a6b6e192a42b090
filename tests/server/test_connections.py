"""Connections that are cut: the right one, and no other."""

from __future__ import annotations

import socket

import pytest

from xds.server.connections import cut, peer_of


@pytest.mark.parametrize(
    ("family", "host", "to", "kind"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", "ipv4:127.0.0.1"),
        (socket.AF_INET6, "::", "127.0.0.1", "ipv4:127.0.0.1"),
        (socket.AF_INET6, "::1", "::1", "ipv6:%5B::1%5D"),
    ],
)
def test_a_connection_is_cut_and_none_beside_it(family: socket.AddressFamily, host: str, to: str, kind: str) -> None:
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as listening:
        port = listening.getsockname()[1]
        with socket.create_connection((to, port), 30) as one, socket.create_connection((to, port), 30) as other:
            first, _ = listening.accept()
            second, _ = listening.accept()
            with first, second:
                assert cut(f"{kind}:{one.getsockname()[1]}")
                assert one.recv(1) == b""
                second.sendall(b"x")
                assert other.recv(1) == b"x"


@pytest.mark.parametrize("peer", ["unix:", "unix:/run/xds.sock", "", "ipv4:127.0.0.1", "ipv4:127.0.0.1:x", "ipv4:192.0.2.1:9"])
def test_what_is_no_connection_of_ours_cuts_nothing(peer: str) -> None:
    assert not cut(peer)


def test_a_peer_is_an_address_and_a_connection() -> None:
    assert peer_of("ipv4:10.0.0.1:5") == ("ipv4:10.0.0.1", "ipv4:10.0.0.1:5")
    assert peer_of("ipv6:%5B::1%5D:5")[0] == "ipv6:%5B::1%5D"
    assert peer_of("unix:") == ("unix:", "unix:")
