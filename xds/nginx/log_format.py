"""nginx's log formats as Envoy's: a line with variables becomes a line with Envoy's commands.

What belongs here: which variable of a log is which command, and how values of clients are escaped. What does not: where a line is
written, and which requests have one (`features/access_log.py`).

Envoy escapes nothing in a line of text. What a client wrote could end a field with a quotation mark, and forge those that follow. An
expression escapes it as nginx does, but costs up to a microsecond for each value, and most requests have nothing to escape. So a line comes
in up to three forms, and exactly one of them is written for a request:

1. brief: all that clients wrote may stand as it is, a backend answered, and within 10 ms. Milliseconds of one digit need no expression.
   Filters without expressions see that a backend answered: the request was sent to one, and the status is none that Envoy answers with
   when that fails. So an error of a backend's own is written as the next form, which costs more.
2. plain: all that clients wrote may stand as it is.
3. escaped: every other request.

Line breaks and other control characters never reach a log: Envoy refuses requests that have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter
from envoy_data_plane.envoy.config.core.v3 import CelExpressionConfig, SubstitutionFormatString, TypedExtensionConfig

from xds.nginx import log_filters
from xds.nginx.messages import ARRIVED, CelFormatter, text_format
from xds.nginx.variables import HOST, VARIABLE, for_all, names_in
from xds.wire.encode import pack

PATH_STATE = "xds.path"
"""The filter state with the path as requested, escaped for the log. Only routes that rewrite the path keep it."""
DEFAULT = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr "
    "$upstream_response_length $upstream_response_time $upstream_status $req_id"
)
"""The fields of ingress-nginx's default line, in their order."""
STREAM = "[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time"
"""ingress-nginx's line for a TCP connection or a UDP session."""
MOST_VARIABLES = 100
"""Variables of one line: each is worked out for each request."""


class Escape(Enum):
    """How the values of variables are escaped: `log_format escape=` of nginx, by the name of its parameter."""

    DEFAULT = "default"
    JSON = "json"
    NONE = "none"


_SEQUENCES = {
    Escape.DEFAULT: (("\\\\", "\\\\x5C"), ('"', "\\\\x22")),
    Escape.JSON: (("\\\\", "\\\\\\\\"), ('"', '\\\\"'), ("\\t", "\\\\t")),
    Escape.NONE: (),
}
"""What is escaped, and its sequence, both as they stand within a string of CEL."""
_CHARACTERS = {Escape.DEFAULT: '\\"', Escape.JSON: '\\"\t', Escape.NONE: ""}
"""The same characters as a client writes them."""
_NATIVE = {
    "remote_addr": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "the_real_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "realip_remote_addr": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "remote_port": "%DOWNSTREAM_REMOTE_PORT%",
    "server_addr": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "server_port": "%DOWNSTREAM_LOCAL_PORT%",
    "time_local": "%START_TIME_LOCAL(%d/%b/%Y:%H:%M:%S %z)%",
    "time_iso8601": "%START_TIME_LOCAL(%Y-%m-%dT%H:%M:%S%Ez)%",
    "msec": "%EMIT_TIME(%s.%3f)%",
    "request_method": "%REQ(:METHOD)%",
    "scheme": "%REQ(X-FORWARDED-PROTO)%",
    "pass_access_scheme": "%REQ(X-FORWARDED-PROTO)%",
    "status": "%RESPONSE_CODE%",
    "bytes_sent": "%DOWNSTREAM_WIRE_BYTES_SENT%",
    "body_bytes_sent": "%BYTES_SENT%",
    "request_length": "%DOWNSTREAM_WIRE_BYTES_RECEIVED%",
    "content_length": "%REQ(CONTENT-LENGTH)%",
    "connection": "%CONNECTION_ID%",
    "hostname": "%HOSTNAME%",
    "ssl_protocol": "%DOWNSTREAM_TLS_VERSION%",
    "ssl_cipher": "%DOWNSTREAM_TLS_CIPHER%",
    "ssl_client_fingerprint": "%DOWNSTREAM_PEER_FINGERPRINT_1%",
    "ssl_client_serial": "%DOWNSTREAM_PEER_SERIAL%",
    "proxy_upstream_name": "%METADATA(CLUSTER:xds:upstream)%",
    "upstream_addr": "%UPSTREAM_HOST%",
    "server_protocol": "%CEL(request.protocol == 'HTTP/2' ? 'HTTP/2.0' : request.protocol)%",
    "namespace": "%CEL(xds.route_name.substring(0, xds.route_name.indexOf('/')))%",
    "ingress_name": "%CEL(xds.route_name.substring(xds.route_name.indexOf('/') + 1, xds.route_name.indexOf(' ')))%",
    "service_name": for_all("$service_name"),
    "service_port": for_all("$service_port"),
}
"""Values in which no client can write a quotation mark or a backslash, by variable."""
_OF_CONNECTIONS = """
remote_addr remote_port server_addr server_port time_local time_iso8601 msec connection hostname upstream_addr proxy_upstream_name
"""
"""Those of them that are known without a request."""


@dataclass(frozen=True, slots=True)
class _FromClient:
    """What a client writes: an expression, and a command for the value as it is, where Envoy has one that says the same.

    `header` is the header of the request from which the value comes.
    """

    expression: str
    command: str = ""
    header: str = ""


_REQUESTED = f'%COALESCE({{"operators":[{{"command":"FILTER_STATE","param":"{PATH_STATE}:PLAIN"}},{{"command":"REQ","param":":PATH"}}]}})%'
_HOST_HEADER = _FromClient("request.host", "%REQ(:AUTHORITY)%", ":authority")
_ID = _FromClient("request.id", "%REQ(X-REQUEST-ID)%", "x-request-id")
_URI = _FromClient("request.url_path", "%PATH(NQ:PATH)%", ":path")
_ARGS = _FromClient("request.query")
_WRITTEN = {
    "request_uri": _FromClient("request.path", _REQUESTED, ":path"),
    "uri": _URI,
    "document_uri": _URI,
    "args": _ARGS,
    "query_string": _ARGS,
    "host": _FromClient(HOST),
    "http_host": _HOST_HEADER,
    "best_http_host": _HOST_HEADER,
    "http_referer": _FromClient("request.referer", "%REQ(REFERER)%", "referer"),
    "http_user_agent": _FromClient("request.useragent", "%REQ(USER-AGENT)%", "user-agent"),
    "req_id": _ID,
    "request_id": _ID,
    "ssl_server_name": _FromClient("connection.requested_server_name"),
    "ssl_client_s_dn": _FromClient("connection.subject_peer_certificate"),
}
"""What a client writes, by variable."""
_JOINED = frozenset(("accept-encoding", "authorization", "content-type", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"))
"""Headers that Envoy keeps as one value however often they come. `%REQ()%` has the first value only of all others."""
_OF_BACKENDS_TIME = (
    '%COALESCE({"operators":[{"command":"COMMON_DURATION","param":"US_TX_BEG:US_RX_END:ms"},'
    '{"command":"COMMON_DURATION","param":"US_TX_BEG:US_RX_BEG:ms"}]})%'
)
"""Up to the end of the response; up to its beginning where a client went before the end."""
_TIMES = {
    "request_time": ("true", "request.duration", "%DURATION%"),
    "upstream_response_time": ("has(response.backend_latency)", "response.backend_latency", _OF_BACKENDS_TIME),
}
"""When a duration is known, the duration, and the command for its milliseconds, by variable."""
_SHORT, _BELOW_SECOND = 9, 999
"""The longest durations in milliseconds that have one digit, and that begin with `0.` in seconds."""
_ANSWERED = "response.code_details == 'via_upstream'"
_GRPC = "application/grpc"
"""How the type of a call begins, whose failures Envoy answers with 200."""
_ANSWERED_WELL = (
    log_filters.without_header(ARRIVED),
    log_filters.status_from(100),
    log_filters.some([log_filters.status_below(400), log_filters.both(log_filters.status_from(404), log_filters.status_below(405))]),
    log_filters.begins_otherwise("content-type", _GRPC),
)
"""Filters for requests that a backend answered, and with no error but 404: Envoy's own answers to what was sent to one are others."""
_NOT_ANSWERED_WELL = (
    log_filters.with_header(ARRIVED),
    log_filters.status_below(100),
    log_filters.both(log_filters.status_from(400), log_filters.some([log_filters.status_below(404), log_filters.status_from(405)])),
    log_filters.begins("content-type", _GRPC),
)
"""The opposites of these filters."""
_OF_BACKEND = {
    "upstream_status": ("response.code", "%RESPONSE_CODE%"),
    "upstream_response_length": ("response.size", "%BYTES_SENT%"),
}
"""What is known of a backend's response alone: expressions, and commands where a backend answered, by variable."""
_OF_REQUEST_LINE = ("request_method", "request_uri", "server_protocol")
"""The variables of which `$request` consists."""
_EMPTY = {"proxy_alternative_upstream_name"}
"""ingress-nginx leaves them empty unless there is a canary."""
_NEVER = {"remote_user"}
"""Variables of the default line that are never known here, and no fault of who writes them."""
KNOWN = frozenset(("request", *_EMPTY, *_NATIVE, *_TIMES, *_OF_BACKEND, *_WRITTEN))
"""The variables that have a value, beside those of headers: `$http_<name>`, `$sent_http_<name>`, `$upstream_http_<name>`."""
_HEADER = re.compile(r"(http|sent_http|upstream_http)_([a-z0-9_]+)")


def parsed(text: str) -> str:
    """The text, if it can be a line of a log. Raises ValueError with the rest of a sentence about it."""
    names = names_in(text)
    if len(names) > MOST_VARIABLES:
        raise ValueError(f"has {len(names)} variables, more than {MOST_VARIABLES}")
    if found := re.search(r"\$.{0,10}", VARIABLE.sub("", text)):
        raise ValueError(f'has a "$" that begins no variable, near {found[0]!r}')
    return text


def unknown(text: str) -> list[str]:
    """The variables of a line that have no value here, each once, in the order of the alphabet."""
    return sorted({name for name in names_in(text) if name not in _NEVER and _command(name, Escape.DEFAULT) is None})


def unknown_in_stream(text: str) -> list[str]:
    """The variables of a line for a TCP connection or UDP session that have no value here."""
    return sorted({name for name in names_in(text) if _in_stream(name, "TCP") is None})


def named(names: Sequence[str]) -> str:
    """Variables in a sentence, not too many of them."""
    return ", ".join(f"${name[:40]}" for name in names[:20])


def stream_line(text: str, protocol: str) -> SubstitutionFormatString:
    """A text of `parsed` as Envoy's format for what comes by `protocol`, which ends in a line break. No client can write a value of it."""
    made = text_format(VARIABLE.sub(lambda found: _in_stream(found[1] or found[2], protocol) or "-", text.replace("%", "%%")) + "\n")
    return replace(made, formatters=[formatter()])


def _in_stream(name: str, protocol: str) -> str | None:
    """What a variable is where there is no request; None where it has no value. Envoy does not log how long a UDP session was."""
    of_stream = {
        "protocol": protocol,
        "status": "200",
        "bytes_sent": "%BYTES_SENT%",
        "bytes_received": "%BYTES_RECEIVED%",
        "upstream_bytes_sent": "%UPSTREAM_WIRE_BYTES_SENT%",
        "upstream_bytes_received": "%UPSTREAM_WIRE_BYTES_RECEIVED%",
        "session_time": duration("request.duration") if protocol == "TCP" else "-",
    }
    return of_stream.get(name) or (_NATIVE[name] if name in _OF_CONNECTIONS.split() else None)


class _Form(Enum):
    """How much of a line is known without an expression, or by a small one."""

    BRIEF = 1
    """Durations have one digit, a backend answered, and nothing is to be escaped."""
    PLAIN = 2
    """Durations are below a second, and nothing is to be escaped."""
    ANY = 3


def lines(text: str, escape: Escape) -> list[tuple[list[AccessLogFilter], SubstitutionFormatString]]:
    """A text of `parsed` as Envoy's formats, each with filters that together let requests pass; one of them is for any request.

    A line ends in a line break. A variable without a value is "-"; with other escapes nothing.
    """
    names = _parts(text)
    headers = sorted({written.header for name in names if (written := _written(name)) and written.header and escape is not Escape.NONE})
    odd = _CHARACTERS[escape]
    clean = log_filters.without(headers, odd)
    brief, others = _is_brief(names)
    quick, slow = ([log_filters.at_most(_BELOW_SECOND)], [log_filters.more_than(_BELOW_SECOND)]) if names & _TIMES.keys() else ([], [])
    made = [([*brief, *clean], _line(text, escape, _Form.BRIEF))] if brief else []
    made.append(([*others, *quick, *clean], _line(text, escape, _Form.PLAIN)))
    if slow or headers:
        made.append(([log_filters.some([*slow, *log_filters.with_one(headers, odd)])], _line(text, escape, _Form.ANY)))
    return made


def _parts(text: str) -> set[str]:
    names = set(names_in(text))
    return names | set(_OF_REQUEST_LINE) if "request" in names else names


def _is_brief(names: Iterable[str]) -> tuple[list[AccessLogFilter], list[AccessLogFilter]]:
    """Filters for requests of which durations and the backend's part need no expression, and those for all other requests."""
    wanted = set(names)
    short, longer = ([log_filters.at_most(_SHORT)], [log_filters.more_than(_SHORT)]) if wanted & _TIMES.keys() else ([], [])
    if wanted & (_OF_BACKEND.keys() | {"upstream_response_time"}):
        short, longer = [*short, *_ANSWERED_WELL], [*longer, *_NOT_ANSWERED_WELL]
    return short, [log_filters.some(longer)] if longer else []


def has_path(text: str) -> bool:
    """Whether a line has the path as requested."""
    return "request_uri" in _parts(text)


def path_state(escape: Escape) -> str:
    """The format for `PATH_STATE`, while the request has the path that was asked for."""
    return f"%CEL({_escaped('request.path', escape)})%"


def _line(text: str, escape: Escape, form: _Form) -> SubstitutionFormatString:
    def command(found: re.Match[str]) -> str:
        known = _command(found[1] or found[2], escape, form)
        return _absent(escape) if known is None else known

    made = text_format(VARIABLE.sub(command, text.replace("%", "%%")) + "\n")
    return replace(made, formatters=[formatter()], omit_empty_values=escape is not Escape.DEFAULT)


@cache
def formatter() -> TypedExtensionConfig:
    """Envoy's formatter of CEL with functions of strings, which it lacks unless asked."""
    functions = CelExpressionConfig(enable_string_conversion=True, enable_string_concat=True, enable_string_functions=True)
    return TypedExtensionConfig(name="envoy.formatter.cel", typed_config=pack(CelFormatter(cel_config=functions)))


def duration(seconds: str, known: str = "true", absent: str = "-") -> str:
    """The command for a duration (an expression) in seconds with three decimals, as nginx writes it; `absent` where it is not `known`."""
    return f"%CEL({known} ? string({seconds}.getSeconds()) + '.' + string(1000 + {seconds}.getMilliseconds()).substring(1) : '{absent}')%"


def _below_second(seconds: str, known: str, absent: str) -> str:
    """The same for a duration below a second, in half the time: the first characters of `0.012345678s`, as Envoy writes it."""
    return f"%CEL(string({seconds})):5%" if known == "true" else f"%CEL({known} ? string({seconds}) : '{absent}'):5%"


def _absent(escape: Escape) -> str:
    return "-" if escape is Escape.DEFAULT else ""


def _command(name: str, escape: Escape, form: _Form = _Form.ANY) -> str | None:
    """What a variable is in Envoy's format; None where it has no value here."""
    if name == "request":
        return " ".join(_command(part, escape, form) or "" for part in _OF_REQUEST_LINE)
    if name in _EMPTY:
        return ""
    if name in _NATIVE:
        return _NATIVE[name]
    if name in _TIMES:
        known, seconds, milliseconds = _TIMES[name]
        if form is _Form.BRIEF:
            return f"0.00{milliseconds}"
        return (_below_second if form is _Form.PLAIN else duration)(seconds, known, _absent(escape))
    if name in _OF_BACKEND:
        expression, command = _OF_BACKEND[name]
        return command if form is _Form.BRIEF else f"%CEL({_ANSWERED} ? {expression} : '{_absent(escape)}')%"
    if written := _written(name):
        return written.command if written.command and form is not _Form.ANY else _as_escaped(name, written, escape)
    if found := _HEADER.fullmatch(name):
        return _of_header("request" if found[1] == "http" else "response", found[2].replace("_", "-"), escape)
    return None


def _written(name: str) -> _FromClient | None:
    """What a client writes; None for a variable that is something else, or a header of which there may be several."""
    header = name.removeprefix("http_").replace("_", "-")
    return _FromClient("", f"%REQ({header.upper()})%", header) if name.startswith("http_") and header in _JOINED else _WRITTEN.get(name)


def _as_escaped(name: str, written: _FromClient, escape: Escape) -> str:
    """The command for what a client wrote, escaped. A path that was kept is escaped already.

    What a filter has looked into is replaced without a second look. Few requests are written so, but each certificate has the expression.
    """
    if not written.expression:
        return _of_header("request", written.header, escape)
    value = _replaced(written.expression, escape) if written.header else _escaped(written.expression, escape)
    kept = f"'{PATH_STATE}' in filter_state"
    return f"%CEL({kept} ? string(filter_state['{PATH_STATE}']) : ({value}))%" if name == "request_uri" else f"%CEL({value})%"


def _of_header(message: str, header: str, escape: Escape) -> str:
    value = f"{message}.headers['{header}']"
    return f"%CEL('{header}' in {message}.headers ? ({_escaped(value, escape)}) : '{_absent(escape)}')%"


def _escaped(value: str, escape: Escape) -> str:
    """An expression for a value with what has to be escaped; most values have nothing of it, and pass as they are."""
    sequences = _SEQUENCES[escape]
    if not sequences:
        return value
    odd = " || ".join(f"{value}.contains('{character}')" for character, _ in sequences)
    return f"{odd} ? {_replaced(value, escape)} : {value}"


def _replaced(value: str, escape: Escape) -> str:
    """An expression for a value with all that has to be escaped replaced, if there is any."""
    return value + "".join(f".replace('{character}', '{sequence}')" for character, sequence in _SEQUENCES[escape])
