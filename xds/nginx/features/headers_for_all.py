"""add-headers, proxy-set-headers, hide-headers: headers of all responses, and of all requests on their way to backends.

They stand in the route table, so that a change drains no connection. What a route says of the same header wins, such as a custom header:
nginx appends the directives of a location to those around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

from xds.nginx import variables
from xds.nginx.feature import Feature, Fidelity, Key, Notes
from xds.nginx.messages import formatted
from xds.nginx.values import boolean, matching, readable, shown, words

_OF_THE_CONNECTION = frozenset(
    ("connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Headers that say where a message ends or for whom it is."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,200}")
_CONFIG_MAP = matching(r"[A-Za-z0-9._-]{1,253}/[A-Za-z0-9._-]{1,253}", "namespace/name of a ConfigMap")
_MOST = 100
"""Headers of one ConfigMap."""
_REASON = "a header of the connection, such as Host, or with a variable that Envoy does not know, is left out"

Pairs = tuple[tuple[str, str], ...]


def _names(text: str) -> tuple[str, ...]:
    """The names of headers in a list, each once. What is none hides nothing, while there is one that is."""
    found = {word.lower() for word in words(text) if _NAME.fullmatch(word)} - _OF_THE_CONNECTION
    if not found:
        raise ValueError(f"is {shown(text)}, in which there is no name of a header")
    return tuple(sorted(found))


def _formats(data: Mapping[str, str], *, of_response: bool) -> tuple[Pairs, list[str]]:
    """The headers that can be set, sorted by name, and what is wrong with the others.

    One for backends that may come to nothing is removed before: no client fills it in.
    """
    made: list[tuple[str, str]] = []
    faults: list[str] = []
    for name in sorted(data)[:_MOST]:
        try:
            text = _format(name, data[name], of_response=of_response)
            removed = [(name, "")] if text and not of_response and variables.may_be_empty(name, readable(data[name])) else []
            made += [*removed, (name, text)]
        except ValueError as error:
            faults.append(f"where {shown(name)} {error}; it is left out")
    if len(data) > _MOST:
        faults.append(f"which has {len(data):,} headers, and those after the first {_MOST} are left out")
    return tuple(made), faults


def _format(name: str, text: str, *, of_response: bool) -> str:
    """A value as one of Envoy's formats. Raises ValueError for a header that cannot be set."""
    value = readable(text)
    if not _NAME.fullmatch(name):
        raise ValueError("is no name of a header")
    if name.lower() in _OF_THE_CONNECTION:
        raise ValueError("belongs to the connection")
    if "\n" in value:
        raise ValueError("has several lines")
    return variables.for_all(value, of_response=of_response)


def _of_config_map(name: str, doc: str, example: str, *, of_response: bool) -> Key[Any]:
    formats = partial(_formats, of_response=of_response)
    return Key(name, _CONFIG_MAP, doc, example, (), Fidelity.APPROXIMATE, _REASON, of_config_map=formats)


ADD_HEADERS = _of_config_map(
    "add-headers",
    "The ConfigMap (`namespace/name`) with headers for all responses; nginx's variables may stand in them.",
    "ingress/added",
    of_response=True,
)
PROXY_SET_HEADERS = _of_config_map(
    "proxy-set-headers",
    "The ConfigMap (`namespace/name`) with headers for all requests to backends; nginx's variables may stand in them.",
    "ingress/set",
    of_response=False,
)
HIDE_HEADERS = Key[tuple[str, ...]](
    "hide-headers", _names, "Headers of backends that clients do not get, separated by commas.", "X-Powered-By, Server", ()
)


SERVER = Key("allow-backend-server-header", boolean, "Whether clients get the Server header that a backend sends.", "true", default=False)
ORIGINAL_URI = Key(
    "proxy-add-original-uri-header", boolean, "Whether backends get the path as it was requested in X-Original-Uri.", "true", default=False
)


@dataclass(frozen=True, slots=True)
class HeadersForAll:
    """`added` to responses and `set_` for backends, as names and Envoy's formats ("" removes one); `hidden` from clients.

    With `server` clients get the Server header of the backend.
    """

    added: Pairs
    set_: Pairs
    hidden: tuple[str, ...]
    server: bool


def _read(notes: Notes) -> HeadersForAll | None:
    own = (("X-Original-Uri", "%REQ(:path)%"),) if notes.key(ORIGINAL_URI) else ()
    set_ = (*own, *notes.key(PROXY_SET_HEADERS))
    found = HeadersForAll(notes.key(ADD_HEADERS), set_, notes.key(HIDE_HEADERS), notes.key(SERVER))
    return found if found != HeadersForAll((), (), (), server=False) else None


def _on_table(setting: HeadersForAll, table: RouteConfiguration) -> None:
    if setting.server:
        table.response_headers_to_remove.remove("server")
    table.most_specific_header_mutations_wins = bool(setting.added or setting.hidden or _removed(setting.set_))
    table.response_headers_to_remove += [*setting.hidden, *_removed(setting.added)]
    table.response_headers_to_add += _options(setting.added)
    table.request_headers_to_remove += _removed(setting.set_)
    names = {name.lower() for name, _ in setting.set_}
    kept = [option for option in table.request_headers_to_add if option.header and option.header.key.lower() not in names]
    table.request_headers_to_add = [*kept, *_options(setting.set_)]


def _options(pairs: Pairs) -> list[HeaderValueOption]:
    return [formatted(name, value) for name, value in pairs if value]


def _removed(pairs: Pairs) -> list[str]:
    return [name.lower() for name, value in pairs if not value]


FEATURE = Feature(read=_read, keys=(ADD_HEADERS, PROXY_SET_HEADERS, HIDE_HEADERS, SERVER, ORIGINAL_URI), on_table=_on_table)
