"""proxy-buffer-size: how large the headers of a response may be. Envoy has no buffer of that size; it has a limit, of 256 KiB at least."""

from __future__ import annotations

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.nginx.feature import Annotation, Feature, Notes, with_key
from xds.nginx.messages import HEADERS_KB, LARGEST_HEADERS_KB
from xds.nginx.values import size

PROXY_BUFFER_SIZE = with_key(
    Annotation(
        "proxy-buffer-size",
        size,
        f"How large the headers of a response may be, together. {HEADERS_KB}k always pass, {LARGEST_HEADERS_KB}k are the most, "
        f"and {HEADERS_KB}k for one header over HTTP/2.",
        "512k",
        4 << 10,
    )
)


def _read(notes: Notes) -> int:
    """The limit in KiB. Values that ask for no more than everybody has are alike, so that they make no cluster of their own."""
    return min(max(-(-notes.get(PROXY_BUFFER_SIZE) // 1024), HEADERS_KB), LARGEST_HEADERS_KB)


def _on_upstream(limit: int, options: HttpProtocolOptions) -> None:
    """The options are backend_protocol's, which is asked before: features of a phase come in the order of their names."""
    options.common_http_protocol_options = replace(options.common_http_protocol_options or CommonOptions(), max_response_headers_kb=limit)


def _cluster_key(limit: int) -> str:
    return f"{limit}k"


FEATURE = Feature(read=_read, annotations=(PROXY_BUFFER_SIZE,), cluster=True, cluster_key=_cluster_key, on_upstream=_on_upstream)
