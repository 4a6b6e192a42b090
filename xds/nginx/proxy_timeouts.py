"""proxy-read-timeout, proxy-send-timeout: how long a backend may be silent.

Envoy's stream has one idle timer for both directions. What belongs to one try, and with it the answer 504 and the next try, is
`xds.nginx.next_upstream`'s, which reads the same annotation.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.model import Route
from xds.nginx._feature import Annotation, Feature, Fidelity, Notes, with_key
from xds.nginx._messages import action_of
from xds.nginx._values import seconds

_REASON = "Envoy has one idle timer for both directions, which runs for the longer of the read and the send time-out"
PROXY_READ_TIMEOUT = with_key(
    Annotation(
        "proxy-read-timeout",
        seconds,
        "Seconds that may pass between two pieces of a response; 0 sets no limit.",
        "3600",
        60,
        Fidelity.APPROXIMATE,
        _REASON,
    )
)
PROXY_SEND_TIMEOUT = with_key(
    Annotation(
        "proxy-send-timeout",
        seconds,
        "Seconds that may pass between two pieces of a request on its way to the backend; 0 sets no limit.",
        "3600",
        60,
        Fidelity.APPROXIMATE,
        _REASON,
    )
)


def _read(notes: Notes) -> int:
    """Seconds without traffic in either direction after which the stream ends; 0: never."""
    both = notes.get(PROXY_READ_TIMEOUT), notes.get(PROXY_SEND_TIMEOUT)
    return max(both) if all(both) else 0


def _on_route(idle: int, _route: Route, envoy: EnvoyRoute) -> None:
    action_of(envoy).idle_timeout = timedelta(seconds=idle)


FEATURE = Feature(read=_read, annotations=(PROXY_READ_TIMEOUT, PROXY_SEND_TIMEOUT), on_route=_on_route)
