"""Password files, as the control plane sends them to the authorisation service beside each Envoy: what is in one, and its bytes.

nginx reads lines `user:hash`, of which the first of a user counts. What belongs here: these lines, which hashes can be verified at which
price, and the message. What does not: Secrets (`xds.translate.passwords`), and passwords (`xds.authz`). The service imports this module, so
it needs nothing but the standard library.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

TYPE = "type.googleapis.com/xds.authz.v1.PasswordFile"
"""The type url of the message: `message PasswordFile { repeated User users = 1; }`,
`message User { bytes name = 1; bytes hash = 2; bytes blind = 3; }`.

Only the first user has `blind`, which stands for nothing: with it, a hash of the message does not show whether somebody's guess is right.
"""
AUTHZ_NODE = "/authz"
"""What follows the node.id of an Envoy in that of the authorisation service beside it."""
LARGEST = 2**20
"""Bytes of a password file: a Secret has no more."""
MOST_USERS = 20_000
"""Users of a password file."""
HIGHEST_COST = 14
"""The cost of bcrypt that is verified: about a second. Each step takes twice as long, and a verification cannot be interrupted."""
MOST_ROUNDS = 1_000_000
"""The rounds of SHA-crypt that are verified: about half a second."""

_AFTER_HASH = re.compile(rb"[:\r\x00]")
_BCRYPT = re.compile(rb"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_SHA_CRYPT = re.compile(
    rb"\$(?:5\$(?:rounds=(\d{1,12})\$)?[^$\s:]{0,16}\$[./A-Za-z0-9]{43}|6\$(?:rounds=(\d{1,12})\$)?[^$\s:]{0,16}\$[./A-Za-z0-9]{86})"
)
_MD5_CRYPT = re.compile(rb"\$(?:1|apr1)\$[^$\s:]{0,8}\$[./A-Za-z0-9]{22}")
_DES = re.compile(rb"[./A-Za-z0-9]{13}")
_LENGTH_OF_SHA = 20


class User(NamedTuple):
    """A line of a password file that counts: its number from 1, the user, and the hash."""

    line: int
    name: bytes
    hash: bytes

    def __repr__(self) -> str:
        return f"User(line {self.line})"


def users(text: bytes) -> Iterator[User]:
    """The users of a file as nginx reads it: up to the first colon the user, from there to the next colon or the end of the line the hash.

    A line that begins with `#` is a comment. Of two lines for one user the first counts.
    """
    seen: set[bytes] = set()
    for number, line in enumerate(text.split(b"\n"), 1):
        name, colon, rest = line.partition(b":")
        if colon and name and not name.startswith((b"#", b"\r")) and name not in seen:
            seen.add(name)
            yield User(number, name, _AFTER_HASH.split(rest, maxsplit=1)[0])


def fault(hashed: bytes) -> str:
    """Why nobody can log in with a hash, as the end of a sentence ("has …"); "" where somebody can."""
    if hashed.startswith(b"{PLAIN}") or _MD5_CRYPT.fullmatch(hashed) or _DES.fullmatch(hashed):
        return ""
    if hashed.startswith((b"{SHA}", b"{SSHA}")):
        return "" if _is_sha(hashed) else "has a hash that is no base64 of a SHA-1"
    if found := _BCRYPT.fullmatch(hashed):
        cost = int(found[1])
        return "" if 4 <= cost <= HIGHEST_COST else f"has a bcrypt hash of cost {cost}, which is not between 4 and {HIGHEST_COST}"
    if found := _SHA_CRYPT.fullmatch(hashed):
        rounds = int(found[1] or found[2] or 5_000)
        return "" if rounds <= MOST_ROUNDS else f"has a hash of {rounds:,} rounds, which is more than {MOST_ROUNDS:,}"
    return "has no hash" if not hashed else "has a hash of an unknown kind"


def _is_sha(hashed: bytes) -> bool:
    kind, _, encoded = hashed.partition(b"}")
    try:
        length = len(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        return False
    return length == _LENGTH_OF_SHA if kind == b"{SHA" else length >= _LENGTH_OF_SHA


def encode(found: Iterable[User], key: bytes = b"") -> bytes:
    """The message. Never show it: it has the hashes. Its own hash may be shown, if `key` is a secret: what it blinds the message with."""
    entries = [_field(1, user.name) + _field(2, user.hash) for user in found]
    if entries:
        entries[0] += _field(3, hmac.digest(key, b"".join(_field(1, entry) for entry in entries), "sha256")[:16])
    return b"".join(_field(1, entry) for entry in entries)


def decode(body: bytes) -> Mapping[bytes, bytes]:
    """User → hash. Raises ValueError for what is no such message, with a sentence that quotes nothing of it."""
    if len(body) > 2 * LARGEST:
        raise ValueError(f"the password file has {len(body):,} bytes")
    found: dict[bytes, bytes] = {}
    for number, entry in _fields(body):
        values = dict(_fields(entry)) if number == 1 else {}
        if not values.get(1):
            raise ValueError("it is no password file")
        found[values[1]] = values.get(2, b"")
    return MappingProxyType(found)


def _field(number: int, value: bytes) -> bytes:
    length, head = len(value), bytearray((number << 3 | 2,))
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + value


def _fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message, which has no others. Raises ValueError where it has."""
    at = 0
    while at < len(body):
        tag, length, shift = body[at], 0, 0
        at += 1
        while True:
            if at >= len(body) or shift > 28 or tag & 7 != 2:
                raise ValueError("it is no password file")
            length |= (body[at] & 127) << shift
            shift += 7
            at += 1
            if body[at - 1] < 128:
                break
        if at + length > len(body):
            raise ValueError("it is no password file")
        yield tag >> 3, body[at : at + length]
        at += length
