"""nginx's log formats as Envoy's: a line with variables becomes a line with Envoy's commands.

What belongs here: which variable of a log is which command, and how values of clients are escaped. What does not: where a line is
written, and which requests have one (`features/access_log.py`).

Envoy escapes nothing in a line of text. What a client wrote could end a field with a quotation mark, and forge those that follow; so each
such value is written by an expression, which escapes as nginx does. Line breaks and other control characters never reach a log: Envoy
refuses requests that have them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import cache

from envoy_data_plane.envoy.config.core.v3 import CelExpressionConfig, SubstitutionFormatString, TypedExtensionConfig

from xds.nginx.messages import CelFormatter, text_format
from xds.nginx.variables import HOST, VARIABLE, names_in
from xds.wire.encode import pack

PATH_STATE = "xds.path"
"""The filter state with the path as requested: at the end of a request its path may be a rewritten one."""
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
    "namespace": "%CEL(re.extract(xds.route_name, '^([^/]*)/', '\\\\1'))%",
    "ingress_name": "%CEL(re.extract(xds.route_name, '^[^/]*/([^ ]*)', '\\\\1'))%",
}
"""Values in which no client can write a quotation mark or a backslash, by variable."""
_OF_CONNECTIONS = """
remote_addr remote_port server_addr server_port time_local time_iso8601 msec connection hostname upstream_addr proxy_upstream_name
"""
"""Those of them that are known without a request."""
_WRITTEN = {
    "request_uri": f"string(filter_state['{PATH_STATE}'])",
    "uri": "request.url_path",
    "document_uri": "request.url_path",
    "args": "request.query",
    "query_string": "request.query",
    "host": HOST,
    "http_host": "request.host",
    "best_http_host": "request.host",
    "http_referer": "request.referer",
    "http_user_agent": "request.useragent",
    "req_id": "request.id",
    "request_id": "request.id",
    "ssl_server_name": "connection.requested_server_name",
    "ssl_client_s_dn": "connection.subject_peer_certificate",
}
"""Expressions for what a client writes, by variable."""
_TIMES = {
    "request_time": ("true", "request.duration"),
    "upstream_response_time": ("has(response.backend_latency)", "response.backend_latency"),
}
"""When a duration is known, and the duration, by variable."""
_ANSWERED = "response.code_details == 'via_upstream'"
_OF_BACKEND = {"upstream_status": "response.code", "upstream_response_length": "response.size"}
"""Expressions for what is known of a backend's response alone, by variable."""
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


def line(text: str, escape: Escape) -> SubstitutionFormatString:
    """A text of `parsed` as Envoy's format, which ends in a line break. A variable without a value is "-"; with other escapes nothing."""

    def command(found: re.Match[str]) -> str:
        known = _command(found[1] or found[2], escape)
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


def _absent(escape: Escape) -> str:
    return "-" if escape is Escape.DEFAULT else ""


def _command(name: str, escape: Escape) -> str | None:
    """What a variable is in Envoy's format; None where it has no value here."""
    absent = _absent(escape)
    if name == "request":
        return " ".join(_command(part, escape) or "" for part in ("request_method", "request_uri", "server_protocol"))
    if name in _EMPTY:
        return ""
    if name in _NATIVE:
        return _NATIVE[name]
    if name in _TIMES:
        return duration(_TIMES[name][1], _TIMES[name][0], absent)
    if name in _OF_BACKEND:
        return f"%CEL({_ANSWERED} ? {_OF_BACKEND[name]} : '{absent}')%"
    if name in _WRITTEN:
        return f"%CEL({_escaped(_WRITTEN[name], escape)})%"
    if found := _HEADER.fullmatch(name):
        headers, header = ("request" if found[1] == "http" else "response"), found[2].replace("_", "-")
        value = f"{headers}.headers['{header}']"
        return f"%CEL('{header}' in {headers}.headers ? ({_escaped(value, escape)}) : '{absent}')%"
    return None


def _escaped(value: str, escape: Escape) -> str:
    """An expression for a value with what has to be escaped; most values have nothing of it, and pass as they are."""
    sequences = _SEQUENCES[escape]
    if not sequences:
        return value
    odd = " || ".join(f"{value}.contains('{character}')" for character, _ in sequences)
    replaced = "".join(f".replace('{character}', '{sequence}')" for character, sequence in sequences)
    return f"{odd} ? {value}{replaced} : {value}"
