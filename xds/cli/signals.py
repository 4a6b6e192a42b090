"""How the commands that serve end: in order at the first signal, sooner at the next one.

Changed files and certificates are read without a signal. So SIGHUP does not reload anything: it ends the program, as when a terminal is
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until done, or until SIGTERM, SIGINT or SIGHUP cancels it; each further one cancels what it waits for while it ends.

    SIGHUP stays ignored where it was when this program started, which is what `nohup` does. Afterwards signals are what they were before.
    """
    task = asyncio.ensure_future(main())
    loop = asyncio.get_running_loop()
    before = {which: signal.getsignal(which) for which in _ENDING}
    ours = [which for which in _ENDING if which != signal.SIGHUP or before[which] is not signal.SIG_IGN]
    for which in ours:
        loop.add_signal_handler(which, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        for which in ours:
            loop.remove_signal_handler(which)
            signal.signal(which, before[which])


async def work(tasks: set[asyncio.Future[Any]], grace: float) -> None:
    """Wait until one of them is done; after a signal, for `grace` seconds at most. Then all are cancelled, and have ended."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await asyncio.wait(tasks, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
