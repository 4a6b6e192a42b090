"""keep-alive, keep-alive-requests and their siblings: the connections of clients, and which headers they may send.

All of it is part of the listeners: a change drains the connections that clients have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import Http2ProtocolOptions, HttpProtocolOptions, HttpProtocolOptionsHeadersWithUnderscoresAction
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager

from xds.model import Via
from xds.nginx.feature import Feature, Key, Notes
from xds.nginx.values import LONGEST_SECONDS, boolean, seconds, whole

_DRAINS = "a change drains connections"
_MOST = 2**31 - 1

KEEP_ALIVE = Key(
    "keep-alive",
    seconds,
    f"Seconds that a client's connection may be idle; with 0 each ends after one request; {_DRAINS}.",
    "120",
    75,
    tuning=True,
)
KEEP_ALIVE_REQUESTS = Key(
    "keep-alive-requests",
    whole(0, _MOST),
    f"Requests on one connection of a client; 0 sets no limit; {_DRAINS}.",
    "10000",
    0,
    tuning=True,
)
HEADER_TIMEOUT = Key(
    "client-header-timeout",
    whole(1, LONGEST_SECONDS),
    f"Seconds that the header of a request may take; {_DRAINS}.",
    "120",
    60,
    tuning=True,
)
STREAMS = Key(
    "http2-max-concurrent-streams",
    whole(1, _MOST),
    f"Requests at a time on one HTTP/2 connection; {_DRAINS}.",
    "256",
    128,
    tuning=True,
)
UNDERSCORES = Key(
    "enable-underscores-in-headers",
    boolean,
    f"Whether clients may send headers with underscores in their names, which are left out otherwise; {_DRAINS}.",
    "true",
    default=False,
)
IGNORE_INVALID = Key(
    "ignore-invalid-headers",
    boolean,
    f"Whether headers are left out whose names are not of letters, digits and hyphens; if not, underscores pass as well; {_DRAINS}.",
    "false",
    default=True,
)
REQUEST_ID = Key(
    "generate-request-id",
    boolean,
    f"Whether a request without X-Request-ID gets one; {_DRAINS}.",
    "false",
    default=True,
)


@dataclass(frozen=True, slots=True)
class ClientConnections:
    """What the ConfigMap says of connections: seconds, and numbers of which 0 stands for no limit."""

    idle: int
    requests: int
    header_timeout: int
    streams: int
    underscores: bool
    any_name: bool
    request_id: bool


def _read(notes: Notes) -> ClientConnections:
    return ClientConnections(
        notes.key(KEEP_ALIVE),
        notes.key(KEEP_ALIVE_REQUESTS),
        notes.key(HEADER_TIMEOUT),
        notes.key(STREAMS),
        notes.key(UNDERSCORES),
        not notes.key(IGNORE_INVALID),
        notes.key(REQUEST_ID),
    )


def _on_connection(setting: ClientConnections, connection: HttpConnectionManager, _via: Via) -> None:
    common = replace(connection.common_http_protocol_options or HttpProtocolOptions())
    if setting.idle:
        common.idle_timeout = timedelta(seconds=setting.idle)
    requests = setting.requests if setting.idle else 1
    common.max_requests_per_connection = requests or None
    if setting.underscores or setting.any_name:
        common.headers_with_underscores_action = HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW
    connection.common_http_protocol_options = common
    http2 = connection.http2_protocol_options or Http2ProtocolOptions()
    connection.http2_protocol_options = replace(http2, max_concurrent_streams=setting.streams)
    connection.request_headers_timeout = timedelta(seconds=setting.header_timeout)
    if not setting.request_id:
        connection.generate_request_id = False


def _on_listener(setting: ClientConnections, listener: Listener) -> None:
    """nginx gives a handshake of TLS as much time as a header."""
    for chain in listener.filter_chains:
        if chain.transport_socket:
            chain.transport_socket_connect_timeout = timedelta(seconds=setting.header_timeout)


FEATURE = Feature(
    read=_read,
    keys=(KEEP_ALIVE, KEEP_ALIVE_REQUESTS, HEADER_TIMEOUT, STREAMS, UNDERSCORES, IGNORE_INVALID, REQUEST_ID),
    on_connection=_on_connection,
    on_listener=_on_listener,
    by_any_name=lambda setting: setting.any_name,
)
