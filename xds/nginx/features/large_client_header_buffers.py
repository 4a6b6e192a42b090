"""large-client-header-buffers: how large the headers of a request may be. Envoy has a limit for all of them, of 256 KiB at least."""

from __future__ import annotations

from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from xds.model import Via
from xds.nginx.feature import Feature, Key, Notes
from xds.nginx.messages import HEADERS_KB, LARGEST_HEADERS_KB
from xds.nginx.values import shown, size, whole

_MOST_BUFFERS = 1024


def _together(text: str) -> int:
    """nginx's number and size of buffers, "4 8k", as bytes."""
    words = text.split()
    if len(words) != 2:
        raise ValueError(f"is {shown(text)}, which is no number and size of buffers such as 4 16k")
    return whole(1, _MOST_BUFFERS)(words[0]) * size(words[1])


BUFFERS = Key(
    "large-client-header-buffers",
    _together,
    f"How large the headers of a request may be: number and size of buffers. {HEADERS_KB}k together always pass, "
    f"{LARGEST_HEADERS_KB}k are the most, and {HEADERS_KB}k for one header over HTTP/2.",
    "8 64k",
    4 * (8 << 10),
)


def _read(notes: Notes) -> int:
    """The limit in KiB."""
    return min(max(-(-notes.key(BUFFERS) // 1024), HEADERS_KB), LARGEST_HEADERS_KB)


def _on_connection(limit: int, connection: HttpConnectionManager, _via: Via) -> None:
    connection.max_request_headers_kb = limit


FEATURE = Feature(read=_read, keys=(BUFFERS,), on_connection=_on_connection)
