"""proxy-stream-timeout: when an idle TCP connection or UDP session ends."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Stream
from xds.nginx.feature import Feature, Key
from xds.nginx.values import duration

PROXY_STREAM_TIMEOUT = Key(
    "proxy-stream-timeout", duration, "How long a TCP connection or UDP session of the L4 services may be idle.", "1h", 600
)


def _on_stream(seconds: int, entry: Stream) -> Stream:
    return replace(entry, idle=seconds)


FEATURE = Feature(read=lambda notes: notes.key(PROXY_STREAM_TIMEOUT), keys=(PROXY_STREAM_TIMEOUT,), on_stream=_on_stream)
