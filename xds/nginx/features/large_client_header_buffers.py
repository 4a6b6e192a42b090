"""large-client-header-buffers: how large the headers of a request may be. Envoy has one limit, for all of them and the URL together."""

from __future__ import annotations

from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from xds.model import Via
from xds.nginx.feature import Feature, Fidelity, Key, Notes
from xds.nginx.messages import HEADERS_KB, LARGEST_HEADERS_KB
from xds.nginx.values import shown, size, whole

_MOST_BUFFERS = 1024

_USUAL_HTTP2_HEADER_KB = 64


def _together(text: str) -> int:
    """nginx's number and size of buffers, "4 8k", as bytes."""
    words = text.split()
    if len(words) != 2:
        raise ValueError(f"is {shown(text)}, which is no number and size of buffers such as 4 16k")
    return whole(1, _MOST_BUFFERS)(words[0]) * size(words[1])


BUFFERS = Key(
    "large-client-header-buffers",
    _together,
    "How large URL and headers of a request may be together: number and size of buffers, of which the product counts. "
    f"{LARGEST_HEADERS_KB}k are the most.",
    "8 64k",
    4 * (8 << 10),
    fidelity=Fidelity.APPROXIMATE,
    reason="one header, or the URL, may be as large as all of them together; a change of it drains the connections of the listeners",
    tuning=True,
)


def _read(notes: Notes) -> int:
    """The limit in KiB."""
    return min(-(-notes.key(BUFFERS) // 1024), LARGEST_HEADERS_KB)


def _on_connection(limit: int, connection: HttpConnectionManager, _via: Via) -> None:
    """Envoy takes no listener on which one header may be larger than all of them; without a word of it, that is 64 KiB over HTTP/2."""
    connection.max_request_headers_kb = limit
    http2 = connection.http2_protocol_options
    assert http2 is not None
    http2.max_header_field_size_kb = min(limit, HEADERS_KB) if limit > _USUAL_HTTP2_HEADER_KB else None


FEATURE = Feature(read=_read, keys=(BUFFERS,), on_connection=_on_connection)
