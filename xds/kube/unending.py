"""A Source that never ends: whatever it raises is a Problem and a retry, and what it said before stays.

What belongs here: when a Source is asked again. What does not: what it does to have nothing to raise (`xds.kube.manifests`,
`xds.kube.apiserver.apiserver`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from xds.config import Failure
from xds.kube.source import Change, Source
from xds.problem import Problem, Ref

_log = logging.getLogger("xds")
PLACE = "the Source"
FIRST, LONGEST = 1.0, 30.0
"""Seconds between two attempts: about the first one, then longer and longer."""


async def unending(source: Source, tell: Callable[[str, tuple[Problem, ...]], None]) -> AsyncGenerator[Change]:
    """The Changes of a Source, which is asked again after whatever it raises, and after its end.

    Raises Failure where the Source does so before its first Change: its configuration can never work. `tell` is given PLACE and all
    Problems there.
    """
    changes = source.changes()
    has_begun = False

    def may_come_back(wrong: BaseException) -> bool:
        return isinstance(wrong, Exception) and (has_begun or not isinstance(wrong, Failure))

    def begin_again(state: RetryCallState) -> None:
        nonlocal changes
        changes = source.changes()
        wrong = state.outcome.exception() if state.outcome else None
        if not isinstance(wrong, Failure | StopAsyncIteration):
            _log.error("internal error in the source of objects; please report it", exc_info=wrong)
        tell(PLACE, (_problem(source, wrong),))

    pauses = wait_random_exponential(multiplier=FIRST, max=LONGEST)
    try:
        while True:
            async for attempt in AsyncRetrying(wait=pauses, retry=retry_if_exception(may_come_back), before_sleep=begin_again):
                with attempt:
                    change = await anext(changes)
            has_begun = True
            tell(PLACE, ())
            yield change
    finally:
        await changes.aclose()


def _problem(source: Source, wrong: BaseException | None) -> Problem:
    while isinstance(wrong, BaseExceptionGroup):
        wrong = wrong.exceptions[0]
    why = "they ended" if isinstance(wrong, StopAsyncIteration) else str(wrong) or type(wrong).__name__
    sentence = f"Changes of objects are not followed ({why.rstrip('.')}); what is served stays served, and they are asked for again."
    return Problem(Ref("Source", "", type(source).__name__), "", "source-failed", sentence)
