"""A control plane that says exactly what it is told to, right or wrong, and hears what an Envoy makes of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Self

import grpc

from tests.envoy.harness.waiting import PATIENCE
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.server.messages import Encoder, decode
from xds.server.server import SERVICES
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, Resource

Bodies = Mapping[str, bytes]
"""Resource name → its serialised message."""

ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class RawControlPlane:
    """An ADS server for one Envoy. `held` is what Envoy gets when it asks, by type; `say` and `tell` are for everything else.

    Nothing is checked, ordered or kept back. Requests and errors are read as the management server reads them.
    """

    def __init__(self, wire: Wire, held: Mapping[str, Bodies]) -> None:
        self.wire = wire
        self.address = ""
        self._held = held
        self._encoder = Encoder("raw")
        self._numbers = itertools.count(1)
        self._answers: dict[str, asyncio.Future[str | None]] = {}
        self._asked: dict[str, frozenset[str]] = {}
        self._stream: Any = None
        self._server: Any = None

    async def __aenter__(self) -> Self:
        method = SERVICES[ADS].sotw if self.wire is Wire.SOTW else SERVICES[ADS].delta
        methods = {method: grpc.stream_stream_rpc_method_handler(self._serve)}
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ADS, methods),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    async def tell(self, type_url: str, bodies: Bodies, removed: tuple[str, ...] = ()) -> asyncio.Future[str | None]:
        """Tell Envoy of these resources in one response; its answer, when it comes: the error of a NACK, None for an ACK.

        Clusters are followed by the endpoints that are held: Envoy answers once it has them. `removed` is for delta: in state of the world,
        clusters and listeners that a response leaves out are removed.
        """
        answer = await self._write(type_url, bodies, removed)
        if type_url == CLUSTER:
            await self._write(ENDPOINT, self._held[ENDPOINT])
        return answer

    async def say(self, type_url: str, bodies: Bodies, removed: tuple[str, ...] = ()) -> str | None:
        """The same, and wait for the answer."""
        answer = await self.tell(type_url, bodies, removed)
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(answer)

    async def settled(self) -> list[str]:
        """Wait until Envoy has answered to everything; return its errors, and forget them."""
        async with asyncio.timeout(PATIENCE):
            while waiting := [answer for answer in self._answers.values() if not answer.done()]:
                await asyncio.wait(waiting)
        errors = [answer.result() for answer in self._answers.values()]
        self._answers.clear()
        return [error for error in errors if error is not None]

    async def _write(self, type_url: str, bodies: Bodies, removed: tuple[str, ...] = ()) -> asyncio.Future[str | None]:
        nonce = str(next(self._numbers))
        resources = tuple(Resource(name, nonce, (), body) for name, body in bodies.items())
        answer = self._answers[nonce] = asyncio.get_running_loop().create_future()
        await self._stream.write(self._encoder.encode(self.wire, DiscoveryResponse(type_url, nonce, nonce, resources, removed)))
        return answer

    async def _serve(self, _: Any, context: Any) -> None:
        self._stream = context
        self._asked.clear()
        while (raw := await context.read()) is not grpc.aio.EOF:
            _, (request,) = decode(self.wire, raw, most_names=1000)
            answer = self._answers.get(request.nonce)
            if answer is not None and not answer.done():
                answer.set_result(request.error)
            await self._give(request)

    async def _give(self, request: DiscoveryRequest) -> None:
        """What is asked for now and was not before."""
        held = self._held.get(request.type_url, {})
        first = request.type_url not in self._asked
        if self.wire is Wire.DELTA:
            new = frozenset(request.subscribe)
        else:
            new = frozenset(request.names) - self._asked.get(request.type_url, frozenset())
        self._asked[request.type_url] = frozenset(request.names)
        given = held if first and request.type_url in (CLUSTER, LISTENER) else {name: body for name, body in held.items() if name in new}
        if given:
            await self._write(request.type_url, given)
