"""log-format-upstream and its relatives: the line that each request has in the access log, and which requests have none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, HeaderFilter, MetadataFilter
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteConfiguration
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StderrAccessLog, StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChain, FilterChainConfig, FilterChainConfigPerRoute
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState
from envoy_data_plane.envoy.extensions.filters.http.set_metadata.v3 import Config as SetMetadata
from envoy_data_plane.envoy.extensions.filters.http.set_metadata.v3 import Metadata
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import MetadataMatcher, MetadataMatcherPathSegment, StringMatcher, ValueMatcher
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value

from xds.model import Route, Via
from xds.nginx import log_filters, log_format
from xds.nginx.feature import Annotation, Feature, Fidelity, Key, Notes, Phase
from xds.nginx.log_format import Escape
from xds.nginx.messages import kept_text
from xds.nginx.values import boolean, shown
from xds.wire.encode import pack

_METADATA = "xds.log"
"""The namespace of dynamic metadata in which a route without a line says so."""
_KEEPER = "asked-path"
"""The place in the listener for a filter that keeps the path as requested, which a route has that rewrites the path."""
_WRITER = "asked-path-writer"
_MOST_SKIPPED = 100
"""Paths that are not logged: each request that is logged was compared with each of them."""
_STDOUT = ("/var/log/nginx/access.log", "/dev/stdout")
STDERR = ("/var/log/nginx/error.log", "/dev/stderr")


def log_path(text: str) -> str:
    """A file to which nginx writes its log, if Envoy can write there. Raises ValueError."""
    if text in (*_STDOUT, *STDERR):
        return text
    raise ValueError(f"is {shown(text)}; Envoy's container has no file for logs, only /dev/stdout and /dev/stderr")


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(url for part in text.split(",") if (url := part.strip())))
    if len(urls) > _MOST_SKIPPED:
        raise ValueError(f"has {len(urls)} URLs, more than {_MOST_SKIPPED}")
    for url in urls:
        if not url.startswith("/"):
            raise ValueError(f"has {shown(url)}, which is no path; a regular expression is not taken here")
    return urls


def _lacks(text: str) -> str:
    return f'Envoy has no value for {log_format.named(log_format.unknown(text))}; "-" is written in its place'


def _is_lacking(text: str, _paths: Collection[str]) -> bool:
    return bool(log_format.unknown(text))


ENABLE_ACCESS_LOG = Annotation("enable-access-log", boolean, "Whether requests are logged.", "false", default=True)
LOG_FORMAT_UPSTREAM = Key(
    "log-format-upstream",
    log_format.parsed,
    "The line for a request.",
    "$remote_addr $request_id $status",
    log_format.DEFAULT,
    Fidelity.APPROXIMATE,
    'a variable for which Envoy has no value is written as "-"',
    _is_lacking,
    because=_lacks,
)
LOG_FORMAT_ESCAPE_JSON = Key("log-format-escape-json", boolean, "Whether values in the log are escaped for JSON.", "true", default=False)
LOG_FORMAT_ESCAPE_NONE = Key("log-format-escape-none", boolean, "Whether values in the log are not escaped at all.", "true", default=False)
ACCESS_LOG_PATH = Key(
    "access-log-path",
    log_path,
    "Where requests are logged: standard output or standard error of Envoy.",
    "/dev/stderr",
    _STDOUT[0],
)
HTTP_ACCESS_LOG_PATH = Key("http-access-log-path", log_path, "The same, for requests alone.", "/dev/stderr", "")
DISABLE_ACCESS_LOG = Key(
    "disable-access-log",
    boolean,
    "Whether no request is logged, nor a TCP connection or UDP session.",
    "true",
    default=False,
)
DISABLE_HTTP_ACCESS_LOG = Key("disable-http-access-log", boolean, "Whether no request is logged.", "true", default=False)
_NO_URLS: tuple[str, ...] = ()
SKIP_ACCESS_LOG_URLS = Key("skip-access-log-urls", _urls, "Paths, with their queries, that are not logged.", "/healthz,/ready", _NO_URLS)


class Log(NamedTuple):
    """The log of all requests: its line ("" for none), how values are escaped, whether it is on standard error, and what has no line.

    `own` is whether the requests of this Ingress are logged.
    """

    line: str
    escape: Escape
    to_stderr: bool
    skipped: tuple[str, ...]
    own: bool


def _read(notes: Notes) -> Log:
    escape = Escape.JSON if notes.key(LOG_FORMAT_ESCAPE_JSON) else Escape.NONE if notes.key(LOG_FORMAT_ESCAPE_NONE) else Escape.DEFAULT
    silent = notes.key(DISABLE_ACCESS_LOG) or notes.key(DISABLE_HTTP_ACCESS_LOG)
    path = notes.key(HTTP_ACCESS_LOG_PATH) or notes.key(ACCESS_LOG_PATH)
    line = "" if silent else notes.key(LOG_FORMAT_UPSTREAM)
    return Log(line, escape, path in STDERR, notes.key(SKIP_ACCESS_LOG_URLS), notes.get(ENABLE_ACCESS_LOG))


def _on_connection(log: Log, connection: HttpConnectionManager, _via: Via) -> None:
    if log.line:
        connection.http_filters.insert(0, _place())
        connection.access_log = list(_loggers(log))


@lru_cache(maxsize=8)
def _loggers(log: Log) -> tuple[AccessLog, ...]:
    """One for each form of the line, which share all requests among them."""
    shared = [_unless_silent(), *map(_unless_asked_for, log.skipped)]
    return tuple(_access_log(line, log, [*filters, *shared]) for filters, line in log_format.lines(log.line, log.escape))


def _access_log(line: SubstitutionFormatString, log: Log, filters: Sequence[AccessLogFilter]) -> AccessLog:
    config = StderrAccessLog(log_format=line) if log.to_stderr else StdoutAccessLog(log_format=line)
    name = "stderr" if log.to_stderr else "stdout"
    return AccessLog(name=f"envoy.access_loggers.{name}", filter=log_filters.every(filters), typed_config=pack(config))


@cache
def _place() -> HttpFilter:
    """The listener's place for the filter that keeps the path, before all others. It is empty: each certificate has it."""
    return HttpFilter(name=_KEEPER, typed_config=pack(FilterChainConfig()), disabled=True)


@cache
def _path_keeper(escape: Escape) -> AnyMessage:
    """What the table has for that filter, once for all routes, since Envoy would compile its expression for each of them."""
    kept = kept_text(log_format.PATH_STATE, log_format.path_state(escape))
    assert kept.format_string
    kept.format_string.formatters = [log_format.formatter()]
    return pack(SetFilterState(on_request_headers=[kept]))


def _on_table(log: Log, table: RouteConfiguration) -> None:
    if log.line and log_format.has_path(log.line):
        table.typed_per_filter_config[_WRITER] = _path_keeper(log.escape)


@cache
def _unless_silent() -> AccessLogFilter:
    """Without the metadata a request is logged. Envoy ignores `invert` here, so that the value decides."""
    logged = MetadataMatcher(filter=_METADATA, path=[MetadataMatcherPathSegment(key="logged")], value=ValueMatcher(bool_match=True))
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=logged, match_if_key_not_found=True))


def _unless_asked_for(path: str) -> AccessLogFilter:
    """A request that Envoy could not read has no path, and is logged."""
    header = HeaderMatcher(name=":path", string_match=StringMatcher(exact=path), invert_match=True, treat_missing_header_as_empty=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=header))


@cache
def _silence() -> TypedExtensionConfig:
    value = Struct(fields={"logged": Value(bool_value=False)})
    config = SetMetadata(metadata=[Metadata(metadata_namespace=_METADATA, value=value)])
    return TypedExtensionConfig(name="silent", typed_config=pack(config))


def _filters(log: Log, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    return () if log.own else (_silence(),)


def _on_rewritten(log: Log, _route: Route, envoy: EnvoyRoute) -> None:
    """The line is written when the request has another path."""
    if log.own and log_format.has_path(log.line):
        envoy.typed_per_filter_config[_KEEPER] = _keeping()


@cache
def _keeping() -> AnyMessage:
    """What a route has in the place: a filter that keeps what the table says."""
    writer = TypedExtensionConfig(name=_WRITER, typed_config=pack(SetFilterState()))
    return pack(FilterChainConfigPerRoute(filter_chain=FilterChain(filters=[writer])))


FEATURE = Feature(
    read=_read,
    annotations=(ENABLE_ACCESS_LOG,),
    keys=(
        LOG_FORMAT_UPSTREAM,
        LOG_FORMAT_ESCAPE_JSON,
        LOG_FORMAT_ESCAPE_NONE,
        ACCESS_LOG_PATH,
        HTTP_ACCESS_LOG_PATH,
        DISABLE_ACCESS_LOG,
        DISABLE_HTTP_ACCESS_LOG,
        SKIP_ACCESS_LOG_URLS,
    ),
    phase=Phase.HOST,
    on_connection=_on_connection,
    on_table=_on_table,
    filters=_filters,
    on_rewritten=_on_rewritten,
)
