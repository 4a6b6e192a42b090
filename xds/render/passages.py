"""Loop detection: a request that is routed back to the Envoys that it comes from gets 508 at its 10th passage.

A request that has passed before has `X-Scheme` and `X-Forwarded-Scheme`, which every passage writes. A copy, or a request that only asks
whether another one may pass, has `X-Sent-From`. From the second passage on, each appends one character to a header with a name that only
the fleet knows. A request that arrives with eight of them is at its tenth passage. So backends see that header only on requests that have
looped, and two fleets in a row count independently. It is one header with a growing value, since Envoy matches each header of a name
separately. Which character it is a client may choose, but not that there is none. A copy for an address may have no `X-Sent-From`, and so
one passage more (`xds.nginx.features.mirror`).

The arrival is noted before the route is chosen, in the header `ARRIVED`, which the route table removes from what goes to a backend. The
listener has placeholders for the filters and the route table has their contents, so that a new secret drains no connection.
"""

from __future__ import annotations

from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import FaultAbort, HttpFault
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutationPerRoute, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation as EarlyHeaderMutation
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.nginx.messages import ARRIVED, PASSAGE_FILTER, PASSAGES, formatted
from xds.render import names
from xds.wire.encode import pack

MOST = 10
"""The passage at which a request is rejected."""
_LOOP_DETECTED = 508


@cache
def note_arrival() -> TypedExtensionConfig:
    """The listener's early mutation: notes that a request has come, and one character if it has passed an Envoy before.

    Clients' own notes must be gone by then.
    """
    actions = HeaderValueOptionHeaderAppendAction
    noted = [formatted(ARRIVED, f"%REQ({name}):1%") for name in ("X-SCHEME", "X-FORWARDED-SCHEME", "X-SENT-FROM")]
    noted[1].append_action, noted[1].keep_empty_value = actions.OVERWRITE_IF_EXISTS, True
    by_all = formatted(ARRIVED, "")
    by_all.append_action, by_all.keep_empty_value = actions.ADD_IF_ABSENT, True
    mutations = EarlyHeaderMutation(mutations=[Mutation(append=each) for each in (*noted, by_all)])
    return TypedExtensionConfig(name="envoy.http.early_header_mutation.header_mutation", typed_config=pack(mutations))


@cache
def guard() -> HttpFilter:
    """The listener's filter that rejects; it must precede the one that counts, `PASSAGE_FILTER`."""
    return HttpFilter(name=names.LOOP_FILTER, typed_config=pack(HttpFault()))


@cache
def of_table(marker: str) -> dict[str, AnyMessage]:
    """The configuration of both filters, for all routes of the table."""
    passages = f"{PASSAGES}{marker}"
    came_back_often = RegexMatcher(regex=rf"\C{{{MOST - 2},}}")  # the first passage leaves none, and this one none yet
    abort = FaultAbort(http_status=_LOOP_DETECTED, percentage=FractionalPercent(numerator=100))
    refused = HttpFault(abort=abort, headers=[HeaderMatcher(name=passages, string_match=StringMatcher(safe_regex=came_back_often))])
    one_more = formatted(passages, f"%REQ({passages.upper()})%%REQ({ARRIVED.upper()})%")
    counted = Mutations(request_mutations=[Mutation(append=one_more)])
    return {names.LOOP_FILTER: pack(refused), PASSAGE_FILTER: pack(HeaderMutationPerRoute(mutations=counted))}
