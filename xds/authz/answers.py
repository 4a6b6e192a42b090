"""What authentication services have answered (auth-url), remembered for auth-cache-key: Envoy's script asks here before it asks a service.

The script (`xds.nginx.authorization`) sends the head of a question, and gets the head of an answer or nothing. Later it sends the head of
the answer that a service gave. What may be remembered is decided here, as nginx decides it for its `proxy_cache`: an answer that sets a
cookie, forbids it or has ended already is not; how long the others last is what the answer says, else what auth-cache-duration says of its
status. With `Vary` an answer is for questions whose headers of these names are the same.

A head is lines of text. The first one of a question is what it is remembered by: `<place> <durations> <proofs> <key>`, such as
`0f3a 200=300,401=60 2=11 alice`. Without as many proofs as there should be, Envoy could not read what the key is made of. The other lines
are headers, `name: value` with names in lower case. The first line of an answer is its status.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

RECALL = "/xds.authz.v1.Answers/Recall"
"""The method that has the head of a question as bytes, and the head of the remembered answer, or nothing."""
REMEMBER = "/xds.authz.v1.Answers/Remember"
"""The method that has the length of a question's head in decimal digits, a line break, that head, and the answer's."""
MOST = 50_000
"""Answers that are remembered; those that were not asked for longest are forgotten first."""
MOST_BYTES = 16 * 2**20
"""Bytes of all heads together."""
LARGEST = 16 * 1024
"""Bytes of one head of an answer."""
IDLE = 30 * 60.0
"""Seconds after which an answer is forgotten that nobody asked for, as in ingress-nginx."""
LONGEST_VARY = 128
"""Bytes of a `Vary` that can be remembered by, as in nginx."""
_PROVEN = frozenset(b"%d=%s" % (number, b"1" * number) for number in range(10))
"""The proofs of a key with so many headers in it."""
_PRICE = 500
"""Bytes that an answer takes beside its head."""


class _Remembered(NamedTuple):
    """An answer until a time. With `vary` it is none, but the headers, in lower case, by which answers to this question differ."""

    head: bytes
    until: float
    vary: tuple[bytes, ...] = ()


class _Question(NamedTuple):
    durations: Mapping[bytes, float]
    by: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class RememberedAnswers:
    """Remembered answers, each under a keyed hash, with a key of this process. Belongs to one event loop. `now` has seconds since 1970."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, tuple[_Remembered, float]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    async def recall(self, raw: bytes) -> bytes:
        """The head of the answer to a question; nothing where none is remembered."""
        question = _question(raw)
        found = self._recall(self._digest(question)) if question else None
        if found and question and found.vary:
            found = self._recall(self._digest(question, found.vary))
        return found.head if found else b""

    async def remember(self, raw: bytes) -> bytes:
        """Remember the answer to a question, if it may be. The answer to this is empty."""
        length, _, both = raw.partition(b"\n")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        question, head = _question(both[:size]), both[size:]
        if question and len(head) <= LARGEST:
            status, *lines = head.split(b"\n")
            headers = _headers(lines)
            until, vary = _until(status, headers, question.durations, self._now()), _vary(headers)
            if until > self._now() and vary is not None:
                self._put(question, _Remembered(head, until), vary)
        return b""

    def _put(self, question: _Question, answer: _Remembered, vary: tuple[bytes, ...]) -> None:
        if vary:
            self._store(self._digest(question), _Remembered(b"", answer.until, vary))
        self._store(self._digest(question, vary), answer)

    def _digest(self, question: _Question, vary: tuple[bytes, ...] = ()) -> bytes:
        """What an answer is remembered by. Each part has its length before it, and each list too, so that no two questions are one."""
        hashed = hashlib.blake2b(key=self._key, digest_size=32)
        for parts in ([question.by], *([name, *_values(question.headers, name)] for name in vary)):
            hashed.update(len(parts).to_bytes(4, "big"))
            for part in parts:
                hashed.update(len(part).to_bytes(4, "big") + part)
        return hashed.digest()

    def _recall(self, digest: bytes) -> _Remembered | None:
        found, used = self._known.get(digest, (None, 0.0))
        now = self._now()
        if found is None:
            return None
        if found.until <= now or used + IDLE <= now:
            self._forget(digest)
            return None
        self._known[digest] = found, now
        self._known.move_to_end(digest)
        return found

    def _store(self, digest: bytes, answer: _Remembered) -> None:
        """Remember an answer, and forget those that were not asked for lately, or are too many."""
        self._forget(digest)
        now = self._now()
        self._known[digest] = answer, now
        self._bytes += _size(answer)
        while len(self._known) > MOST or self._bytes > MOST_BYTES or next(iter(self._known.values()))[1] + IDLE <= now:
            self._forget(next(iter(self._known)))

    def _forget(self, digest: bytes) -> None:
        if (found := self._known.pop(digest, None)) is not None:
            self._bytes -= _size(found[0])


def _size(answer: _Remembered) -> int:
    return _PRICE + len(answer.head) + sum(map(len, answer.vary))


def _question(raw: bytes) -> _Question | None:
    """A question by its head; None for what is none."""
    first, *lines = raw.split(b"\n")
    parts = first.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in _PROVEN:
        return None
    place, durations, _, key = parts
    pairs = (each.partition(b"=") for each in durations.split(b","))
    lasting = {status: float(seconds) for status, _, seconds in pairs if seconds.replace(b".", b"", 1).isdigit()}
    return _Question(lasting, place + b" " + key, _headers(lines))


def _headers(lines: Iterable[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for name, colon, value in (line.partition(b": ") for line in lines) if colon)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def _until(status: bytes, headers: tuple[tuple[bytes, bytes], ...], durations: Mapping[bytes, float], now: float) -> float:
    """Until when an answer may be remembered, as nginx works it out; a time that is past where it may not be.

    X-Accel-Expires comes before Cache-Control, which comes before Expires, which comes before what is configured for the status.
    """
    if _values(headers, b"set-cookie"):
        return 0.0
    for value in _values(headers, b"x-accel-expires"):
        at, digits = value.startswith(b"@"), value.removeprefix(b"@")
        if digits.isdigit() and len(digits) < 12:
            return float(digits) if at else now + float(digits)
    control = b",".join(_values(headers, b"cache-control")).lower().replace(b" ", b"")
    if any(word in control for word in (b"no-cache", b"no-store", b"private")):
        return 0.0
    for name in (b"s-maxage=", b"max-age="):
        _, there, rest = control.partition(name)
        seconds = rest.partition(b",")[0].strip(b'"')
        if there:
            return now + float(seconds) if seconds.isdigit() and len(seconds) < 12 else 0.0
    for value in _values(headers, b"expires"):
        return _time(value)
    return now + durations.get(status, 0.0)


def _time(value: bytes) -> float:
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _vary(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, ...] | None:
    """The names in `Vary`, sorted; None where no other question has the same answer."""
    text = b",".join(_values(headers, b"vary")).lower()
    names = {name.strip() for name in text.split(b",")} - {b""}
    return None if b"*" in names or len(text) > LONGEST_VARY else tuple(sorted(names))
