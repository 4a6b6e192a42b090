"""Turns: order, slices, and what becomes of errors and of those that leave. WeightedSemaphore: how much at once, and who goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from xds.server.turns import FairScheduler, WeightedSemaphore


async def test_work_is_done_at_once_where_nobody_waits() -> None:
    turns = FairScheduler(slice_=60)
    running = turns.run(lambda: 1)
    with pytest.raises(StopIteration) as done:
        running.send(None)
    assert done.value.value == 1


async def test_the_loop_goes_round_between_pieces_of_work() -> None:
    turns = FairScheduler(slice_=0)
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
    turns = FairScheduler(slice_=0)
    done: list[int] = []
    await asyncio.gather(*(turns.run(lambda i=i: done.append(i)) for i in range(100)))  # type: ignore[misc]
    assert done == list(range(100))


@pytest.mark.parametrize("slice_", [0, 60])
async def test_an_error_goes_to_whoever_wanted_the_work_done(slice_: float) -> None:
    turns = FairScheduler(slice_=slice_)

    def fail() -> None:
        raise ValueError("mine")

    failed, done = await asyncio.gather(turns.run(fail), turns.run(lambda: "done"), return_exceptions=True)
    assert isinstance(failed, ValueError)
    assert done == "done"


@pytest.mark.parametrize("slice_", [0, 60])
async def test_what_comes_first_is_done_before_what_came_earlier(slice_: float) -> None:
    turns = FairScheduler(slice_=slice_)
    done: list[str] = []
    turns.begin_first()
    other = asyncio.create_task(turns.run(lambda: done.append("other")))
    await asyncio.sleep(0)
    first = [asyncio.create_task(turns.run(lambda i=i: done.append(str(i)), first=True)) for i in range(10)]  # type: ignore[misc]
    for _ in range(3):
        await asyncio.sleep(0)
    assert "other" not in done
    turns.end_first()
    await asyncio.gather(other, *first)
    assert done == [*map(str, range(10)), "other"]


async def test_what_comes_first_again_and_again_lets_the_others_have_their_turn() -> None:
    """While changes come faster than they can be sent, requests are answered as well: a stream goes on only with an answer."""
    turns = FairScheduler(slice_=0)
    other = asyncio.create_task(turns.run(lambda: None))
    async with asyncio.timeout(120):
        while not other.done():
            turns.begin_first()
            first = [asyncio.create_task(turns.run(lambda: None, first=True)) for _ in range(5)]
            await asyncio.sleep(0)
            turns.end_first()
            turns.begin_first()
            await asyncio.gather(*first)


async def test_who_leaves_gives_up_the_turn() -> None:
    turns = FairScheduler(slice_=0)
    done: list[str] = []
    leaving = asyncio.create_task(turns.run(lambda: done.append("left")))
    staying = asyncio.create_task(turns.run(lambda: done.append("stayed")))
    asyncio.get_running_loop().call_soon(leaving.cancel)
    await staying
    assert done == ["stayed"]


async def test_who_fits_into_a_room_does_not_wait() -> None:
    room = WeightedSemaphore(10)
    for size in (4, 6):
        with pytest.raises(StopIteration):
            room.acquire(size).send(None)
    assert room.waiting == 0


async def _asking(room: WeightedSemaphore, *sizes: int) -> list[asyncio.Task[None]]:
    """What waits for room in this order."""
    tasks = [asyncio.create_task(room.acquire(size)) for size in sizes]
    await asyncio.sleep(0)
    return tasks


async def test_who_does_not_fit_waits_until_enough_is_given_back() -> None:
    room = WeightedSemaphore(10)
    await room.acquire(4)
    await room.acquire(5)
    [task] = await _asking(room, 5)
    assert not task.done()
    room.release(4)
    await task
    [next_] = await _asking(room, 1)
    assert not next_.done()
    room.release(5)
    await next_


async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    room = WeightedSemaphore(10)
    await room.acquire(6)
    large, small = await _asking(room, 5, 1)
    assert not small.done()
    room.release(6)
    await large
    await small


async def test_work_in_steps_lets_others_go_in_between_and_has_a_result() -> None:
    turns, order = FairScheduler(slice_=0.0), []

    def work() -> Generator[None, None, str]:
        for n in range(3):
            order.append(f"step {n}")
            yield
        return "done"

    long = asyncio.ensure_future(turns.run_in_steps(work()))
    for n in range(3):
        await asyncio.sleep(0)
        await turns.run(lambda n=n: order.append(f"other {n}"))
    assert await long == "done"
    assert order.index("other 0") < order.index("step 2")
    assert [each for each in order if "step" in each] == ["step 0", "step 1", "step 2"]


async def test_work_in_steps_raises_what_a_step_raises() -> None:
    def work() -> Generator[None, None, str]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await FairScheduler().run_in_steps(work())


async def test_what_is_larger_than_the_room_goes_alone() -> None:
    room = WeightedSemaphore(10)
    await room.acquire(1)
    [large] = await _asking(room, 100)
    assert not large.done()
    room.release(1)
    await large
    [small] = await _asking(room, 1)
    assert not small.done()
    room.release(100)
    await small


async def test_who_leaves_makes_way_for_the_next() -> None:
    room = WeightedSemaphore(10)
    await room.acquire(6)
    large, small = await _asking(room, 5, 1)
    large.cancel()
    await small
    room.release(6)
    await room.acquire(9)
    assert room.waiting == 0


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_who_leaves_in_the_moment_in_which_there_is_room_takes_nothing(leaves_first: bool) -> None:
    room = WeightedSemaphore(10)
    await room.acquire(10)
    first, second, third = await _asking(room, 10, 10, 10)
    if leaves_first:
        first.cancel()
        room.release(10)
    else:
        room.release(10)
        first.cancel()
    await second
    assert first.cancelled()
    assert not third.done()
    room.release(10)
    await third


async def test_room_goes_to_peers_in_turn() -> None:
    room, order = WeightedSemaphore(1), list[str]()

    async def take(name: str, peer: tuple[str, str]) -> None:
        await room.acquire(1, peer)
        order.append(name)

    await room.acquire(1)
    asked = [("a1", ("a", "a:1")), ("a2", ("a", "a:1")), ("a3", ("a", "a:2")), ("b1", ("b", "b:1")), ("b2", ("b", "b:1"))]
    tasks = [asyncio.create_task(take(*each)) for each in asked]
    await asyncio.sleep(0)
    for task in tasks:
        room.release(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(order) <= len(tasks), task
    assert order == ["a1", "b1", "a3", "b2", "a2"]


async def test_work_of_peers_is_done_in_turn() -> None:
    turns, done = FairScheduler(slice_=0), list[str]()
    work = [*((f"a{n}", ("a", f"a:{n}")) for n in range(5)), ("b", ("b", "b:1"))]
    await asyncio.gather(*(turns.run(lambda name=name: done.append(name), peer) for name, peer in work))  # type: ignore[misc]
    assert done.index("b") <= 2
    assert len(done) == 6
