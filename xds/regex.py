"""Regular expressions as Envoy reads them (RE2): whether one is acceptable, and how text and nginx's paths become one. Pure."""

from __future__ import annotations

from functools import lru_cache

import re2

PROGRAM_LIMIT = 20_000
"""The largest compiled program (RE2's own measure) that we send; the bootstrap lets Envoy take as much."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = False


@lru_cache(maxsize=4096)
def fault(pattern: str) -> str:
    """What is wrong with a pattern, as the end of a sentence; "" where RE2 takes it.

    RE2 has no lookaround and no backreferences, and a limit to its size (Envoy: re2.max_program_size).
    """
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return f"is no regular expression that Envoy (RE2) accepts: {text[:120]}"
    if compiled.programsize > PROGRAM_LIMIT:
        return f"is too large a regular expression: {compiled.programsize} instructions, {PROGRAM_LIMIT} at most"
    return ""


def path_fault(path: str) -> str:
    """The same for a path that is to be a regular expression: it must be one by itself, whatever it is put into."""
    return fault(path) or fault(nginx_location(path))


@lru_cache(maxsize=4096)
def groups(pattern: str) -> int:
    """How many capturing groups an acceptable pattern has."""
    return int(re2.compile(pattern, _OPTIONS).groups)


def literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return str(re2.escape(text))


def nginx_location(path: str) -> str:
    """The paths that nginx's `location ~* "^<path>"` takes, as a pattern that must match a whole path (reference 4.1).

    The search is case-insensitive, starts at the beginning and is open at the end; of an alternation at top level only the first
    branch is bound to the beginning, as in nginx.
    """
    path = _closed(path)
    if "|" in path:
        return f"(?is).*(?:^{path}).*"
    return f"(?is)^{path}.*"


def nginx_rewrite(path: str) -> str:
    """What nginx's `rewrite "(?i)<path>"` finds, as a pattern that takes in the whole path, so that all of it is replaced."""
    return f"(?is)^.*?(?:{_closed(path)}).*$"


def _closed(path: str) -> str:
    r"""The path without an open end: what follows a `\Q` that nothing ends would be text, a bracket of ours too."""
    return rf"{path}\E" if r"\Q" in path and not fault(f"{path})") else path
