"""proxy-next-upstream, proxy-read-timeout, proxy-send-timeout: how long an endpoint may be silent, and when the next one is tried.

By default a request that failed at one endpoint is tried at two more, for everybody.

What is safe for any request (no connection came about) stands in the route's policy. What is safe only for idempotent ones comes by
Envoy's request header `x-envoy-retry-on`, which adds to the policy and is taken away before the backend: one filter of the listener
writes it by the method of the request, for ingress-nginx's defaults; a route that asks for something else writes its own.

The answer to one try has an idle timer of its own, which starts when the request is sent. The whole request has another one, for both
directions, that starts when the request comes in; so it must leave every try its time, or the first silent endpoint would be the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import RetryPolicy, RetryPolicyRetryBackOff, RetryPolicyRetryHostPredicate
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate

from xds.model import Route, Via
from xds.nginx._feature import Annotation, Feature, Fidelity, Key, Notes, Risk, with_key
from xds.nginx._messages import CACHED, action_of
from xds.nginx._values import LONGEST_SECONDS, boolean, choice, seconds, whole
from xds.nginx.proxy_connect_timeout import PROXY_CONNECT_TIMEOUT
from xds.wire import pack

_HEADER = "x-envoy-retry-on"
_STATUSES = ("500", "502", "503", "504", "403", "404", "429")
_CONDITION = choice("error", "timeout", "invalid_header", *(f"http_{status}" for status in _STATUSES), "non_idempotent", "off")
_FAILURES = ("error", "timeout", "invalid_header")
_BEFORE_SENT = ("connect-failure", "refused-stream")
_AFTER_SENT_BY_DEFAULT = ("reset",)
_UNLIMITED = 32
_HOST_ATTEMPTS = 5
"""How often Envoy looks for an endpoint that was not tried yet before it takes one that was."""

_REASON = (
    "Envoy's timer for websockets, and for requests on their way, runs for both directions, and as long as all tries together may take"
)


def _conditions(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_CONDITION(word) for word in text.split()))


PROXY_READ_TIMEOUT = with_key(
    Annotation(
        "proxy-read-timeout",
        seconds,
        "Seconds that may pass between two pieces of a response; 0 sets no limit.",
        "3600",
        60,
        Fidelity.APPROXIMATE,
        _REASON,
    )
)
PROXY_SEND_TIMEOUT = with_key(
    Annotation(
        "proxy-send-timeout",
        seconds,
        "Seconds that may pass between two pieces of a request on its way to the backend; 0 sets no limit.",
        "3600",
        60,
        Fidelity.APPROXIMATE,
        _REASON,
    )
)
NEXT_UPSTREAM = with_key(
    Annotation[tuple[str, ...]](
        "proxy-next-upstream",
        _conditions,
        "Failures after which the next endpoint is tried: error, timeout, invalid_header, http_500 and its like, non_idempotent, or off.",
        "error timeout http_502",
        ("error", "timeout"),
        Fidelity.APPROXIMATE,
        "Envoy does not tell error, timeout and invalid_header apart",
        risk=Risk.MEDIUM,
    )
)
NEXT_UPSTREAM_TRIES = with_key(
    Annotation(
        "proxy-next-upstream-tries",
        whole(0, 1000),
        f"How many endpoints are tried in all; 0 stands for {_UNLIMITED}.",
        "2",
        3,
    )
)
RETRY_NON_IDEMPOTENT = Key(
    "retry-non-idempotent",
    boolean,
    "Whether POST, LOCK and PATCH are tried again too, although the backend may have acted on them.",
    "true",
    default=False,
)


@dataclass(frozen=True, slots=True)
class Tries:
    """What counts as a failure (nothing: `()`), how many tries there are in all, and time-outs in seconds (0: none).

    `silent` is how long one endpoint may say nothing, `idle` how long nothing may happen to a request at all.
    """

    conditions: tuple[str, ...]
    tries: int
    silent: int
    idle: int


def _read(notes: Notes) -> Tries:
    conditions = notes.get(NEXT_UPSTREAM)
    if notes.key(RETRY_NON_IDEMPOTENT) and "non_idempotent" not in conditions:
        conditions = (*conditions, "non_idempotent")
    tries = notes.get(NEXT_UPSTREAM_TRIES) or _UNLIMITED
    if "off" in conditions or tries == 1:
        conditions, tries = (), 1
    silent, unsent = notes.get(PROXY_READ_TIMEOUT), notes.get(PROXY_SEND_TIMEOUT)
    of_one = notes.get(PROXY_CONNECT_TIMEOUT) + max(silent, unsent)
    return Tries(conditions, tries, silent, min(tries * of_one, LONGEST_SECONDS) if silent and unsent else 0)


def _on_route(setting: Tries, _route: Route, envoy: EnvoyRoute) -> None:
    action_of(envoy).retry_policy = _retry_policy(setting)
    action_of(envoy).idle_timeout = timedelta(seconds=setting.idle)
    words = _after_sent(setting) if "non_idempotent" not in setting.conditions else ()
    if not words:
        envoy.request_headers_to_remove.append(_HEADER)
    elif words != _AFTER_SENT_BY_DEFAULT:
        envoy.request_headers_to_add.append(_for_idempotent(words))


def _before_sent(setting: Tries) -> tuple[str, ...]:
    return _BEFORE_SENT if any(c in _FAILURES for c in setting.conditions) else ()


def _after_sent(setting: Tries) -> tuple[str, ...]:
    """What may be tried again after the request was sent, if that does no harm: in Envoy's words."""
    reset = ("reset",) if any(c in _FAILURES for c in setting.conditions) else ()
    return (*reset, "retriable-status-codes") if any(c.startswith("http_") for c in setting.conditions) else reset


@lru_cache(maxsize=CACHED)
def _retry_policy(setting: Tries) -> RetryPolicy:
    """nginx goes to the next endpoint at once. A try that is silent for too long ends, with 504 if it was the last."""
    policy = RetryPolicy(num_retries=0, per_try_idle_timeout=timedelta(seconds=setting.silent) if setting.silent else None)
    if setting.conditions:
        always = _after_sent(setting) if "non_idempotent" in setting.conditions else ()
        policy.retry_on = ",".join((*_before_sent(setting), *always))
        policy.num_retries = setting.tries - 1
        policy.retriable_status_codes = sorted(int(c[5:]) for c in setting.conditions if c.startswith("http_"))
        policy.retry_back_off = RetryPolicyRetryBackOff(base_interval=timedelta(milliseconds=1), max_interval=timedelta(milliseconds=10))
        name = "envoy.retry_host_predicates.previous_hosts"
        policy.retry_host_predicate = [RetryPolicyRetryHostPredicate(name=name, typed_config=pack(PreviousHostsPredicate()))]
        policy.host_selection_retry_max_attempts = _HOST_ATTEMPTS
    return policy


@lru_cache(maxsize=CACHED)
def _for_idempotent(words: tuple[str, ...]) -> HeaderValueOption:
    """The header, by the method of the request; with an empty value Envoy adds none. The value is a format of constants only."""
    value = f"%CEL(request.method in ['POST', 'LOCK', 'PATCH'] ? '' : '{','.join(words)}')%"
    overwrite = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    return HeaderValueOption(header=HeaderValue(key=_HEADER, value=value), append_action=overwrite)


def _on_connection(_setting: Tries, connection: HttpConnectionManager, _via: Via) -> None:
    """The header for ingress-nginx's own defaults, whatever the ConfigMap says, so that the listener never changes with it."""
    mutation = Mutation(append=_for_idempotent(_AFTER_SENT_BY_DEFAULT))
    config = pack(HeaderMutation(mutations=Mutations(request_mutations=[mutation])))
    before_the_router = -1
    connection.http_filters.insert(before_the_router, HttpFilter(name="retry-on", typed_config=config))


FEATURE = Feature(
    read=_read,
    annotations=(PROXY_READ_TIMEOUT, PROXY_SEND_TIMEOUT, NEXT_UPSTREAM, NEXT_UPSTREAM_TRIES),
    keys=(RETRY_NON_IDEMPOTENT,),
    on_route=_on_route,
    on_connection=_on_connection,
)
