"""Whatever a Source raises is a Problem and a retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

import pytest

from xds.config import Failure
from xds.kube import unending as module
from xds.kube.source import Change
from xds.kube.unending import PLACE, unending
from xds.problem import Problem, Ref

Step = Change | BaseException
FIRST, SECOND = Change(drop=(Ref("Service", "a", "1"),)), Change(drop=(Ref("Service", "a", "2"),))
WRONG = [
    pytest.param(ValueError("odd"), "odd", id="an error"),
    pytest.param(ExceptionGroup("many", [ExceptionGroup("within", [OSError(28, "No space left")])]), "No space left", id="a group"),
    pytest.param(Failure("The kubeconfig is gone."), "The kubeconfig is gone", id="a failure"),
    pytest.param(StopAsyncIteration(), "they ended", id="the end"),
]


class Scripted:
    """A Source that does one list of steps after the other, and then nothing more."""

    def __init__(self, *lives: list[Step]) -> None:
        self.lives = iter(lives)
        self.ended = 0

    async def changes(self) -> AsyncGenerator[Change]:
        try:
            for step in next(self.lives):
                match step:
                    case StopAsyncIteration():
                        return
                    case BaseException():
                        raise step
                    case _:
                        yield step
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    def waiting(self) -> list[str]:
        return []

    def staleness(self, now: float) -> Mapping[str, float]:
        return {}

    async def close(self) -> None: ...


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Problem, ...]]:
    monkeypatch.setattr(module, "FIRST", 0.0)
    return []


def tell(told: list[tuple[Problem, ...]]) -> Callable[[str, tuple[Problem, ...]], None]:
    def take(place: str, problems: tuple[Problem, ...]) -> None:
        assert place == PLACE
        told.append(problems)

    return take


@pytest.mark.parametrize(("wrong", "words"), WRONG)
async def test_what_a_source_raises_is_a_problem_until_it_says_something_again(
    told: list[tuple[Problem, ...]], wrong: BaseException, words: str
) -> None:
    source = Scripted([FIRST, wrong], [wrong], [SECOND])
    changes = unending(source, tell(told))
    async with asyncio.timeout(120):
        assert await anext(changes) == FIRST
        assert await anext(changes) == SECOND
    assert [len(problems) for problems in told] == [0, 1, 1, 0]
    assert words in told[1][0].sentence
    assert str(told[1][0].about) == "Source Scripted"
    await changes.aclose()
    assert source.ended == 3


@pytest.mark.parametrize(("wrong", "words"), WRONG)
async def test_before_the_first_change_only_a_configuration_that_can_never_work_is_the_end(
    told: list[tuple[Problem, ...]], wrong: BaseException, words: str
) -> None:
    changes = unending(Scripted([wrong], [FIRST]), tell(told))
    async with asyncio.timeout(120):
        if isinstance(wrong, Failure):
            with pytest.raises(Failure, match=words):
                await anext(changes)
        else:
            assert await anext(changes) == FIRST
    await changes.aclose()


async def test_who_waits_for_a_source_may_be_cancelled(told: list[tuple[Problem, ...]]) -> None:
    source = Scripted([])
    upcoming = asyncio.ensure_future(anext(unending(source, tell(told))))
    await asyncio.sleep(0)
    upcoming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upcoming
    assert (source.ended, told) == (1, [])
