"""proxy-body-size: how large the body of a request may be."""

from __future__ import annotations

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, FilterPlace, Phase, Risk, with_key
from xds.nginx.messages import CACHED, BodySizeLimit
from xds.nginx.values import size
from xds.wire.encode import pack

PROXY_BODY_SIZE = with_key(
    Annotation(
        "proxy-body-size",
        size,
        "The largest body of a request in bytes (k, m and g count in 1024s). A larger one gets 413; 0 sets no limit.",
        "8m",
        1 << 20,
        risk=Risk.MEDIUM,
    )
)


@lru_cache(maxsize=CACHED)
def _limit(size: int) -> tuple[TypedExtensionConfig, ...]:
    return (TypedExtensionConfig(name="envoy.filters.http.body_size_limit", typed_config=pack(BodySizeLimit(max_request_bytes=size))),)


def _filters(size: int, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    return _limit(size) if size else ()


FEATURE = Feature(
    read=lambda notes: notes.get(PROXY_BODY_SIZE),
    annotations=(PROXY_BODY_SIZE,),
    phase=Phase.BODY,
    filters=_filters,
    place=FilterPlace.BODY,
)
