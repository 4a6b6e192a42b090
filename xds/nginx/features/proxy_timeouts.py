"""proxy-read-timeout, proxy-send-timeout: how long an endpoint may be silent; proxy-next-upstream-timeout: and how long all of them.

The answer to one try has an idle timer of its own, which starts when the request is sent. The whole request has another one, for both
directions, that starts when the request comes in; so it must leave every try its time, or the first silent endpoint would be the last.
Where fewer endpoints may be silent than may be tried, it ends the request in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from envoy_data_plane.envoy.config.route.v3 import RetryPolicy
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, with_key
from xds.nginx.features import next_upstream
from xds.nginx.features.proxy_connect_timeout import PROXY_CONNECT_TIMEOUT
from xds.nginx.messages import action_of
from xds.nginx.values import LONGEST_SECONDS, seconds

_REASON = (
    "Envoy's timer for websockets, and for requests on their way, runs for both directions, and as long as all tries together may take"
)

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
NEXT_UPSTREAM_TIMEOUT = with_key(
    Annotation(
        "proxy-next-upstream-timeout",
        seconds,
        "Seconds after which no further endpoint is tried; 0 sets no limit.",
        "10",
        0,
        Fidelity.APPROXIMATE,
        "it ends tries at endpoints that are silent, not those after an error or a status; and a request whose body pauses for as long",
    )
)


_EARLIER = 0.02
"""Seconds by which the timer of the request must be ahead of that of the last try. Together they would let another try begin at times."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, 0 for none: how long one endpoint may be `silent`, and how long nothing may happen to a request at all (`idle`).

    Without the first, the second holds for the only endpoint that may be silent.
    """

    silent: int
    idle: float


def _read(notes: Notes) -> Timeouts:
    silent, unsent, limit = notes.get(PROXY_READ_TIMEOUT), notes.get(PROXY_SEND_TIMEOUT), notes.get(NEXT_UPSTREAM_TIMEOUT)
    if not silent or not unsent:
        if notes.own(NEXT_UPSTREAM_TIMEOUT):
            notes.complain(NEXT_UPSTREAM_TIMEOUT, f"is {limit}, beside a {_name_of_none(silent)} of 0, which sets no limit to any request")
        return Timeouts(silent, 0)
    tried = next_upstream.read(notes)
    in_a_row = next_upstream.silent_in_a_row(tried, limit, silent)
    if in_a_row < tried.tries and (limit or unsent <= silent):
        idle = min(in_a_row * silent, LONGEST_SECONDS)
        return Timeouts(silent, idle - _EARLIER) if in_a_row > 1 else Timeouts(0, idle)
    of_one = notes.get(PROXY_CONNECT_TIMEOUT) + max(silent, unsent)
    return Timeouts(silent, min(tried.tries * of_one, LONGEST_SECONDS))


def _name_of_none(silent: int) -> str:
    return (PROXY_SEND_TIMEOUT if silent else PROXY_READ_TIMEOUT).name


def _on_forward(setting: Timeouts, _route: Route, envoy: EnvoyRoute) -> None:
    """Envoy reads the time-out of one try from the route, and from nowhere else, wherever the rest of the policy stands."""
    action = action_of(envoy)
    action.idle_timeout = timedelta(seconds=setting.idle)
    if setting.silent:
        action.retry_policy = RetryPolicy(per_try_idle_timeout=timedelta(seconds=setting.silent))


FEATURE = Feature(read=_read, annotations=(PROXY_READ_TIMEOUT, PROXY_SEND_TIMEOUT, NEXT_UPSTREAM_TIMEOUT), on_forward=_on_forward)
