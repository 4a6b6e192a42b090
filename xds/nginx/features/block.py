"""block-cidrs, block-user-agents, block-referers: who gets 403 whatever is asked for, the default backend included.

The filter stands in the route table, and no route has one of its own. So a change drains no connection, Envoy compiles the expressions
once for a table, and no Ingress pays for them (they have no `patterns`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, PermissionSet, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from xds.model import Route
from xds.nginx.feature import Feature, Fidelity, FilterPlace, Key, Notes, Phase, Unreadable
from xds.nginx.messages import from_ranges
from xds.nginx.values import ranges, shown
from xds.patterns import regex
from xds.wire.encode import pack

_NAME = "block"
_MOST = 200
"""Headers of one key: each request is compared with each of them."""
_MOST_COST = 20_000
"""Microseconds that Envoy may need to compile the expressions of one key, whenever the route table changes."""
_WORDS_OF_MAP = ("default", "hostnames", "include", "volatile")
"""What nginx's `map` reads as something else than a value."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Values of a header: `exact`, in lower case, and RE2 `patterns` that match a whole value. `faults`: what of the key has no effect."""

    exact: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


NONE = Blocked()


def _values(text: str) -> Blocked:
    """The values of a list, as nginx's `map` reads them: `~` begins a regular expression, `~*` one without case."""
    exact: list[str] = []
    patterns: list[str] = []
    faults: list[str] = []
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts[:_MOST]:
        try:
            (patterns if part.strip("\"'").startswith("~") else exact).append(_value(part, patterns))
        except ValueError as error:
            faults.append(str(error))
    if len(parts) > _MOST:
        faults.append(f"has {len(parts):,} values, of which those after the first {_MOST} have no effect")
    return Blocked(tuple(dict.fromkeys(exact)), tuple(dict.fromkeys(patterns)), tuple(faults))


def _value(part: str, before: list[str]) -> str:
    """One value, or the pattern of one, which comes after these patterns. Raises ValueError for one that has no effect."""
    quoted = len(part) > 1 and part[0] in "\"'" and part[-1] == part[0]
    bare = part[1:-1] if quoted else part
    if bare in _WORDS_OF_MAP:
        raise ValueError(f"has {shown(bare)}, which nginx would not read as a value; it has no effect")
    if not bare.startswith("~"):
        return re.sub(r"^\\", "", bare).lower()
    flags, written = ("(?is)", bare[2:]) if bare.startswith("~*") else ("(?s)", bare[1:])
    fault = "is empty" if not written else regex.fault(written)
    if fault:
        raise ValueError(f"has {shown(bare)}, which {fault}; it has no effect")
    pattern = flags + regex.found_in(written)
    if regex.verdict(pattern).fault or sum(map(regex.cost, (*before, pattern))) > _MOST_COST:
        raise ValueError(f"has {shown(bare)}, with which its expressions take Envoy too long to compile; it has no effect")
    return pattern


def _faults(found: Blocked) -> tuple[str, ...]:
    return found.faults


_SYNTAX = "separated by commas; without case, and with `~` or `~*` before a regular expression"
BLOCK_CIDRS = Key[tuple[str, ...]](
    "block-cidrs",
    ranges,
    "Client addresses that are denied, as IP addresses and CIDR ranges, also at the default backend.",
    "192.0.2.0/24",
    (),
    Fidelity.APPROXIMATE,
    "it holds for redirects, and where an Ingress has lists of its own, as well",
    unreadable=Unreadable.CLOSES,
)
BLOCK_USER_AGENTS = Key(
    "block-user-agents",
    _values,
    f"Values of the header User-Agent that are denied, {_SYNTAX}.",
    "~*badbot,Scraper/1.0",
    NONE,
    Fidelity.APPROXIMATE,
    "expressions are those of RE2, which has no look-around",
    lambda found, _paths: bool(found.patterns),
    faults=_faults,
)
BLOCK_REFERERS = Key(
    "block-referers",
    _values,
    f"Values of the header Referer that are denied, {_SYNTAX}.",
    "~*spam[.]example",
    NONE,
    Fidelity.APPROXIMATE,
    "expressions are those of RE2, which has no look-around",
    lambda found, _paths: bool(found.patterns),
    faults=_faults,
)


@dataclass(frozen=True, slots=True)
class BlockLists:
    """Ranges of clients, and for names of headers the values that may not come."""

    ranges: tuple[str, ...]
    headers: tuple[tuple[str, Blocked], ...]


def _read(notes: Notes) -> BlockLists | None:
    read = (("user-agent", notes.key(BLOCK_USER_AGENTS)), ("referer", notes.key(BLOCK_REFERERS)))
    headers = tuple((name, Blocked(found.exact, found.patterns)) for name, found in read if found.exact or found.patterns)
    blocked = notes.key(BLOCK_CIDRS)
    return BlockLists(blocked, headers) if blocked or headers else None


def _filters(block: BlockLists, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    return (_refusing(block),)


@lru_cache(maxsize=16)
def _refusing(block: BlockLists) -> TypedExtensionConfig:
    policies = {}
    if block.ranges:
        policies["addresses"] = Policy(permissions=[Permission(any=True)], principals=[from_ranges(block.ranges)])
    for name, values in block.headers:
        any_of = [Permission(header=matcher) for matcher in _matchers(name, values)]
        policies[name] = Policy(permissions=[Permission(or_rules=PermissionSet(rules=any_of))], principals=[Principal(any=True)])
    return TypedExtensionConfig(name=_NAME, typed_config=pack(Rbac(rules=Rules(action=RbacAction.DENY, policies=policies))))


def _matchers(name: str, values: Blocked) -> Iterator[HeaderMatcher]:
    """A header that is missing is empty, as in nginx."""
    for text in values.exact:
        value = StringMatcher(exact=text, ignore_case=True) if text else StringMatcher(safe_regex=RegexMatcher(regex="^$"))
        yield HeaderMatcher(name=name, string_match=value, treat_missing_header_as_empty=True)
    for pattern in values.patterns:
        value = StringMatcher(safe_regex=RegexMatcher(regex=pattern))
        yield HeaderMatcher(name=name, string_match=value, treat_missing_header_as_empty=True)


FEATURE = Feature(
    read=_read, keys=(BLOCK_CIDRS, BLOCK_USER_AGENTS, BLOCK_REFERERS), phase=Phase.LIMIT, filters=_filters, place=FilterPlace.BLOCK
)
