"""Regular expressions as Envoy reads them (RE2): whether one is acceptable, what it costs, how text and nginx's paths become one. Pure.

Users write them, RE2 holds the interpreter's lock while it compiles, and Envoy compiles all those of a route table at each change of it. So
the source is bounded before it is compiled, and RE2's memory is small. Each expression has a `cost`, and an Ingress and a host have a
budget for it (`xds.translate.regexes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import re2

LONGEST = 1_000
"""Characters that a user may write. The longest in some hundred published Ingresses has 180."""

COPIES = 500
"""What the counted repetitions of one expression may come to: `a{8}b{4}` has 12 copies, `(a{8}b{4}){3}` has 36."""

GROUPS = 100
"""Opening brackets, within each other or not."""

PROGRAM_LIMIT = 4_000
"""The largest compiled program (RE2's own measure) that we send; the bootstrap lets Envoy take as much."""

_MEMORY = 1 << 17
"""Bytes that RE2 may use for one expression: it stops while it compiles what would become too large."""

_CACHED = 8_192
"""Expressions whose verdicts are remembered: at most some ten megabytes."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = False
_OPTIONS.max_mem = _MEMORY
_OPTIONS.encoding = re2.Options.Encoding.LATIN1  # as Envoy does: bytes, so that `\x{100}` is no character

_TOKEN = re.compile(
    r"\\x\{[0-9A-Fa-f]*\}"  # no repetition
    r"|\\(?P<unicode>[pP])|(?P<class>\\[A-Za-z]|\[)|\\."
    r"|(?P<open>\()"
    r"|(?P<group>\)?)\{(?P<least>[0-9]+)(?:,(?P<most>[0-9]*))?\}",
    re.DOTALL,
)
_STRUCTURE = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w*:\]|[^\]\\])*\]|[()|]", re.DOTALL)
_LITERAL_START = re.compile(r"[-A-Za-z0-9_/~]*")


class Compilation(NamedTuple):
    """The result of RE2's compilation: why it is rejected (the end of a sentence, or ""), its groups, and its program's size."""

    fault: str
    groups: int = 0
    size: int = 0


@lru_cache(maxsize=_CACHED)
def verdict(pattern: str) -> Compilation:
    """The one compilation of a pattern. RE2 has no lookaround and no backreferences, and a limit to its size."""
    try:
        compiled = re2.compile(pattern.encode(errors="surrogatepass"), _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in text:
            return Compilation("is too large a regular expression: write it without counted repetitions, or shorter")
        return Compilation(f"is no regular expression that Envoy (RE2) accepts: {text[:120]}")
    if compiled.programsize > PROGRAM_LIMIT:
        return Compilation(f"is too large a regular expression: {compiled.programsize} instructions, {PROGRAM_LIMIT} at most")
    return Compilation("", compiled.groups, compiled.programsize)


class _Source(NamedTuple):
    """What a pattern's text shows: copies by counted repetitions, opening brackets, classes, and whether one is a Unicode class."""

    copies: int
    opened: int
    classes: int
    unicode: bool


def _source(pattern: str) -> _Source:
    """Reads a pattern once. Counts are rather too high: those of groups hold for all of the pattern."""
    copies, times, opened, classes, unicode = 0, 1, 0, 0, False
    for token in _TOKEN.finditer(pattern):
        opened += token["open"] is not None
        classes += token["class"] is not None
        unicode = unicode or token["unicode"] is not None
        if token["least"] is not None:
            count = max(int(token["least"][:9]), int((token["most"] or "1")[:9]), 1)
            times, copies = (min(times * count, 10**9), copies) if token["group"] else (times, copies + count)
    return _Source(times * max(copies, 1) if times > 1 else copies, opened, classes, unicode)


def source_fault(pattern: str) -> str:
    """Why a pattern is not even compiled, as the end of a sentence; "" where it may be. Takes time by its length alone."""
    if len(pattern) > LONGEST:
        return f"is too long a regular expression: {len(pattern):,} characters, {LONGEST:,} at most"
    found = _source(pattern)
    if found.copies > COPIES:
        return f"repeats too much: its counted repetitions come to {found.copies:,} copies, {COPIES} at most"
    if found.opened > GROUPS:
        return f"has too many groups: {found.opened}, {GROUPS} at most"
    if found.unicode:
        return r"has a class such as \pL, which Envoy takes 5 ms to compile; paths are compared as bytes, so that [a-zA-Z] takes no less"
    return ""


def fault(pattern: str) -> str:
    """What is wrong with a user's pattern, as the end of a sentence. "" where Envoy accepts it."""
    return source_fault(pattern) or verdict(pattern).fault


def path_fault(path: str) -> str:
    """The same for a path that becomes a regular expression. It must be valid by itself, before it is part of a larger one."""
    return fault(path) or verdict(nginx_location(path)).fault


def groups(pattern: str) -> int:
    """How many capturing groups an acceptable pattern has."""
    return verdict(pattern).groups


@lru_cache(maxsize=_CACHED)
def cost(pattern: str) -> int:
    """The cost of compiling a valid pattern: microseconds that Envoy seldom exceeds (`bench/regexes.py`)."""
    found = _source(pattern)
    text = 6 + len(pattern) // 6 + pattern.count("?")
    return text + verdict(pattern).size // 4 + 2 * found.classes + found.copies // 3


def finds(pattern: str, text: str) -> bool:
    """Whether an acceptable pattern is found in a text."""
    return re2.search(pattern.encode(errors="surrogatepass"), text.encode(errors="surrogatepass"), _OPTIONS) is not None


def literal_start(pattern: str) -> str:
    """A text that every path begins with which `nginx_location(pattern)` takes, in either case; it may be shorter than possible."""
    if _is_alternation(pattern):
        return ""
    found = _LITERAL_START.match(pattern)
    text = found[0] if found else ""
    return text[:-1] if pattern[len(text) : len(text) + 1] in ("*", "?", "+", "{") else text


def _is_alternation(pattern: str) -> bool:
    """Whether there is an alternation outside of all groups. For an invalid expression this is a guess."""
    depth = 0
    for token in _STRUCTURE.finditer(pattern):
        depth += (token[0] == "(") - (token[0] == ")")
        if token[0] == r"\Q" or (token[0] == "|" and depth <= 0):
            return True
    return False


def literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return str(re2.escape(text))


def begins_unlike(words: Iterable[str]) -> str:
    """A pattern for all texts that begin with two other characters than each of these words. RE2 has no look-ahead, and this is small."""
    seconds: dict[str, set[str]] = {}
    for word in words:
        seconds.setdefault(word[0], set()).add(word[1])
    alike = (f"{literal(first)}(?:[^{literal(''.join(sorted(found)))}]|$)" for first, found in sorted(seconds.items()))
    return rf"(?:[^{literal(''.join(sorted(seconds)))}]|{'|'.join(alike)})\C*"


def nginx_location(path: str, *, alternation: bool = True) -> str:
    """The paths that nginx's `location ~* "^<path>"` takes, as a pattern that must match a whole path (nginx 4.1).

    The match is case-insensitive, starts at the beginning and is open at the end. As in nginx, only the first branch of an alternation at
    top level is bound to the beginning. Without `alternation`, the alternations of the path are in groups.
    """
    path = _closed(path)
    if alternation and "|" in path:
        return f"(?is).*(?:^{path}).*"
    return f"(?is)^{path}.*"


def nginx_rewrite(path: str) -> str:
    """What nginx's `rewrite "(?i)<path>"` finds, as a pattern that takes in the whole path, so that all of it is replaced."""
    return f"(?is)^.*?(?:{_closed(path)}).*$"


def found_in(pattern: str) -> str:
    """What PCRE finds anywhere in a line, as a pattern that takes in all of it."""
    return f".*(?:{_closed(pattern)}).*"


def _closed(path: str) -> str:
    r"""The path without an open end: what follows a `\Q` that nothing ends would be text, a bracket of ours too."""
    return rf"{path}\E" if r"\Q" in path and not fault(f"{path})") else path
