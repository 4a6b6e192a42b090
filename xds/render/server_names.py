"""The matcher that selects a filter chain of the https listener by the SNI of a connection.

Envoy's ServerNameMatcher supports wildcards itself, but its proto is marked as work in progress: Envoy warns about it, and excludes it from
its threat model. So this is composed of stable matchers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

from envoy_data_plane.envoy.extensions.matching.common_inputs.network.v3 import ServerNameInput
from envoy_data_plane.google.protobuf import StringValue
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    StringMatcher,
)

from xds.wire.encode import encode, field, pack

_MATCHER_TREE, _ON_NO_MATCH = 2, 3
"""Field numbers of xds.type.matcher.v3.Matcher."""


def matcher_bytes(by_host: Mapping[str, str], default: str) -> bytes:
    """A serialised Matcher from the SNI, which the TLS inspector lower-cases, to the name of a filter chain.

    `by_host` is host → the name of its chain. Exact names are looked up in a map. Then wildcards are compared one by one, longest first.
    Any other name gets the chain `default`. A client may append the dot of the DNS root to each name.
    """
    wildcards = sorted((name for name in by_host if name.startswith("*.")), key=lambda name: (-len(name), name))
    rest = _wildcards(tuple((name, by_host[name]) for name in wildcards), default)
    exact = [_exact(name, by_host[name]) for name in sorted(by_host) if not name.startswith("*.")]
    tree = field(_MATCHER_TREE, field(1, _server_name()) + field(2, b"".join(exact))) if exact else b""
    return tree + field(_ON_NO_MATCH, encode(rest))


@lru_cache(maxsize=1 << 16)
def _exact(name: str, chain: str) -> bytes:
    """The entries of a MatchMap for one name. Encoded directly: there are thousands, and each change of one joins all."""
    found = _chain_of_bytes(chain)
    return b"".join(field(1, field(1, key.encode()) + field(2, found)) for key in (name, f"{name}."))


@lru_cache(maxsize=1)
def _wildcards(pairs: tuple[tuple[str, str], ...], default: str) -> MatcherOnMatch:
    """(wildcard, chain) in the order in which they are tried, then the default."""
    if not pairs:
        return _chain_of(default)
    made = [
        MatcherMatcherListFieldMatcher(
            predicate=MatcherMatcherListPredicate(
                single_predicate=MatcherMatcherListPredicateSinglePredicate(
                    input=_server_name_input(), value_match=StringMatcher(suffix=name[1:] + dot)
                )
            ),
            on_match=_chain_of(chain),
        )
        for name, chain in pairs
        for dot in ("", ".")
    ]
    return MatcherOnMatch(matcher=Matcher(matcher_list=MatcherMatcherList(matchers=made), on_no_match=_chain_of(default)))


@lru_cache(maxsize=1 << 14)
def _chain_of_bytes(chain: str) -> bytes:
    return encode(_chain_of(chain))


def _chain_of(chain: str) -> MatcherOnMatch:
    """Take the chain of this name."""
    return MatcherOnMatch(action=TypedExtensionConfig(name="chain", typed_config=pack(StringValue(value=chain))))


@cache
def _server_name() -> bytes:
    return encode(_server_name_input())


def _server_name_input() -> TypedExtensionConfig:
    return TypedExtensionConfig(name="server-name", typed_config=pack(ServerNameInput()))
