"""custom-headers: response headers that a ConfigMap lists, as far as the administrator lets Ingresses set them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress
from xds.model import Route
from xds.nginx.feature import Annotation, Closed, Feature, Key, Notes, Objects, Risk
from xds.nginx.messages import literal, overwriting
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, readable, shown

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_OF_THE_CONNECTION = frozenset(
    ("connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Headers that say where a message ends or for whom it is; Envoy rejects `Host`, and with the others clients would read nonsense."""
LONGEST = 16_384
"""Bytes of all headers of one ConfigMap: many clients read no more."""

Headers = tuple[tuple[str, str], ...]


def _names(text: str) -> frozenset[str]:
    """Names separated by commas; what is none is left out, as ingress-nginx does, while there is one that is."""
    found = frozenset(name for part in text.split(",") if _NAME.fullmatch(name := part.strip()))
    if not found:
        raise ValueError(f"is {shown(text)}, in which there is no name of a header")
    return found


CUSTOM_HEADERS = Annotation(
    "custom-headers",
    str,
    "The ConfigMap (`namespace/name`) with headers for all responses. Each must be listed in global-allowed-response-headers, else the "
    "paths answer 503.",
    "default/headers",
    "",
    risk=Risk.MEDIUM,
)
ALLOWED = Key[frozenset[str]](
    "global-allowed-response-headers", _names, "The headers that custom-headers may set.", "X-Frame-Options, X-Team", frozenset()
)


@dataclass(frozen=True, slots=True)
class _HeadersSetting:
    """A ConfigMap as an annotation names it, and the headers that may stand in it."""

    config_map: str
    allowed: frozenset[str]


def _read(notes: Notes) -> _HeadersSetting | None:
    written, allowed = notes.own(CUSTOM_HEADERS), notes.key(ALLOWED)
    return _HeadersSetting(written, allowed) if written else None


def _resolve(asked: _HeadersSetting, item: Ingress, objects: Objects) -> Headers | Closed:
    """The headers, sorted by name. One that may not be set closes the paths, as in ingress-nginx: it may be there to protect somebody."""
    found = objects.config_map(CUSTOM_HEADERS, asked.config_map)
    if isinstance(found, Closed):
        return found
    about = f"ConfigMap {found.meta.namespace}/{found.meta.name}"
    headers: list[tuple[str, str]] = []
    for name in sorted(found.data):
        if why := _fault(name, asked.allowed):
            return Closed(CUSTOM_HEADERS.name, f"names {about}, where {shown(name)} {why}")
        try:
            headers.append((name, _value(found.data[name])))
        except ValueError as error:
            return Closed(CUSTOM_HEADERS.name, f"names {about}, where {shown(name)} {error}")
    size = sum(len(name) + len(literal(value).encode()) for name, value in headers)
    if size > LONGEST or size * item.most_locations > LONGEST_IN_ALL_LOCATIONS:
        return Closed(CUSTOM_HEADERS.name, f"names {about}, whose {size:,} bytes are too many for {item.most_locations:,} paths and hosts")
    return tuple(headers)


def _fault(name: str, allowed: frozenset[str]) -> str:
    """Why a header may not be set, as the end of a sentence; "" where it may."""
    if not _NAME.fullmatch(name):
        return "is no name of a header"
    if name not in allowed:
        return "is not among global-allowed-response-headers"
    return "belongs to the connection" if name.lower() in _OF_THE_CONNECTION else ""


def _value(text: str) -> str:
    """A value in one line. Raises ValueError for what cannot stand in a header."""
    value = readable(text)
    if "\n" in value:
        raise ValueError("has several lines")
    return value


def _on_route(headers: Headers, _route: Route, envoy: EnvoyRoute) -> None:
    """Each replaces what the backend sent; one without a value is removed, as nginx's `more_set_headers` does."""
    envoy.response_headers_to_add += [overwriting(name, value) for name, value in headers if value]
    envoy.response_headers_to_remove += [name for name, value in headers if not value]


FEATURE = Feature[Any](
    read=_read,
    annotations=(CUSTOM_HEADERS,),
    keys=(ALLOWED,),
    resolve=_resolve,
    on_route=_on_route,
)
