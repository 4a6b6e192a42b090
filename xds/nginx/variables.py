"""nginx's variables in texts that users write, as Envoy's formats: what a text may hold, and what it becomes on a route.

What belongs here: variables whose value Envoy knows of each request or response, or that are known of a route. What does not: which
annotation takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from xds.model import Forward, Route
from xds.nginx.values import shown
from xds.patterns import regex

MOST = 8
"""Variables of one text: each is worked out for each request."""
MOST_EXPRESSIONS = 10_000
"""Expressions of CEL on all paths of an Ingress together. Envoy compiles each whenever any host changes, which takes some 0.2 ms."""
DEAREST = 200
"""What a pattern may cost (`xds.patterns.regex.cost`) that Envoy compiles for each request (`extracted`)."""
CAPTURE = re.compile(r"\$(?:\{([1-9])\}|([1-9]))")
"""A group of a pattern, $1 to $9."""
ANSWERED = "x-xds-auth-answered-"
"""How the keys begin under which the metadata of a request has headers of an authentication service's answer."""
OF_ANSWER = "authorized_http_"
"""How the names begin of the variables for these headers: they stand in what is made of `auth_request_set`, and nobody writes them."""
VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
"""A variable in a text, with its name in braces or without: the one of two groups that is not empty."""


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable as an expression of CEL, and as a format where that costs less. Without an expression it cannot be in a condition."""

    cel: str
    format: str = ""


def _header_of(name: str, message: str) -> str:
    return f"'{name}' in {message}.headers ? {message}.headers['{name}'] : ''"


_PATH = "request.url_path"
_URI = "request.path"
HOST = "(request.host.contains(':') ? re.extract(request.host, '^([[].*[]]|[^:]*)', '\\\\1') : request.host)"
"""The expression for `$host`: without the port. Envoy compiles the pattern of `re.extract` for each request, so only where it must."""
_BEST_HOST = (
    "(!('x-forwarded-host' in request.headers) || request.headers['x-forwarded-host'] == '' ? request.host : "
    "request.headers['x-forwarded-host'].contains(',') ? re.extract(request.headers['x-forwarded-host'], '^([^,]*)', '\\\\1') : "
    "request.headers['x-forwarded-host'])"
)
BEST_HOST = f"%CEL{_BEST_HOST}%"
"""The format for `$best_http_host` where X-Forwarded-Host is believed: its first name, with the port if it has one."""
BEST_HOST_WITHOUT_PORT = f"re.extract({_BEST_HOST}, '^([[].*[]]|[^:]*)', '\\\\1')"
"""The expression for the same without the port."""
MORE_ARGUMENTS = "%CEL(request.query != '' ? '&' : '')%%CEL(request.query)%"
"""The format for the arguments of a request behind those that an address has."""
_CLIENT = "re.extract(source.address, '^[[]?(.*?)[]]?:[0-9]+$', '\\\\1')"
_SCHEME = _header_of("x-forwarded-proto", "request")
_PORT = _header_of("x-forwarded-port", "request")
_ID = _header_of("x-request-id", "request")
_PROTOCOL = "request.protocol == 'HTTP/2' ? 'HTTP/2.0' : request.protocol"
_ADDRESS = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
_ANSWERS = "envoy.filters.http.ext_authz"


def _noted(key: str) -> _Variable:
    """What the authorisation service, or another one, has noted of a request."""
    there = f"'{_ANSWERS}' in metadata.filter_metadata && '{key}' in metadata.filter_metadata['{_ANSWERS}']"
    return _Variable(f"{there} ? metadata.filter_metadata['{_ANSWERS}']['{key}'] : ''", f"%DYNAMIC_METADATA({_ANSWERS}:{key})%")


_OF_REQUEST: Mapping[str, _Variable] = {
    "host": _Variable(HOST),
    "http_host": _Variable("request.host", "%REQ(:authority)%"),
    "server_name": _Variable("xds.virtual_host_name == '*' ? '_' : xds.virtual_host_name"),
    "best_http_host": _Variable("request.host", "%REQ(:authority)%"),
    "request_uri": _Variable(_URI, "%REQ(:path)%"),
    "uri": _Variable(_PATH),
    "document_uri": _Variable(_PATH),
    "args": _Variable("request.query"),
    "query_string": _Variable("request.query"),
    "is_args": _Variable("request.query != '' ? '?' : ''"),
    "request_method": _Variable("request.method", "%REQ(:method)%"),
    "request_id": _Variable(_ID, "%REQ(x-request-id)%"),
    "req_id": _Variable(_ID, "%REQ(x-request-id)%"),
    "scheme": _Variable(_SCHEME, "%REQ(x-forwarded-proto)%"),
    "pass_access_scheme": _Variable(_SCHEME, "%REQ(x-forwarded-proto)%"),
    "https": _Variable("'x-forwarded-proto' in request.headers && request.headers['x-forwarded-proto'] == 'https' ? 'on' : ''"),
    "request": _Variable("", f"%REQ(:method)% %REQ(:path)% %CEL({_PROTOCOL})%"),
    "server_protocol": _Variable(_PROTOCOL),
    "content_type": _Variable(_header_of("content-type", "request"), "%REQ(content-type)%"),
    "content_length": _Variable(_header_of("content-length", "request"), "%REQ(content-length)%"),
    "remote_addr": _Variable(_CLIENT, _ADDRESS),
    "the_real_ip": _Variable(_CLIENT, _ADDRESS),
    "remote_user": _noted("user"),
    "realip_remote_addr": _Variable("", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    "remote_port": _Variable("", "%DOWNSTREAM_REMOTE_PORT%"),
    "server_addr": _Variable("", "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
    "server_port": _Variable("", "%DOWNSTREAM_LOCAL_PORT%"),
    "pass_port": _Variable(_PORT, "%REQ(x-forwarded-port)%"),
    "pass_server_port": _Variable(_PORT, "%REQ(x-forwarded-port)%"),
    "connection": _Variable("", "%CONNECTION_ID%"),
    "hostname": _Variable("", "%HOSTNAME%"),
    "msec": _Variable("", "%START_TIME(%s.%3f)%"),
    "time_iso8601": _Variable("", "%START_TIME_LOCAL(%Y-%m-%dT%H:%M:%S%Ez)%"),
    "time_local": _Variable("", "%START_TIME_LOCAL(%d/%b/%Y:%H:%M:%S %z)%"),
    "proxy_add_x_forwarded_for": _Variable("", f"%REQ(x-forwarded-for)%%CEL('x-forwarded-for' in request.headers ? ', ' : '')%{_ADDRESS}"),
    "ssl_protocol": _Variable("", "%DOWNSTREAM_TLS_VERSION%"),
    "ssl_cipher": _Variable("", "%DOWNSTREAM_TLS_CIPHER%"),
    "ssl_server_name": _Variable("", "%REQUESTED_SERVER_NAME%"),
    "ssl_client_s_dn": _Variable("", "%DOWNSTREAM_PEER_SUBJECT%"),
    "ssl_client_i_dn": _Variable("", "%DOWNSTREAM_PEER_ISSUER%"),
    "ssl_client_serial": _Variable("", "%DOWNSTREAM_PEER_SERIAL%"),
    "ssl_client_v_start": _Variable("", "%DOWNSTREAM_PEER_CERT_V_START(%b %e %H:%M:%S %Y GMT)%"),
    "ssl_client_v_end": _Variable("", "%DOWNSTREAM_PEER_CERT_V_END(%b %e %H:%M:%S %Y GMT)%"),
    "ssl_client_fingerprint": _Variable("", "%DOWNSTREAM_PEER_FINGERPRINT_1%"),
    "ssl_client_escaped_cert": _Variable("", "%DOWNSTREAM_PEER_CERT%"),
}
_OF_URL = frozenset(("args", "document_uri", "is_args", "query_string", "request_uri", "uri"))
"""Those of the path and the query."""
_OF_RESPONSE: Mapping[str, _Variable] = {
    "status": _Variable("response.code", "%RESP(:status)%"),
    "upstream_status": _Variable("response.code", "%CEL(upstream.address == '' ? '' : response.code)%"),
    "upstream_addr": _Variable("upstream.address", "%UPSTREAM_REMOTE_ADDRESS%"),
    "upstream_cache_status": _Variable("''"),
}
"""What is known when a response is there. There is no cache, so that no response has a state of one."""


def _upstream(route: Route) -> str:
    if not isinstance(route.action, Forward):
        return ""
    return f"{route.action.cluster.namespace}-{route.action.cluster.service}-{route.action.cluster.port}"


_OF_ROUTE: dict[str, Callable[[Route], str]] = {
    "namespace": lambda route: route.origin.namespace if route.origin else "",
    "service_name": lambda route: route.action.cluster.service if isinstance(route.action, Forward) else "",
    "service_port": lambda route: str(route.action.cluster.port) if isinstance(route.action, Forward) else "",
    "proxy_upstream_name": _upstream,
    "ingress_name": lambda route: route.origin.name if route.origin else "",
}
_BY_NAMES: Mapping[str, str] = {
    "namespace": "%CEL(re.extract(xds.route_name, '^([^/]*)/', '\\\\1'))%",
    "service_name": "%CEL(re.extract(xds.cluster_name, '^[^/]*/([^/]*)/', '\\\\1'))%",
    "service_port": "%CEL(re.extract(xds.cluster_name, '^[^/]*/[^/]*/([^~@]*)', '\\\\1'))%",
    "proxy_upstream_name": "%METADATA(CLUSTER:xds:upstream)%",
    "ingress_name": "%CEL(re.extract(xds.route_name, '^[^/]*/([^ ]*)', '\\\\1'))%",
}
"""The same variables as formats for all routes, made of the names of the route and of the cluster (`xds.nginx.registry.cluster_name`)."""
_FAMILY = re.compile(r"(http|arg|cookie)_([a-z0-9_]+)", re.IGNORECASE)
_OF_RESPONSE_HEADER = re.compile(r"(?:upstream|sent)_http_([a-z0-9_]+)", re.IGNORECASE)


def of_route(name: str) -> bool:
    """Whether a variable is the same for all requests of a route: it is one of the Ingress or its Service."""
    return name in _OF_ROUTE


def names_in(text: str) -> list[str]:
    """The names of the variables in a text, in its order."""
    return [braced or bare for braced, bare in VARIABLE.findall(text)]


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """A text as pairs of what is before a variable, and the name of the variable; "" for none at the end."""
    position = 0
    for found in VARIABLE.finditer(text):
        yield text[position : found.start()], found[1] or found[2]
        position = found.end()
    if position < len(text):
        yield text[position:], ""


def header_of_answer(name: str) -> str:
    """The header, in lower case, that a variable of `OF_ANSWER` stands for."""
    return name.removeprefix(OF_ANSWER).lower().replace("_", "-")


def known(text: str, *, of_response: bool = False) -> str:
    """The text, if every "$" in it begins a variable of which the value can be worked out. Raises ValueError."""
    if re.search(r"[${}]", VARIABLE.sub("", text)):
        raise ValueError(f'is {shown(text)}, where a "$" or a brace belongs to no variable')
    fault = unknown(text, of_response=of_response)
    if fault:
        raise ValueError(f"is {shown(text)}, {fault}")
    return text


def known_beside_captures(text: str) -> str:
    """The text, if that holds of what is around its captures, $1 to $9. Raises ValueError."""
    known(CAPTURE.sub("/", text))  # what is around a capture is no variable together
    found = len(CAPTURE.findall(text))
    if found > MOST and _expressions(text):
        raise ValueError(f"is {shown(text)}, which has {found} captures beside variables, more than {MOST}")
    return text


def unknown(text: str, *, of_response: bool = False) -> str:
    """Why the variables of a text cannot be worked out, as the end of a sentence; "" where they can."""
    names = names_in(text)
    if len(names) > MOST:
        return f"which has {len(names)} variables, more than {MOST}"
    for name in names:
        if name not in _OF_ROUTE and _variable(name, of_response=of_response) is None:
            return f"but ${name[:40]} is no variable that Envoy knows"
    return ""


def for_all(text: str, *, of_response: bool = False) -> str:
    """A text as Envoy's format for all routes together, dearer than that for one (`as_format`). Raises ValueError as `known` does."""
    known(text, of_response=of_response)

    def made(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return _BY_NAMES.get(name) or _of_request(name, of_response=of_response)

    return VARIABLE.sub(made, text.replace("%", "%%"))


def too_many(texts: Iterable[str], locations: int) -> str:
    """Why the variables of texts are too many for as many paths and hosts, as the end of a sentence; "" where they are not."""
    number = sum(map(_expressions, texts))
    if number * locations <= MOST_EXPRESSIONS:
        return ""
    return f"comes to {number:,} variables on each path that Envoy has to compile, too many for {locations:,} paths and hosts"


def _expressions(text: str) -> int:
    """How many variables of a text Envoy has to compile. Captures without any other variable are found together, for nothing."""
    names = names_in(CAPTURE.sub("/", text))
    return sum(map(_is_expression, names)) + (len(CAPTURE.findall(text)) if names else 0)


def _is_expression(name: str) -> bool:
    variable = _variable(name, of_response=True)
    return variable is not None and "%CEL(" in (variable.format or "%CEL(")


def only_text(text: str) -> bool:
    """Whether a text has no variable."""
    return not VARIABLE.search(text)


def may_be_empty(name: str, text: str) -> bool:
    """Whether a text may come to nothing, so that a header of that name must go before; not where it is made of that very header.

    Any other variable is none of it, whatever its name ends with: a client would choose what an authentication service left out.
    """
    return all(not before for before, _ in pieces(text)) and not any(_reads(each, name.lower()) for each in names_in(text))


def _reads(name: str, header: str) -> bool:
    """Whether a variable is made of a header, whose name is in lower case."""
    found = _variable(name, of_response=True)
    return found is not None and (f"headers['{header}']" in found.cel or f"%REQ({header})%" in found.format)


def as_format(text: str, route: Route, *, of_response: bool = False) -> str:
    """A text of `known` as Envoy's format on a route. A header that a request has not is empty, as in nginx."""
    return VARIABLE.sub(lambda found: _format(found[1] or found[2], route, of_response=of_response), text.replace("%", "%%"))


def with_captures(text: str, pattern: str, route: Route, of: str = "") -> str:
    """The same of a text in which groups of an acceptable pattern may stand too (`extracted`). One that the pattern has not is nothing."""
    made, position, groups = "", 0, regex.groups(pattern)
    for found in CAPTURE.finditer(text):
        number = found[1] or found[2]
        made += as_format(text[position : found.start()], route)
        made += extracted(pattern, f"\\{number}", of) if int(number) <= groups else ""
        position = found.end()
    return made + as_format(text[position:], route)


def as_references(text: str, groups: int) -> str:
    """A text whose captures are written as Envoy's substitutions refer to groups, `\\1`. One beyond so many groups is nothing."""
    return CAPTURE.sub(lambda found: f"\\{found[1] or found[2]}" if int(found[1] or found[2]) <= groups else "", text)


def ascii_proofs(text: str) -> tuple[str, ...]:
    """Formats that are 1, each, where what a text has a variable for is ASCII: a header of the request, which may be missing, or its URL.

    CEL reads no header that is not UTF-8, and finds nothing in such a URL, which clients of HTTP/2 may send: then the variables of one
    header, and all arguments, are empty, whatever is in them.
    """
    families = [found for name in names_in(text) if (found := _FAMILY.fullmatch(name))]
    headers = {
        "cookie" if found[1].lower() == "cookie" else found[2].lower().replace("_", "-") for found in families if found[1].lower() != "arg"
    }
    of_url = any(found[1].lower() == "arg" for found in families) or not _OF_URL.isdisjoint(names_in(text))
    url = (f"%CEL({_URI}.matches('^[ -~]*$') ? '1' : '')%",) if of_url else ()
    return url + tuple(
        f"%CEL('{each}' in request.headers && !request.headers['{each}'].matches('^[ -~]*$') ? '' : '1')%" for each in sorted(headers)
    )


def as_format_where(text: str, route: Route, condition: str) -> str:
    """The same for a response, where a condition of CEL holds; else nothing. Raises ValueError for a variable without an expression.

    Envoy's CEL joins no texts, so that each piece has the condition.
    """
    made: list[str] = []
    for before, name in pieces(text):
        if before:
            made.append(_where(condition, f"'{quoted(before)}'"))
        if name in _OF_ROUTE:
            made.append(_where(condition, f"'{quoted(_OF_ROUTE[name](route))}'"))
        elif name:
            variable = _variable(name, of_response=True)
            if variable is None or not variable.cel:
                raise ValueError(f"${name[:40]} cannot depend on the status of the response")
            made.append(_where(condition, f"({variable.cel})"))
    return "".join(made)


def _where(condition: str, value: str) -> str:
    return f"%CEL(({condition}) ? {value} : '')%"


def _variable(name: str, *, of_response: bool = False) -> _Variable | None:
    """A variable of the request, or of its response."""
    found = _OF_REQUEST.get(name) or (_OF_RESPONSE.get(name) if of_response else None)
    if found:
        return found
    if of_response and (answer := _OF_RESPONSE_HEADER.fullmatch(name)):
        return _Variable(_header_of(answer[1].lower().replace("_", "-"), "response"))
    if name.startswith(OF_ANSWER):
        return _noted(f"{ANSWERED}{header_of_answer(name)}")
    family = _FAMILY.fullmatch(name)
    return _Variable(_FAMILIES[family[1].lower()](family[2].lower())) if family else None


def _of_argument(name: str) -> str:
    """The first argument of a name, as it was sent; the case of the name does not matter."""
    pattern = f"(?i)^(?:.*?&)??{name}=([^&]*).*$"
    return f"request.query.matches('(?i)(^|&){name}=') ? re.extract(request.query, '{pattern}', '\\\\1') : ''"


def _of_cookie(name: str) -> str:
    """The first cookie of a name. As in nginx, a comma may come before the name, but ends no value: a signature may follow it."""
    pattern = f"(?i)^(?:.*?[;,] *)??{name} *= *([^;]*).*$"
    there = f"'cookie' in request.headers && request.headers['cookie'].matches('(?i)(^|[;,] *){name} *=')"
    return f"{there} ? re.extract(request.headers['cookie'], '{pattern}', '\\\\1') : ''"


_FAMILIES: Mapping[str, Callable[[str], str]] = {
    "http": lambda name: _header_of(name.replace("_", "-"), "request"),
    "arg": _of_argument,
    "cookie": _of_cookie,
}


def _format(name: str, route: Route, *, of_response: bool) -> str:
    if name in _OF_ROUTE:
        return _OF_ROUTE[name](route).replace("%", "%%")
    return _of_request(name, of_response=of_response)


def _of_request(name: str, *, of_response: bool) -> str:
    variable = _variable(name, of_response=of_response)
    assert variable is not None
    return variable.format or f"%CEL({variable.cel})%"


def quoted(text: str) -> str:
    """A text within a string of CEL: each character that could end the string, or the format around it, is written by its number."""
    return "".join(c if c.isascii() and c.isalnum() else _by_number(c) for c in text)


def _by_number(character: str) -> str:
    """A character within a string of CEL."""
    return f"\\x{ord(character):02x}" if character.isascii() else f"\\U{ord(character):08x}"


def extracted(pattern: str, text: str, of: str = "") -> str:
    """A format for what an acceptable pattern finds in the path of a request; `text` refers to groups as `\\1`, and has no other escapes.

    `of` names a variable in which it is searched instead. The pattern stands in an expression within a format.
    """
    variable = _variable(of) if of else None
    return f"%CEL(re.extract({f'({variable.cel})' if variable else _PATH}, '{quoted(pattern)}', '{quoted(text)}'))%"
