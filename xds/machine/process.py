"""What this process asks of the system and of the interpreter, because it has a thousand streams and values that stay."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
from collections.abc import Callable, Iterator
from typing import TypeVar

_Result = TypeVar("_Result")

_GC = (5_000, 2, 2_000)
"""A thousand streams are more than Python's defaults expect: they have the collector look at all of them every few changes, for 50 ms.

Nothing else runs while it looks, so each of the first two looks is at 15,000 objects at most: some 5 ms, and 20 on a busy machine.
"""

_PORTION = 0.05
"""Seconds between two looks at what long work makes: some thousand objects, 3 ms."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
_LARGE = 256 << 10
"""Bytes from which on a block is returned."""


def raise_file_limit() -> None:
    """As many open files as the system allows, also for an Envoy that `xds up` starts: without any, neither accepts connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_seldom() -> None:
    """Let garbage be collected seldom: what is there now stays, and is never looked at again."""
    gc.freeze()
    gc.set_threshold(*_GC)


def return_large_blocks() -> None:
    """Have freed bodies of large resources returned to the system at once, where the C library is glibc.

    By itself it raises its threshold for blocks of their own with the first large one that is freed. Later ones are then in between small
    ones that stay, and with 1,000 Ingresses memory swings by a tenth over a thousand changes.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            library.mallopt(option, _LARGE)


@contextlib.contextmanager
def first_build() -> Iterator[None]:
    """No garbage collection: a first build makes much, and drops nothing. What was made is never looked at again (decision 5).

    Not even once: among 10,000 Ingresses 800 objects of 1.4 million are garbage, and to find them would stop everything for 0.3 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        collect_seldom()


async def in_thread(work: Callable[..., _Result], *arguments: object) -> _Result:
    """The result of long work in a thread, while the event loop goes on. Raises what the work raises.

    What it makes is looked at by the garbage collector every `_PORTION` seconds. By itself the collector counts what is made, less what is
    freed. Where everything is replaced it counts next to nothing, and then looks at a hundred thousand new objects at once, for 20 to 80 ms
    in which nothing else runs.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        while not (await asyncio.wait((working,), timeout=_PORTION))[0]:
            if gc.isenabled():
                gc.collect(1)
    except asyncio.CancelledError:
        working.cancel()
        raise
    return await working
