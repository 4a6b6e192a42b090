"""How many requests a client may have open. However requests end, and in whatever order, no count is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.authz import counts
from xds.authz.counts import OpenRequests
from xds.authz.messages import message


class Request:
    """One request as Envoy tells of it: its headers, perhaps trailers of its response, and the end of the stream."""

    def __init__(self, opened: OpenRequests, said: dict[str, str]) -> None:
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answers: AsyncGenerator[bytes] = opened.converse(said, self._received())

    async def _received(self) -> AsyncIterator[bytes]:
        while (sent := await self._sent.get()) is not None:
            yield sent

    async def begin(self) -> int:
        """The status for the client; 200: it goes on."""
        self._sent.put_nowait(b"headers")
        answer = await self._next()
        return answer.immediate_response.status.code if answer.HasField("immediate_response") else _only(answer, "request_headers")

    async def trailers(self) -> int:
        self._sent.put_nowait(b"trailers")
        return _only(await self._next(), "response_trailers")

    async def end(self) -> None:
        self._sent.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(self._answers)

    async def abort(self) -> None:
        await self._answers.aclose()

    async def _next(self) -> Any:
        return message("ProcessingResponse").FromString(await anext(self._answers))


def _only(answer: Any, field: str) -> int:
    assert answer.HasField(field)
    assert len(answer.ListFields()) == 1
    return 200


def said(ingress: str = "ns/a", client: str = "192.0.2.1", most: str = "2", status: str = "503") -> dict[str, str]:
    return {counts.INGRESS: ingress, counts.CLIENT: client, counts.MOST: most, counts.STATUS: status}


async def test_a_client_has_as_many_open_as_the_ingress_allows() -> None:
    opened = OpenRequests()
    first, second = Request(opened, said()), Request(opened, said())
    assert (await first.begin(), await second.begin()) == (200, 200)
    assert await Request(opened, said(status="429")).begin() == 429
    assert await Request(opened, said(client="192.0.2.2")).begin() == 200
    assert await Request(opened, said(ingress="ns/b")).begin() == 200
    assert await first.trailers() == 200
    await first.end()
    assert await Request(opened, said()).begin() == 200
    assert await Request(opened, said()).begin() == 503


@pytest.mark.parametrize("lacking", [said(ingress=""), said(client=""), said(most=""), said(most="x"), said(most="0"), said(most="²"), {}])
async def test_what_cannot_be_counted_passes(lacking: dict[str, str]) -> None:
    opened = OpenRequests()
    for _ in range(3):
        assert await Request(opened, lacking).begin() == 200
    assert len(opened) == 0


async def test_a_status_that_is_none_is_503() -> None:
    opened = OpenRequests()
    keeping = Request(opened, said(most="1"))
    await keeping.begin()
    assert await Request(opened, said(most="1", status="")).begin() == 503


async def test_so_many_are_counted_and_those_beyond_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_OPEN", 3)
    opened = OpenRequests()
    kept = [Request(opened, said(client=f"192.0.2.{n}", most="1")) for n in range(5)]
    assert [await each.begin() for each in kept] == [200] * 5
    assert len(opened) == 3
    assert await Request(opened, said(client="192.0.2.0", most="1")).begin() == 200
    for each in kept:
        await each.end()
    assert len(opened) == 0


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "abort", "trailers"]), st.integers(0, 9), st.integers(0, 1)), max_size=40)


@given(STEPS)
def test_counts_are_those_of_the_requests_that_are_open(steps: list[tuple[str, int, int]]) -> None:
    async def play() -> None:
        opened, alive = OpenRequests(), dict[int, list[Request]]({0: [], 1: []})
        for what, number, client in steps:
            mine = alive[client]
            if what == "begin":
                made = Request(opened, said(client=f"192.0.2.{client}", most="3"))
                assert await made.begin() == (200 if len(mine) < 3 else 503)
                if len(mine) < 3:
                    mine.append(made)
                else:
                    await made.end()
            elif mine and what == "trailers":
                await mine[number % len(mine)].trailers()
            elif mine:
                gone = mine.pop(number % len(mine))
                await (gone.end() if what == "end" else gone.abort())
            assert len(opened) == sum(map(len, alive.values()))

    asyncio.run(play())
