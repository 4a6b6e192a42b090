"""Arbitrary messages of a class, drawn from its field table."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import betterproto2
from betterproto2 import FieldMetadata
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import CidrRange, HeaderValue, Metadata
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext, Secret
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.google import protobuf
from envoy_data_plane.google.api.expr.v1alpha1 import CheckedExpr
from envoy_data_plane.validate import FieldRules
from hypothesis import strategies as st

MessageClass = Any
"""A generated class: a Message, a dataclass, and betterproto2's table of its fields, which is not typed."""

CLASSES: tuple[type[betterproto2.Message], ...] = (
    Cluster,
    ClusterLoadAssignment,
    Listener,
    RouteConfiguration,
    VirtualHost,
    Route,
    HttpConnectionManager,
    HttpProtocolOptions,
    Lua,
    Secret,
    DownstreamTlsContext,
    Metadata,
    CheckedExpr,
    FieldRules,
    protobuf.Struct,
)
"""What the control plane sends; CheckedExpr for maps with numbers as keys, FieldRules for the types of numbers that Envoy does not use."""

PACKED_IN_ANY: tuple[MessageClass, ...] = (HeaderValue, CidrRange)
"""Without maps, for betterproto2 packs them in any order."""

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    betterproto2.TYPE_BOOL: st.booleans(),
    betterproto2.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_UINT32: st.integers(0, 2**32 - 1),
    betterproto2.TYPE_UINT64: st.integers(0, 2**64 - 1),
    betterproto2.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    betterproto2.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    betterproto2.TYPE_SFIXED32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False),  # see test_numbers_that_are_no_numbers_are_read
    betterproto2.TYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    betterproto2.TYPE_STRING: st.text(max_size=8),
    betterproto2.TYPE_BYTES: st.binary(max_size=8),
}
"""NaN is left to a test of its own, for a message with one does not equal itself everywhere."""

WRAPPED: dict[type[betterproto2.Message], st.SearchStrategy[Any]] = {
    protobuf.Duration: st.timedeltas(timedelta(0), timedelta(days=36525)),
    protobuf.Timestamp: st.datetimes(timezones=st.just(UTC)),
}
"""Durations that betterproto2 computes rightly; the others have tests of their own."""


@st.composite
def messages(draw: st.DrawFn, cls: MessageClass, depth: int = 4) -> betterproto2.Message:
    """A valid message of a class with up to six fields set, each message in it with as many, `depth` levels in all."""
    if cls is protobuf.Any:
        packed = draw(messages(draw(st.sampled_from(PACKED_IN_ANY)), depth - 1))
        return protobuf.Any.pack(packed)
    entries = [entry for entry in dataclasses.fields(cls) if depth > 1 or not _nests(FieldMetadata.get(entry))]
    if cls is protobuf.Value:
        chosen = [draw(st.sampled_from(entries))]
    else:
        chosen = draw(st.lists(st.sampled_from(entries), max_size=6, unique_by=_exclusive)) if entries else []
    message: betterproto2.Message = cls(**{entry.name: draw(_values(cls, entry.name, depth)) for entry in chosen})
    return message


def _nests(meta: FieldMetadata) -> bool:
    value = meta.map_meta[1] if meta.map_meta else meta
    return value.proto_type == betterproto2.TYPE_MESSAGE and value.unwrap is None


def _exclusive(entry: dataclasses.Field[Any]) -> str:
    """Two fields with the same answer are never set together."""
    return FieldMetadata.get(entry).group or entry.name


def _values(cls: MessageClass, name: str, depth: int) -> st.SearchStrategy[Any]:
    meta = cls._betterproto.meta_by_field_name[name]
    declared = cls._betterproto.cls_by_field
    if meta.map_meta:
        key, value = meta.map_meta
        return st.dictionaries(SCALARS[key.proto_type], _single(value, declared[f"{name}.value"], depth), max_size=3)
    one = _single(meta, declared[name], depth)
    return st.lists(one, max_size=3) if meta.repeated else one


def _single(meta: FieldMetadata, declared: Any, depth: int) -> st.SearchStrategy[Any]:
    if meta.proto_type == betterproto2.TYPE_ENUM:
        return st.sampled_from(list(declared))
    if meta.proto_type != betterproto2.TYPE_MESSAGE:
        return SCALARS[meta.proto_type]
    if meta.unwrap is None:
        return messages(declared, depth - 1)
    wrapper = meta.unwrap()
    if wrapper in WRAPPED:
        return WRAPPED[wrapper]
    (wrapped,) = dataclasses.fields(wrapper)
    return SCALARS[FieldMetadata.get(wrapped).proto_type]


SAMPLES: dict[str, Any] = {
    betterproto2.TYPE_BOOL: True,
    betterproto2.TYPE_STRING: "é",
    betterproto2.TYPE_BYTES: b"\x00\xff",
    betterproto2.TYPE_FLOAT: 0.5,
    betterproto2.TYPE_DOUBLE: 0.1,
    betterproto2.TYPE_UINT32: 2**32 - 1,
    betterproto2.TYPE_UINT64: 2**64 - 1,
    betterproto2.TYPE_FIXED32: 2**32 - 1,
    betterproto2.TYPE_FIXED64: 2**64 - 1,
}
"""Of the other numbers, the sample is -2."""


def sample(cls: MessageClass, name: str) -> Any:
    """A value for a field, the same each time; not the default."""
    meta = cls._betterproto.meta_by_field_name[name]
    declared = cls._betterproto.cls_by_field
    if meta.map_meta:
        key, value = meta.map_meta
        return {_single_sample(key, str): _single_sample(value, declared[f"{name}.value"])}
    one = _single_sample(meta, declared[name])
    return [one, one] if meta.repeated else one


def _single_sample(meta: FieldMetadata, declared: Any) -> Any:
    if meta.proto_type != betterproto2.TYPE_MESSAGE:
        return SAMPLES.get(meta.proto_type, -2)
    if meta.unwrap is None:
        return declared()
    wrapper = meta.unwrap()
    if wrapper is protobuf.Duration:
        return timedelta(minutes=3, microseconds=7)
    if wrapper is protobuf.Timestamp:
        return datetime(2026, 3, 31, 23, 59, 59, 7, tzinfo=UTC)
    (wrapped,) = dataclasses.fields(wrapper)
    return SAMPLES[FieldMetadata.get(wrapped).proto_type]
