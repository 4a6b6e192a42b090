"""A client for one xDS stream, which knows messages from envoy-data-plane: not from the code under test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.discovery import v3 as discovery
from envoy_data_plane.google.rpc import Status
from prometheus_client import CollectorRegistry

from xds.protocol.discovery import Wire
from xds.server.server import SERVICES
from xds.snapshot import SECRET, Resource

FENCE = "fence"


def path(wire: Wire, only: str | None) -> str:
    name, service = next((name, service) for name, service in SERVICES.items() if service.only == only)
    return f"/{name}/{service.sotw if wire is Wire.SOTW else service.delta}"


class Client:
    def __init__(self, channel: grpc.aio.Channel, wire: Wire, *, only: str | None = None, node: str = "envoy-1") -> None:
        self.wire = wire
        self.call = channel.stream_stream(path(wire, only))()
        self._node: core.Node | None = core.Node(id=node, cluster="edge") if node else None

    async def send(self, type_url: str, *, nonce: str = "", error: str | None = None, **fields: Any) -> None:
        """The node is in the first request alone."""
        kind = discovery.DiscoveryRequest if self.wire is Wire.SOTW else discovery.DeltaDiscoveryRequest
        request = kind(node=self._node, type_url=type_url, response_nonce=nonce, **fields)
        if error is not None:
            request.error_detail = Status(code=3, message=error)
        self._node = None
        await self.call.write(bytes(request))

    async def subscribe(self, type_url: str, names: Iterable[str] = (), *, held: Mapping[str, str] | None = None) -> None:
        if self.wire is Wire.SOTW:
            await self.send(type_url, resource_names=list(names))
        else:
            await self.send(type_url, resource_names_subscribe=list(names), initial_resource_versions=dict(held or {}))

    async def answer(self, response: Any, names: Iterable[str] = (), *, error: str | None = None) -> None:
        """ACK, or NACK with an error; SotW repeats the names."""
        repeated = {"resource_names": list(names)} if self.wire is Wire.SOTW else {}
        await self.send(response.type_url, nonce=response.nonce, error=error, **repeated)

    async def read(self) -> Any:
        raw = await self.call.read()
        assert raw is not grpc.aio.EOF, "the server has ended the stream"
        kind = discovery.DiscoveryResponse if self.wire is Wire.SOTW else discovery.DeltaDiscoveryResponse
        return kind.parse(raw)

    async def fence(self) -> None:
        """Nothing more is to come before this: asks for the Secret "fence", which the snapshot must have, and expects that next."""
        await self.subscribe(SECRET, [FENCE])
        response = await self.read()
        assert names(response) == [FENCE], f"{response.type_url} was said unexpectedly"
        await self.answer(response, [FENCE])

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Reads to the end, and says how it ended."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
        return await self.call.code(), await self.call.details()


def names(response: Any) -> list[str]:
    """What is in a response, by the names that were put there by `resource`."""
    if isinstance(response, discovery.DeltaDiscoveryResponse):
        return [r.name for r in response.resources]
    return [bytes(r.value).decode().partition("=")[0] for r in response.resources]


def resource(name: str, content: str = "") -> Resource:
    return Resource.of(name, f"{name}={content}".encode())


def count(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None, f"there is no {name} {labels}"
    return value


async def eventually(true: Callable[[], bool]) -> None:
    """Polls, two minutes at most."""
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 - a predicate has no event
            await asyncio.sleep(0.005)
