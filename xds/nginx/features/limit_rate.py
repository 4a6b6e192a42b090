"""limit-rate: how fast one response is sent. As in nginx, only where proxy-buffering is on.

Envoy's fault filter has a limit for each response. Its filter for bandwidth has one for all responses of a route together.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.common.fault.v3 import FaultRateLimit, FaultRateLimitFixedLimit
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import HttpFault
from envoy_data_plane.envoy.type.v3 import FractionalPercent

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Fidelity, FilterPlace, Notes, with_key
from xds.nginx.messages import CACHED
from xds.nginx.values import shown, whole
from xds.wire.encode import pack

NAME = "limit-rate"
_LARGEST = 2**31


def _kilobytes(text: str) -> int:
    """A number of KiB; 0 and less set no limit, as in ingress-nginx, and a very large one is none that anybody could notice."""
    return min(_LARGEST, max(0, whole(-(10**18), 10**18)(text)))


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f"is {shown(text)}, which is neither on nor off")
    return text == "on"


LIMIT_RATE = with_key(
    Annotation(
        NAME,
        _kilobytes,
        "Kilobytes a second of one response, where proxy-buffering is on.",
        "100",
        0,
    )
)
LIMIT_RATE_AFTER = with_key(
    Annotation(
        "limit-rate-after",
        _kilobytes,
        "Kilobytes of a response before limit-rate holds.",
        "1000",
        0,
        Fidelity.APPROXIMATE,
        "limit-rate holds from the beginning of a response",
        beside=NAME,
    )
)
PROXY_BUFFERING = with_key(
    Annotation(
        "proxy-buffering",
        _switch,
        "Whether responses are buffered. Only where it is on does limit-rate hold.",
        "on",
        default=False,
        fidelity=Fidelity.APPROXIMATE,
        reason="it decides whether limit-rate holds; Envoy streams and buffers by itself, within fixed limits",
    )
)


def _read(notes: Notes) -> int | None:
    """Kilobytes a second. Every annotation is read in any case, so that a bad value is seen."""
    notes.get(LIMIT_RATE_AFTER)
    rate, buffered = notes.get(LIMIT_RATE), notes.get(PROXY_BUFFERING)
    return rate if rate and buffered else None


def _filters(rate: int, _route: Route) -> Iterable[TypedExtensionConfig]:
    return (_limited(rate),)


@lru_cache(maxsize=CACHED)
def _limited(rate: int) -> TypedExtensionConfig:
    limit = FaultRateLimit(fixed_limit=FaultRateLimitFixedLimit(limit_kbps=rate), percentage=FractionalPercent(numerator=100))
    return TypedExtensionConfig(name=NAME, typed_config=pack(HttpFault(response_rate_limit=limit, disable_downstream_cluster_stats=True)))


FEATURE = Feature(
    read=_read,
    annotations=(LIMIT_RATE, LIMIT_RATE_AFTER, PROXY_BUFFERING),
    filters=_filters,
    place=FilterPlace.PACE,
)
