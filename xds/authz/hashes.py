"""Whether a password belongs to a hash, of each kind that nginx and htpasswd know.

The C library's crypt(3) (libxcrypt, or that of musl) verifies what it knows, as it does for nginx: bcrypt, DES, MD5-, SHA-256- and
SHA-512-crypt. Apache's own variant of MD5-crypt is here. What a hash may cost is bounded where it is read (`xds.passwords.fault`).
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import ctypes.util
import hashlib
import hmac
from collections.abc import Iterable
from functools import cache
from typing import Any

_DATA = 132 * 1024
"""Bytes of the largest `struct crypt_data` there is, that of old glibc."""
_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def is_cheap(hashed: bytes) -> bool:
    """Whether a verification takes microseconds."""
    return hashed.startswith((b"{PLAIN}", b"{SHA}", b"{SSHA}"))


def verify(password: bytes, hashed: bytes) -> bool:
    """Whether a password belongs to a hash. It takes as long for a wrong password as for the right one; False for an unknown hash."""
    if b"\0" in password:
        return False  # a C string would end there
    if hashed.startswith(b"{PLAIN}"):
        return hmac.compare_digest(hashed[7:], password)
    if hashed.startswith(b"{SHA}"):
        return hmac.compare_digest(hashed[5:], base64.b64encode(_sha1(password)))
    if hashed.startswith(b"{SSHA}"):
        return _salted(password, hashed[6:])
    made = _apr1(password, hashed) if hashed.startswith(b"$apr1$") else _crypt(password, hashed)
    return made is not None and hmac.compare_digest(made, hashed)


def unavailable() -> list[str]:
    """The kinds of hashes that the C library of this machine does not know: of some distributions it lacks the weak ones."""
    return [kind for kind, (setting, length) in _SETTINGS.items() if len(_crypt(b"x", setting) or b"") != length]


_SETTINGS: dict[str, tuple[bytes, int]] = {
    "bcrypt": (b"$2y$04$abcdefghijklmnopqrstuu", 60),
    "MD5-crypt": (b"$1$abcdefgh$", 34),
    "SHA-256-crypt": (b"$5$rounds=1000$abcdefgh$", 67),
    "SHA-512-crypt": (b"$6$rounds=1000$abcdefgh$", 110),
    "DES": (b"ab", 13),
}
"""Of each kind a salt, and how long a hash is."""


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _salted(password: bytes, encoded: bytes) -> bool:
    """{SSHA}: the base64 of a SHA-1 of password and salt, followed by the salt."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    return len(raw) >= 20 and hmac.compare_digest(raw[:20], _sha1(password + raw[20:]))


@cache
def _crypt_r() -> Any:
    """crypt_r(3), which any number of threads may call; it does not hold the interpreter's lock. None where there is none."""
    for name in _libraries():
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        return function
    return None


def _libraries() -> Iterable[str | None]:
    yield from ("libcrypt.so.1", "libcrypt.so.2")
    yield ctypes.util.find_library("crypt")  # None is the C library itself, where musl has it


def _crypt(password: bytes, setting: bytes) -> bytes | None:
    """The hash of a password with the salt that a hash begins with; None where the C library does not know such a hash."""
    if (function := _crypt_r()) is None:
        return None
    made: bytes | None = function(password, setting, ctypes.create_string_buffer(_DATA))
    return None if made is None or made.startswith(b"*") else made


def _apr1(password: bytes, hashed: bytes) -> bytes:
    """Apache's MD5-crypt (APR's apr_md5_encode): the algorithm of FreeBSD with another magic word."""
    magic, salt = b"$apr1$", hashed.split(b"$")[2][:8]
    inner = _md5(password + salt + password)
    mixed = password + magic + salt + (inner * (len(password) // 16 + 1))[: len(password)]
    length = len(password)
    while length:
        mixed += b"\0" if length & 1 else password[:1]
        length >>= 1
    final = _md5(mixed)
    for number in range(1000):
        odd = number & 1
        text = password if odd else final
        text += (salt if number % 3 else b"") + (password if number % 7 else b"")
        final = _md5(text + (final if odd else password))
    groups = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
    encoded = b"".join(_to64(final[a] << 16 | final[b] << 8 | final[c], 4) for a, b, c in groups)
    return magic + salt + b"$" + encoded + _to64(final[11], 2)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _to64(value: int, length: int) -> bytes:
    return bytes(_ALPHABET[value >> 6 * place & 63] for place in range(length))
