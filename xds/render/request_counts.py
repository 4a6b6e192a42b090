"""What counts requests: access logs of the listeners that write no line, and add to Envoy's statistics instead.

An access log sees each request, answered by Envoy or a backend, with its status, method, sizes and times. Statistics of routes would cost
less, but see only what reaches a backend: no redirect, no refusal. What is counted costs each request about a hundredth for each statistic
(`bench.metrics`).

Labels are bounded. Those of a route come from its Ingress, methods are a few (`OTHER`), and no name that a client sends is one. All
statistics together have a limit, for backends answer with any status. Envoy forgets those which a day has passed by.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, AndFilter, ExtensionFilter, HeaderFilter
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stats.v3 import (
    Config,
    ConfigCounter,
    ConfigHistogram,
    ConfigHistogramUnit,
    ConfigStat,
    ConfigTag,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import Scope

from xds.request_metrics import (
    LABELS,
    METADATA,
    METHODS,
    MOST_COUNTERS,
    MOST_HISTOGRAMS,
    OTHER,
    REQUESTS,
    SCOPE,
    STATISTICS,
    TAG,
    Statistic,
    shown,
)
from xds.wire.encode import pack

_UNITS = {1: ConfigHistogramUnit.Bytes, 1_000: ConfigHistogramUnit.Milliseconds, 1_000_000: ConfigHistogramUnit.Microseconds}


@cache
def loggers(excluded: Collection[str]) -> tuple[AccessLog, ...]:
    """The access logs that count; of what is `excluded` (ingress-nginx' names) nothing is counted."""
    wanted = [each for each in STATISTICS if shown(each, excluded)]
    everyone = [each for each in wanted if not each.upstream]
    answered = [each for each in wanted if each.upstream]
    made: list[AccessLog] = []
    for method, chosen in (("%REQ(:METHOD)%", _with_method(known=True)), (OTHER, _with_method(known=False))):
        made.append(_logger(method, chosen, everyone, requests=True))
        if answered:
            made.append(_logger(method, AccessLogFilter(and_filter=AndFilter(filters=[chosen, _answered()])), answered, requests=False))
    return tuple(made)


def _logger(method: str, chosen: AccessLogFilter, statistics: Sequence[Statistic], *, requests: bool) -> AccessLog:
    tags = [ConfigTag(name=TAG, value_format=f"%RESPONSE_CODE% {method} %METADATA(ROUTE:{METADATA}:{LABELS})%")]
    counters = [ConfigCounter(stat=ConfigStat(name=REQUESTS, tags=tags), value_fixed=1)] if requests else []
    counters += [ConfigCounter(stat=ConfigStat(name=s.name, tags=tags), value_format=s.value) for s in statistics if not s.buckets]
    histograms = [
        ConfigHistogram(stat=ConfigStat(name=s.name, tags=tags), unit=_UNITS[s.per_second], value_format=s.value)
        for s in statistics
        if s.buckets
    ]
    scope = Scope(
        prefix=SCOPE, sharing_name=SCOPE, max_counters=MOST_COUNTERS, max_histograms=MOST_HISTOGRAMS, enable_eviction=True
    )  # one for all certificates, each of which has a connection manager
    config = Config(stats_scope=scope, counters=counters, histograms=histograms)
    return AccessLog(name="envoy.access_loggers.stats", filter=chosen, typed_config=pack(config))


def _with_method(*, known: bool) -> AccessLogFilter:
    pattern = StringMatcher(safe_regex=RegexMatcher(regex="|".join(METHODS)))
    return AccessLogFilter(header_filter=HeaderFilter(header=HeaderMatcher(name=":method", string_match=pattern, invert_match=not known)))


@cache
def _answered() -> AccessLogFilter:
    """Only what a backend has answered: without a number to add, Envoy would write a line about it in its own log."""
    config = ExpressionFilter(expression="has(response.backend_latency)")
    name = "envoy.access_loggers.extension_filters.cel"
    return AccessLogFilter(extension_filter=ExtensionFilter(name=name, typed_config=pack(config)))
