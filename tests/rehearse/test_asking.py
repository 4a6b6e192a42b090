"""How both sides are asked: at a pace, a few at a time, by the name of the host, and whatever a server does, to an end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import xds.rehearse.asking
from tests.envoy.harness.tls import make_certificate, server_context
from xds.config import Failure
from xds.model import Via
from xds.rehearse.asking import AGAIN, AT_ONCE, Exchange, Interview, Pace, Side
from xds.rehearse.inquiries import Inquiry, Why

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 5), min_size=2, max_size=30))
def test_requests_never_begin_faster_than_the_rate(rate: float, pauses: list[float]) -> None:
    pace, now, begun = Pace(rate), 1_000.0, []
    for pause in pauses:
        begun.append(pace.begin(now))
        assert begun[-1] >= now
        now += pause
    assert all(later - earlier >= 1 / rate - 1e-9 for earlier, later in itertools.pairwise(begun))
    assert begun[0] == 1_000.0


@contextlib.asynccontextmanager
async def server(serve: Serve, *, tls: bool = False) -> AsyncIterator[Side]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await serve(reader, writer)
        writer.close()

    context = server_context(make_certificate(["side.test"])) if tls else None
    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield Side("--to", {"https" if tls else "http": listening.sockets[0].getsockname()[:2]})


def answering(*pieces: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return serve


def inquiry(target: str = "/", *, via: Via = Via.HTTP, host: str = "a.test", headers: tuple[tuple[str, str], ...] = ()) -> Inquiry:
    return Inquiry(Why.RULE, "GET", via, host, target, headers, None, "", "")


async def asked(theirs: Side, ours: Side, *inquiries: Inquiry) -> list[Exchange]:
    async with asyncio.timeout(120), Interview(theirs, ours, 1000) as both:
        return [each async for each in both.ask(inquiries)]


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("serve", "seen"),
    [
        (answering(OK), {"status": "200", "header content-length": "0"}),
        (
            answering(b"HTTP/1.1 200 OK\r\nX-Odd: \xff\xfe\r\nContent-Length: 5\r\n\r\n", b"ab"),
            {"status": "200", "header content-length": "5"},
        ),
        (answering(b"rubbish\r\n\r\n"), {"error": "no valid answer"}),
        (answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000 + b"\r\n\r\n"), {"error": "no valid answer"}),
        (closing, {"error": "the connection was closed"}),
        (silent, {"error": "no answer within 1 s"}),
        (endless, {"status": "200"}),
    ],
    ids=["whole", "half", "rubbish", "large", "closed", "silent", "endless"],
)
async def test_whatever_a_server_does_is_an_answer(serve: Serve, seen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds.rehearse.asking, "PATIENCE", 1.0 if serve is silent else 30.0)
    async with server(answering(OK)) as theirs, server(serve) as ours:
        (exchange,) = await asked(theirs, ours, inquiry())
    found = {name: value for name, value in exchange.ours[0].items() if name != "header x-odd"}
    assert found == seen


async def test_a_request_is_sent_as_it_is_with_the_host_s_name() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    odd = '/a/../b//%2f%41?x="y"&z=%zz'
    async with server(serve) as theirs, server(serve) as ours:
        await asked(theirs, ours, inquiry(odd, headers=(("user-agent", "mine"), ("x-canary", "always"))))
    assert len(heads) == 2
    for head in heads:
        first, *rest = head.decode().split("\r\n")
        assert first == f"GET {odd} HTTP/1.1"
        names = [line.partition(":")[0].lower() for line in rest if line]
        assert sorted(names) == sorted(set(names))
        assert {"host", "user-agent", "accept", "x-canary"} <= set(names) <= {"host", "user-agent", "accept", "x-canary", "connection"}
        assert {"Host: a.test", "user-agent: mine", "x-canary: always"} <= set(rest)


async def test_tls_names_the_host_and_trusts_nobody() -> None:
    names: list[str | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    context = server_context(make_certificate(["side.test"]))
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as listening, server(serve, tls=True) as ours:
        theirs = Side("--from", {"https": listening.sockets[0].getsockname()[:2]})
        async with Interview(theirs, ours, 1000) as both:
            found = [each async for each in both.ask([inquiry(via=Via.HTTPS, host=host) for host in ("a.test", "b.test")])]
            certificates = await both.certificates("c.test")
    assert [each.theirs[0]["status"] for each in found] == ["200", "200"]
    assert {"a.test", "b.test", "c.test"} <= set(names)
    assert all(each.startswith("side.test (SHA-256 ") for each in certificates)
    assert certificates[0] != certificates[1]


async def test_who_differs_is_asked_again_and_few_are_under_way() -> None:
    under_way, most, count = 0, 0, itertools.count()
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        await reader.readuntil(b"\r\n\r\n")
        under_way += 1
        most = max(most, under_way)
        if under_way >= AT_ONCE:
            gate.set()
        await gate.wait()
        under_way -= 1
        writer.write(f"HTTP/1.1 200 OK\r\nX-Count: {next(count)}\r\nContent-Length: 0\r\n\r\n".encode())

    async with server(answering(OK)) as theirs, server(serve) as ours:
        found = await asked(theirs, ours, *(inquiry(f"/{n}") for n in range(40)))
    assert most == AT_ONCE
    assert len(found) == 40
    assert all(len(each.theirs) == len(each.ours) == 1 + AGAIN for each in found)


async def test_where_nothing_listens_nothing_is_asked() -> None:
    async with server(answering(OK)) as theirs:
        with pytest.raises(Failure, match=r"--to http://127\.0\.0\.1:9 cannot be reached: "):
            await asked(theirs, Side("--to", {"http": ("127.0.0.1", 9)}), inquiry())
