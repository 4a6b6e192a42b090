"""hsts: browsers learn to come by https only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutationPerRoute, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.model import Via
from xds.nginx import outermost
from xds.nginx.feature import Feature, Key, Notes, Unreadable
from xds.nginx.messages import PASSAGE_FILTER, UNTOLD, formatted, on_responses, overwriting
from xds.nginx.values import boolean, matching, shown
from xds.wire.encode import pack

_LEFT_OUT, _UNMARKED = "hsts-left-out", "hsts-unmarked"
_HEADER = "strict-transport-security"
_max_age = matching("[ -~]{1,100}", "number of seconds")


def _not_in_seconds(text: str) -> tuple[str, ...]:
    """As ingress-nginx does, the header says what is written: the default instead would bind browsers for a year."""
    fault = f"is {shown(text)}, which is no number of seconds with 12 digits at most, so that browsers may ignore the header"
    return () if re.fullmatch("[0-9]{1,12}", text) else (fault,)


HSTS = Key("hsts", boolean, "Whether each https response has the header Strict-Transport-Security.", "false", default=True)
HSTS_MAX_AGE = Key(
    "hsts-max-age",
    _max_age,
    "Seconds for which a browser uses https only (max-age).",
    "15724800",
    "31536000",
    faults=_not_in_seconds,
    faulty=Unreadable.AS_WRITTEN,
)
HSTS_INCLUDE_SUBDOMAINS = Key(
    "hsts-include-subdomains", boolean, "Whether the header includes subdomains (includeSubDomains).", "false", default=True
)
HSTS_PRELOAD = Key("hsts-preload", boolean, "Whether the header allows browsers to preload the host (preload).", "true", default=False)


def _read(notes: Notes) -> str | None:
    """The value of the header."""
    if not notes.key(HSTS):
        return None
    subdomains = "; includeSubDomains" if notes.key(HSTS_INCLUDE_SUBDOMAINS) else ""
    preload = "; preload" if notes.key(HSTS_PRELOAD) else ""
    return f"max-age={notes.key(HSTS_MAX_AGE)}{subdomains}{preload}"


def _on_connection(value: str, connection: HttpConnectionManager, via: Via) -> None:
    """Every response has the header, those of filters and redirects too."""
    if via is Via.HTTPS:
        on_responses(connection, Mutation(append=overwriting(_HEADER, value)))


def _off_location(_value: str, envoy: EnvoyRoute) -> None:
    """What a route says of the filter comes after what the listener says, and takes the header away."""
    envoy.typed_per_filter_config[PASSAGE_FILTER] = pack(
        HeaderMutationPerRoute(mutations=Mutations(response_mutations=[Mutation(remove=_HEADER)]))
    )


def leave_out_where_asked(envoy: EnvoyRoute, *, ours: bool = True) -> None:
    """For routes of which some responses have no Strict-Transport-Security: those to which a filter adds the header `UNTOLD`, empty.

    Their Feature has `leaving_out` in its `shared`. That header of a backend is removed before any filter sees it. If the listener writes
    none of `ours`, that of `add-headers` stays.
    """
    outermost.put(envoy, outermost.mutating(_LEFT_OUT if ours else _UNMARKED))
    envoy.response_headers_to_remove.append(UNTOLD)


@cache
def leaving_out() -> Mapping[str, AnyMessage]:
    """The value moves to the other header, unless that is there, and what is there then moves back."""
    kept, back = formatted(UNTOLD, f"%RESP({_HEADER})%"), formatted(_HEADER, f"%RESP({UNTOLD})%")
    kept.append_action = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT
    unmarked = Mutation(remove=UNTOLD)
    moves = [Mutation(append=kept), Mutation(remove=_HEADER), Mutation(append=back), unmarked]
    return {_LEFT_OUT: outermost.writing(moves), _UNMARKED: outermost.writing([unmarked])}


FEATURE = Feature(
    read=_read,
    keys=(HSTS, HSTS_MAX_AGE, HSTS_INCLUDE_SUBDOMAINS, HSTS_PRELOAD),
    on_connection=_on_connection,
    off_location=_off_location,
)
