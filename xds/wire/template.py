"""Bytes of a message with holes: what thousands of messages have in common is encoded once, and only the rest is filled in.

A message is rendered with a `hole` in the place of each string that differs; its encoding is cut apart along the fields that hold one.
Filling joins the pieces and writes the lengths anew. Proven equal to encoding the whole message by a property test (decision 21).
"""

from __future__ import annotations

from collections.abc import Sequence

import betterproto2

from xds.wire.encode import encode, varint

_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


class Nested:
    """A length-delimited field that has a hole somewhere inside: its tag, and its body in pieces (bytes, a hole's number, or Nested)."""

    __slots__ = ("pieces", "tag")

    def __init__(self, tag: bytes, pieces: Sequence[bytes | int | Nested]) -> None:
        self.tag = tag
        self.pieces = pieces

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The field with tag and length."""
        body = _join(self.pieces, values)
        return self.tag + varint(len(body)) + body


class Template:
    """A message whose holes are filled with `fill(first, second, …)`: the value of hole 0, of hole 1, and so on.

    Raises ValueError where a hole is not the whole of a string field.
    """

    __slots__ = ("_pieces",)

    def __init__(self, message: betterproto2.Message, holes: int) -> None:
        self._pieces = _cut(encode(message), {hole(n).encode(): n for n in range(holes)})

    def fill(self, *values: str) -> bytes:
        """The encoded message. No value may be "": an empty string is not written, and a template would."""
        assert all(values)
        return _join(self._pieces, [value.encode() for value in values])


def hole(number: int) -> str:
    """The text that keeps a place; no user's text contains it, for it begins with a control character that no object may hold."""
    return f"\x01hole {number}\x01"


def _join(pieces: Sequence[bytes | int | Nested], values: Sequence[bytes]) -> bytes:
    return b"".join(
        [piece if type(piece) is bytes else values[piece] if type(piece) is int else piece.fill(values) for piece in pieces]  # type: ignore[union-attr]
    )


def _cut(body: bytes, holes: dict[bytes, int]) -> list[bytes | int | Nested]:
    """The pieces of an encoded message: what has no hole stays together."""
    if body in holes:
        return [holes[body]]
    pieces: list[bytes | int | Nested] = []
    done = position = 0
    while position < len(body):
        begin = position
        key, position = _read_varint(body, position)
        if key & 7 != _DELIMITED:
            position = position + _FIXED[key & 7] if key & 7 in _FIXED else _read_varint(body, position)[1]
            continue
        tag_end = position
        length, position = _read_varint(body, position)
        inner, position = body[position : position + length], position + length
        if any(text in inner for text in holes):
            pieces += [body[done:begin], Nested(body[begin:tag_end], _cut(inner, holes))]
            done = position
    if not pieces and body:
        raise ValueError("a hole must be the whole of a string")
    return [piece for piece in [*pieces, body[done:]] if piece != b""]


def _read_varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(body):
            raise ValueError("a hole must be the whole of a string")
        byte = body[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
