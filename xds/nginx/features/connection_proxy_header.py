"""connection-proxy-header: the Connection header that the backend gets."""

from __future__ import annotations

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Unreadable
from xds.nginx.features import backend_protocol
from xds.nginx.features.backend_protocol import Protocol
from xds.nginx.messages import formatted
from xds.nginx.values import matching

_HTTP2 = (Protocol.GRPC, Protocol.GRPCS)
CONNECTION_PROXY_HEADER = Annotation(
    "connection-proxy-header",
    matching("close|keep-alive", "close or keep-alive"),
    "The Connection header that the backend gets: `close` or `keep-alive`. A connection is closed after a request with `close`.",
    "keep-alive",
    "",
    unreadable=Unreadable.LEAVES_OUT,
)


def _on_forward(value: str, route: Route, envoy: EnvoyRoute) -> None:
    """HTTP/2 has no such header (RFC 9113, 8.2.2): a gRPC backend would refuse the request.

    A websocket's request, the only one whose header is still there, keeps it: without, the backend would wait for a body that never ends.
    """
    if route.settings.get(backend_protocol.NAME) in _HTTP2:
        return
    where_absent = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT
    envoy.request_headers_to_add.append(replace(formatted("Connection", value), append_action=where_absent))


FEATURE = Feature(
    read=lambda notes: notes.get(CONNECTION_PROXY_HEADER) or None, annotations=(CONNECTION_PROXY_HEADER,), on_forward=_on_forward
)
