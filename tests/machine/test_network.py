"""The addresses of this machine, as the kernel lists them."""

from __future__ import annotations

import socket

from xds.machine.network import addresses, local_ipv4, local_ipv6

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.244.1.0/24 2 0 2
        |-- 10.244.1.0
           /24 link UNICAST
        |-- 10.244.1.17
           /32 host LOCAL
        |-- 10.244.1.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000012 02 40 00 80     eth0
"""


def test_the_tables_of_the_kernel_are_read() -> None:
    assert list(local_ipv4(FIB_TRIE)) == ["10.244.1.17", "127.0.0.1"]
    assert list(local_ipv6(IF_INET6)) == ["::1", "fd00::12"]


def test_what_a_socket_of_this_machine_may_be_bound_to_is_known() -> None:
    found = addresses()
    assert found
    for ip in sorted(ip for ip in found if not ip.startswith("fe80")):
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
            probe.bind((ip, 0))
