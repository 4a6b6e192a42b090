"""One xDS stream: reads requests, asks its Session what to say, writes that.

There is no queue of messages. The Session is asked again only once everything that it said is written; what changes meanwhile sets a flag,
and the newest state is said next (B1). What to say is decided in `xds.protocol`, bytes are made in `xds.server.messages`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc

from xds.model import printable
from xds.protocol.session import Answer, Request, Response, Session, Wire
from xds.server.messages import Encoder, Malformed, Node, TooManyNames, decode
from xds.server.metrics import SHORT, Metrics
from xds.server.turns import Turns
from xds.snapshot import Snapshot

_log = logging.getLogger("xds.server")
_LONGEST_NODE_ID = 1024
_MOST_UNANSWERED = 100


Heard = Callable[["Stream", Answer], None]
"""Told of each ACK and NACK, with the stream that it came on."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a Fleet have in common.

    `write_timeout`: seconds that a client may take to make room for one response. `most_names`: names that one request may list.
    """

    snapshot: Snapshot
    encoder: Encoder
    metrics: Metrics
    turns: Turns
    write_timeout: float
    most_names: int
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
    `node` is None until the client has said its name; `since` is when the stream was opened.
    """

    def __init__(self, context: Any, wire: Wire, only: str | None, shared: Shared, *, nonce_prefix: str) -> None:
        self.node: Node | None = None
        self.wire = wire
        self.only = only
        self.peer = str(context.peer())
        self.since = datetime.now(UTC)
        self.session = Session(wire, shared.snapshot, nonce_prefix=nonce_prefix, ordered=only is None)
        self._context = context
        self._shared = shared
        self._unanswered: dict[str, str] = {}  # nonce → version, the latest few
        self._awake = asyncio.Event()
        self._dirty = False
        self._stopping: str | None = None
        self._writing: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Serves until the client ends the stream. Raises StreamEnd where the server does."""
        await self._context.send_initial_metadata(())  # ending a stream in the middle of its first write could not send them any more
        reading = self._read()
        try:
            while self._stopping is None:
                await self._wait()
                if reading.done():
                    if reading.result() is grpc.aio.EOF:
                        return
                    await self._say(partial(self._receive, reading.result()))
                    reading = self._read()  # and nothing holds the request any longer, which may be large
                if self._dirty:
                    await self._say(self._publish)
                if self.session.deadline is not None and self._now() >= self.session.deadline:
                    await self._say(self._expire)
            raise StreamEnd(grpc.StatusCode.UNAVAILABLE, self._stopping)
        finally:
            reading.cancel()

    def wake(self) -> None:
        """The snapshot has changed."""
        self._dirty = True
        self._awake.set()

    def stop(self, reason: str) -> None:
        """Ends the stream with UNAVAILABLE, also while it waits for its client to read."""
        self._stopping = reason
        self._awake.set()
        if self._writing is not None and not self._writing.expired():
            self._writing.reschedule(self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _read(self) -> asyncio.Task[Any]:
        reading = asyncio.create_task(self._context.read())
        reading.add_done_callback(lambda _: self._awake.set())
        return reading

    async def _wait(self) -> None:
        """Until something has happened, or the Session wants to be asked."""
        try:
            async with asyncio.timeout_at(self.session.deadline):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()

    async def _say(self, ask: Callable[[], list[Response]]) -> None:
        """Asks the Session, and writes what it says; a message is made when the one before it is written."""
        said: deque[Response] = deque()
        message = await self._shared.turns.run(lambda: self._first_message(ask, said))
        while message is not None and self._stopping is None:
            type_url, raw = message
            await self._write(raw)
            self._shared.metrics.responses[type_url].inc()
            self._shared.metrics.response_bytes[type_url].inc(len(raw))
            message = await self._shared.turns.run(partial(self._next_message, said)) if said else None

    def _first_message(self, ask: Callable[[], list[Response]], said: deque[Response]) -> tuple[str, bytes] | None:
        said.extend(ask())
        for answer in self.session.take_answers():
            self._shared.heard(self, answer)
        return self._next_message(said)

    def _next_message(self, said: deque[Response]) -> tuple[str, bytes] | None:
        """The type and the bytes of the next response."""
        if not said:
            return None
        response = said.popleft()
        self._unanswered[response.nonce] = response.version
        if len(self._unanswered) > _MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        return response.type_url, self._shared.encoder.encode(self.wire, response)

    async def _write(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._shared.write_timeout) as self._writing:
                await self._context.write(message)
        except TimeoutError:
            if self._stopping is not None:
                return
            self._shared.metrics.write_timeouts.inc()
            waited = f"{self._shared.write_timeout:g} s"
            _log.warning("%s: ended its stream, because it has not read for %s", self.name, waited)
            raise StreamEnd(grpc.StatusCode.UNAVAILABLE, f"a response was not read within {waited}") from None
        finally:
            self._writing = None

    @property
    def name(self) -> str:
        """The node's id for a log."""
        return f"Envoy {printable(self.node.id, 100)}" if self.node else "an Envoy that has not said its name"

    @property
    def log_level(self) -> int:
        """How loudly its coming and going is told: an Envoy may open a single-type stream for each of its clusters."""
        return logging.INFO if self.only is None else logging.DEBUG

    def _publish(self) -> list[Response]:
        self._dirty = False
        return self.session.publish(self._now())

    def _expire(self) -> list[Response]:
        return self.session.expire(self._now())

    def _receive(self, raw: bytes) -> list[Response]:
        try:
            node, request = decode(self.wire, raw, most_names=self._shared.most_names)
        except Malformed as malformed:
            raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, str(malformed)) from None
        except TooManyNames as many:
            raise StreamEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, str(many)) from None
        if self.node is None:
            self.node = _introduced(node)
            _log.log(self.log_level, "%s connected from %s (%s)", self.name, self.peer, self.wire.name.lower())
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

    def _count_answer(self, request: Request) -> None:
        """Counts a request as an ACK or a NACK, once for each response; tells the log of a NACK."""
        version = self._unanswered.pop(request.nonce, None)
        if version is None:
            return
        if request.error is None:
            self._shared.metrics.acks[request.type_url].inc()
            return
        self._shared.metrics.nacks[request.type_url].inc()
        _log.warning("%s rejected %s version %s: %s", self.name, SHORT[request.type_url], version, printable(request.error, 500))


def _introduced(node: Node) -> Node:
    """The node of a first request; later ones need not name it (I1), and cannot change it (I2)."""
    if not node.id:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, "the first request of a stream needs a node.id")
    if len(node.id) > _LONGEST_NODE_ID:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, f"node.id is longer than {_LONGEST_NODE_ID} characters")
    return node


def _type_of(request: Request, only: str | None) -> str:
    """The type that a request is for; a single-type service may be asked without naming its own."""
    type_url = request.type_url or only
    if not type_url:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, "an ADS request needs a type_url")
    if only is not None and type_url != only:
        raise StreamEnd(grpc.StatusCode.INVALID_ARGUMENT, f"this service serves {only}, not {printable(type_url, 200)}")
    return type_url
