"""The Fleet: the Envoys that are connected, and their streams.

It starts an EnvoyStream for each call, wakes all of them when the Snapshot has changed, and ends them when the server stops. Listening is
in `xds.server.server`; what is sent is decided in `xds.protocol`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from prometheus_client import CollectorRegistry

from xds.protocol.discovery import Acknowledgement, Wire
from xds.protocol.session import compact
from xds.server.budget import Budget
from xds.server.connections import cut
from xds.server.messages import Encoder
from xds.server.metrics import StreamMetrics
from xds.server.stream import EnvoyStream, OnAcknowledgement, Shared, StreamEnd
from xds.server.tls import EVERYTHING, Allowed
from xds.server.turns import FairScheduler, WeightedSemaphore
from xds.snapshot import Snapshot

_log = logging.getLogger("xds.server")
_WOKEN_AT_ONCE = 50
"""Streams that are woken in one iteration of the event loop: to send to as many takes about one slice of the scheduler."""
_COMPACT_AFTER = 60.0
"""Seconds from a change until deleted resources are forgotten; longer than an Envoy takes to reconnect."""
_CLOSE_TIMEOUT = 5.0
"""Seconds that a client may take to read a stream that was ended to its end; then its connection is closed."""
_STOPPING = "the management server is stopping"
_ARRIVING_AT_ONCE = 16
"""New streams whose first requests are served at the same time. The first request of a stream may be megabytes."""


def _ignore_acknowledgement(_: EnvoyStream, __: Acknowledgement) -> None:
    """For a Fleet whose owner does not follow what Envoys accept."""


def _ignore_disconnect(_: EnvoyStream) -> None:
    """For a Fleet whose owner does not follow which Envoys are connected."""


class Load(NamedTuple):
    """How much of its limits a Fleet uses at one moment (B8, B9).

    `streams` are open on so many `connections`. `in_flight` is the bytes of large responses that are written to clients that have answered
    before, `first_in_flight` to others, of which `first_waiting` wait.
    `total` is the bytes that all streams take.
    """

    streams: int
    connections: int
    in_flight: int
    first_in_flight: int
    first_waiting: int
    total: int


class Fleet:
    """All streams of one server, which deliver one Snapshot.

    `identifier` names this server to its Envoys (V7). `write_timeout`: seconds that an Envoy may take to make room for one response
    before its stream is ended (B2). `on_acknowledgement` is called with each ACK and NACK, before the stream continues; `on_disconnect`
    with each stream that has ended. Belongs to one event loop.

    Limits (B8, B9): `most_names` that one request may list; `most_unknown` that one stream may name though they do not exist;
    `most_streams` of one connection (an Envoy may have one for each cluster); `most_waiting` new streams that wait to be served. What
    exceeds these is rejected with RESOURCE_EXHAUSTED. `most_bytes_in_flight` of large responses that are being written, half of them to
    Envoys that have answered before; further ones wait. `most_bytes` of memory that all streams use; beyond it, streams are evicted with
    RESOURCE_EXHAUSTED (`xds.server.budget`).
    """

    def __init__(
        self,
        snapshot: Snapshot,
        registry: CollectorRegistry,
        *,
        identifier: str,
        write_timeout: float = 30.0,
        most_names: int = 100_000,
        most_unknown: int = 50_000,
        most_streams: int = 1_024,
        most_waiting: int = 10_000,
        most_bytes_in_flight: int = 64 * 2**20,
        most_bytes: int = 256 * 2**20,
        on_acknowledgement: OnAcknowledgement = _ignore_acknowledgement,
        on_disconnect: Callable[[EnvoyStream], None] = _ignore_disconnect,
    ) -> None:
        self.ready = asyncio.Event()
        """Set once a complete Snapshot has been published. Until then, streams are open but nothing is sent (O7)."""
        self._metrics = StreamMetrics(registry)
        self._shared = Shared(
            snapshot,
            Encoder(identifier),
            self._metrics,
            FairScheduler(),
            WeightedSemaphore(_ARRIVING_AT_ONCE),
            WeightedSemaphore(most_bytes_in_flight // 2),
            WeightedSemaphore(most_bytes_in_flight // 2),
            Budget(most_bytes),
            write_timeout,
            most_names,
            most_unknown,
            on_acknowledgement,
        )
        self._most_streams = most_streams
        self._most_waiting = most_waiting
        self._streams: dict[EnvoyStream, None] = {}
        self._of_peer: Counter[str] = Counter()
        self._on_disconnect = on_disconnect
        self._compaction: asyncio.TimerHandle | None = None
        self._boot = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Fleet: {len(self._streams)} streams, {'ready' if self.ready.is_set() else 'not ready'}>"

    def connected(self) -> list[EnvoyStream]:
        """The streams whose Envoy has sent its node, oldest first. One node may have several (L8)."""
        return [stream for stream in self._streams if stream.node is not None]

    @property
    def load(self) -> Load:
        """What all streams take at this moment."""
        shared = self._shared
        return Load(
            streams=len(self._streams),
            connections=len(self._of_peer),
            in_flight=shared.in_flight.acquired,
            first_in_flight=shared.first_in_flight.acquired,
            first_waiting=shared.first_in_flight.waiting,
            total=shared.budget.total,
        )

    def publish(self) -> None:
        """Wakes every stream, because the Snapshot has changed. Does nothing before the Snapshot is ready."""
        if not self._shared.snapshot.ready:
            return
        streams = list(self._streams)
        if len(streams) > _WOKEN_AT_ONCE:
            self._shared.scheduler.begin_first()
        self._wake(streams)
        self.ready.set()
        if self._compaction is None:
            self._compaction = asyncio.get_running_loop().call_later(_COMPACT_AFTER, self._compact)

    def _wake(self, streams: list[EnvoyStream]) -> None:
        """Wakes some streams now, and the others in later iterations of the event loop (B10).

        Until all are awake, the answers of the first ones wait: else the last stream is sent the change after most others have answered.
        """
        for stream in streams[:_WOKEN_AT_ONCE]:
            stream.wake()
        loop = asyncio.get_running_loop()
        if later := streams[_WOKEN_AT_ONCE:]:
            loop.call_soon(self._wake, later)
        else:
            loop.call_soon(self._shared.scheduler.end_first)

    def _compact(self) -> None:
        self._compaction = None
        compact(self._shared.snapshot, (stream.session for stream in self._streams))

    async def serve(self, context: Any, wire: Wire, only: str | None, allowed: Allowed = EVERYTHING) -> None:
        """Serves one call until it ends. `context` is its `grpc.aio.ServicerContext`; the others are as in EnvoyStream."""
        end = self._rejection(context) or await self._run(context, wire, only, allowed)
        if end is not None:
            await self.end(context, end)

    async def end(self, context: Any, end: StreamEnd) -> None:
        """Ends a call with a status, and counts it if the client caused it."""
        if end.code is not grpc.StatusCode.UNAVAILABLE:
            self._metrics.refusals.labels(end.code.name.lower()).inc()
        closing = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, cut, str(context.peer()))
        try:
            await context.abort(end.code, end.text)  # waits until the client has read all before it, or has gone
        except grpc.aio.InternalError:
            _log.debug("an Envoy disconnected before it received why its stream ended")
        finally:
            closing.cancel()

    def _rejection(self, context: Any) -> StreamEnd | None:
        """With what a call is rejected that is not served at all; None for one that is."""
        if self._stopping:
            return StreamEnd(grpc.StatusCode.UNAVAILABLE, _STOPPING)
        if self._of_peer[context.peer()] >= self._most_streams:
            return StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the connection has {self._most_streams} streams; more are not allowed")
        if self._shared.arrivals.waiting >= self._most_waiting:
            text = f"{self._most_waiting} new streams wait to be served; try again later"
            return StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return None

    async def _run(self, context: Any, wire: Wire, only: str | None, allowed: Allowed) -> StreamEnd | None:
        """Runs an EnvoyStream. Returns the status with which the server ends it; None if the client has ended it."""
        stream = EnvoyStream(context, wire, only, self._shared, nonce_prefix=f"{self._boot}.{next(self._numbers)}.", allowed=allowed)
        self._streams[stream] = None
        self._of_peer[stream.peer] += 1
        self._metrics.connected[wire].inc()
        try:
            await stream.run()
        except StreamEnd as end:
            _log.log(stream.log_level, "%s: its stream was ended: %s", stream.name, end.text, extra=stream.log_fields)
            return StreamEnd(end.code, end.text)  # without its traceback, which holds the stream
        except grpc.aio.BaseError:
            _log.debug("%s: its connection was lost", stream.name, extra=stream.log_fields)
        finally:
            del self._streams[stream]
            self._shared.budget.drop(stream)
            self._of_peer[stream.peer] -= 1
            if not self._of_peer[stream.peer]:
                del self._of_peer[stream.peer]
            self._on_disconnect(stream)
            self._metrics.connected[wire].dec()
            if stream.node is not None:
                _log.log(stream.log_level, "%s disconnected", stream.name, extra=stream.log_fields)
        return None

    def stop(self, within: float) -> None:
        """Ends all streams with UNAVAILABLE, each at a moment of its own in the next `within` seconds, and refuses new ones (L4).

        They reconnect immediately. Spread out, they do not reach the remaining replicas all at once.
        """
        self._stopping = True
        if self._compaction is not None:
            self._compaction.cancel()
        loop = asyncio.get_running_loop()
        for stream in self._streams:
            loop.call_later(random.uniform(0, within), stream.stop, _STOPPING)  # noqa: S311 - no secret
