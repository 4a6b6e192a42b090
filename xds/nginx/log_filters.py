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
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.wire.encode import pack


def every(filters: Sequence[AccessLogFilter]) -> AccessLogFilter | None:
    """What all of these let pass; None, which lets everything pass, where there are none."""
    return both(*filters) if len(filters) > 1 else next(iter(filters), None)


def both(*filters: AccessLogFilter) -> AccessLogFilter:
    """What all of these let pass, of which there are two at least."""
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
    return AccessLogFilter(duration_filter=DurationFilter(comparison=_compared(ComparisonFilterOp.LE, milliseconds)))


def more_than(milliseconds: int) -> AccessLogFilter:
    """Requests that took longer, in whole milliseconds."""
    return AccessLogFilter(duration_filter=DurationFilter(comparison=_compared(ComparisonFilterOp.GE, milliseconds + 1)))


def status_from(least: int) -> AccessLogFilter:
    """Requests with this status or a higher one; 0 is that of a request without an answer."""
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=_compared(ComparisonFilterOp.GE, least)))


def status_below(limit: int) -> AccessLogFilter:
    """Requests with a lower status; 0 is that of a request without an answer."""
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=_compared(ComparisonFilterOp.LE, limit - 1)))


def with_header(name: str) -> AccessLogFilter:
    """Requests with this header, be it empty."""
    return AccessLogFilter(header_filter=HeaderFilter(header=HeaderMatcher(name=name, present_match=True)))


def without_header(name: str) -> AccessLogFilter:
    """Requests without this header."""
    return AccessLogFilter(header_filter=HeaderFilter(header=HeaderMatcher(name=name, present_match=True, invert_match=True)))


def begins(header: str, text: str) -> AccessLogFilter:
    """Requests with a header that begins so."""
    return AccessLogFilter(header_filter=HeaderFilter(header=HeaderMatcher(name=header, string_match=StringMatcher(prefix=text))))


def begins_otherwise(header: str, text: str) -> AccessLogFilter:
    """All others, those without the header too."""
    matcher = HeaderMatcher(name=header, string_match=StringMatcher(prefix=text), invert_match=True, treat_missing_header_as_empty=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))


@cache
def where(expression: str) -> AccessLogFilter:
    """Requests for which an expression of CEL is true."""
    name = "envoy.access_loggers.extension_filters.cel"
    return AccessLogFilter(extension_filter=ExtensionFilter(name=name, typed_config=pack(ExpressionFilter(expression=expression))))


def _compared(op: ComparisonFilterOp, number: int) -> ComparisonFilter:
    return ComparisonFilter(op=op, value=RuntimeUInt32(default_value=number, runtime_key="xds.unused"))


def _contains(header: str, character: str, *, not_: bool) -> AccessLogFilter:
    """A header that is not there contains nothing. Without `treat_missing_header_as_empty` neither form would let such a request pass."""
    matcher = HeaderMatcher(
        name=header, string_match=StringMatcher(contains=character), invert_match=not_, treat_missing_header_as_empty=True
    )
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))
