"""Messages as bytes: an encoder for each message class, compiled once from the class's own field table.

What belongs here: the protobuf encoding of the dataclasses of envoy-data-plane, by the metadata that betterproto2 keeps of every field. No
message class is known by name, but for the well-known types that dataclasses hold as Python values. What does not: which messages there are
(`xds.render`), and decoding.

The bytes equal those of `bytes(message)`. They are stable where those are not: the entries of a map are written in the order of their keys.
Two encodings differ, because every other decoder reads betterproto2's as another value: negative durations, and durations of centuries,
which it computes in floats.

A compiled encoder is a list of (attribute, has presence, writer) that is walked for each message. A writer encodes one present value with
its tag. Generated straight-line source for each class would save 2 µs of a Cluster and nothing elsewhere, and would take ten times as long
to compile.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import betterproto2
from betterproto2 import FieldMetadata
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Duration, Timestamp
from envoy_data_plane.message_pool import default_message_pool

Encoder = Callable[[Any], bytes]
"""Encodes a value. The function that returns it documents whether tag and length are included."""

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_SHORT = tuple(bytes((n,)) for n in range(128))
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(message: betterproto2.Message) -> bytes:
    """The protobuf encoding of a message. It does not depend on the order in which its maps were filled.

    Unset fields are not written. A field without presence is unset if it is "", 0, -0.0, false or empty, as in betterproto2. Unknown fields
    from parsing come last. Raises ValueError for a number out of the range of its field (betterproto2 does not check wrapped ones), and for
    a datetime without a time zone.
    """
    return _encoder(type(message))(message)


def pack(message: betterproto2.Message) -> AnyMessage:
    """The message in a google.protobuf.Any, as `typed_config` and the resources of a response want it."""
    return AnyMessage(type_url=type_url(type(message)), value=encode(message))


def type_url(cls: type[betterproto2.Message]) -> str:
    """`type.googleapis.com/<full name>` of a message class. Raises KeyError for one that is not in envoy-data-plane's message pool."""
    return default_message_pool.type_to_url[cls]


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field (message, string, bytes) whose body is already encoded: for messages that are joined from parts."""
    return varint(number << 3 | _DELIMITED) + varint(len(body)) + body


def varint(n: int) -> bytes:
    """An integer as a varint; a negative one as its 64-bit two's complement, ten bytes. Raises ValueError where 64 bits do not hold it."""
    if 0 <= n < 128:
        return _SHORT[n]
    if 0 <= n < 1 << 14:
        return bytes((n & 127 | 128, n >> 7))
    if not -(2**63) <= n < 2**64:
        raise ValueError(f"{n} does not fit 64 bits")
    n %= 2**64
    groups = bytearray()
    while n > 127:
        groups.append(n & 127 | 128)
        n >>= 7
    groups.append(n)
    return bytes(groups)


@cache
def _encoder(cls: type) -> Encoder:
    """The encoder of a class. It finds those of the messages within when it meets them: classes may contain themselves."""
    fields = tuple((entry.name, _has_presence(entry), _writer(FieldMetadata.get(entry))) for entry in dataclasses.fields(cls))

    def body(message: Any) -> bytes:
        values = message.__dict__
        parts = [write(value) for name, present, write in fields if (value := values[name]) is not None and (present or value)]
        unknown: bytes = values["_unknown_fields"]
        return b"".join(parts) + unknown

    return body


def _has_presence(entry: dataclasses.Field[Any]) -> bool:
    """Whether a field is None until it is set (optional, in a oneof, or a message). Then "", 0 and false are written like other values.

    The table decides, because `bool(message)` is slow: betterproto2 compares each field with its default.
    """
    return entry.default_factory is not dataclasses.MISSING and entry.default_factory() is None


def _writer(meta: FieldMetadata) -> Encoder:
    """From the value of a field that is set to all its bytes, tag included."""
    if meta.map_meta is not None:
        return _map_writer(meta.number, *meta.map_meta)
    if not meta.repeated:
        return _single_writer(meta)
    if meta.proto_type in betterproto2.PACKED_TYPES:
        _, payload = _SCALARS[meta.proto_type]
        return _delimited_writer(meta.number, lambda values: b"".join([payload(value) for value in values]))
    write = _single_writer(meta)
    return lambda values: b"".join([write(value) for value in values])


def _map_writer(number: int, key: FieldMetadata, value: FieldMetadata) -> Encoder:
    """Entries in the order of their keys; both halves of an entry are always written."""
    write_key, write_value = _single_writer(key), _single_writer(value)
    write_entry = _delimited_writer(number, lambda entry: write_key(entry[0]) + write_value(entry[1]))
    return lambda entries: b"".join([write_entry(entry) for entry in sorted(entries.items())])


def _single_writer(meta: FieldMetadata) -> Encoder:
    """From one value to tag and bytes."""
    if meta.proto_type == betterproto2.TYPE_MESSAGE:
        return _delimited_writer(meta.number, encode if meta.unwrap is None else _wrapped_body(meta.unwrap()))
    wire_type, payload = _SCALARS[meta.proto_type]
    if wire_type == _DELIMITED:
        return _delimited_writer(meta.number, payload)
    tag = varint(meta.number << 3 | wire_type)
    return lambda value: tag + payload(value)


def _delimited_writer(number: int, payload: Encoder) -> Encoder:
    tag = varint(number << 3 | _DELIMITED)

    def write(value: Any) -> bytes:
        body = payload(value)
        size = len(body)
        return tag + (_SHORT[size] if size < 128 else varint(size)) + body

    return write


def _wrapped_body(wrapper: type) -> Encoder:
    """The body of a well-known message that dataclasses hold as a Python value: a timedelta, a datetime, or what a `…Value` wraps."""
    if wrapper is Duration:
        return _duration
    if wrapper is Timestamp:
        return _timestamp
    (wrapped,) = dataclasses.fields(wrapper)
    write = _single_writer(FieldMetadata.get(wrapped))
    return lambda value: write(value) if value else b""


def _duration(value: timedelta) -> bytes:
    """google.protobuf.Duration: seconds and nanoseconds have the same sign."""
    seconds, microseconds = divmod(abs(value) // _MICROSECOND, 1_000_000)
    return _seconds_and_nanos(-seconds, -microseconds) if value.days < 0 else _seconds_and_nanos(seconds, microseconds)


def _timestamp(value: datetime) -> bytes:
    """google.protobuf.Timestamp: nanoseconds count forward, before 1970 too."""
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return _seconds_and_nanos(*divmod((value - _EPOCH) // _MICROSECOND, 1_000_000))


def _seconds_and_nanos(seconds: int, microseconds: int) -> bytes:
    """The body that Duration and Timestamp have in common: `int64 seconds = 1; int32 nanos = 2`."""
    return (b"\x08" + varint(seconds) if seconds else b"") + (b"\x10" + varint(microseconds * 1000) if microseconds else b"")


def _integer(kind: str, bits: int, *, signed: bool, zigzag: bool = False) -> Encoder:
    """The encoder of an integer type as a varint."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)

    def payload(n: int) -> bytes:
        if not low <= n < high:
            raise ValueError(f"{n} does not fit {kind}")
        return varint((n << 1) ^ (n >> 63) if zigzag else n)

    return payload


_SCALARS: dict[str, tuple[int, Encoder]] = {
    betterproto2.TYPE_STRING: (_DELIMITED, str.encode),
    betterproto2.TYPE_BYTES: (_DELIMITED, bytes),
    betterproto2.TYPE_BOOL: (_VARINT, varint),
    betterproto2.TYPE_ENUM: (_VARINT, _integer("an enum", 32, signed=True)),
    betterproto2.TYPE_INT32: (_VARINT, _integer("int32", 32, signed=True)),
    betterproto2.TYPE_INT64: (_VARINT, _integer("int64", 64, signed=True)),
    betterproto2.TYPE_UINT32: (_VARINT, _integer("uint32", 32, signed=False)),
    betterproto2.TYPE_UINT64: (_VARINT, _integer("uint64", 64, signed=False)),
    betterproto2.TYPE_SINT32: (_VARINT, _integer("sint32", 32, signed=True, zigzag=True)),
    betterproto2.TYPE_SINT64: (_VARINT, _integer("sint64", 64, signed=True, zigzag=True)),
    betterproto2.TYPE_FIXED32: (_FIXED32, struct.Struct("<I").pack),
    betterproto2.TYPE_FIXED64: (_FIXED64, struct.Struct("<Q").pack),
    betterproto2.TYPE_SFIXED32: (_FIXED32, struct.Struct("<i").pack),
    betterproto2.TYPE_SFIXED64: (_FIXED64, struct.Struct("<q").pack),
    betterproto2.TYPE_FLOAT: (_FIXED32, struct.Struct("<f").pack),
    betterproto2.TYPE_DOUBLE: (_FIXED64, struct.Struct("<d").pack),
}
"""Wire type and encoder of each type but messages and maps."""
