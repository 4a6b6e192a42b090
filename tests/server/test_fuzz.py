"""Whatever a client sends: its own stream ends at most, nothing of it stays, and the others do not notice."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.exploring import examples
from tests.server.client import Client, eventually, path, resource
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, SECRET, TYPES, Snapshot

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
TYPE_URLS = [*TYPES, "", "type.googleapis.com/envoy.service.runtime.v3.Runtime", "\N{SNOWMAN}"]
NAMES = st.sampled_from([b"a", b"b", b"*", b"", b"not/there", b"\xff", b"x" * 5_000])
NODES = st.sampled_from([b"envoy", b"", b"\n", b"\xc3\x28", b"n" * 1_024, b"n" * 1_025])


class Fields(NamedTuple):
    """The numbers of the fields of a request (envoy/service/discovery/v3/discovery.proto)."""

    node: int
    type_url: int
    names: tuple[int, ...]
    nonce: int
    error: int
    versions: int


FIELDS = {Wire.SOTW: Fields(2, 4, (3,), 5, 6, 1), Wire.DELTA: Fields(1, 2, (3, 4), 6, 7, 5)}


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    length, size = len(value), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes((number << 3 | 2, *size, length)) + value


@st.composite
def requests(draw: st.DrawFn, wire: Wire) -> bytes:
    """A request with some of its fields, in any order, any of them twice."""
    numbers = FIELDS[wire]
    version = field(1, draw(NAMES)) + field(2, draw(st.sampled_from([b"", b"old", b"\xfe"])))
    parts = [
        field(numbers.node, field(1, draw(NODES)) + field(2, b"edge")),
        field(numbers.type_url, draw(st.sampled_from(TYPE_URLS)).encode()),
        *(field(draw(st.sampled_from(numbers.names)), name) for name in draw(st.lists(NAMES, max_size=4))),
        field(numbers.nonce, draw(st.sampled_from([b"", b"foreign", b"1.1"]))),
        field(numbers.error, field(2, draw(st.binary(max_size=20)))),
        field(numbers.versions, version),
    ]
    return b"".join(draw(st.lists(st.sampled_from(parts), max_size=9)))


@st.composite
def mutated(draw: st.DrawFn, wire: Wire) -> bytes:
    """A request with a byte changed, a piece taken out, or a piece put in."""
    raw = bytearray(draw(requests(wire)))
    begin, end = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
    raw[begin : min(end, begin + draw(st.integers(0, 4)))] = draw(st.binary(max_size=4))
    return bytes(raw)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Wire, str | None, list[bytes]]:
    """A wire, the type of a single-type service (None: ADS), and what a client writes."""
    wire = draw(st.sampled_from(Wire))
    message = requests(wire) | mutated(wire) | st.binary(max_size=60)
    return wire, draw(st.sampled_from([None, None, CLUSTER, ENDPOINT, SECRET])), draw(st.lists(message, min_size=1, max_size=6))


class Target:
    """A server on a loop of its own, and a well-behaved client beside those that are not."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._snapshot = Snapshot()
        self._snapshot.ready = True
        for type_url in (CLUSTER, ENDPOINT, LISTENER, SECRET):
            self._snapshot[type_url].update([resource("a"), resource("b")])
        self._registry = CollectorRegistry()
        self._fleet = Fleet(self._snapshot, self._registry, identifier="xds-0")
        self._server = Server(self._fleet, "127.0.0.1:0")
        await self._server.start()
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(self._server.address, options=options)
        self._good_channel = grpc.aio.insecure_channel(self._server.address, options=options)
        self._editions = itertools.count()
        self._good = Client(self._good_channel, Wire.DELTA, node="good")
        await self._good.subscribe(SECRET, ["a"])
        await self._good.answer(await self._good.read())

    def throw(self, wire: Wire, only: str | None, messages: list[bytes]) -> None:
        """Writes these, and sees what comes of it."""
        self._runner.run(self._throw(wire, only, messages))

    async def _throw(self, wire: Wire, only: str | None, messages: list[bytes]) -> None:
        code, details = await asyncio.to_thread(self._ended, path(wire, only), messages)
        right = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
        if only is None and any(PASSWORDS.encode() in message for message in messages):
            right.add(grpc.StatusCode.PERMISSION_DENIED)  # nobody here is an authorisation service
        assert code in right, (code, details)
        edition = str(next(self._editions))
        self._snapshot[SECRET].update([resource("a", edition)])
        self._fleet.publish()
        told = await self._good.read()
        assert [bytes(r.resource.value) for r in told.resources] == [f"a={edition}".encode()]
        await self._good.answer(told)

    def _ended(self, method: str, messages: list[bytes]) -> tuple[grpc.StatusCode, str]:
        """With what the server ends a stream on which these are written.

        The client of grpc.aio would not do: it reports INTERNAL, whatever the server says, where it writes after the end of the stream.
        """
        call = self._channel.stream_stream(method)(iter(messages), timeout=60)
        with contextlib.suppress(grpc.RpcError):
            collections.deque(call, maxlen=0)
        return call.code(), call.details()

    def sizes(self) -> tuple[int, int, int, int]:
        """How many streams, tasks, numbered names and metrics there are once nobody is connected but the well-behaved client."""

        async def sizes() -> tuple[int, int, int, int]:
            await eventually(lambda: self._fleet.load[:4] == (1, 1, 0, 0))
            samples = sum(len(metric.samples) for metric in self._registry.collect())
            return self._fleet.load.connections, len(asyncio.all_tasks()), len(self._snapshot[CLUSTER].index), samples

        return self._runner.run(sizes())

    def close(self) -> None:
        """Ends both."""

        async def close() -> None:
            self._channel.close()
            await self._good_channel.close()
            await self._server.stop(0)

        self._runner.run(close())
        self._runner.close()


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    target = Target()
    target.throw(Wire.DELTA, None, [b"\xff"])  # the first of its kind makes a metric of its own
    yield target
    target.close()


@settings(
    max_examples=examples(800),
    deadline=None,
    phases=QUICK,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(conversation=conversations())
@example(conversation=(Wire.DELTA, None, [field(1, field(1, b"envoy")) + field(2, PASSWORDS.encode())]))
def test_whatever_is_written_ends_a_stream_at_most_while_others_get_each_change(
    conversation: tuple[Wire, str | None, list[bytes]], target: Target
) -> None:
    target.throw(*conversation)


def test_nothing_stays_of_streams_that_wrote_nonsense(target: Target) -> None:
    before = target.sizes()
    for n in range(300):
        name = f"{n}/{'x' * 100}".encode()
        for wire, fields in FIELDS.items():
            node = field(fields.node, field(1, name))
            asked = b"".join(field(fields.names[0], name + str(k).encode()) for k in range(10))
            held = field(5, field(1, name) + field(2, b"1")) if wire is Wire.DELTA else b""
            target.throw(wire, None, [node + field(fields.type_url, SECRET.encode()) + asked + held, b"\xff"])
    assert target.sizes() == before
