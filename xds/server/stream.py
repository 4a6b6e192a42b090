"""One xDS stream: reads requests, asks its Session what to say, writes that.

There is no queue of messages. The Session is asked again only once everything that it said is written; what changes meanwhile sets a flag,
and the newest state is said next (B1). One task takes what the client says, another tells it what is new; a lock keeps them apart. What to
say is decided in `xds.protocol`, bytes are made in `xds.server.messages`.
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

from xds.problem import printable
from xds.protocol.discovery import Acknowledgement, DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.server.budget import Budget
from xds.server.connections import cut, peer_of
from xds.server.messages import SLICE, Encoder, Malformed, Node, TooMuch, decoding
from xds.server.metrics import SHORT, Metrics
from xds.server.turns import Room, Turns
from xds.snapshot import Snapshot

_log = logging.getLogger("xds.server")
_LONGEST_NODE_ID = 1024
_MOST_UNANSWERED = 100
_ARRIVAL = 1.0
"""Seconds after which a stream whose first request has not been served makes room for the next one all the same."""
_SMALL = 64 * 2**10
"""Bytes of a response below which making it takes too little time to wait for a turn, and too little memory to wait for room."""
_LIGHT = 8 * 2**10
"""Bytes of a response that are not worth counting: they are among those of the stream itself."""
_PER_RESOURCE = 150
"""Bytes of a resource in a response beside its body: its name and version, and its type."""
_HURRY = 5.0
"""Seconds that a client may take to make room for a large response while others wait to be sent theirs."""
_BASE = 32 * 2**10
"""Bytes that a stream takes which has said nothing but its name."""
_COUNT_AFTER = 256 * 2**10
"""Bytes of requests after which it is looked what came of them; until then it may be all of it."""

Heard = Callable[["Stream", Acknowledgement], None]
"""Told of each ACK and NACK, with the stream that it came on."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a Fleet have in common.

    `turns` is for their work, `arrivals` for the streams that are new, `under_way` for the bytes that are being written (B8), `first` for
    those to clients that have not answered yet: who never reads keeps no room from those who do. `budget` has what all of them take.
    `write_timeout`: seconds that a client may take to make room for one response. `most_names`: names that one request may list;
    `most_unknown`: those that do not exist which one stream may ask for.
    """

    snapshot: Snapshot
    encoder: Encoder
    metrics: Metrics
    turns: Turns
    arrivals: Room
    under_way: Room
    first: Room
    budget: Budget[Stream]
    write_timeout: float
    most_names: int
    most_unknown: int
    heard: Heard


class StreamEnd(Exception):
    """The server ends a stream; its client is told the code and the text (L9)."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Stream:
    """One open stream.

    `context` is its `grpc.aio.ServicerContext`; `only` the type url of a single-type service, None for ADS; `nonce_prefix` is its own (A1).
    `clusters`: if there are any, the node.cluster of the client must be one of them (I5). `node` is None until the client has said its
    name; `since` is when the stream was opened.
    """

    def __init__(
        self, context: Any, wire: Wire, only: str | None, shared: Shared, *, nonce_prefix: str, clusters: Collection[str] = ()
    ) -> None:
        self.node: Node | None = None
        self.wire = wire
        self.only = only
        self.peer = str(context.peer())
        self._peer = peer_of(self.peer)
        self.since = datetime.now(UTC)
        self.session = Session(wire, shared.snapshot, nonce_prefix=nonce_prefix, ordered=only is None)
        self._context = context
        self._shared = shared
        self._clusters = clusters
        self._unanswered: dict[str, str] = {}  # nonce → version, the latest few
        self._awake = asyncio.Event()
        self._dirty = False
        self._saying = asyncio.Lock()
        self._alarm: asyncio.TimerHandle | None = None  # for the deadline of the Session
        self._arriving: asyncio.TimerHandle | None = None
        self._ending: StreamEnd | None = None
        self._has_answered = False
        self._has_asked = False
        self._strange = 0  # bytes of names that were kept when it was last looked
        self._unsure = 0  # bytes of requests since then
        self._writing = 0
        self._least = _BASE
        self._counted = 0
        self._life: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Serves until the client ends the stream. Raises StreamEnd where the server does."""
        await self._context.send_initial_metadata(())  # ending a stream in the middle of its first write could not send them any more
        try:
            async with asyncio.timeout(None) as self._life:
                self._weigh()
                if self._ending is None:
                    await self._shared.arrivals.take(1, self._peer)
                    self._arriving = asyncio.get_running_loop().call_later(_ARRIVAL, self._arrived)
                    await self._serve()
        except TimeoutError:
            if self._ending is None:
                raise
        finally:
            self._life = None
            self._arrived()
        if self._ending is not None:
            raise StreamEnd(self._ending.code, self._ending.text)

    def wake(self) -> None:
        """The snapshot has changed."""
        self._dirty = True
        self._awake.set()

    def stop(self, reason: str) -> None:
        """Ends the stream with UNAVAILABLE, also while it waits for its client to read."""
        self._end(StreamEnd(grpc.StatusCode.UNAVAILABLE, reason))

    def refuse(self, reason: str) -> None:
        """Ends the stream with RESOURCE_EXHAUSTED, in the same way."""
        self._end(StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, reason))

    def _end(self, end: StreamEnd) -> None:
        self._ending = self._ending or end
        if self._life is not None and not self._life.expired():
            self._life.reschedule(self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
            self._shared.arrivals.give(1)

    async def _serve(self) -> None:
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._awake.set())
        try:
            while not reading.done():
                await self._awake.wait()
                self._awake.clear()
                if self._dirty:
                    await self._say(self._publish)
                if self._alarm is None and self.session.deadline is not None:
                    await self._say(self._expire)
            reading.result()
        finally:
            reading.cancel()
            if self._alarm is not None:
                self._alarm.cancel()

    async def _read(self) -> None:
        """Takes requests, each when the one before it is served, until there are no more."""
        while (raw := await self._context.read()) is not grpc.aio.EOF:
            async with self._saying:
                requests = await self._decode(raw)
                del raw  # it may be large, and the client slow
                while requests:
                    await self._write(await self._ask(partial(self._receive, requests.pop(0))))
            self._arrived()

    async def _decode(self, raw: bytes) -> list[DiscoveryRequest]:
        """The request, in as many pieces as it takes for others to be answered in between."""
        try:
            node, requests = await self._shared.turns.run_in_steps(decoding(self.wire, raw, most_names=self._shared.most_names), self._peer)
        except Malformed as malformed:
            raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, str(malformed)) from None
        except TooMuch as much:
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, str(much)) from None
        for each in requests:
            if len(each.names) + len(each.subscribe) + len(each.initial_versions) > SLICE:
                self._check_unknown(await self._shared.turns.run_in_steps(self._counting(each), self._peer))
        if any(each.names or each.subscribe or each.initial_versions for each in requests):
            self._unsure += len(raw)
            self._has_asked = True
        if self.node is None:
            self.node = _introduced(node, self._clusters)
            self._least = _BASE + node.size
            _log.log(self.log_level, "%s connected from %s (%s)", self.name, self.peer, self.wire.name.lower(), extra=self.log_fields)
        return requests

    async def _say(self, ask: Callable[[], list[DiscoveryResponse]]) -> None:
        async with self._saying:
            await self._write(await self._ask(ask))

    async def _ask(self, ask: Callable[[], list[DiscoveryResponse]]) -> list[tuple[DiscoveryResponse, int]]:
        """What the Session says, each with about how many bytes it is; what it has come to know is told to whom it concerns."""
        said = await self._shared.turns.run(partial(self._asked, ask), self._peer)
        if (deadline := self.session.deadline) != (None if self._alarm is None else self._alarm.when()):
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = None if deadline is None else asyncio.get_running_loop().call_at(deadline, self._ring)
        return said

    def _ring(self) -> None:
        self._alarm = None
        self._awake.set()

    def _asked(self, ask: Callable[[], list[DiscoveryResponse]]) -> list[tuple[DiscoveryResponse, int]]:
        said = [(response, _size(response)) for response in ask()]
        for answer in self.session.take_acknowledgements():
            self._shared.heard(self, answer)
        if said or self._has_asked or self._counted > self._least + _LIGHT:  # most answers change nothing
            self._check_unknown(self.session.unknown)
            self._weigh()
        return said

    def _check_unknown(self, number: int) -> None:
        if number > (most := self._shared.most_unknown):
            text = f"the client names {number} resources that do not exist; at most {most} are allowed"
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    def _counting(self, request: DiscoveryRequest) -> Generator[None, None, int]:
        """How many of the names that a long request lists do not exist, in steps: what would take long to answer is refused before."""
        number = 0
        if (type_url := request.type_url or self.only or "") in SHORT:
            state = self._shared.snapshot[type_url]
            for names in (request.names, request.subscribe, tuple(request.initial_versions)):
                for at in range(0, len(names), SLICE):
                    number += sum(name not in state for name in names[at : at + SLICE])
                    yield
        return number

    def _weigh(self) -> None:
        """Tells the budget how much memory this stream takes; those that are too much have to go."""
        if self._ending is not None:
            return
        self._has_asked = False
        if self._unsure > _COUNT_AFTER:
            self._strange, self._unsure = self.session.unknown_bytes, 0
        weight = self._least + self._strange + self._unsure + self.session.weight
        self._counted = weight + self._writing
        budget = self._shared.budget
        for stream in budget.weigh(self, weight, self._peer, passing=self._writing):
            stream.refuse(f"all streams together take more than {budget.most} bytes, and this is one of the newest")

    async def _write(self, said: Iterable[tuple[DiscoveryResponse, int]]) -> None:
        """One after the other: bytes are made when those before them are written, and when there is room for them."""
        for response, size in said:
            room = self._shared.under_way if self._has_answered else self._shared.first
            if size >= _SMALL:
                await room.take(size, self._peer)
            if size >= _LIGHT:
                self._writing = 2 * size  # our bytes, and those that gRPC makes of them
                self._weigh()
            try:
                encode = partial(self._encode, response)
                raw = encode() if size < _SMALL else await self._shared.turns.run(encode, self._peer)
                await self._send(raw, room if size >= _SMALL else None)
            finally:
                self._writing = 0
                if size >= _SMALL:
                    room.give(size)
            self._shared.metrics.responses[response.type_url].inc()
            self._shared.metrics.response_bytes[response.type_url].inc(len(raw))

    def _encode(self, response: DiscoveryResponse) -> bytes:
        self._unanswered[response.nonce] = response.version
        if len(self._unanswered) > _MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        return self._shared.encoder.encode(self.wire, response)

    async def _send(self, message: bytes, room: Room | None) -> None:
        """Raises StreamEnd where the client does not read it in time, which is short while others wait for the `room` that it takes."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.TimerHandle | None = None
        is_hurried = False

        def look() -> None:
            nonlocal waiting, is_hurried
            if room is not None and room.waiting and not time.expired():
                is_hurried = True
                time.reschedule(loop.time())
            else:
                waiting = loop.call_later(1.0, look)

        try:
            async with asyncio.timeout(self._shared.write_timeout) as time:
                waiting = loop.call_later(_HURRY, look)
                await self._context.write(message)
        except TimeoutError:
            self._shared.metrics.write_timeouts.inc()
            seconds = f"{_HURRY if is_hurried else self._shared.write_timeout:g} s"
            why = f"{seconds}, and others wait" if is_hurried else seconds
            _log.warning("%s: ended its stream, because it has not read for %s", self.name, why, extra=self.log_fields)
            cut(self.peer)  # else gRPC keeps the message for as long as the connection lasts
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if is_hurried else grpc.StatusCode.UNAVAILABLE
            raise StreamEnd(code, f"a response was not read within {why}") from None
        finally:
            if waiting is not None:
                waiting.cancel()

    @property
    def name(self) -> str:
        """The node's id for a log."""
        return f"Envoy {printable(self.node.id, 100)}" if self.node else "an Envoy that has not said its name"

    @property
    def log_level(self) -> int:
        """How loudly its coming and going is told: an Envoy may open a single-type stream for each of its clusters."""
        return logging.INFO if self.only is None else logging.DEBUG

    @property
    def log_fields(self) -> dict[str, str]:
        """What a line about it carries beside the message (docs/logs.md)."""
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
        if request.type_url != type_url:
            request = replace(request, type_url=type_url)
        self._count_answer(request)
        stale = self.session.stale_nonces
        responses = self.session.receive(request, self._now())
        self._shared.metrics.stale_nonces[type_url].inc(self.session.stale_nonces - stale)
        return responses

    def _count_answer(self, request: DiscoveryRequest) -> None:
        """Counts a request as an ACK or a NACK, once for each response; tells the log of a NACK."""
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
    """About how many bytes a response is."""
    bodies = sum([len(resource.body) for resource in response.resources]) + _PER_RESOURCE * len(response.resources)
    return bodies + sum(map(len, response.removed)) + 4 * len(response.removed)


def _introduced(node: Node, clusters: Collection[str]) -> Node:
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
