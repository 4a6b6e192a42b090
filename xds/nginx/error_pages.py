"""Answers that a page of another Service replaces (nginx: error_page), by two scripts around the filters of a route.

The inner script sees an answer first, whoever made it: the backend, or a filter that refuses. Where its status is one to be replaced, the
script asks the Service of pages, with the method, the headers and the body of the request. It puts the headers of the page in place of the
answer's. The outer one then puts the page in place of the answer's body, piece by piece, so that nothing waits for the end of a body:
neither of the answer's, nor of that of a request which was refused before it was complete.

The text of the scripts is constant. It stands in the route table once, however many routes there are. A route has the filters, without a
script of their own, and metadata that say which statuses and whom to ask.

What belongs here: messages and scripts. What does not: annotations (`xds.nginx.features.custom_http_errors`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from http import HTTPStatus

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua, LuaPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value

from xds.nginx.messages import CACHED, UNTOLD, in_header, page
from xds.wire.encode import pack

NAME = "error-pages"
"""The inner filter, and the namespace of a route's metadata for it."""
_BODIES = "error-bodies"
"""The outer filter."""
LARGEST_BODY = 1 << 16
"""Bytes of a request's body that the Service of pages gets; of a larger one it gets nothing."""
LARGEST_PAGE = 1 << 20
"""Bytes of a page; what is beyond is cut off."""
LONGEST = 60
"""Seconds that a page may take, as in ingress-nginx."""
ANSWERED = "x-xds-answered"
"""The header by which a route says who made an answer, where those of backends are not replaced."""
BY_BACKEND = "via_upstream"
"""How Envoy calls an answer of a backend (%RESPONSE_CODE_DETAILS%)."""
_IN_HEADER = re.compile("[!-~]{1,253}")
"""What may be in a header as it is: a folder may hold objects with other names, and nobody checks the headers of a script."""
_PAGE = "x-xds-page"
"""The header by which the cluster of pages says that a page came from there, and not from Envoy; and the inner script that there is a page.

Without it the outer script need not look into what was noted of the request, which costs more than a look at a header.
"""
_NOWHERE = "no healthy upstream"
"""What Envoy says where a cluster has no endpoints."""
_PLAIN = {404: "Not Found", 500: "Internal Server Error", 502: "Bad Gateway", 504: "Gateway Time-out"}
_REASONS = {status.value: status.phrase for status in HTTPStatus if status >= HTTPStatus.OK}
_OF_CONNECTION = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade"
_NOT_ASKED = f"{_OF_CONNECTION} content-length expect x-forwarded-proto x-forwarded-port :path :scheme"
_NOT_ANSWERED = f"{_OF_CONNECTION} x-accel-redirect x-accel-expires x-accel-buffering x-accel-limit-rate x-accel-charset x-pad {_PAGE}"


def _set(words: str) -> str:
    """A table of Lua with these words as keys."""
    return "{" + ", ".join(f'["{word}"] = true' for word in words.split()) + "}"


_BYTES = r"""
local function without_zeros(bytes)
  return (bytes:gsub("\\", "\\\\"):gsub("%z", "\\0"))
end

local function with_zeros(text)
  return (text:gsub("\\(.)", function(c) return c == "0" and "\0" or c end))
end
"""
"""What is noted of a request ends at its first zero byte, so there must be none."""
_ASKING = f"""{_BYTES}
local NOT_ASKED, NOT_ANSWERED = {_set(_NOT_ASKED)}, {_set(_NOT_ANSWERED)}
local REASONS = {{{", ".join(f'["{status}"] = "{phrase}"' for status, phrase in _REASONS.items())}}}
local PLAIN = {{{", ".join(f'["{status}"] = [==[{page(f"{status} {title}")}]==]' for status, title in _PLAIN.items())}}}

local function notes(handle)
  return handle:streamInfo():dynamicMetadata()
end

local function body_of(handle)
  local parts, size = {{}}, 0
  for chunk in handle:bodyChunks() do
    size = size + chunk:length()
    if size > {LARGEST_BODY} then return "" end
    parts[#parts + 1] = chunk:getBytes(0, chunk:length())
  end
  return table.concat(parts)
end

local function has_no_body(headers)
  local length, method = headers:get("content-length"), headers:get(":method")
  if length then return length == "0" or (tonumber(length) or math.huge) > {LARGEST_BODY} end
  return method == "GET" or method == "HEAD" or headers:get("upgrade")
end

function envoy_on_request(handle)
  local headers, lines, last = handle:headers(), {{}}, 0
  if headers:get("x-code") and headers:get("x-original-uri") and headers:get("x-ingress-name") then return end
  for name, value in pairs(headers) do
    lines[last + 1], lines[last + 2] = name, value
    last = last + 2
  end
  lines[last + 1] = ""
  notes(handle):set("{NAME}", "headers", table.concat(lines, "\\n"))
  if has_no_body(headers) then return end
  local body = body_of(handle)
  if body ~= "" then notes(handle):set("{NAME}", "body", without_zeros(body)) end
end

local function has(codes, status)
  for first, last in codes:gmatch("(%d+)-?(%d*)") do
    if status == first or (last ~= "" and first <= status and status <= last) then return true end
  end
  return false
end

local function client(handle)
  return (handle:streamInfo():downstreamRemoteAddress():gsub(":%d+$", ""):gsub("[%[%]]", ""))
end

local function question(handle, asked, status)
  local headers, uri, route = {{}}, "/", handle:metadata()
  for name, value in asked.headers:gmatch("([^\\n]+)\\n([^\\n]*)\\n") do
    local there = headers[name]
    if name == ":path" then uri = value end
    if NOT_ASKED[name] or name:find("^x%-envoy%-") or name:find("^x%-xds%-") then
      there = nil
    elseif type(there) == "table" then
      there[#there + 1] = value
    else
      headers[name] = there and {{there, value}} or value
    end
  end
  headers[":path"] = "/" .. (uri:match("%?.*$") or "")
  headers["x-code"], headers["x-original-uri"], headers["x-format"] = status, uri, headers["accept"]
  headers["x-namespace"], headers["x-ingress-name"] = route:get("namespace"), route:get("ingress")
  headers["x-service-name"], headers["x-service-port"] = route:get("service"), route:get("port")
  headers["x-forwarded-for"] = client(handle)
  return headers
end

local function answer(handle, asked, status)
  local sent = asked.body and with_zeros(asked.body)
  for _, whom in ipairs({{"backend", "default"}}) do
    local cluster = handle:metadata():get(whom)
    if cluster then
      local headers = question(handle, asked, status)
      local options = {{timeout_ms = {LONGEST * 1000}, return_duplicate_headers = true, send_xff = false}}
      local there, found, body = pcall(handle.httpCall, handle, cluster, headers, sent, options)
      if there and found["{_PAGE}"] then return found, body or "" end
      if there and body ~= "{_NOWHERE}" then
        local plain = found[":status"] == "504" and "504" or "502"
        return {{[":status"] = plain, ["content-type"] = "text/html"}}, PLAIN[plain]
      end
    end
  end
  local last = handle:metadata():get("last")
  return {{[":status"] = last, ["content-type"] = "text/html"}}, PLAIN[last]
end

local function words(text)
  local found = {{}}
  for word in (text or ""):gmatch("[^,]+") do found[word] = true end
  return found
end

local function put(handle, found, status)
  local headers, route, names = handle:headers(), handle:metadata(), {{}}
  local kept, hidden = words(route:get("added")), words(route:get("hidden"))
  hidden["server"] = hidden["server"] or not route:get("server")
  for name in pairs(headers) do names[#names + 1] = name end
  for _, name in ipairs(names) do
    if name ~= ":status" and not kept[name] and not (name == "www-authenticate" and status == "401") then headers:remove(name) end
  end
  for name, value in pairs(found) do
    if name == ":status" then
      headers:replace(name, value)
      headers:setHttp1ReasonPhrase(REASONS[value] or "")
    elseif not NOT_ANSWERED[name] and not hidden[name] and not kept[name] and not name:find("^x%-envoy%-") then
      for _, each in ipairs(type(value) == "table" and value or {{value}}) do headers:add(name, each) end
    end
  end
  headers:replace("{UNTOLD}", headers:getAtIndex("strict-transport-security", 0) or "")
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status, answered = headers:get(":status"), headers:get("{ANSWERED}")
  if answered then headers:remove("{ANSWERED}") end
  if status < "300" or answered == "{BY_BACKEND}" then return end
  local codes = handle:metadata():get("codes")
  if not codes or not has(codes, status) then return end
  local asked = notes(handle):get("{NAME}")
  if not asked or not asked.headers then return end
  local found, body = answer(handle, asked, status)
  put(handle, found, status)
  if asked.headers:find(":method\\nHEAD\\n", 1, true) then return end
  local without = found[":status"] == "204" or found[":status"] == "304"
  handle:headers():remove("content-length")
  if not without then handle:headers():add("content-length", tostring(#body)) end
  notes(handle):set("{NAME}", "page", without and "" or without_zeros(body))
  handle:headers():replace("{_PAGE}", "1")
end
"""
_PUTTING = f"""{_BYTES}
function envoy_on_response(handle)
  local headers = handle:headers()
  if not headers:get("{_PAGE}") then return end
  headers:remove("{_PAGE}")
  local asked = handle:streamInfo():dynamicMetadata():get("{NAME}")
  if not asked or not asked.page then return end
  local page = with_zeros(asked.page)
  for chunk in handle:bodyChunks() do
    chunk:setBytes(page)
    page = ""
  end
  if page ~= "" then handle:body(true):setBytes(page) end
end
"""
_OF_CLUSTER = f"""
function envoy_on_request(handle)
  for _, name in ipairs({{"x-envoy-internal", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"}}) do
    handle:headers():remove(name)
  end
end

function envoy_on_response(handle)
  handle:headers():replace("{_PAGE}", "1")
  local left = {LARGEST_PAGE}
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > left then chunk:setBytes(chunk:getBytes(0, left)) end
    left = math.max(0, left - size)
  end
end
"""


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """What a route says of its pages: the statuses of answers that they replace, and whom to ask, by names of clusters.

    The second one is asked where the first has no endpoints; where there is none either, the page is nginx's own of the status `last`. The
    rest is what the pages' Service is told of the Ingress. `added` are headers of an answer that the page gets, `hidden` headers of a page
    that the client does not get, in lower case; it gets `Server` only with `server`.
    """

    codes: tuple[int, ...]
    clusters: tuple[str, ...]
    last: int
    namespace: str
    ingress: str
    service: str
    port: str
    added: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    server: bool = False


@lru_cache(maxsize=CACHED)
def metadata(pages: ErrorPages) -> Struct:
    """What the scripts read of a route. Its size does not grow with the number of statuses that follow each other."""
    of_ingress = {"namespace": pages.namespace, "ingress": pages.ingress, "service": pages.service, "port": pages.port}
    fields = {
        "codes": _as_ranges(pages.codes),
        "backend": pages.clusters[0] if pages.clusters else "",
        "default": pages.clusters[1] if len(pages.clusters) > 1 else "",
        "last": str(pages.last),
        **{name: text for name, text in of_ingress.items() if _IN_HEADER.fullmatch(text)},
        "added": ",".join(pages.added),
        "hidden": ",".join(pages.hidden),
        "server": "yes" if pages.server else "",
    }
    return Struct(fields={name: Value(string_value=in_header(text)) for name, text in fields.items() if text})


def _as_ranges(codes: Iterable[int]) -> str:
    """Statuses in order, those that follow each other as one: `400-404,503`."""
    found: list[list[int]] = []
    for code in sorted(codes):
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


@cache
def filters() -> tuple[TypedExtensionConfig, ...]:
    """The filters of a route, the outer one first. They have no script: that is in the table, under their names (`shared`)."""
    return tuple(TypedExtensionConfig(name=name, typed_config=pack(Lua())) for name in (_BODIES, NAME))


@cache
def shared() -> Mapping[str, AnyMessage]:
    """What the route table has for these filters, by their names."""
    scripts = {NAME: _ASKING, _BODIES: _PUTTING}
    return {name: pack(LuaPerRoute(source_code=DataSource(inline_string=text))) for name, text in scripts.items()}


@cache
def of_cluster() -> HttpFilter:
    """The upstream filter of a cluster that gives pages: it marks what comes from there, and cuts off what is too much."""
    return HttpFilter(name=NAME, typed_config=pack(Lua(default_source_code=DataSource(inline_string=_OF_CLUSTER))))
