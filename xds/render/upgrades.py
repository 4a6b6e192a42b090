"""Upgrades of HTTP/1.1 connections: which ones there are, and how filters let them pass by."""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as MatcherConfig
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)

from xds.patterns import regex
from xds.wire.encode import pack

UPGRADES = ("websocket", "spdy/3.1", "tcp")
"""Protocols to which a client may upgrade: websockets, and those of kubectl exec and docker attach, which dashboards use.

Envoy would answer 403 to all others. So those that begin otherwise are left out of the request, as HTTP lets a server do; nginx would leave
them to the backend. Some clients offer one with every request (`TLS/1.2`, `HTTP/2.0`).
"""


def passed_by(config: AnyMessage) -> AnyMessage:
    """The configuration of a listener's filter, made one that upgraded connections pass by.

    A list of filters for each upgrade would do the same, but each certificate would have all filters four times: half a megabyte of Envoy's
    memory, and 7 ms of its CPU. The header is no word of the client's alone: Envoy removes it from a request that is no upgrade.
    """
    inner = TypedExtensionConfig(name="for-requests", typed_config=config)
    return pack(ExtensionWithMatcher(extension_config=inner, xds_matcher=_skipped_by_upgrades()))


@cache
def _skipped_by_upgrades() -> Matcher:
    """One look at the header for all protocols: each request pays for each look."""
    header = MatcherConfig(name="upgrade", typed_config=pack(HttpRequestHeaderMatchInput(header_name="upgrade")))
    kinds = RegexMatcher(regex=f"(?i)(?:{'|'.join(map(regex.literal, UPGRADES))})", google_re2=RegexMatcherGoogleRe2())
    named = MatcherMatcherListPredicateSinglePredicate(input=header, value_match=StringMatcher(safe_regex=kinds))
    skip = MatcherOnMatch(action=MatcherConfig(name="skip", typed_config=pack(SkipFilter())))
    matcher = MatcherMatcherListFieldMatcher(predicate=MatcherMatcherListPredicate(single_predicate=named), on_match=skip)
    return Matcher(matcher_list=MatcherMatcherList(matchers=[matcher]))
