"""What a path of an Ingress matches, and the order in which the paths of a host are tried (nginx 4.1)."""

from __future__ import annotations

import re
from urllib.parse import quote

from xds.model import PathKind, PathMatch
from xds.patterns import regex

EXACT = "Exact"
_SAFE = "/:@!$&'()*+,;=-._~"
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NEVER = re.compile(r"//|/\.\.?(/|$)")
LONGEST = 4096
"""Characters of a path; no request with a longer one is accepted."""


def fault(path: str, *, as_regex: bool) -> str:
    """Why a path cannot be matched, as the end of the sentence "The path …"; "" where it can."""
    if not path.startswith("/"):
        return 'does not begin with "/"'
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "holds a control character"
    if not as_regex and len(path) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if not as_regex and _NEVER.search(path):
        return "has an empty segment, or one of dots, which no request has once its path is normalised"
    return regex.path_fault(path) if as_regex else ""


def escape(path: str) -> str:
    """The first part of a path that looks percent-encoded, but is text, since nginx compares decoded paths; "" for none."""
    found = _ESCAPE.search(path)
    return found[0] if found else ""


def match(path: str, path_type: str, *, as_regex: bool) -> PathMatch:
    """The match of a valid path. A missing type and ImplementationSpecific count as Prefix; with `as_regex` the type does not matter."""
    if as_regex:
        return PathMatch(PathKind.REGEX, path)
    text = encoded(path)
    if path_type == EXACT:
        return PathMatch(PathKind.EXACT, text)
    if path == "/":
        return PathMatch(PathKind.RAW_PREFIX, "/")
    return PathMatch(PathKind.RAW_PREFIX if path.endswith("/") else PathKind.PREFIX, text)


def encoded(path: str) -> str:
    """A plain path in the percent-encoding with which requests are compared."""
    return quote(path, safe=_SAFE)


def precedence(found: PathMatch) -> tuple[bool, int]:
    """A sort key, smallest first: exact before prefix, then the longer one in bytes."""
    return (found.kind is not PathKind.EXACT, -len(found.path.encode()))
