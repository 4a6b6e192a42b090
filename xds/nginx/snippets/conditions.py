"""The conditions of `if` and the patterns of `rewrite`, as matchers of a route.

A condition is one matcher that a request has, or has not. The ways of a program are tried in order, so that "has not" needs no matcher:
the way of the requests that have it comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from xds.model import HeaderMatch, PathKind, PathMatch
from xds.nginx.values import shown
from xds.nginx.variables import names_in, only_text
from xds.patterns import regex, spelling

_SET = "[^0].*|0.+"
"""What counts as true: neither nothing nor "0"."""
_PIECE = re.compile(r"\\[^A-Za-z]|\\[WDS]|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|.", re.DOTALL)
_NOT_THE_CLIENTS = ("x-forwarded-", "x-envoy-", "x-request-id", "x-scheme", "x-real-ip")
"""Headers that the proxy sets, or removes, before it looks for a route: there the client's own value is not known."""
_LINE = r"\n"
"""What no value has: one that may have any other character."""
_HEADER, _ARGUMENT, _COOKIE = "http_", "arg_", "cookie_"


@dataclass(frozen=True, slots=True)
class Groups:
    """What `$1` to `$9` stand for: the groups of a pattern, in the value of a variable (its name)."""

    pattern: str
    variable: str
    any_case: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a request has what `match` says, or has not. Without a match the answer is the same for all requests: `holds`.

    `groups` are those of the pattern that a request for which it holds has. `searches`: it has a pattern, whatever is found.
    """

    match: HeaderMatch | None
    holds: bool = True
    groups: Groups | None = None
    searches: bool = False


def condition(args: Sequence[str], filled: Callable[[str], str]) -> Condition:
    """What stands between the brackets of an `if`; `filled` puts the values of variables that the snippet has set in a text.

    Raises ValueError with the end of a sentence for what cannot be decided by matchers of a route.
    """
    words = [*args]
    if not words or not words[0].startswith("(") or not words[-1].endswith(")"):
        raise ValueError("has a condition without brackets")
    words[0], words[-1] = words[0][1:], words[-1] if len(words) > 1 else words[-1][1:]
    words[-1] = words[-1][:-1]
    words = [word for word in words if word] if len(words) != 3 or not words[2] else words
    if words and words[0] in ("-f", "!-f", "-d", "!-d", "-e", "!-e", "-x", "!-x"):
        raise ValueError(f"asks for a file ({words[0]}), and there are none")
    if len(words) == 3 and words[1] in _OPERATORS:
        operator, text = words[1], words[2]
    elif len(words) == 1 or (len(words) == 2 and words[1] in ("=", "!=")):
        operator, text = (words[1] if len(words) == 2 else ""), ""
    else:
        raise ValueError("has a condition that nginx does not know")
    subject = filled(words[0])
    text = text if operator.lstrip("!").startswith("~") else filled(text)
    found = _decided(subject, operator, text) if only_text(subject) else _matched(subject, operator, text)
    return replace(found, searches="~" in operator)


_OPERATORS = ("=", "!=", "~", "~*", "!~", "!~*")


def _decided(subject: str, operator: str, text: str) -> Condition:
    """A condition about a text that is known."""
    if operator in ("=", "!="):
        if not only_text(text):
            raise ValueError("compares two values that depend on the request")
        return Condition(None, (subject == text) is (operator == "="))
    if operator:
        found = _acceptable(text)
        return Condition(None, bool(re.search(found, subject)) is not operator.startswith("!")) if _is_simple(found) else _unknown(text)
    return Condition(None, subject not in ("", "0"))


def _is_simple(pattern: str) -> bool:
    """Whether Python reads a pattern as RE2 does, and in no time."""
    return bool(re.fullmatch(r"\^?[-\w/ |]*\$?", pattern))


def _unknown(text: str) -> Condition:
    raise ValueError(f"looks for {shown(text)} in a text of the snippet itself")


def _matched(subject: str, operator: str, text: str) -> Condition:
    names = names_in(subject)
    if len(names) != 1 or subject not in (f"${names[0]}", f"${{{names[0]}}}"):
        raise ValueError(f"asks about {shown(subject)}, which is more than one variable")
    if not only_text(text) and "~" not in operator:
        raise ValueError("compares two values that depend on the request")
    find = _finder(names[0])
    any_case = operator.endswith("*")
    holds = not operator.startswith("!")
    if operator in ("=", "!="):
        return Condition(find(text, "equal"), holds) if text else Condition(find("", "something"), not holds)
    if not operator:
        return Condition(find("", "set"))
    match = find(_acceptable(text), "found any case" if any_case else "found")
    if not regex.finds(text, ""):
        return Condition(match, holds, Groups(text, names[0].lower(), any_case) if holds and regex.groups(text) else None)
    if names[0].lower().startswith((_ARGUMENT, _COOKIE)):
        raise ValueError(f"looks for {shown(text)}, which finds nothing in it as well")
    return Condition(replace(match, inverted=True), not holds)


def _acceptable(pattern: str) -> str:
    if why := regex.fault(pattern):
        raise ValueError(f"looks for {shown(pattern)}, which {why}")
    return pattern


_Find = Callable[[str, str], HeaderMatch]


def _finder(name: str) -> _Find:
    """How a variable is compared."""
    name = name.lower()
    if name in _WHOLE:
        return lambda text, how: HeaderMatch(_WHOLE[name], _whole(text, how), regex=True)
    if name.startswith(_HEADER):
        header = name.removeprefix(_HEADER).replace("_", "-")
        if header.startswith(_NOT_THE_CLIENTS):
            raise ValueError(f"asks about the header {header}, of which the proxy knows only its own value")
        header = ":authority" if header == "host" else header
        return lambda text, how: HeaderMatch(header, _whole(text, how), regex=True)
    if name == "host":
        return lambda text, how: HeaderMatch(":authority", f"(?i)(?:{_part(text, how, ':')})(?::[0-9]*)?", regex=True)
    if name in ("args", "query_string"):
        return lambda text, how: HeaderMatch(":path", rf"[^?]*\?(?:{_part(text, how, _LINE)})", regex=True)
    if name in ("uri", "document_uri"):
        return lambda text, how: HeaderMatch(":path", of_path(text, how), regex=True)
    if name.startswith(_ARGUMENT):
        start = rf"[^?]*\?(?i:(?:{_other(name.removeprefix(_ARGUMENT), '&')}&)*{regex.literal(name.removeprefix(_ARGUMENT))})="
        return lambda text, how: HeaderMatch(":path", f"{start}(?:{_part(text, how, '&')})(?:&.*)?", regex=True)
    if name.startswith(_COOKIE):
        start = f"(?i:(?:{_other(name.removeprefix(_COOKIE), ';,')}[;,] *)*{regex.literal(name.removeprefix(_COOKIE))}) *= *"
        return lambda text, how: HeaderMatch("cookie", f"{start}(?:{_part(text, how, ';')})(?:;.*)?", regex=True)
    raise ValueError(f"asks about ${name[:40]}, which no route of Envoy can be chosen by")


_WHOLE: Mapping[str, str] = {
    "request_method": ":method",
    "request_uri": ":path",
    "scheme": "x-forwarded-proto",
    "http_host": ":authority",
    "best_http_host": ":authority",
    "http_user_agent": "user-agent",
}
"""Variables that are a header of the request, with the header's name."""


def _whole(text: str, how: str) -> str:
    """A pattern for a whole value."""
    match how:
        case "equal":
            return regex.literal(text)
        case "set":
            return _SET
        case "something":
            return ".+"
        case "found":
            return regex.found_in(text)
    return f"(?i){regex.found_in(text)}"


def _part(text: str, how: str, ends: str) -> str:
    """The same for a value that ends at one of some characters, of which nothing within the pattern may take one."""
    match how:
        case "equal":
            return regex.literal(text)
        case "set":
            return f"[^0{ends}][^{ends}]*|0[^{ends}]+"
        case "something":
            return f"[^{ends}]+"
    found = _within(text, ends)
    return f"(?i:{found})" if how != "found" else found


def of_path(text: str, how: str) -> str:
    """A pattern for a `:path` whose path, without its query, is or has something, in whatever spelling."""
    if how in ("set", "something"):
        return "/.*"
    if how == "equal":
        whole = spelling.pattern(PathMatch(PathKind.EXACT, text, escaped=True)) or regex.literal(text)
        return rf"(?:{whole})(?:\?.*)?"
    before, body, after = _anchored(text, "?")
    spelled = spelling.expression(PathMatch(PathKind.REGEX, body, escaped=True))
    made = f"{before}(?:{spelled}){after}" if spelled != body else ""
    found = made if made and not regex.fault(made) else _within(text, "?")
    return rf"(?i:{found})(?:\?.*)?" if how != "found" else rf"{found}(?:\?.*)?"


def as_sent(pattern: str) -> str:
    """A pattern for a `:path` in whose path something is found as it was sent, which is what a route can replace."""
    return rf"{_within(pattern, '?')}(?:\?.*)?"


def _anchored(pattern: str, ends: str) -> tuple[str, str, str]:
    """What may be before a pattern, the pattern without ^ and $ at its ends, and what may be after it."""
    anchored, body = pattern.startswith("^"), pattern.removeprefix("^")
    closed = body.endswith("$") and not body.endswith("\\$")
    body = body[:-1] if closed else body
    if (anchored or closed) and _has_branches(body):
        raise ValueError(f"looks for {shown(pattern)}, which has a branch of its own beside ^ or $")
    return "" if anchored else f"[^{ends}]*", body, "" if closed else f"[^{ends}]*"


def _within(pattern: str, ends: str) -> str:
    """What is found in a value that ends at one of some characters. Raises ValueError where the pattern could take one of them."""
    before, body, after = _anchored(pattern, ends)
    made = "".join(_without(piece, pattern, ends) for piece in _PIECE.findall(body))
    return f"{before}(?:{made}){after}"


def _has_branches(body: str) -> bool:
    depth = 0
    for piece in _PIECE.findall(body):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            return True
    return False


def _without(piece: str, pattern: str, ends: str) -> str:
    """A piece of a pattern that takes none of some characters."""
    if piece == ".":
        return f"[^{ends}]"
    if piece in (r"\W", r"\D", r"\S"):
        return f"[^{ends}{piece.lower()}]"
    if piece in ("^", "$", r"\b", r"\B", r"\A", r"\z", r"\Z", r"\Q", r"\C", r"\K"):
        raise ValueError(f"looks for {shown(pattern)}, which has {piece} within it")
    if piece.startswith("[^"):
        rest = piece[2:]
        return f"[^{ends}" + (rf"\]{rest[1:]}" if rest.startswith("]") else rest)
    if piece.startswith("[") and re.search(r"\\[WDSPp]|\[:\^", piece):
        raise ValueError(f"looks for {shown(pattern)}, which has {piece[:20]} within it")
    return piece


def _other(name: str, ends: str) -> str:
    """A pattern for an argument or cookie of another name, in whatever case. RE2 cannot say "no such name before it"."""
    space = " " if ";" in ends else ""
    other = f"(?:[^={ends}][^{ends}]*)?"
    for place in range(len(name) - 1, -1, -1):
        same = regex.literal(name[place])
        other = f"(?:[^{same}{ends}{'' if place else space}][^{ends}]*|{same}{other})?"
    return f"{space and ' *'}{other}"
