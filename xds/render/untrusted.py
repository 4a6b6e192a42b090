"""Untrusted request headers: Envoy removes them before it processes anything else of a request.

These are headers that Envoy itself reads or writes, also between its filters, and headers by which a proxy informs backends. Names that
nginx drops as invalid are among them (`ignore_invalid_headers`). All others pass. The codec drops headers with underscores.
"""

from __future__ import annotations

from collections.abc import Iterable
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
"""Names that Envoy 1.40 reads, or writes for backends and clients. Other names with this prefix mean nothing to it, and pass."""
OF_PROXIES = ("x-original-forwarded-for", "x-original-forwarded-host")
"""Headers in which a proxy passes on the client's originals. It sets them only if there are any, so a client's must be removed."""
_BETWEEN_FILTERS = "x-xds-.*"
"""Headers by which one filter informs a later one."""
_CERTIFICATES = "ssl-client-.*"
"""Headers in which a proxy describes the client's certificate."""
_OF_THE_CONNECTION = "te"
"""Which codings this very connection may use, trailers among them. Backends of gRPC get a TE from their routes, others none."""
_NO_NAMES = "[^:].*[^a-z0-9_-].*|[^:a-z0-9_-].*"
"""Names that nginx drops: with other characters than letters, digits, hyphens and underscores. Pseudo-headers begin with a colon."""


@cache
def removed(*, any_name: bool) -> TypedExtensionConfig:
    """The listener's mutation: it matches the name of each header with one regular expression. With `any_name` odd names pass."""
    names = "|".join(
        (_one_of((*OF_ENVOY, *OF_PROXIES)), _BETWEEN_FILTERS, _CERTIFICATES, _OF_THE_CONNECTION, *(() if any_name else (_NO_NAMES,)))
    )
    mutation = Mutation(remove_on_match=RemoveOnMatch(key_matcher=StringMatcher(safe_regex=RegexMatcher(regex=names))))
    return TypedExtensionConfig(name="untrusted", typed_config=pack(EarlyHeaderMutation(mutations=[mutation])))


def _one_of(names: Iterable[str]) -> str:
    """An expression for these names alone, in which words that several begin with stand once.

    Each certificate has the expression, and each byte there costs Envoy three, beside the compiled one.
    """
    following: dict[str, list[str]] = {}
    for name in names:
        word, _, rest = name.partition("-")
        following.setdefault(word, []).append(rest)
    alternatives = [word + _after(rests) for word, rests in following.items()]
    return alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"


def _after(rests: list[str]) -> str:
    """What follows a word: one of these, "" being its end."""
    longer = [rest for rest in rests if rest]
    if not longer:
        return ""
    return f"-{_one_of(longer)}" if len(longer) == len(rests) else f"(?:-{_one_of(longer)})?"
