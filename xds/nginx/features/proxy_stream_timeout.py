"""proxy-stream-timeout and proxy-stream-responses: when an idle TCP connection or UDP session ends."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xds.model import Stream
from xds.nginx.feature import Feature, Fidelity, Key, Notes
from xds.nginx.values import duration, whole

_ANSWERED = 10
"""Seconds after which a UDP session ends that waits for a number of datagrams, which Envoy does not count.

Each session is an open file of Envoy. With ten minutes for each, the questions of a busy DNS server would take all of them.
"""

PROXY_STREAM_TIMEOUT = Key(
    "proxy-stream-timeout", duration, "How long a TCP connection or UDP session of the L4 services may be idle.", "1h", 600
)
RESPONSES = Key(
    "proxy-stream-responses",
    whole(0, 2**31 - 1),
    "The number of datagrams that answer one of a client, after which its UDP session ends; 0 for any number.",
    "0",
    1,
    Fidelity.APPROXIMATE,
    f"Envoy does not count datagrams: unless this is 0, a UDP session ends when it has been idle for {_ANSWERED} s",
)


@dataclass(frozen=True, slots=True)
class StreamTimeouts:
    """Seconds for which a TCP connection and a UDP session may be idle."""

    tcp: int
    udp: int


def _read(notes: Notes) -> StreamTimeouts:
    idle = notes.key(PROXY_STREAM_TIMEOUT)
    return StreamTimeouts(idle, min(idle, _ANSWERED) if notes.key(RESPONSES) else idle)


def _on_stream(setting: StreamTimeouts, entry: Stream) -> Stream:
    return replace(entry, idle=setting.udp if entry.protocol == "UDP" else setting.tcp)


FEATURE = Feature(read=_read, keys=(PROXY_STREAM_TIMEOUT, RESPONSES), on_stream=_on_stream)
