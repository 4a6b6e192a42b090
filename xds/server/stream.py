"""One xDS stream: reads requests, gets responses from its Session, and writes them.

There is no queue of messages. The Session is called again only when all of its responses are written; a change meanwhile sets a flag, and
the newest state is sent next (B1). One task reads requests, another sends what has changed; a lock serialises their use of the Session.
What to send is decided in `xds.protocol`, bytes are made in `xds.server.messages`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc

from xds.passwords import AUTHZ_NODE
from xds.problem import printable
from xds.protocol.discovery import Acknowledgement, DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.server.budget import Budget
from xds.server.connections import cut, peer_of
from xds.server.messages import SLICE, Encoder, EnvoyNode, MalformedRequest, RequestTooLarge, decode, decoding
from xds.server.metrics import SHORT, StreamMetrics
from xds.server.tls import EVERYTHING, Allowed
from xds.server.turns import FairScheduler, WeightedSemaphore
from xds.snapshot import PASSWORDS, Snapshot

_log = logging.getLogger("xds.server")
_LONGEST_NODE_ID = 1024
_MOST_UNANSWERED = 100
_ARRIVAL = 1.0
"""Seconds after which a stream whose first request is not served yet stops to count among those that arrive."""
_SMALL = 64 * 2**10
"""Bytes of a response below which it is encoded without a turn of the scheduler, and sent without acquiring its bytes."""
_LIGHT = 8 * 2**10
"""Bytes of a response below which it is not accounted for: `_BASE` has room for it."""
_PER_RESOURCE = 150
"""Bytes of a resource in a response beside its body: its name and version, and its type."""
_CONGESTED_TIMEOUT = 5.0
"""Seconds that a client may take to read a large response while other clients wait for theirs."""
_BASE = 32 * 2**10
"""Bytes that a stream takes of which only the node is known."""
_EXAMINE_AFTER = 256 * 2**10
"""Bytes of requests after which the Session is asked how many bytes of names it has kept. Until then, all of them are assumed."""

OnAcknowledgement = Callable[["EnvoyStream", Acknowledgement], None]
"""Called with each ACK and NACK, and the stream that it came on."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a Fleet share.

    `scheduler` runs their CPU work. `arrivals` bounds the new streams that are served at the same time, `in_flight` the bytes that are
    being written (B8). `first_in_flight` bounds those to clients that have not answered yet, so that clients which never read do not block
    those that do. `budget` accounts for their memory. `write_timeout`: seconds that a client may take to read one response. `most_names`:
    names that one request may list; `most_unknown`: names that one stream may subscribe to though they do not exist.
    """

    snapshot: Snapshot
    encoder: Encoder
    metrics: StreamMetrics
    scheduler: FairScheduler
    arrivals: WeightedSemaphore
    in_flight: WeightedSemaphore
    first_in_flight: WeightedSemaphore
    budget: Budget[EnvoyStream]
    write_timeout: float
    most_names: int
    most_unknown: int
    on_acknowledgement: OnAcknowledgement


class StreamEnd(Exception):
    """The server ends a stream with this status code and text (L9)."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class EnvoyStream:
    """One open stream.

    `context` is its `grpc.aio.ServicerContext`; `only` the type url of a single-type service, None for ADS; `nonce_prefix` is its own (A1).
    `allowed`: what the certificate of the client allows. `node` is None until the first
    request has come; `since` is when the stream was opened.
    """

    def __init__(
        self, context: Any, wire: Wire, only: str | None, shared: Shared, *, nonce_prefix: str, allowed: Allowed = EVERYTHING
    ) -> None:
        self.node: EnvoyNode | None = None
        self.wire = wire
        self.only = only
        self.peer = str(context.peer())
        self._peer = peer_of(self.peer)
        self.since = datetime.now(UTC)
        self.session = Session(wire, shared.snapshot, nonce_prefix=nonce_prefix, ordered=only is None)
        self._context = context
        self._shared = shared
        self._allowed = allowed
        self._unanswered: dict[str, str] = {}  # nonce → version, the latest few
        self._awake = asyncio.Event()
        self._dirty = False
        self._using_session = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None  # for the deadline of the Session
        self._arrival: asyncio.TimerHandle | None = None
        self._ending: StreamEnd | None = None
        self._has_answered = False
        self._has_subscribed = False
        self._unknown_bytes = 0  # bytes of unknown names that the Session kept when last examined
        self._unexamined_bytes = 0  # bytes of requests since then
        self.writing = 0
        """Bytes that a large response takes while it is being written."""
        self._least = _BASE
        self._varying = 0  # bytes of that, when last accounted for, which an answer may free
        self._timeout: asyncio.Timeout | None = None
        self._write_began: float | None = None
        self._watch: asyncio.TimerHandle | None = None  # looks whether a write takes too long
        self._congestion: asyncio.TimerHandle | None = None  # looks whether others wait for what a write has acquired

    async def run(self) -> None:
        """Serves until the client ends the stream. Raises StreamEnd where the server does."""
        await self._context.send_initial_metadata(())  # a stream that ends during its first write could not send it any more
        try:
            async with asyncio.timeout(None) as self._timeout:
                self._weigh()
                if self._ending is None:
                    await self._shared.arrivals.acquire(1, self._peer)
                    self._arrival = asyncio.get_running_loop().call_later(_ARRIVAL, self._end_arrival)
                    await self._serve()
        except TimeoutError:
            if self._ending is None:
                raise
        finally:
            self._timeout = None
            self._end_arrival()
            if self._watch is not None:
                self._watch.cancel()
        if self._ending is not None:
            raise StreamEnd(self._ending.code, self._ending.text)

    def wake(self) -> None:
        """Has the stream send what has changed in the Snapshot."""
        self._dirty = True
        self._awake.set()

    def stop(self, reason: str) -> None:
        """Ends the stream with UNAVAILABLE, even while a write waits for the client."""
        self._end(StreamEnd(grpc.StatusCode.UNAVAILABLE, reason))

    def evict(self, reason: str) -> None:
        """Ends the stream with RESOURCE_EXHAUSTED, even while a write waits for the client."""
        self._end(StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, reason))

    def _end(self, end: StreamEnd) -> None:
        self._ending = self._ending or end
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _end_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
            self._shared.arrivals.release(1)

    async def _serve(self) -> None:
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._awake.set())
        try:
            while not reading.done():
                await self._awake.wait()
                self._awake.clear()
                if self._dirty:
                    await self._advance(self._publish)
                if self._timer is None and self.session.deadline is not None:
                    await self._advance(self._expire)
            reading.result()
        finally:
            reading.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def _read(self) -> None:
        """Reads requests until the client ends the stream; the next one when all responses to the one before are written."""
        try:
            while (raw := await self._context.read()) is not grpc.aio.EOF:
                async with self._using_session:
                    if len(raw) < _LIGHT:  # most are ACKs, for which one turn of the scheduler is enough
                        if responses := await self._responses(partial(self._receive_at_once, raw)):
                            await self._write(responses)
                    else:
                        requests = await self._decode(raw)
                        del raw  # it may be large, and the client slow
                        while requests:
                            if responses := await self._responses(partial(self._receive, requests.pop(0))):
                                await self._write(responses)
                self._end_arrival()
        except MalformedRequest as malformed:
            raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, str(malformed)) from None
        except RequestTooLarge as much:
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, str(much)) from None

    def _receive_at_once(self, raw: bytes) -> list[DiscoveryResponse]:
        """A small request, whose decoding takes no steps."""
        node, requests = decode(self.wire, raw, most_names=self._shared.most_names)
        self._admit(len(raw), node, requests)
        return [response for request in requests for response in self._receive(request)]

    async def _decode(self, raw: bytes) -> list[DiscoveryRequest]:
        """The request, as several smaller ones if it is long, so that other streams are served in between."""
        work = decoding(self.wire, raw, most_names=self._shared.most_names)
        node, requests = await self._shared.scheduler.run_in_steps(work, self._peer)
        for each in requests:
            if len(each.names) + len(each.subscribe) + len(each.initial_versions) > SLICE:
                self._check_unknown(await self._shared.scheduler.run_in_steps(self._counting(each), self._peer))
        self._admit(len(raw), node, requests)
        return requests

    def _admit(self, size: int, node: EnvoyNode, requests: Iterable[DiscoveryRequest]) -> None:
        """Accounts for requests of so many bytes; the first one introduces its node."""
        # Before the Snapshot is ready, the Session keeps whatever is requested.
        if not self._shared.snapshot.ready or any(each.names or each.subscribe or each.initial_versions for each in requests):
            self._unexamined_bytes += size
            self._has_subscribed = True
        if self.node is None:
            self.node = _introduced(node, self._allowed.clusters)
            self._least = _BASE + node.size
            _log.log(self.log_level, "%s connected from %s (%s)", self.name, self.peer, self.wire.name.lower(), extra=self.log_fields)

    async def _advance(self, step: Callable[[], list[DiscoveryResponse]]) -> None:
        async with self._using_session:
            await self._write(await self._responses(step, first=True))

    async def _responses(self, step: Callable[[], list[DiscoveryResponse]], *, first: bool = False) -> list[tuple[DiscoveryResponse, int]]:
        """Calls the Session; returns its responses, each with about how many bytes it has. `first`: before requests are answered."""
        scheduler = self._shared.scheduler
        if scheduler.has_time(first=first):
            responses = self._call_session(step)
        else:
            responses = await scheduler.run(partial(self._call_session, step), self._peer, first=first)
        if (deadline := self.session.deadline) != (None if self._timer is None else self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if deadline is None else asyncio.get_running_loop().call_at(deadline, self._on_deadline)
        return responses

    def _on_deadline(self) -> None:
        self._timer = None
        self._awake.set()

    def _call_session(self, step: Callable[[], list[DiscoveryResponse]]) -> list[tuple[DiscoveryResponse, int]]:
        responses = [(response, _size(response)) for response in step()]
        for acknowledgement in self.session.take_acknowledgements():
            self._shared.on_acknowledgement(self, acknowledgement)
        # Most requests are ACKs, and most responses have one resource. After either the stream takes as much memory as before.
        is_light = all(size < _LIGHT and not response.removed for response, size in responses)
        if not is_light or self._has_subscribed or self._varying > _LIGHT:
            self._check_unknown(self.session.unknown)
            self._weigh()
        return responses

    def _check_unknown(self, number: int) -> None:
        if number > (most := self._shared.most_unknown):
            text = f"the client names {number} resources that do not exist; at most {most} are allowed"
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def _counting(self, request: DiscoveryRequest) -> Generator[None, None, int]:
        """How many names of a long request do not exist, in steps. It is counted before the Session spends time on the request."""
        number = 0
        if (type_url := request.type_url or self.only or "") in SHORT:
            state = self._shared.snapshot[type_url]
            for names in (request.names, request.subscribe, tuple(request.initial_versions)):
                for at in range(0, len(names), SLICE):
                    number += sum(name not in state for name in names[at : at + SLICE])
                    yield
        return number

    def _weigh(self) -> None:
        """Accounts for the memory of this stream, and evicts the streams that exceed the limit."""
        if self._ending is not None:
            return
        self._has_subscribed = False
        if self._unexamined_bytes > _EXAMINE_AFTER:
            self._unknown_bytes, self._unexamined_bytes = self.session.unknown_bytes, 0
        of_session = self.session.weight
        self._varying = of_session + self.writing
        weight = self._least + self._unknown_bytes + self._unexamined_bytes + of_session
        budget = self._shared.budget
        for stream in budget.weigh(self, weight, self._peer, passing=self.writing):
            stream.evict(f"all streams together take more than {budget.most} bytes, and this is one of the newest")

    async def _write(self, responses: Iterable[tuple[DiscoveryResponse, int]]) -> None:
        """Encodes and writes responses one by one. Large ones first acquire their bytes, so that few are in memory at once."""
        for response, size in responses:
            semaphore = self._shared.in_flight if self._has_answered else self._shared.first_in_flight
            if size >= _SMALL:
                await semaphore.acquire(size, self._peer)
            if size >= _LIGHT:
                self.writing = 2 * size  # our bytes, and the copy that gRPC makes
                self._weigh()
            try:
                encode = partial(self._encode, response)
                raw = encode() if size < _SMALL else await self._shared.scheduler.run(encode, self._peer)
                await self._send(raw, semaphore if size >= _SMALL else None)
            finally:
                self.writing = 0
                if size >= _SMALL:
                    semaphore.release(size)
            self._shared.metrics.responses[response.type_url].inc()
            self._shared.metrics.response_bytes[response.type_url].inc(len(raw))

    def _encode(self, response: DiscoveryResponse) -> bytes:
        self._unanswered[response.nonce] = response.version
        if len(self._unanswered) > _MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        return self._shared.encoder.encode(self.wire, response)

    async def _send(self, message: bytes, acquired: WeightedSemaphore | None) -> None:
        """Ends the stream if the client does not read the message in time: in less where others wait for what is `acquired`."""
        loop = asyncio.get_running_loop()
        self._write_began = loop.time()
        if self._watch is None:
            self._watch = loop.call_later(self._shared.write_timeout, self._look_at_write)
        if acquired is not None:
            self._congestion = loop.call_later(_CONGESTED_TIMEOUT, self._look_at_others, acquired)
        try:
            await self._context.write(message)
        finally:
            self._write_began = None
            if self._congestion is not None:
                self._congestion.cancel()
                self._congestion = None

    def _look_at_write(self) -> None:
        # One timer serves all writes: one for each would cost more than most of the writes take.
        self._watch = None
        if self._write_began is None or self._ending is not None:
            return
        left = self._write_began + self._shared.write_timeout - self._now()
        if left > 0:
            self._watch = asyncio.get_running_loop().call_later(left, self._look_at_write)
        else:
            self._end_write(grpc.StatusCode.UNAVAILABLE, f"{self._shared.write_timeout:g} s")

    def _look_at_others(self, acquired: WeightedSemaphore) -> None:
        if self._ending is not None:
            return
        if acquired.waiting:
            self._end_write(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_CONGESTED_TIMEOUT:g} s, and others wait")
        else:
            self._congestion = asyncio.get_running_loop().call_later(1.0, self._look_at_others, acquired)

    def _end_write(self, code: grpc.StatusCode, why: str) -> None:
        self._shared.metrics.write_timeouts.inc()
        _log.warning("%s: ended its stream, because it has not read for %s", self.name, why, extra=self.log_fields)
        cut(self.peer)  # otherwise gRPC keeps the message for as long as the connection lasts
        self._end(StreamEnd(code, f"a response was not read within {why}"))

    @property
    def name(self) -> str:
        """The node's id for a log."""
        return f"Envoy {printable(self.node.id, 100)}" if self.node else "an Envoy that has not sent its node"

    @property
    def log_level(self) -> int:
        """The level of log lines about its start and end: an Envoy may open a single-type stream for each of its clusters."""
        return logging.INFO if self.only is None else logging.DEBUG

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields of a log line about it (docs/logs.md)."""
        return {**({"node": self.node.id} if self.node else {}), "peer": self.peer, "wire": self.wire.name.lower()}

    def _publish(self) -> list[DiscoveryResponse]:
        self._dirty = False
        return self.session.publish(self._now())

    def _expire(self) -> list[DiscoveryResponse]:
        return self.session.expire(self._now())

    def _receive(self, request: DiscoveryRequest) -> list[DiscoveryResponse]:
        type_url = _type_of(request, self.only)
        if type_url not in SHORT:
            self._shared.metrics.unknown_types.inc()
            return []
        if type_url == PASSWORDS:
            self._check_passwords()
        if request.type_url != type_url:
            request = replace(request, type_url=type_url)
        self._count_answer(request)
        stale = self.session.stale_nonces(type_url)
        responses = self.session.receive(request, self._now())
        if (more := self.session.stale_nonces(type_url) - stale) > 0:
            self._shared.metrics.stale_nonces[type_url].inc(more)
        return responses

    def _check_passwords(self) -> None:
        """Password files are for authorisation services alone, and for none whose certificate excludes them."""
        if self.node is None or not self.node.is_authz:
            raise StreamEnd(grpc.StatusCode.PERMISSION_DENIED, f"password files are for clients whose node.id ends in {AUTHZ_NODE}")
        if not self._allowed.passwords:
            raise StreamEnd(grpc.StatusCode.PERMISSION_DENIED, "the client certificate excludes password files")

    def _count_answer(self, request: DiscoveryRequest) -> None:
        """Counts a request as an ACK or a NACK, once for each response; logs a NACK."""
        version = self._unanswered.pop(request.nonce, None)
        if version is None:
            return
        self._has_answered = True
        if request.error is None:
            self._shared.metrics.acks[request.type_url].inc()
            return
        self._shared.metrics.nacks[request.type_url].inc()
        short, error = SHORT[request.type_url], printable(request.error, 500)
        extra = {**self.log_fields, "type": short, "version": version, "error": error}
        _log.warning("%s rejected %s version %s: %s", self.name, short, version, error, extra=extra)


def _size(response: DiscoveryResponse) -> int:
    """About how many bytes a response has."""
    bodies = sum([len(resource.body) for resource in response.resources]) + _PER_RESOURCE * len(response.resources)
    return bodies + sum(map(len, response.removed)) + 4 * len(response.removed)


def _introduced(node: EnvoyNode, clusters: Collection[str]) -> EnvoyNode:
    """The node of a first request; later ones need not name it (I1), and cannot change it (I2)."""
    if not node.id:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, "the first request of a stream needs a node.id")
    if len(node.id) > _LONGEST_NODE_ID:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, f"node.id is longer than {_LONGEST_NODE_ID} characters")
    if clusters and node.cluster not in clusters:
        claimed = f"the client certificate is not for node.cluster {printable(node.cluster, 200)!r}"
        raise StreamEnd(grpc.StatusCode.PERMISSION_DENIED, claimed)
    return node


def _type_of(request: DiscoveryRequest, only: str | None) -> str:
    """The type that a request is for; a single-type service may be asked without naming its own."""
    type_url = request.type_url or only
    if not type_url:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, "an ADS request needs a type_url")
    if only is not None and type_url != only:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, f"this service serves {only}, not {printable(type_url, 200)}")
    return type_url
