"""proxy-redirect-from and -to, proxy-cookie-domain and -path: what a backend says of its own address becomes what clients know it by.

A script in the cluster changes the headers Location, Refresh and Set-Cookie. It sees what a backend answers, and nothing that Envoy or an
authentication service does. Its text is constant; what it replaces stands in the metadata of the route. Clusters without it pay nothing: in
the listener it would cost each certificate's chain a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from envoy_data_plane.envoy.config.core.v3 import DataSource, HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction, Metadata
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.google.protobuf import Struct, Value

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Key, Notes, Risk, as_written
from xds.nginx.features.backend_protocol import BACKEND_PROTOCOL, Protocol
from xds.nginx.features.relative_redirects import RELATIVE_REDIRECTS
from xds.nginx.messages import CACHED
from xds.nginx.values import matching, shown
from xds.wire.encode import pack

T = TypeVar("T")
NAME = "rewrites"
"""The name of the script, and of its namespace in the metadata of routes and requests."""
LONGEST_PATTERN = 100
"""Characters of a regular expression: the script tries it at each character of a header."""
_HOST = "x-xds-rewrites-host"
"""What the client asked for, where a Location may have to name it. The route writes it, and the script takes it away."""
_LINE = matching(r"[^\n]*", "line")
_FORM = matching(r"[-._~a-zA-Z0-9/:,?&= ]*", "text of letters, digits, spaces and -._~/:,?&=")
_WORD = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';{}]+))(?=\s|$)""", re.ASCII)
_PATTERN = re.compile(r"(\^?)((?:[^\\^$.|?*+()\[\]{}]|\.|\\[^a-zA-Z0-9])*)(\$?)")
_SCRIPT = f"""
local NAME, HOST = "{NAME}", "{_HOST}"

function envoy_on_request(handle)
  local headers = handle:headers()
  local host = headers:get(HOST)
  if not host then return end
  headers:remove(HOST)
  if not handle:metadata():get("absolute") then return end
  host = host:lower()
  host = host:match("^%[[^%]]*%]") or host:match("^[^:]*")
  local scheme = handle:streamInfo():downstreamSslConnection() and "https://" or "http://"
  handle:streamInfo():dynamicMetadata():set(NAME, "origin", scheme .. host)
end

local function trimmed(text)
  local first = text:find("[^ ]")
  return first and text:match(".*[^ ]", first) or ""
end

local function rewritten(text, rule)
  if not rule then return nil end
  local compared = rule.any_case and text:lower() or text
  if rule.how == "pattern" then return compared:find(rule.from) and rule.to or nil end
  if rule.how == "domain" then
    local dot = text:sub(1, 1) == "." and "." or ""
    return compared:sub(#dot + 1) == rule.from and dot .. rule.to or nil
  end
  return compared:sub(1, #rule.from) == rule.from and rule.to .. text:sub(#rule.from + 1) or nil
end

local function cookie(text, rules)
  local parts, changed = {{}}, false
  for part in (text .. ";"):gmatch("([^;]*);") do
    local equals = part:find("=", 1, true)
    local name = trimmed(part:sub(1, (equals or 0) - 1))
    local value = equals and trimmed(part:sub(equals + 1))
    if not value and #parts == 0 then return nil end
    local new = value and #parts > 0 and rewritten(value, rules[name:lower()])
    changed = changed or new
    parts[#parts + 1] = value and name .. "=" .. (new or value) or name
  end
  return changed and table.concat(parts, "; ")
end

local function change(headers, name, new_of)
  local values, changed = {{}}, false
  for i = 0, headers:getNumValues(name) - 1 do
    local value = headers:getAtIndex(name, i)
    local new = new_of(value)
    values[i + 1], changed = new or value, changed or new
  end
  if not changed then return end
  headers:remove(name)
  for _, value in ipairs(values) do headers:add(name, value) end
end

function envoy_on_response(handle)
  local headers, said = handle:headers(), handle:metadata()
  local redirect, cookies = said:get("redirect"), said:get("cookies")
  if cookies then change(headers, "set-cookie", function(text) return cookie(text, cookies) end) end
  if not redirect then return end
  local state = handle:streamInfo():dynamicMetadata():get(NAME)
  change(headers, "location", function(text)
    local new = rewritten(text, redirect)
    return new and (state and new:sub(1, 1) == "/" and state.origin .. new or new)
  end)
  change(headers, "refresh", function(text)
    local _, last = text:lower():find("url=", 1, true)
    local new = last and rewritten(text:sub(last + 1), redirect)
    return new and text:sub(1, last) .. new
  end)
end
"""


def _words(text: str) -> list[str]:
    """The arguments of a directive, as nginx splits them."""
    found, end = [], 0
    while end < len(text):
        word = _WORD.match(text, end)
        if word is None:
            raise ValueError(f"is {shown(text)}, where a quote or one of ;{{}} stands that nginx does not take")
        quoted = word[1] if word[1] is not None else word[2]
        found.append(word[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        end = word.end()
    return found


def _from(text: str) -> str:
    """What is replaced, if it is something that the script can look for."""
    if text.startswith("~") and (len(text) > LONGEST_PATTERN or not _PATTERN.fullmatch(_expression(text))):
        raise ValueError(
            f"is {shown(text)}, a regular expression; one may have {LONGEST_PATTERN} characters, among them '.', '^' at its beginning and "
            "'$' at its end, and no other special ones"
        )
    if not text.startswith("~"):
        _to(text)
    return text


def _to(text: str) -> str:
    if "$" in text:
        raise ValueError(f"is {shown(text)}, where $ begins a variable; there are none here")
    return text


def _one(part: Callable[[str], str]) -> Callable[[str], str]:
    """One argument of proxy_redirect."""

    def parse(text: str) -> str:
        found = _words(text)
        if len(found) != 1:
            raise ValueError(f"is {shown(text)}, which is not one word")
        return part(found[0])

    return parse


def _pair(text: str) -> tuple[str, ...]:
    """The arguments of proxy_cookie_domain or proxy_cookie_path: two words; () for `off`."""
    found = _words(text)
    if found == ["off"]:
        return ()
    if len(found) != 2:
        raise ValueError(f'is {shown(text)}, which is neither "off" nor two words')
    return _from(found[0]), _to(found[1])


def _annotation(name: str, parse: Callable[[str], T], doc: str, example: str, default: T, of_key: str) -> Annotation[T]:
    """An annotation, whose text ingress-nginx checks, with its key, whose text it does not check."""
    key = Key(name, lambda text: parse(_LINE(text)), doc, of_key, default, Fidelity.APPROXIMATE, _LITERALLY, lambda _value, _paths: False)
    return Annotation(name, lambda text: parse(_FORM(text)), doc, example, default, risk=Risk.MEDIUM, key=key)


_LITERALLY = "variables have no effect, nor have regular expressions with more than '.', '^' and '$'"
PROXY_REDIRECT_FROM = _annotation(
    "proxy-redirect-from",
    _one(_from),
    "The beginning of the backend's Location and Refresh headers that is replaced; `off` and `default` replace nothing.",
    "http://internal/",
    "off",
    "http://internal/",
)
PROXY_REDIRECT_TO = _annotation(
    "proxy-redirect-to",
    _one(_to),
    "What replaces proxy-redirect-from; `off` replaces nothing.",
    "http://example.com/",
    "off",
    "http://example.com/",
)
_NOTHING: tuple[str, ...] = ()
PROXY_COOKIE_DOMAIN = _annotation(
    "proxy-cookie-domain",
    _pair,
    "A domain of the backend's cookies, and its replacement.",
    "localhost example.com",
    _NOTHING,
    r"~\.internal$ example.com",
)
PROXY_COOKIE_PATH = _annotation(
    "proxy-cookie-path",
    _pair,
    "The beginning of the paths of the backend's cookies, and its replacement.",
    "/one/ /",
    _NOTHING,
    '/ "/; Secure"',
)


@dataclass(frozen=True, slots=True)
class Rewrites:
    """Pairs of what is replaced and by what, each may be (). With `relative` a Location on the same host stays without scheme and host."""

    redirect: tuple[str, ...]
    domain: tuple[str, ...]
    path: tuple[str, ...]
    relative: bool


def _read(notes: Notes) -> Rewrites | None:
    """None for gRPC: nginx has other directives then, and these have no effect."""
    before, after = notes.get(PROXY_REDIRECT_FROM), notes.get(PROXY_REDIRECT_TO)
    redirect = () if before in ("off", "default") or after == "off" else (before, after)
    domain, path = notes.get(PROXY_COOKIE_DOMAIN), notes.get(PROXY_COOKIE_PATH)
    if not (redirect or domain or path) or notes.get(BACKEND_PROTOCOL) in (Protocol.GRPC, Protocol.GRPCS):
        return None
    return Rewrites(redirect, domain, path, notes.get(RELATIVE_REDIRECTS))


def _key(found: Rewrites) -> str:
    pairs = (pair or ("", "") for pair in (found.redirect, found.domain, found.path))
    return as_written((*(text for pair in pairs for text in pair), found.relative))


def _on_forward(found: Rewrites, _route: Route, envoy: EnvoyRoute) -> None:
    envoy.metadata = envoy.metadata or Metadata()
    envoy.metadata.filter_metadata[NAME] = _metadata(found)
    if _is_absolute(found):
        always = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
        envoy.request_headers_to_add.append(
            HeaderValueOption(header=HeaderValue(key=_HOST, value="%REQ(:authority)%"), append_action=always)
        )


def _is_absolute(found: Rewrites) -> bool:
    """Whether a Location that becomes a path gets scheme and host, as nginx completes it."""
    return bool(found.redirect) and found.redirect[1].startswith("/") and not found.relative


@lru_cache(maxsize=CACHED)
def _metadata(found: Rewrites) -> Struct:
    """What the script reads of a route."""
    cookies = {"domain": _rule(found.domain, "domain"), "path": _rule(found.path, "prefix")}
    fields = {
        "redirect": _rule(found.redirect, "prefix"),
        "cookies": {name: rule for name, rule in cookies.items() if rule} or None,
        "absolute": _is_absolute(found),
    }
    return _struct({name: rule for name, rule in fields.items() if rule})


def _rule(pair: tuple[str, ...], how: str) -> dict[str, object] | None:
    """A replacement: of a prefix, of a whole domain (without the dot that it may begin with), or of all by what a pattern finds."""
    if not pair:
        return None
    before, after = pair
    if before.startswith("~"):
        any_case = before.startswith("~*") or how == "domain"
        text = _lua_pattern(_expression(before))
        return {"how": "pattern", "from": text.lower() if any_case else text, "to": after, "any_case": any_case}
    if how == "domain":
        return {"how": how, "from": before.removeprefix(".").lower(), "to": after.removeprefix("."), "any_case": True}
    return {"how": how, "from": before, "to": after, "any_case": False}


def _expression(text: str) -> str:
    return text[2:] if text.startswith("~*") else text[1:]


def _lua_pattern(expression: str) -> str:
    """A regular expression that `_PATTERN` takes, as Lua writes it."""
    found = _PATTERN.fullmatch(expression)
    assert found is not None
    parts = re.findall(r"\\?.", found[2])
    return found[1] + "".join("." if part == "." else re.sub(r"^\\?(\W)$", r"%\1", part) for part in parts) + found[3]


def _struct(fields: dict[str, object]) -> Struct:
    return Struct(fields={name: _value(value) for name, value in fields.items()})


def _value(value: object) -> Value:
    if isinstance(value, dict):
        return Value(struct_value=_struct(value))
    return Value(bool_value=value) if isinstance(value, bool) else Value(string_value=str(value))


def _on_upstream(_found: Rewrites, options: HttpProtocolOptions) -> None:
    options.http_filters.append(HttpFilter(name=NAME, typed_config=pack(Lua(default_source_code=DataSource(inline_string=_SCRIPT)))))


FEATURE = Feature(
    read=_read,
    annotations=(PROXY_REDIRECT_FROM, PROXY_REDIRECT_TO, PROXY_COOKIE_DOMAIN, PROXY_COOKIE_PATH),
    on_forward=_on_forward,
    cluster=True,
    cluster_key=_key,
    on_upstream=_on_upstream,
)
