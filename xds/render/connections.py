"""The HTTP connection manager of both listeners, and the log of TCP connections and UDP sessions (decision 7)."""

from __future__ import annotations

import datetime
from dataclasses import replace
from functools import cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StderrAccessLog, StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import FaultAbort, HttpFault
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChainConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
    RequestIdExtension,
)
from envoy_data_plane.envoy.extensions.request_id.uuid.v3 import UuidRequestIdConfig
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent

from xds.model import Settings, StreamLog, Via
from xds.nginx import log_format, outermost
from xds.nginx.access import authorisation
from xds.nginx.feature import FilterPlace
from xds.nginx.messages import HEADERS_COUNT, PASSAGE_FILTER, ads, formatted, http2, preserve_case
from xds.nginx.open_requests import counting
from xds.nginx.registry import asks, with_hook
from xds.patterns import regex
from xds.render import names, passages, untrusted
from xds.render.answers import METHOD_REFUSED, local_replies
from xds.render.upgrades import UPGRADES, passed_by
from xds.wire.encode import pack

_WINDOW = 4 << 20
"""Bytes of uploads that may be under way on one HTTP/2 connection of a client; Envoy's default is 24 MiB."""
_LAST_BYTES = datetime.timedelta(seconds=3)
"""How long a client that asked for the end of the connection may pause before it has read the last bytes. They are cut off after it.

Envoy's default of a second cuts downloads of slow clients. A connection that was idle for too long lasts as much longer, and answers no
more, so it cannot be nginx' minute (send_timeout).
"""
_LAST_OF_STREAM = datetime.timedelta(minutes=5)
"""How long a client may take to read the last bytes of a stream of HTTP/2, 256 KiB at most, however steadily it reads.

Without it Envoy would keep them as long as the connection lasts.
"""
_ABOUT_BODIES = frozenset((FilterPlace.PACE, FilterPlace.BODY))
"""Places of filters that upgraded connections pass by."""


def connection(via: Via, port: int, defaults: Settings) -> HttpConnectionManager:
    """The connection manager of the http or the https listener."""
    made = HttpConnectionManager(
        stat_prefix=via.value,
        rds=Rds(route_config_name=names.ROUTES, config_source=ads()),
        http_filters=[
            outermost.place(),
            passages.guard(),
            _refused_methods(),
            _forwarded_port(via, port),
            *_places(),
            _router(),
        ],
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=datetime.timedelta(seconds=75),
            max_headers_count=HEADERS_COUNT,
            headers_with_underscores_action=HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
        ),
        http_protocol_options=Http1ProtocolOptions(
            accept_http_10=True,
            default_host_for_http_10="_",
            header_key_format=preserve_case(),
            enable_trailers=True,
            ignore_http_11_upgrade=[StringMatcher(safe_regex=RegexMatcher(regex=f"(?i){regex.begins_unlike(UPGRADES)}"))],
        ),
        http2_protocol_options=replace(http2(_WINDOW), max_concurrent_streams=128),
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        stream_idle_timeout=datetime.timedelta(0),
        request_headers_timeout=datetime.timedelta(seconds=60),
        delayed_close_timeout=_LAST_BYTES,
        stream_flush_timeout=_LAST_OF_STREAM,
        use_remote_address=True,
        skip_xff_append=True,
        preserve_external_request_id=True,
        request_id_extension=_request_ids(),
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED,
        strip_trailing_host_dot=True,
        local_reply_config=local_replies(via, by_forwarded=asks("by_forwarded", defaults)),
        early_header_mutation_extensions=[untrusted.removed(any_name=asks("by_any_name", defaults)), passages.note_arrival()],
    )
    for name, on_connection in with_hook("on_connection"):
        if name in defaults:
            on_connection(defaults[name], made, via)
    made.upgrade_configs = [HttpConnectionManagerUpgradeConfig(upgrade_type=kind) for kind in UPGRADES]
    return made


@cache
def stream_logs(protocol: str, wanted: StreamLog | None = None) -> tuple[AccessLog, ...]:
    """The log of a TCP connection or UDP session, if there is one; by default ingress-nginx's line (its log-format-stream)."""
    log = wanted or StreamLog(log_format.STREAM, to_stderr=False)
    if not log.line:
        return ()
    line = log_format.stream_line(log.line, protocol)
    config = StderrAccessLog(log_format=line) if log.to_stderr else StdoutAccessLog(log_format=line)
    return (AccessLog(name=f"envoy.access_loggers.{'stderr' if log.to_stderr else 'stdout'}", typed_config=pack(config)),)


@cache
def _request_ids() -> RequestIdExtension:
    """A client's X-Request-ID goes on as it is. By default Envoy writes whether it traces into the 15th of 36 characters."""
    return RequestIdExtension(typed_config=pack(UuidRequestIdConfig(pack_trace_reason=False)))


def _forwarded_port(via: Via, port: int) -> HttpFilter:
    """The filter that sets X-Forwarded-Port: the listener's port, and 443 for https on any port (nginx 4.9)."""
    shown = "443" if via is Via.HTTPS else str(port)
    mutations = Mutations(request_mutations=[Mutation(append=formatted("X-Forwarded-Port", shown))])
    return HttpFilter(name=PASSAGE_FILTER, typed_config=pack(HeaderMutation(mutations=mutations)))


@cache
def _refused_methods() -> HttpFilter:
    """The filter that rejects TRACE, which would reveal headers of the proxy, and what nginx accepts as no method (`local_replies`)."""
    abort = FaultAbort(http_status=METHOD_REFUSED, percentage=FractionalPercent(numerator=100))
    refused = HeaderMatcher(name=":method", string_match=StringMatcher(safe_regex=RegexMatcher(regex="TRACE|.*[^A-Z_-].*")))
    return HttpFilter(name="methods", typed_config=pack(HttpFault(abort=abort, headers=[refused])))


def _places() -> list[HttpFilter]:
    """The places of the filters of routes, and between them the filters that ask the authorisation service.

    In nginx's order open requests are counted last of the limits; passwords come after addresses, and before another service is asked.
    """
    asked = {FilterPlace.LIMIT: (counting(),), FilterPlace.ACCESS: (authorisation(),)}
    return [filter_ for place in FilterPlace for filter_ in (_place(place), *asked.get(place, ()))]


def _place(place: FilterPlace) -> HttpFilter:
    """A placeholder for the filters of a route: it costs nothing where neither route nor table configures it."""
    config = pack(FilterChainConfig())
    return HttpFilter(name=place.value, typed_config=passed_by(config) if place in _ABOUT_BODIES else config, disabled=True)


def _router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router(suppress_envoy_headers=True)))
