"""nginx's variables in texts that users write, as Envoy's formats: what a text may hold, and what it becomes on a route.

What belongs here: variables whose value Envoy knows of each request, or that are known of a route. What does not: which annotation takes
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from xds.model import Cluster, Forward, Route
from xds.nginx.values import shown

MOST = 8
"""Variables of one text: each is worked out for each request."""
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_OF_REQUEST = {
    "host": "%CEL(re.extract(request.host, '^([[].*[]]|[^:]*)', '\\\\1'))%",
    "http_host": "%REQ(:authority)%",
    "best_http_host": "%REQ(:authority)%",
    "request_uri": "%REQ(:path)%",
    "uri": "%CEL(request.url_path)%",
    "document_uri": "%CEL(request.url_path)%",
    "args": "%CEL(request.query)%",
    "query_string": "%CEL(request.query)%",
    "request_method": "%REQ(:method)%",
    "request_id": "%REQ(x-request-id)%",
    "req_id": "%REQ(x-request-id)%",
    "scheme": "%REQ(x-forwarded-proto)%",
    "pass_access_scheme": "%REQ(x-forwarded-proto)%",
    "remote_addr": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "the_real_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
}
_OF_ROUTE: dict[str, Callable[[Route], str]] = {
    "namespace": lambda route: _cluster(route).namespace,
    "service_name": lambda route: _cluster(route).service,
    "service_port": lambda route: str(_cluster(route).port),
    "proxy_upstream_name": lambda route: "{0.namespace}-{0.service}-{0.port}".format(_cluster(route)),
    "ingress_name": lambda route: route.origin.name if route.origin else "",
}
_HEADER = re.compile(r"http_[a-z0-9_]+")


def _cluster(route: Route) -> Cluster:
    assert isinstance(route.action, Forward)
    return route.action.cluster


def known(text: str) -> str:
    """The text, if every "$" in it begins a variable of which the value can be worked out. Raises ValueError."""
    names = [braced or bare for braced, bare in _VARIABLE.findall(text)]
    if re.search(r"[${}]", _VARIABLE.sub("", text)):
        raise ValueError(f'is {shown(text)}, where a "$" or a brace belongs to no variable')
    if len(names) > MOST:
        raise ValueError(f"is {shown(text)}, which has {len(names)} variables, more than {MOST}")
    for name in names:
        if name not in _OF_REQUEST and name not in _OF_ROUTE and not _HEADER.fullmatch(name):
            raise ValueError(f"is {shown(text)}, but ${name[:40]} is no variable that Envoy knows")
    return text


def as_format(text: str, route: Route) -> str:
    """A text of `known` as Envoy's format on a route that forwards. A header that a request has not is empty, as in nginx."""
    return _VARIABLE.sub(lambda found: _format(found[1] or found[2], route), text.replace("%", "%%"))


def _format(name: str, route: Route) -> str:
    if name in _OF_ROUTE:
        return _OF_ROUTE[name](route).replace("%", "%%")
    if name in _OF_REQUEST:
        return _OF_REQUEST[name]
    header = name.removeprefix("http_").replace("_", "-")
    return f"%CEL('{header}' in request.headers ? request.headers['{header}'] : '')%"


def quoted(text: str) -> str:
    """A text for a string of CEL within a format: what could end either is written by its number."""
    return "".join(c if c.isascii() and c.isalnum() else _by_number(c) for c in text)


def _by_number(character: str) -> str:
    """A character within a string of CEL."""
    return f"\\x{ord(character):02x}" if character.isascii() else f"\\U{ord(character):08x}"


def extracted(pattern: str, text: str) -> str:
    """A format for what an acceptable pattern finds in the path of a request; `text` refers to groups as `\\1`, with no other escapes."""
    return f"%CEL(re.extract(request.url_path, '{quoted(pattern)}', '{quoted(text)}'))%"
