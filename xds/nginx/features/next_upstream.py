"""proxy-next-upstream: when a request that failed at one endpoint is tried at the next one. By default it is, at two more, for everybody.

What is safe for any request (no connection came about) stands in the cluster's policy. What is safe only for idempotent ones comes by
Envoy's request header `x-envoy-retry-on`, which adds to the policy and is taken away before the backend. The route table writes it by the
method of the request, for ingress-nginx's defaults; a route that asks for something else writes its own, which comes first.

A policy that only holds for some methods (`retriable_request_headers`) will not do: it takes what the header adds away as well, and a POST
whose connection is refused would not be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    RouteConfiguration,
)
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Key, Notes, Risk, with_key
from xds.nginx.features.proxy_request_buffering import NAME as UNBUFFERED
from xds.nginx.features.proxy_request_buffering import is_off
from xds.nginx.messages import CACHED, formatted
from xds.nginx.values import boolean, choice, whole
from xds.wire.encode import pack

_HEADER = "x-envoy-retry-on"
_NOTHING = "nothing"
"""No word of Envoy's for this header, so that it adds nothing to the policy."""
_STATUSES = ("500", "502", "503", "504", "403", "404", "429")
_FAILURES = ("error", "timeout", "invalid_header")
_NO_RESPONSE = frozenset(("error", "timeout"))
"""The failures of connections that Envoy calls reset. An invalid response is one of those for Envoy as well, but not for nginx."""
_CONDITIONS = (*_FAILURES, *(f"http_{status}" for status in _STATUSES), "non_idempotent", "off")
_CONDITION = choice(*_CONDITIONS)
_BEFORE_SENT = ("connect-failure", "refused-stream")
_AFTER_SENT_BY_DEFAULT = ("reset",)
_NOT_IDEMPOTENT = "request.method != 'GET' && request.method in ['POST', 'LOCK', 'PATCH']"
"""What comes first is of no consequence but that it costs most requests less than the list."""
_WITH_BODY = (
    "'transfer-encoding' in request.headers || ('content-length' in request.headers ? "
    "request.headers['content-length'] != '0' : request.method in ['POST', 'PUT', 'PATCH'])"
)
"""A request of HTTP/2 may have a body that no header says; then its method decides."""
_UNLIMITED = 32
_HOST_ATTEMPTS = 5
"""How often Envoy looks for an endpoint that was not tried yet before it takes one that was."""


def _conditions(text: str) -> tuple[str, ...]:
    """In one order, whatever order they were written in, so that what is equal to Envoy is one cluster."""
    found = {_CONDITION(word) for word in text.split()}
    return tuple(condition for condition in _CONDITIONS if condition in found)


NEXT_UPSTREAM = with_key(
    Annotation[tuple[str, ...]](
        "proxy-next-upstream",
        _conditions,
        "Failures after which the next endpoint is tried: error, timeout, invalid_header, http_500 and its like, non_idempotent, or off.",
        "error timeout http_502",
        ("error", "timeout"),
        Fidelity.APPROXIMATE,
        "the word timeout means error as well, and error for an endpoint that takes no connection in time; invalid_header has no effect "
        "without them",
        lambda conditions, _paths: set(conditions).intersection(_FAILURES) not in (set(), {"error", "timeout"}, set(_FAILURES)),
        risk=Risk.MEDIUM,
    )
)
NEXT_UPSTREAM_TRIES = with_key(
    Annotation(
        "proxy-next-upstream-tries",
        whole(0, 1000),
        f"How many endpoints are tried in total; 0 stands for {_UNLIMITED}.",
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
    """What counts as a failure (nothing: `()`) in the order of `_CONDITIONS`, and how many tries there are in all.

    `unbuffered` is set where the cluster's policy may not say all of it, since a request with a body is not tried again once some of it may
    be sent (`proxy-request-buffering: off`); else the route alone says that.
    """

    conditions: tuple[str, ...]
    tries: int
    unbuffered: bool = False


def read(notes: Notes) -> Tries:
    """What holds for an Ingress; the time-outs want to know it as well."""
    conditions = notes.get(NEXT_UPSTREAM)
    if notes.key(RETRY_NON_IDEMPOTENT) and "non_idempotent" not in conditions:
        conditions = (*conditions, "non_idempotent")
    tries = notes.get(NEXT_UPSTREAM_TRIES) or _UNLIMITED
    unbuffered = "non_idempotent" in conditions and is_off(notes)
    return Tries((), 1) if "off" in conditions or tries == 1 else Tries(conditions, tries, unbuffered)


def silent_in_a_row(setting: Tries, limit: int, silence: int) -> int:
    """How many endpoints may be silent, for so many seconds each, before the client is answered. After the limit no try begins; 0 for none.

    To Envoy silence and a connection that breaks are one condition, so that only a time-out of the whole request keeps them apart.
    """
    if "timeout" in setting.conditions:
        return min(setting.tries, -(-limit // silence)) if limit else setting.tries
    return 1 if "error" in setting.conditions else setting.tries


def _on_forward(setting: Tries, route: Route, envoy: EnvoyRoute) -> None:
    for_all, words, unbuffered = _for_all(setting), _after_sent(setting), UNBUFFERED in route.settings
    if for_all or not words:
        envoy.request_headers_to_add.append(formatted(_HEADER, _NOTHING))
    elif unbuffered:
        not_for = [_WITH_BODY]
        not_for += [] if "non_idempotent" in setting.conditions else [_NOT_IDEMPOTENT]
        envoy.request_headers_to_add.append(_unless(" || ".join(not_for), words))
    elif words != _AFTER_SENT_BY_DEFAULT:
        envoy.request_headers_to_add.append(_unless(_NOT_IDEMPOTENT, words))


def _on_table(_setting: Tries, table: RouteConfiguration) -> None:
    """The header for ingress-nginx's own defaults, whatever the ConfigMap says.

    The one of a route stays in either order: where it is first it is there already, where it is last (`add-headers`) it overwrites.
    """
    by_default = _unless(_NOT_IDEMPOTENT, _AFTER_SENT_BY_DEFAULT)
    table.request_headers_to_add.append(replace(by_default, append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT))


def _on_upstream(setting: Tries, options: HttpProtocolOptions) -> None:
    """The policy stands in the cluster, for all its routes: a route table of thousands is read in half the time without."""
    options.retry_policy = _retry_policy(setting)


def _before_sent(setting: Tries) -> tuple[str, ...]:
    return () if _NO_RESPONSE.isdisjoint(setting.conditions) else _BEFORE_SENT


def _after_sent(setting: Tries) -> tuple[str, ...]:
    """What may be tried again after the request was sent, if that does no harm: in Envoy's words."""
    reset = () if _NO_RESPONSE.isdisjoint(setting.conditions) else ("reset",)
    return (*reset, "retriable-status-codes") if any(c.startswith("http_") for c in setting.conditions) else reset


def _for_all(setting: Tries) -> tuple[str, ...]:
    """Those of `_after_sent` that hold for any request."""
    return _after_sent(setting) if "non_idempotent" in setting.conditions and not setting.unbuffered else ()


@lru_cache(maxsize=CACHED)
def _retry_policy(setting: Tries) -> RetryPolicy:
    """nginx goes to the next endpoint at once."""
    policy = RetryPolicy(num_retries=0)
    if setting.conditions:
        policy.retry_on = ",".join((*_before_sent(setting), *_for_all(setting)))
        policy.num_retries = setting.tries - 1
        policy.retriable_status_codes = sorted(int(c[5:]) for c in setting.conditions if c.startswith("http_"))
        policy.retry_back_off = RetryPolicyRetryBackOff(base_interval=timedelta(milliseconds=1), max_interval=timedelta(milliseconds=10))
        name = "envoy.retry_host_predicates.previous_hosts"
        policy.retry_host_predicate = [RetryPolicyRetryHostPredicate(name=name, typed_config=pack(PreviousHostsPredicate()))]
        policy.host_selection_retry_max_attempts = _HOST_ATTEMPTS
    return policy


@lru_cache(maxsize=CACHED)
def _unless(condition: str, words: tuple[str, ...]) -> HeaderValueOption:
    """The header, unless a condition holds: then a word that means nothing. The value is a format of constants only."""
    return formatted(_HEADER, f"%CEL({condition} ? '{_NOTHING}' : '{','.join(words)}')%")


def _cluster_key(setting: Tries) -> str:
    """The values of the annotations: `error timeout 3`, or `off`; with ` unbuffered` where that makes another policy."""
    apart = " unbuffered" if setting.unbuffered else ""
    return f"{' '.join(setting.conditions)} {setting.tries}{apart}" if setting.conditions else "off"


FEATURE = Feature(
    read=read,
    annotations=(NEXT_UPSTREAM, NEXT_UPSTREAM_TRIES),
    keys=(RETRY_NON_IDEMPOTENT,),
    on_forward=_on_forward,
    cluster=True,
    cluster_key=_cluster_key,
    on_upstream=_on_upstream,
    on_table=_on_table,
)
