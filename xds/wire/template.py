"""Templates of encoded messages: what thousands of messages share is encoded once, and each message only fills in its strings.

A message is rendered with a `placeholder` in place of each string that varies. Its encoding is cut into pieces at the fields that contain
one. Filling joins the pieces and writes the lengths again. A property test proves it equal to encoding the whole message (decision 21).
"""

from __future__ import annotations

from collections.abc import Sequence

import betterproto2

from xds.wire.encode import encode, varint

_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


class Nested:
    """A length-delimited field with a placeholder inside. `pieces` of its body are bytes, the number of a placeholder, or Nested."""

    __slots__ = ("pieces", "tag")

    def __init__(self, tag: bytes, pieces: Sequence[bytes | int | Nested]) -> None:
        self.tag = tag
        self.pieces = pieces

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The field with tag and length."""
        body = b"".join([p if type(p) is bytes else values[p] if type(p) is int else p.fill(values) for p in self.pieces])  # type: ignore[union-attr]
        return self.tag + varint(len(body)) + body


class Template:
    """A message whose placeholders are filled by `fill(first, second, …)`: the value of placeholder 0, of placeholder 1, and so on.

    Raises ValueError where a placeholder is not the whole of a string field.
    """

    __slots__ = ("_pieces",)

    def __init__(self, message: betterproto2.Message, placeholders: int) -> None:
        self._pieces = _cut(encode(message), {placeholder(n).encode(): n for n in range(placeholders)})

    def fill(self, *values: str) -> bytes:
        """The encoded message. No value may be "": protobuf omits an empty string, and a template would write it."""
        assert all(values)
        return _join(self._pieces, [value.encode() for value in values])


def placeholder(number: int) -> str:
    """The text of a placeholder. It begins with a control character, which no Kubernetes object can contain in these fields."""
    return f"\x01placeholder {number}\x01"


def _join(pieces: Sequence[bytes | int | Nested], values: Sequence[bytes]) -> bytes:
    return b"".join(
        [piece if type(piece) is bytes else values[piece] if type(piece) is int else piece.fill(values) for piece in pieces]  # type: ignore[union-attr]
    )


def _cut(body: bytes, numbers: dict[bytes, int]) -> list[bytes | int | Nested]:
    """The pieces of an encoded message. Consecutive bytes without a placeholder are one piece."""
    if body in numbers:
        return [numbers[body]]
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
        if any(text in inner for text in numbers):
            pieces += [body[done:begin], Nested(body[begin:tag_end], _cut(inner, numbers))]
            done = position
    if not pieces and body:
        raise ValueError("a placeholder must be the whole of a string")
    return [piece for piece in [*pieces, body[done:]] if piece != b""]


def _read_varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(body):
            raise ValueError("a placeholder must be the whole of a string")
        byte = body[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
