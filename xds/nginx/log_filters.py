"""Filters of access logs: which requests a logger writes.

Each pair here is a filter and its opposite, so that loggers can share requests among them: Envoy has no filter that negates another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    DurationFilter,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.wire.encode import pack


def every(filters: Sequence[AccessLogFilter]) -> AccessLogFilter | None:
    """What all of these let pass; None, which lets everything pass, where there are none."""
    if len(filters) < 2:
        return next(iter(filters), None)
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def some(filters: Sequence[AccessLogFilter]) -> AccessLogFilter:
    """What one of these lets pass, of which there is one at least."""
    return filters[0] if len(filters) == 1 else AccessLogFilter(or_filter=OrFilter(filters=list(filters)))


def without(headers: Iterable[str], characters: str) -> list[AccessLogFilter]:
    """Filters that together pass requests none of whose headers contains one of these characters."""
    return [_contains(header, character, not_=True) for header in headers for character in characters]


def with_one(headers: Iterable[str], characters: str) -> list[AccessLogFilter]:
    """The opposite: filters one of which passes a request that `without` does not."""
    return [_contains(header, character, not_=False) for header in headers for character in characters]


def at_most(milliseconds: int) -> AccessLogFilter:
    """Requests that took no longer, in whole milliseconds."""
    return _compared(ComparisonFilterOp.LE, milliseconds)


def more_than(milliseconds: int) -> AccessLogFilter:
    """Requests that took longer, in whole milliseconds."""
    return _compared(ComparisonFilterOp.GE, milliseconds + 1)


@cache
def where(expression: str) -> AccessLogFilter:
    """Requests for which an expression of CEL is true."""
    name = "envoy.access_loggers.extension_filters.cel"
    return AccessLogFilter(extension_filter=ExtensionFilter(name=name, typed_config=pack(ExpressionFilter(expression=expression))))


def _compared(op: ComparisonFilterOp, milliseconds: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=milliseconds, runtime_key="xds.unused")
    return AccessLogFilter(duration_filter=DurationFilter(comparison=ComparisonFilter(op=op, value=value)))


def _contains(header: str, character: str, *, not_: bool) -> AccessLogFilter:
    """A header that is not there contains nothing. Without `treat_missing_header_as_empty` neither form would let such a request pass."""
    matcher = HeaderMatcher(
        name=header, string_match=StringMatcher(contains=character), invert_match=not_, treat_missing_header_as_empty=True
    )
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))
