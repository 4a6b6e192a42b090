"""A name server on loopback: slow, silent or wrong on demand, and an Envoy's bootstrap that asks it."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from examples.apps import Address

A, AAAA = 1, 28
TTL = 1
_CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


class NameServer(asyncio.DatagramProtocol):
    """A DNS server over UDP: `names` has the addresses of each name, all others do not exist.

    A name in `silent` gets no answer; each answer comes `delay` seconds after its question. `asked` has the names of all questions so far,
    `questions` the questions themselves: name, type, and the number by which a resolver knows its answer.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], silent: Iterable[str] = (), *, delay: float = 0) -> None:
        self.names = {name: list(addresses) for name, addresses in names.items()}
        self.silent = set(silent)
        self.delay = delay
        self.asked: set[str] = set()
        self.questions: list[tuple[str, int, int]] = []
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen, and return where."""
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(host, port))
        found: Address = self._transport.get_extra_info("sockname")[:2]
        return found

    async def stop(self) -> None:
        """Answer nobody any more."""
        if self._transport:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        labels, end = _labels(data)
        (kind,) = struct.unpack_from("!H", data, end)
        name = ".".join(labels).lower()
        self.asked.add(name)
        self.questions.append((name, kind, int.from_bytes(data[:2])))
        if name not in self.silent:
            answer = self._answer(data, data[12 : end + 4], name, kind)
            asyncio.get_running_loop().call_later(self.delay, self._send, answer, addr)

    def _send(self, answer: bytes, addr: Any) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def _answer(self, query: bytes, question: bytes, name: str, kind: int) -> bytes:
        packed = [ipaddress.ip_address(text).packed for text in self.names.get(name, [])]
        answers = [struct.pack("!HHHIH", 0xC00C, kind, 1, TTL, len(ip)) + ip for ip in packed if (len(ip) == 4) is (kind == A)]
        flags = 0x8180 if name in self.names else 0x8183
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + question + b"".join(answers)


def resolving(bootstrap: Mapping[str, Any], server: Address) -> dict[str, Any]:
    """The bootstrap of an Envoy that asks this name server; whatever else it says of its resolver stays."""
    found = dict(
        bootstrap.get("typed_dns_resolver_config") or {"name": "envoy.network.dns_resolver.cares", "typed_config": {"@type": _CARES}}
    )
    where = {"socket_address": {"address": server[0], "port_value": server[1]}}
    found["typed_config"] = {**found["typed_config"], "resolvers": [where]}
    return {**bootstrap, "typed_dns_resolver_config": found}


def _labels(query: bytes) -> tuple[list[str], int]:
    """The labels of the name that is asked for, and where it ends."""
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return labels, at + 1
