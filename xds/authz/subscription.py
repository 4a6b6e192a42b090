"""The service as an xDS client of the control plane: one delta stream, on which password files come in and ACKs go out.

The decisions are in `PasswordSubscription`, which does no IO; `follow` has the stream. While the control plane is away, the files stay.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from xds import passwords
from xds.authz.messages import message
from xds.authz.verifier import Verifier

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_AGENT = "xds-authz"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_INVALID_ARGUMENT = 3

_log = logging.getLogger("xds.authz")


class PasswordSubscription:
    """What is known of the control plane's password files: names and versions. The files themselves go to a Verifier."""

    def __init__(self, node_id: str, node_cluster: str, version: str, verifier: Verifier) -> None:
        self._node = {"id": node_id, "cluster": node_cluster, "user_agent_name": _AGENT, "user_agent_version": version}
        self._verifier = verifier
        self._versions: dict[str, str] = {}

    def first(self) -> bytes:
        """The request with which a stream begins: all files, but for those that are here already."""
        return _request(node=self._node, resource_names_subscribe=["*"], initial_resource_versions=self._versions)

    def receive(self, raw: bytes) -> bytes:
        """Takes a response in, all of it or nothing; returns the ACK or NACK."""
        response = message("DeltaDiscoveryResponse").FromString(raw)
        try:
            files = {each.name: passwords.decode(each.resource.value) for each in response.resources}
        except ValueError as error:
            _log.warning("rejected password files: %s", error)
            return _request(response_nonce=response.nonce, error_detail={"code": _INVALID_ARGUMENT, "message": str(error)})
        for name, users in files.items():
            self._verifier.put(name, users)
        for name in response.removed_resources:
            self._verifier.drop(name)
            self._versions.pop(name, None)
        self._versions.update({each.name: each.version for each in response.resources})
        return _request(response_nonce=response.nonce)


def _request(**fields: Any) -> bytes:
    raw: bytes = message("DeltaDiscoveryRequest")(type_url=passwords.TYPE, **fields).SerializeToString()
    return raw


async def follow(subscription: PasswordSubscription, connect: Callable[[], Any], where: str) -> None:
    """Keep a stream open, until cancelled. `connect` opens a channel, with the certificates as they are by then."""
    pause = _FIRST_PAUSE
    while True:
        try:
            async with aclosing(_acknowledging(subscription, connect)) as received:
                async for _ in received:
                    if pause != _FIRST_PAUSE:
                        _log.info("password files come from %s again", where)
                        pause = _FIRST_PAUSE
        except (grpc.aio.AioRpcError, OSError, ValueError) as error:
            if pause == _FIRST_PAUSE:
                why = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                _log.warning("no password files come from %s (%s); those that are here stay in use", where, why)
        await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _acknowledging(subscription: PasswordSubscription, connect: Callable[[], Any]) -> AsyncGenerator[None]:
    """One stream; an item for each response."""
    async with connect() as channel:
        call = channel.stream_stream(METHOD)()
        await call.write(subscription.first())
        while (raw := await call.read()) is not grpc.aio.EOF:
            await call.write(subscription.receive(raw))
            yield
        code, why = await call.code(), await call.details()
        if code is not grpc.StatusCode.OK:
            raise OSError(why or code.name)
