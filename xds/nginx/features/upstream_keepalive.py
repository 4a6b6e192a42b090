"""upstream-keepalive-*: how long connections to backends are used. A change makes all clusters, and their connections, anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.nginx.feature import Feature, Key, Notes
from xds.nginx.values import LONGEST_SECONDS, duration, whole

TIMEOUT = Key(
    "upstream-keepalive-timeout",
    whole(1, LONGEST_SECONDS),
    "Seconds that a connection to a backend may be idle.",
    "30",
    60,
    tuning=True,
)
REQUESTS = Key(
    "upstream-keepalive-requests",
    whole(0, 2**31 - 1),
    "Requests on one connection to a backend; 0 sets no limit.",
    "1000",
    0,
    tuning=True,
)
TIME = Key(
    "upstream-keepalive-time",
    duration,
    "How long a connection to a backend is used; without the key there is no limit.",
    "1h",
    0,
    tuning=True,
)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Seconds idle, and requests and seconds in all, of which 0 stands for no limit."""

    idle: int
    requests: int
    time: int


def _read(notes: Notes) -> Keepalive:
    return Keepalive(notes.key(TIMEOUT), notes.key(REQUESTS), notes.key(TIME))


def _on_upstream(setting: Keepalive, options: HttpProtocolOptions) -> None:
    common = replace(options.common_http_protocol_options or CommonOptions(), idle_timeout=timedelta(seconds=setting.idle))
    if setting.requests:
        common.max_requests_per_connection = setting.requests
    if setting.time:
        common.max_connection_duration = timedelta(seconds=setting.time)
    options.common_http_protocol_options = common


FEATURE = Feature(read=_read, keys=(TIMEOUT, REQUESTS, TIME), on_upstream=_on_upstream)
