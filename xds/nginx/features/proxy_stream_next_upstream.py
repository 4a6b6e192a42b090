"""proxy-stream-next-upstream and its tries: how many endpoints a TCP connection of the L4 services is tried at."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Stream
from xds.nginx.feature import Feature, Key, Notes
from xds.nginx.values import boolean, whole

_MOST = 32
"""Tries where the ConfigMap sets no limit, and the most that it can set."""

NEXT_UPSTREAM = Key(
    "proxy-stream-next-upstream",
    boolean,
    "Whether a TCP connection of the L4 services that fails at one endpoint is tried at the next one.",
    "false",
    default=True,
    tuning=True,
)
TRIES = Key(
    "proxy-stream-next-upstream-tries",
    whole(0, 2**31 - 1),
    f"How many endpoints a TCP connection of the L4 services is tried at; {_MOST} are the most, and what 0 stands for.",
    "5",
    3,
    tuning=True,
)


def _read(notes: Notes) -> int | None:
    """The number of tries, if it is not the default one."""
    tries = min(notes.key(TRIES) or _MOST, _MOST) if notes.key(NEXT_UPSTREAM) else 1
    return tries if tries != TRIES.default else None


def _on_stream(tries: int, entry: Stream) -> Stream:
    return replace(entry, tries=tries)


FEATURE = Feature(read=_read, keys=(NEXT_UPSTREAM, TRIES), on_stream=_on_stream)
