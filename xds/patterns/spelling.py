"""The spellings of one path that Envoy keeps apart and nginx does not, as patterns (RE2) that take all of them. Pure.

nginx decodes every escape of a path, merges its slashes and resolves its dots before it looks for a location. Envoy resolves dots between
real slashes, merges real slashes, and decodes escapes of unreserved characters only. So `/a@b` and `/a%40b`, `%c3%a9` and `%C3%A9`, and
`/a/b` and `/a%2Fb` are still different when Envoy compares paths. The path is compared as a whole, without its query.
"""

from __future__ import annotations

import itertools
import re
import string
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import re2

from xds.model import PathKind, PathMatch
from xds.patterns import regex

_UNRESERVED = frozenset((string.ascii_letters + string.digits + "-._~").encode())
_AS_SENT = frozenset(b"!$&'()*+,:;=@[]")
"""Bytes that Envoy leaves as they come: raw or escaped. Other bytes are escaped, by the client or by Envoy."""
_SLASH = ord("/")
_RUN = "(?:/|%2[Ff])+"
"""A pattern for one slash of nginx."""
DOTS = r".*(?:/|%2[Ff])\.\.?(?:(?:/|%2[Ff]).*)?"
"""Paths with dots beside an escaped slash. nginx resolves them, Envoy does not, and no expression can: where they lead is unknown."""
ESCAPES = ".*%.*"
"""Paths with an escape that Envoy has left."""
ESCAPED_RUN = r"[^?]*(?:/%2[Ff]|%2[Ff]/|%2[Ff]%2[Ff]).*"
"""Paths, with their query, where an escaped slash stands beside another slash."""

_TOKEN = re.compile(
    r"(?P<class>\.|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]|\\[dDsSwW])"
    r"|(?P<group>\((?:\?:|\?P?<\w+>|(?!\?))|\)|\||\^|\\A)"
    r"|(?P<end>\$)"
    r"|(?P<count>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)"
    r"|(?P<code>\\x[0-9a-fA-F]{2}|\\[afnrtv])"
    r"|\\(?P<quoted>[^0-9A-Za-z])"
    r"|(?P<text>[^\\\[\](){}.^$|*+?]|[\]{}])",
    re.DOTALL,
)
_LATIN_1 = re2.Options()
_LATIN_1.encoding = re2.Options.Encoding.LATIN1
_LATIN_1.log_errors = False
_SHORT = 400
"""Characters of a pattern that RE2 accepts in any case, where none of them is a count."""
_NOTHING = r"[^\s\S]"
_AMBIGUOUS = re.compile(r"[^-./\w~]", re.ASCII)
"""The characters of a percent-encoded path that have several spellings."""


def pattern(match: PathMatch) -> str:
    """What takes every spelling that the match is for; "" where Envoy leaves one spelling only and comparing text is enough.

    What cannot be looked for in all spellings, for RE2 refuses the expression, is looked for as it is written.
    """
    if match.kind is PathKind.PATTERN:
        return match.path
    if match.kind is PathKind.REGEX:
        return regex.nginx_location(expression(match), alternation="|" in match.path)
    if match.kind is PathKind.RAW_PREFIX and match.path == "/":
        return ""
    if not match.escaped and not _AMBIGUOUS.search(match.path):
        return ""
    found = _of_text(match)
    return found if _is_accepted(found) else ""


def expression(match: PathMatch) -> str:
    """An Ingress path that is a regular expression for decoded paths, as one for the paths that Envoy compares.

    If `match.escaped`, it matches exactly what nginx matches, but for the paths of DOTS and ESCAPED_RUN. Otherwise only literal characters
    are matched in all spellings, slashes excepted. Groups stay the same.
    """
    found = _expression(match.path, escaped=match.escaped)
    return match.path if found is None or not _is_accepted(found) else found


def readable(match: PathMatch) -> bool:
    """Whether a path can be looked for in all spellings."""
    if match.kind is not PathKind.REGEX:
        return _is_accepted(_of_text(match))
    found = _expression(match.path, escaped=True)
    return found is not None and _is_accepted(found)


def _is_accepted(found: str) -> bool:
    return (len(found) <= _SHORT and "{" not in found) or not regex.verdict(f"(?is)^{found}.*").fault


def _of_text(match: PathMatch) -> str:
    slash = _RUN if match.escaped else "/"
    text = _text(match.path, slash)
    if match.kind is PathKind.EXACT:
        return text
    return f"{text}.*" if match.kind is PathKind.RAW_PREFIX else f"{text}(?:{slash}.*)?"


@lru_cache(maxsize=4096)
def _text(path: str, slash: str) -> str:
    """What takes all spellings of a percent-encoded path, its slashes as given."""
    return "".join(slash if byte == _SLASH else _literal(byte) for byte in unquote_to_bytes(path))


@lru_cache(maxsize=4096)
def _expression(path: str, *, escaped: bool) -> str | None:
    """A pattern for decoded paths as one for those that Envoy compares; None where something in it is not understood."""
    parts: list[str] = []
    position = 0
    while position < len(path):
        token = _TOKEN.match(path, position)
        if token is None:
            return None
        try:
            parts.append(_every_spelling(token) if escaped else _same_characters(token))
        except re2.error:
            return None
        position = token.end()
    return "".join(parts)


def _every_spelling(token: re.Match[str]) -> str:
    match token.lastgroup:
        case "class" | "code":
            return _one_of(_bytes_of(token[0]))
        case "end":
            return "(?:(?:%0a)?$)"  # PCRE's: also before a line break that is the last character
        case "quoted" | "text":
            bytes_ = token[token.lastgroup].encode()
            return "".join(f"(?:{_RUN})" if byte == _SLASH else _atom(byte) for byte in bytes_)
        case _:
            return token[0]


def _same_characters(token: re.Match[str]) -> str:
    if token.lastgroup == "class":
        wanted = _bytes_of(token[0])
        others = wanted - _UNRESERVED - {_SLASH}
        return token[0] if not others or ord("%") in wanted else f"(?:{token[0]}|{_one_of(others)})"
    character = token["quoted"] or token["text"] or "/"
    if character == "/" or (character.isascii() and ord(character) in _UNRESERVED):
        return token[0]
    return "".join(map(_atom, character.encode()))


def _atom(byte: int) -> str:
    """All spellings of one byte other than a slash, as what a count may follow."""
    written = _literal(byte)
    return f"(?:{written})" if written.startswith("%") else written


def _literal(byte: int) -> str:
    """All spellings of one byte other than a slash."""
    character = re.escape(chr(byte))
    if byte in _UNRESERVED:
        return character
    digits = "".join(d if d.isdigit() else f"[{d}{d.lower()}]" for d in f"{byte:02X}")
    return f"(?:{character}|%{digits})" if byte in _AS_SENT else f"%{digits}"


@lru_cache(maxsize=1024)
def _bytes_of(atom: str) -> frozenset[int]:
    """The bytes that an atom of a case-insensitive pattern takes, as PCRE without Unicode: case is a matter of ASCII."""
    written = atom.encode()
    folded = re2.compile(b"(?i)" + written, _LATIN_1)
    plain = re2.compile(written, _LATIN_1)
    return frozenset(b for b in range(256) if (folded if b < 128 else plain).fullmatch(bytes((b,))))


@lru_cache(maxsize=1024)
def _one_of(wanted: frozenset[int]) -> str:
    """A case-insensitive pattern for one decoded byte of a set, however it is spelled. Envoy leaves no unreserved byte escaped."""
    raw = "".join(chr(b) for b in sorted(wanted & (_UNRESERVED | _AS_SENT)))
    choices = [f"[{_ranges(raw)}]"] if raw else []
    rows: dict[str, str] = {}
    for row in range(0, 256, 16):
        escaped = {b for b in range(row, row + 16) if b not in _UNRESERVED and b != 0}
        if taken := escaped & wanted - {_SLASH}:
            digits = string.hexdigits[:16] if taken == escaped else "".join(f"{b % 16:x}" for b in sorted(taken))
            rows[digits] = rows.get(digits, "") + f"{row // 16:x}"
    choices += [f"%[{_ranges(high)}][{_ranges(low)}]" for low, high in rows.items()]
    if _SLASH in wanted:
        choices.append(_RUN)
    return f"(?:{'|'.join(choices)})" if choices else _NOTHING


def _ranges(characters: str) -> str:
    """Sorted characters as the inside of a class."""
    written = []
    for _, run in itertools.groupby(enumerate(characters), lambda pair: ord(pair[1]) - pair[0]):
        first, *others = (c for _, c in run)
        written.append(re.escape(first) + (f"-{re.escape(others[-1])}" if others else ""))
    return "".join(written)
