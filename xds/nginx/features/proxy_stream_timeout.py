"""proxy-stream-timeout: when an idle TCP connection or UDP session ends. `xds.translate` acts on it."""

from __future__ import annotations

from xds.nginx.feature import Feature, Key
from xds.nginx.values import duration

PROXY_STREAM_TIMEOUT = Key(
    "proxy-stream-timeout", duration, "How long a TCP connection or UDP session of the L4 services may be idle.", "1h", 600
)
FEATURE = Feature(read=lambda notes: notes.key(PROXY_STREAM_TIMEOUT), keys=(PROXY_STREAM_TIMEOUT,))
