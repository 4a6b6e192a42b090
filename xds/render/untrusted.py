"""Headers of clients that must not reach anybody: Envoy removes them before it looks at anything else of a request.

These are the names that Envoy itself reads or writes, those that tell backends what only the proxy can know, and those that nginx does
not take for headers (`ignore_invalid_headers`). Everything else passes. Headers with underscores are the codec's affair.
"""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRemoveOnMatch as RemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation as EarlyHeaderMutation
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from xds.wire.encode import pack

_OF_ENVOY = """
attempt-count auth-failure-mode-allowed auth-headers-to-remove auth-partial-body cluster compression-status decorator-operation degraded
downstream-service-cluster downstream-service-node drop-overload expected-rq-timeout-ms external-address fault-abort-grpc-request
fault-abort-percentage fault-abort-request fault-abort-request-percentage fault-delay-request fault-delay-request-percentage
fault-throughput-response fault-throughput-response-percentage force-trace hedge-on-per-try-timeout immediate-health-check-fail internal
ip-tags is-timeout-retry local-overloaded max-retries not-forwarded original-dst-host original-host original-method original-path
original-url overloaded peer-metadata peer-metadata-id ratelimited retriable-header-names retriable-status-codes retry-grpc-on retry-on
unconditional-drop-overload upstream-alt-stat-name upstream-canary upstream-healthchecked-cluster upstream-host-address upstream-hostname
upstream-rq-per-try-timeout-ms upstream-rq-timeout-alt-response upstream-rq-timeout-ms upstream-service-time upstream-stream-duration-ms
"""
OF_ENVOY = tuple(f"x-envoy-{name}" for name in _OF_ENVOY.split())
"""Names that Envoy 1.40 reads, or writes for backends and clients. Others that begin so mean nothing to it, and pass."""
OF_PROXIES = ("x-original-forwarded-for", "x-original-forwarded-host")
"""What a proxy says the client had said; it is written where there is something to say, and must not be the client's where not."""
_CERTIFICATES = "ssl-client-.*"
"""What a proxy says of a client's certificate."""
_NO_NAMES = "[^:].*[^a-z0-9_-].*|[^:a-z0-9_-].*"
"""Names that nginx drops: those with anything but letters, digits, hyphens and underscores. Envoy's own begin with a colon."""


@cache
def removed() -> TypedExtensionConfig:
    """What the listener does for it: one pass over the names of a request's headers, with one regular expression."""
    names = "|".join((*OF_ENVOY, *OF_PROXIES, _CERTIFICATES, _NO_NAMES))
    mutation = Mutation(remove_on_match=RemoveOnMatch(key_matcher=StringMatcher(safe_regex=RegexMatcher(regex=names))))
    return TypedExtensionConfig(name="untrusted", typed_config=pack(EarlyHeaderMutation(mutations=[mutation])))
