"""Waiting with a deadline: the only way in which these tests wait for something that cannot be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")

STEP = 0.02
"""Seconds between two looks."""
PATIENCE = 120
"""Seconds that anything may take. Only a test that fails waits so long, and a busy machine is no reason to fail."""


async def wait_until(look: Callable[[], Awaitable[Value]], what: str, *, deadline: float = PATIENCE) -> Value:
    """Look again and again until `look` returns something true, and return that.

    `what` is what is waited for, in words; `deadline` is in seconds. An exception of `look` counts as "not yet". Raises AssertionError with
    `what` and what was seen last.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    last: object = None
    while loop.time() < end:
        try:
            async with asyncio.timeout_at(end):
                value = await look()
        except Exception as error:
            last = error
        else:
            if value:
                return value
            last = value
        await asyncio.sleep(STEP)
    raise AssertionError(f"waited {deadline:g} s for {what}; seen last: {last!r}")
