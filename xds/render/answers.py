"""Local replies, which Envoy sends without a backend: nginx's statuses and nginx's pages."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from http import HTTPStatus

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    HeaderFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32, SubstitutionFormatString
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import LocalReplyConfig, ResponseMapper
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.model import Via
from xds.nginx import log_filters
from xds.nginx.messages import formatted, page, text_format
from xds.nginx.variables import BEST_HOST_WITHOUT_PORT
from xds.render.addresses import POLICY

_TITLES = {
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Authorization Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
    508: "Loop Detected",
}
"""nginx's reason phrases."""

TO_HTTPS = "HTTPS://"
"""How the Location of a route begins that redirects to https: here it becomes a URL as ingress-nginx writes it, without a last slash.

Where proxies in front may name the host, that is put in here as well.
"""
_REDIRECTS = (301, 302, 303, 307, 308)
METHOD_REFUSED = 405
"""The status for TRACE. For what nginx does not accept as a method it is replaced by 400."""


@cache
def local_replies(via: Via, *, by_forwarded: bool = False) -> LocalReplyConfig:
    """nginx's statuses and pages for local replies of the http or the https listener.

    Redirects to https are only on the former, but `by_forwarded`: then a proxy may say on either that its client came by http.

    Every certificate has a connection manager, where their mappers would take 50 kB and 0.7 ms each. A client who could tell the https
    listener that it came by http would get a Location in capitals, with its last slash.

    A refused or broken connection gets 502, and a timed out one 504, where Envoy would send 503. A name that resolves to a denied address
    gets 503, like a Service whose address is denied at once.

    Envoy applies only the first mapper that matches, so each has both a status and its page.
    """
    timed_out = _mapper(_all(_status(503), _flags("UF"), log_filters.where("response.code_details.contains('connection_timeout')")), 504)
    broken = _mapper(_all(_status(503), _flags("UF", "UC", "UR")), 502)
    denied = _mapper(_all(_status(403), log_filters.where(f"response.code_details.contains('[{POLICY}]')")), 503)
    too_large = replace(_mapper(_all(_status(431), _unread()), 400), body_format_override=_TOO_LARGE)
    no_method = _mapper(_all(_status(METHOD_REFUSED), _other_method_than("TRACE")), 400)
    pages = [_mapper(_status(status), status) for status in _TITLES]
    redirects = [_without_page(), *(_mapper(_status(status), status) for status in _REDIRECTS)] if via is Via.HTTP or by_forwarded else []
    host = f"%CEL({BEST_HOST_WITHOUT_PORT})%" if by_forwarded else ""
    return LocalReplyConfig(
        mappers=[
            *(_to_https(mapper, host) for mapper in redirects),
            _without_page(),
            timed_out,
            broken,
            denied,
            too_large,
            no_method,
            *pages,
        ],
        body_format=_page("%RESPONSE_CODE%", ""),
    )


def _without_page() -> ResponseMapper:
    """What a route says by itself: a body whose type it names, or 204, which has no body (RFC 9110, 15.3.5)."""
    own = log_filters.where("response.code_details == 'direct_response' && (response.code == 204 || 'content-type' in response.headers)")
    as_it_is = text_format("%LOCAL_REPLY_BODY%")
    return ResponseMapper(filter=own, body_format_override=as_it_is)


def _to_https(mapper: ResponseMapper, host: str) -> ResponseMapper:
    """The same for a redirect to https, whose Location is completed: in a route its expression would be compiled for each host.

    `host` is a format for what the Location lacks.
    """
    assert mapper.filter is not None
    here = log_filters.where(f"'location' in response.headers && response.headers['location'].startsWith('{TO_HTTPS}')")
    url = f"https://{host}%CEL(re.extract(response.headers['location'], '^{TO_HTTPS}(.*?)/?$', '\\\\1'))%"
    return replace(mapper, filter=_all(mapper.filter, here), headers_to_add=[formatted("Location", url)])


def _mapper(when: AccessLogFilter, status: int) -> ResponseMapper:
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return ResponseMapper(filter=when, status_code=status, body_format_override=_page(str(status), f" {title}"))


def _page(status: str, title: str) -> SubstitutionFormatString:
    return replace(text_format(page(f"{status}{title}")), content_type="text/html")


_TOO_LARGE = replace(
    text_format(page("400 Bad Request", "400 Request Header Or Cookie Too Large", "Request Header Or Cookie Too Large")),
    content_type="text/html",
)
"""nginx's page for a request whose headers are too large."""


def _status(status: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=status, runtime_key="xds.unused")
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=ComparisonFilter(op=ComparisonFilterOp.EQ, value=value)))


def _flags(*flags: str) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=list(flags)))


def _other_method_than(method: str) -> AccessLogFilter:
    matcher = HeaderMatcher(name=":method", string_match=StringMatcher(exact=method), invert_match=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))


def _unread() -> AccessLogFilter:
    """Requests of whose head nothing is known, not even the method: Envoy has stopped reading it."""
    matcher = HeaderMatcher(name=":method", present_match=True, invert_match=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))


def _all(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))
