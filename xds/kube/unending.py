"""A Source that never ends: any exception becomes a Problem and a retry, and the objects stay.

What belongs here: retries of a Source. What does not: how a Source avoids exceptions (`xds.kube.manifests`,
`xds.kube.apiserver.apiserver`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable

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
    has_begun, failures = False, 0
    try:
        while True:
            try:
                change = await anext(changes)
            except Exception as error:
                if isinstance(error, Failure) and not has_begun:
                    raise
                if not isinstance(error, Failure | StopAsyncIteration):
                    _log.error("internal error in the source of objects; please report it", exc_info=error)
                changes = source.changes()
                report(PLACE, (_problem(source, error),))
                await asyncio.sleep(_pause(failures))
                failures += 1
                continue
            if failures or not has_begun:
                report(PLACE, ())
            has_begun, failures = True, 0
            yield change
    finally:
        await changes.aclose()


def _pause(failures: int) -> float:
    """Seconds before the next attempt: by chance, up to a limit that doubles with each failure. Replicas must not retry all at once."""
    return random.uniform(0, min(LONGEST, FIRST * 2 ** min(failures, 10)))  # noqa: S311 - no secret


def _problem(source: Source, error: BaseException) -> Problem:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    why = "they ended" if isinstance(error, StopAsyncIteration) else str(error) or type(error).__name__
    sentence = f"Changes of objects are not received ({why.rstrip('.')}). Envoys keep their configuration, and the Source is retried."
    return Problem(Ref("Source", "", type(source).__name__), "", "source-failed", sentence)
