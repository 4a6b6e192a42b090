"""The calls of a gRPC server that are open, so that a server that stops can wait for the last of them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

_AT_MOST = 5.0
"""Seconds."""


class OpenCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """The calls of every service that are open.

    gRPC says that it has stopped while calls that it has cancelled still clean up; an event loop that ends then interrupts them, which
    gRPC logs as an error with a traceback.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Notes the call; what becomes of it is decided elsewhere."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await continuation(handler_call_details)

    async def ended(self) -> None:
        """Until none is open; those that were cancelled have nothing to wait for, so this is a matter of moments."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_AT_MOST)
