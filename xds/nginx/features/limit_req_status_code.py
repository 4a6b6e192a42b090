"""The filter of the listeners that counts requests by client, and limit-req-status-code, with which it refuses them.

It is there from the first day, with buckets of all shapes, and costs nothing where no route switches it on (`limits`). A client's buckets
last while the route table changes; they are those of one Envoy, as ingress-nginx' are those of one replica.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import RateLimit, RateLimitAction, RateLimitActionMetaData, RateLimitHitsAddend
from envoy_data_plane.envoy.config.route.v3 import RateLimitActionMetaDataSource as Source
from envoy_data_plane.envoy.config.route.v3 import RateLimitActionRemoteAddress as RemoteAddress
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import LocalRateLimitDescriptor, RateLimitDescriptorEntry
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import FractionalPercent, HttpStatus, StatusCode, TokenBucket

from xds.model import Via
from xds.nginx.buckets import UNITS, WHO, RateUnit, shapes
from xds.nginx.feature import Feature, Fidelity, FilterPlace, Key, Notes
from xds.nginx.features.limits import COST, COUNTER, SHAPE, in_route
from xds.nginx.messages import put_behind
from xds.nginx.values import shown, whole
from xds.wire.encode import pack

MOST_CLIENTS = 20_000
"""Buckets of one shape in one Envoy, at half a kilobyte each; the one that was used least recently goes first, and is full when it comes
back. ingress-nginx forgets clients as well, beyond 5 MB for each Ingress."""
_LARGEST = 2**32 - 1
_INGRESS = "ingress"
_KNOWN = frozenset(int(known) for known in StatusCode)


def _status(text: str) -> int:
    """A status that Envoy's filter can answer with."""
    code = whole(400, 599)(text)
    if code not in _KNOWN:
        raise ValueError(f"is {shown(text)}, a status that Envoy does not know")
    return code


LIMIT_REQ_STATUS_CODE = Key(
    "limit-req-status-code",
    _status,
    "The status for requests over limit-rps or limit-rpm.",
    "429",
    503,
    Fidelity.APPROXIMATE,
    "a change of it changes the listeners, which drains their connections",
)


def _read(notes: Notes) -> int:
    return notes.key(LIMIT_REQ_STATUS_CODE)


def _on_connection(status: int, connection: HttpConnectionManager, _via: Via) -> None:
    """Behind the place where a route says for whom its limits are."""
    always = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
    unlimited = TokenBucket(max_tokens=_LARGEST, tokens_per_fill=_LARGEST, fill_interval=datetime.timedelta(seconds=1))
    config = LocalRateLimit(
        stat_prefix=COUNTER,
        status=HttpStatus(code=StatusCode(status)),
        token_bucket=unlimited,
        filter_enabled=always,
        filter_enforced=always,
        descriptors=[made for unit in UNITS for made in _buckets(unit)],
        rate_limits=[_counted(unit) for unit in UNITS],
        max_dynamic_descriptors=MOST_CLIENTS,
        always_consume_default_token_bucket=False,
    )
    put_behind(connection, FilterPlace.LIMIT.value, HttpFilter(name=COUNTER, typed_config=pack(config), disabled=True))


def _buckets(unit: RateUnit) -> Iterator[LocalRateLimitDescriptor]:
    """One bucket of each shape for every location and client."""
    for shape, tokens in shapes(unit).items():
        parts = ((unit.name, shape), (_INGRESS, ""), ("remote_address", ""))
        bucket = TokenBucket(max_tokens=tokens, tokens_per_fill=unit.speed, fill_interval=datetime.timedelta(seconds=1))
        entries = [RateLimitDescriptorEntry(key=key, value=value) for key, value in parts]
        yield LocalRateLimitDescriptor(entries=entries, token_bucket=bucket)


def _counted(unit: RateUnit) -> RateLimit:
    """The bucket of a request, and what it takes out; nothing where its route has no such limit, or it is not for the client."""
    shape = _metadata(unit.name, Source.ROUTE_ENTRY, in_route(unit.name), SHAPE)
    location = _metadata(_INGRESS, Source.DYNAMIC, *WHO)
    actions = [shape, location, RateLimitAction(remote_address=RemoteAddress())]
    return RateLimit(actions=actions, hits_addend=RateLimitHitsAddend(format=f"%METADATA(ROUTE:{in_route(unit.name)}:{COST})%"))


def _metadata(entry: str, source: Source, namespace: str, name: str) -> RateLimitAction:
    key = MetadataKey(key=namespace, path=[MetadataKeyPathSegment(key=name)])
    return RateLimitAction(metadata=RateLimitActionMetaData(descriptor_key=entry, metadata_key=key, source=source, skip_if_absent=True))


FEATURE = Feature(read=_read, keys=(LIMIT_REQ_STATUS_CODE,), on_connection=_on_connection)
