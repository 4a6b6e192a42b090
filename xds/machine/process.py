"""What this process asks of the system and of the interpreter, because it has a thousand streams and values that stay."""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterator

_GC = (50_000, 20, 20)
"""A thousand streams are more than Python's defaults expect: they have the collector look at all of them every few changes, for 50 ms."""


def raise_file_limit() -> None:
    """As many open files as the system allows, also for an Envoy that `xds up` starts: without any, neither accepts connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_seldom() -> None:
    """Let garbage be collected seldom: what is there now stays, and is never looked at again."""
    gc.freeze()
    gc.set_threshold(*_GC)


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
