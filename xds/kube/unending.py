"""A Source that never ends: any exception becomes a Problem and a retry, and the objects stay.

What belongs here: retries of a Source. What does not: how a Source avoids exceptions (`xds.kube.manifests`,
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
"""Seconds before the first retry, and the limit of the exponential backoff."""


async def unending(source: Source, report: Callable[[str, tuple[Problem, ...]], None]) -> AsyncGenerator[Change]:
    """The Changes of a Source, which is called again after any exception, and after its end.

    Raises Failure if the Source does so before its first Change: its configuration can never work. `report` receives PLACE and all
    Problems there.
    """
    changes = source.changes()
    has_begun = False

    def may_come_back(error: BaseException) -> bool:
        return isinstance(error, Exception) and (has_begun or not isinstance(error, Failure))

    def begin_again(state: RetryCallState) -> None:
        nonlocal changes
        changes = source.changes()
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, Failure | StopAsyncIteration):
            _log.error("internal error in the source of objects; please report it", exc_info=error)
        report(PLACE, (_problem(source, error),))

    pauses = wait_random_exponential(multiplier=FIRST, max=LONGEST)
    try:
        while True:
            async for attempt in AsyncRetrying(wait=pauses, retry=retry_if_exception(may_come_back), before_sleep=begin_again):
                with attempt:
                    change = await anext(changes)
            has_begun = True
            report(PLACE, ())
            yield change
    finally:
        await changes.aclose()


def _problem(source: Source, error: BaseException | None) -> Problem:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    why = "they ended" if isinstance(error, StopAsyncIteration) else str(error) or type(error).__name__
    sentence = f"Changes of objects are not received ({why.rstrip('.')}). Envoys keep their configuration, and the Source is retried."
    return Problem(Ref("Source", "", type(source).__name__), "", "source-failed", sentence)
