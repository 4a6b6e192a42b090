"""`xds serve`: the management server, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from xds.app import ControlPlane
from xds.cli.arguments import Parsed
from xds.config import Settings


def run(parsed: Parsed) -> int:
    """Serve until SIGTERM or Ctrl-C. Raises Failure where it cannot start."""
    asyncio.run(until_signal(lambda: _serve(parsed.settings)))
    return 0


async def until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until done, or until SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(main())
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _serve(settings: Settings) -> None:
    control_plane = ControlPlane(settings)
    try:
        await control_plane.start()
        await control_plane.run()
    finally:
        await asyncio.sleep(settings.shutdown_grace_period)
        await control_plane.stop()
