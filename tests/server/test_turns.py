"""Turns: order, slices, and what becomes of errors and of those that leave."""

from __future__ import annotations

import asyncio

import pytest

from xds.server.turns import Turns


async def test_work_is_done_at_once_where_nobody_waits() -> None:
    turns = Turns(slice_=60)
    running = turns.run(lambda: 1)
    with pytest.raises(StopIteration) as done:
        running.send(None)
    assert done.value.value == 1


async def test_the_loop_goes_round_between_pieces_of_work() -> None:
    turns = Turns(slice_=0)
    loop = asyncio.get_running_loop()
    rounds = 0
    at: list[int] = []

    def count() -> None:
        nonlocal rounds
        rounds += 1
        loop.call_soon(count)

    loop.call_soon(count)
    await asyncio.gather(*(turns.run(lambda: at.append(rounds)) for _ in range(10)))
    assert len(set(at)) == 10


async def test_work_is_done_in_the_order_in_which_it_came() -> None:
    turns = Turns(slice_=0)
    done: list[int] = []
    await asyncio.gather(*(turns.run(lambda i=i: done.append(i)) for i in range(100)))  # type: ignore[misc]
    assert done == list(range(100))


@pytest.mark.parametrize("slice_", [0, 60])
async def test_an_error_goes_to_whoever_wanted_the_work_done(slice_: float) -> None:
    turns = Turns(slice_=slice_)

    def fail() -> None:
        raise ValueError("mine")

    failed, done = await asyncio.gather(turns.run(fail), turns.run(lambda: "done"), return_exceptions=True)
    assert isinstance(failed, ValueError)
    assert done == "done"


async def test_who_leaves_gives_up_the_turn() -> None:
    turns = Turns(slice_=0)
    done: list[str] = []
    leaving = asyncio.create_task(turns.run(lambda: done.append("left")))
    staying = asyncio.create_task(turns.run(lambda: done.append("stayed")))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    await staying
    assert done == ["stayed"]
