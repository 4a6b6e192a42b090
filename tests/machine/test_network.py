"""The addresses of this machine, as the kernel lists them."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import grpc.aio
import pytest

from xds.machine.network import addresses, local_ipv4, local_ipv6, started

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


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_server_whose_start_is_cancelled_is_stopped_in_order(turns: int, tmp_path: Path) -> None:
    """At whatever turn of the event loop. What fails in a task of the library is reported once that is collected."""
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    starting = asyncio.create_task(started(server))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    (ended,) = await asyncio.gather(starting, return_exceptions=True)
    if ended is not None:
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such file"):
            client.connect(f"{tmp_path}/socket")
    await server.stop(None)
    del server, starting, ended
    gc.collect()
    assert failed == []
