"""Parsers of values, as ingress-nginx reads them: text in, a value out, or ValueError with the rest of a sentence."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from xds.problem import without_credentials

T = TypeVar("T")
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_SIZE = re.compile(r"([0-9]{1,12})([kmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LARGEST = (1 << 63) - 1
_DURATION = re.compile(r"([0-9]+)(ms|[smhdwMy]?) *")
_DAY = 86_400_000
_MILLISECONDS = {"y": 365 * _DAY, "M": 30 * _DAY, "w": 7 * _DAY, "d": _DAY, "h": 3_600_000, "m": 60_000, "s": 1000, "": 1000, "ms": 1}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RANGE = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")
_MAPPED = 96
"""The prefix length of ::ffff:0:0/96, the IPv6 form of all IPv4 addresses."""


class Refused(ValueError):
    """What the validation of ingress-nginx does not take, so that it leaves out the Ingress."""


@dataclass(frozen=True, slots=True)
class Untrimmed(Generic[T]):
    """A parser of what ingress-nginx reads by Go's `strconv`, or by an expression, that takes no blanks around a value."""

    parse: Callable[[str], T]

    def __call__(self, text: str) -> T:
        """The value of a text without blanks around it. Raises ValueError."""
        return self.parse(text)


LONGEST = 8192
"""Characters of a value; no annotation or key has a use for more."""
LONGEST_IN_ALL_LOCATIONS = 2_000_000
"""Bytes that all locations of an Ingress repeat together. Up to ten routes of a location (for http and https, for origins, of a canary)
repeat them, so this is at most 20 MB of the table that Envoy reads again at every change."""
LONGEST_IN_ROUTE = 2_000
"""Characters of a text that each route of an Ingress repeats: with 5,000 paths, 10 MB of the table that Envoy reads at every change."""


def readable(text: str) -> str:
    """What was written, each line trimmed (as ingress-nginx does); "" counts as not written.

    Raises ValueError for what no parser needs to see: control characters other than line breaks and tabs, and more than `LONGEST`.
    """
    if len(text) > LONGEST:
        raise ValueError(f"has {len(text)} characters, which is more than {LONGEST}")
    if found := _CONTROL.search(text):
        raise ValueError(f"holds the control character {found[0]!r}")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # and at no other character that Python takes for a line break
    return "\n".join(line.strip() for line in lines).strip()


def shown(text: str) -> str:
    """A user's text for a sentence: quoted, control characters escaped, without credentials of URLs, cut after 60 characters."""
    text = without_credentials(text)
    return repr(text if len(text) <= 60 else text[:57] + "…")


def ranges(text: str) -> tuple[str, ...]:
    """A list of IP addresses and CIDR ranges, as ranges without overlap: IPv4 first, sorted. Bits of the host part are dropped.

    Raises ValueError if a part is neither, an empty one included: ingress-nginx takes none of the list then.
    """
    found = [_range(part.strip(), text) for part in text.split(",")]
    v4 = ipaddress.collapse_addresses(each for each in found if isinstance(each, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(each for each in found if isinstance(each, ipaddress.IPv6Network))
    return tuple(map(str, (*v4, *v6)))


def _range(part: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """One address or range, in the forms that Go reads: no netmask, no zone, no leading zeros."""
    try:
        if not _RANGE.fullmatch(part):
            raise ValueError
        found = ipaddress.ip_network(part, strict=False)
    except ValueError:
        raise ValueError(f"is {shown(text)}, where {shown(part)} is neither an IP address nor a range such as 10.0.0.0/8") from None
    mapped = found.network_address.ipv4_mapped if isinstance(found, ipaddress.IPv6Network) else None
    if mapped and found.prefixlen >= _MAPPED:
        return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED))
    return found


def _boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'is {shown(text)}, which is neither "true" nor "false"')


boolean = Untrimmed(_boolean)
"""Go's strconv.ParseBool."""


def whole(least: int, most: int) -> Untrimmed[int]:
    """A whole number within bounds (Go's Atoi, ASCII digits only)."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"is {shown(text)}, which is no whole number")
        if not least <= int(text) <= most:
            raise ValueError(f"is {text}, which is not between {least} and {most}")
        return int(text)

    return Untrimmed(parse)


LONGEST_SECONDS = 2_147_483
"""Envoy's timers count milliseconds in 31 bits."""
seconds = whole(0, LONGEST_SECONDS)
"""Whole seconds, as nginx's time-out annotations take them."""


def size(text: str) -> int:
    """nginx's size in bytes: 100, 8k, 1m, 2G. The suffix "b", which ingress-nginx lets through, nginx does not have."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"is {shown(text)}, which is no size such as 8m, 512k or 0")
    total = int(found[1]) * _UNITS[found[2].lower()]
    if total > _LARGEST:
        raise ValueError(f"is {shown(text)}, which is more than {_LARGEST} bytes")
    return total


def duration(text: str) -> int:
    """nginx's time as whole seconds, rounded up: 600, 600s, 10m, 1h 30m, 500ms. At least one second, at most some 24 days.

    As with nginx, units come from the largest to the smallest, each once.
    """
    parts = _DURATION.findall(text)
    units = [_MILLISECONDS[unit] for _, unit in parts]
    ordered = all(larger > smaller for larger, smaller in itertools.pairwise(units))
    if not parts or not ordered or _DURATION.sub("", text) or any(len(number) > 9 for number, _ in parts):
        raise ValueError(f"is {shown(text)}, which is no time such as 600s, 10m or 1h 30m")
    total = -(-sum(int(number) * _MILLISECONDS[unit] for number, unit in parts) // 1000)
    if not 0 < total <= LONGEST_SECONDS:
        raise ValueError(f"is {shown(text)}, which is not between 1 and {LONGEST_SECONDS} seconds")
    return total


_GO_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|[smh])")
_GO_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def go_duration(least: int, most: int) -> Callable[[str], int]:
    """Go's time.ParseDuration as whole milliseconds within bounds: 5s, 1m30s, 1.5s, 500ms."""

    def parse(text: str) -> int:
        parts = _GO_DURATION.findall(text)
        if not parts or _GO_DURATION.sub("", text):
            raise ValueError(f"is {shown(text)}, which is no time such as 5s, 500ms or 1m30s")
        total = int(sum(float(number) * _GO_UNITS[unit] for number, unit in parts))
        if not least <= total <= most:
            raise ValueError(f"is {shown(text)}, which is not between {least} and {most:,} milliseconds")
        return total

    return parse


def choice(*choices: str, any_case: bool = False) -> Callable[[str], str]:
    """One of these words, as ingress-nginx takes most of them: in this very case. With `any_case` it is returned as it is written here."""
    by_word = {c.lower() if any_case else c: c for c in choices}

    def parse(text: str) -> str:
        try:
            return by_word[text.lower() if any_case else text]
        except KeyError:
            raise ValueError(f"is {shown(text)}, which is none of {', '.join(choices)}") from None

    return parse


def refusing(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The same parser, for a form that the validation of ingress-nginx asks for: an Ingress with anything else is left out."""

    def strictly(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise Refused(str(error)) from None

    return strictly


UNQUOTED = r"[!#%$&()*+,./:=?@A-Z\[\]^_`a-z|~0-9-]"
"""A character of a word that nginx takes without quotes: no blank, quotation mark, backslash, semicolon or brace."""


def matching(pattern: str, what: str) -> Callable[[str], str]:
    """Text for a route that a regular expression matches wholly; `what` describes it after "which is no"."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if len(text) > LONGEST_IN_ROUTE:
            raise ValueError(f"has {len(text)} characters, which is more than {LONGEST_IN_ROUTE:,}, and each path repeats them")
        if not compiled.fullmatch(text):
            raise ValueError(f"is {shown(text)}, which is no {what}")
        return text

    return parse


def words(text: str) -> tuple[str, ...]:
    """A list separated by commas."""
    return tuple(word for part in text.split(",") if (word := part.strip()))
