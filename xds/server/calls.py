"""Tracks the open calls of a gRPC server, so that a stopping server can wait for the last of them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

_TIMEOUT = 5.0
"""Seconds."""


class OpenCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """The open calls of all services.

    `grpc.aio.Server.stop` returns while cancelled calls still clean up. If the event loop ends then, gRPC logs each of them as an error
    with a traceback.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Records the task of the call until it is done."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await continuation(handler_call_details)

    async def ended(self) -> None:
        """Waits until no call is open. Cancelled calls wait for nothing, so this takes moments."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_TIMEOUT)
