"""The question that Envoy puts to an authentication service before a request goes on (ext_authz over HTTP), and what its answer becomes.

Envoy's filter asks with the client's method and Host, lets a request pass on 200 only, and gives its client any other answer as it is.
nginx asks with GET and the Host of the service. It takes any 2xx for yes, 401 and 403 for no, and all else for a failure, 500. So the
cluster of the service has a script that makes the one out of the other. The script is the same everywhere: what differs is in headers that
the filter writes, which the script takes away. Clients cannot send them, for the filter passes on no header of their names.

What belongs here: messages and the script. What does not: annotations (`xds.nginx.features.auth_url`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    DataSource,
    HeaderValue,
    HttpUri,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    AuthorizationRequest,
    AuthorizationResponse,
    ExtAuthz,
    HttpService,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua, LuaPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.nginx.access import CHALLENGE, CLUSTER, NOTED, UNLESS_NOTED, joined
from xds.nginx.messages import CACHED, UNTOLD, formatted
from xds.nginx.variables import ANSWERED
from xds.wire.encode import pack

NAME = "auth-url"
_COOKIES = "auth-cookie-writer"
"""The filter that passes the service's cookies on, of routes without `always`."""
LONGEST = timedelta(seconds=60)
"""How long an answer may take, as in ingress-nginx."""
ESCAPED_URI = "\t"
"""What stands in a format for $escaped_request_uri, which only the script can work out. No URL has a tab."""
MOST_COOKIES = 8
"""Cookies of the service that are passed on to the client, where that depends on the status of the answer."""
_PRIVATE = "x-xds-"
"""How the names of headers begin that Envoy's filters write for each other."""
_METHOD, _HOST, _PATH, _SIGNIN, _URI, _WANTED, _ALWAYS, _CHALLENGE, _MEMORY, _TWICE, _KEPT = (
    f"{_PRIVATE}auth-{name}"
    for name in ("method", "host", "path", "signin", "uri", "wanted", "always", "challenge", "memory", "twice", "kept")
)
_SHOWN = f"{_PRIVATE}auth-shown"
REDIRECT = "x-auth-request-redirect"
_COOKIE = f"{_PRIVATE}auth-cookie-"
_NOT_ASKED = """
connection content-length expect keep-alive proxy-connection te transfer-encoding upgrade x-forwarded-port x-forwarded-proto
"""
"""What belongs to the client's connection, or is written by our listener and not passed on to the service by ingress-nginx."""
_OF_ENVOY = "x-envoy-"
_CONDITIONS = '"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"'
"""Headers of clients that would make less of an answer than others are to get; nginx does not pass them on where it remembers."""
_WITH_COOKIES = (200, 201, 204, 206, 301, 302, 303, 304, 307, 308)
"""The statuses with which nginx' `add_header` has an effect."""
_ANSWERS = "/xds.authz.v1.Answers"
"""The gRPC service of the authorisation service that remembers answers (`xds.authz.answers`)."""
_LONGEST_HEAD = 48 * 1024
"""Bytes of a question's head that is sent there; one that is larger is not remembered."""
_PATIENCE_MS = 1000
"""How long the service that remembers may take. Then the authentication service is asked."""
_SCRIPT = f"""
local REMOVED = {{"content-length", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"}}
local KEPT = {{signin = "{_SIGNIN}", wanted = "{_WANTED}", always = "{_ALWAYS}", kept = "{_KEPT}", challenge = "{_CHALLENGE}"}}
local STATE, COOKIE, REMOVE = "xds.auth", "{_COOKIE}", "x-envoy-auth-headers-to-remove"

local function escaped(text)
  return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function values(headers, name)
  local found = {{}}
  for i = 0, headers:getNumValues(name) - 1 do found[#found + 1] = headers:getAtIndex(name, i) end
  return found
end

local function remembering(handle, method, message, unanswered)
  local size, floor = #message, math.floor
  local frame = string.char(0, 0, floor(size / 65536) % 256, floor(size / 256) % 256, size % 256) .. message
  local head = {{[":method"] = "POST", [":path"] = "{_ANSWERS}/" .. method, [":authority"] = "authz"}}
  head["content-type"], head.te = "application/grpc", "trailers"
  local called, answer, body = pcall(handle.httpCall, handle, "{CLUSTER}", head, frame, {_PATIENCE_MS}, unanswered)
  return called and answer and answer[":status"] == "200" and body and body:sub(6) or nil
end

local function head_of(first, headers)
  local lines = {{first}}
  for name, value in pairs(headers) do
    if name:sub(1, 1) ~= ":" then lines[#lines + 1] = name .. ": " .. value end
  end
  local head = table.concat(lines, "\\n")
  return #head <= {_LONGEST_HEAD} and head or nil
end

local Head = {{}}
Head.__index = Head
function Head:get(name) return self.fields[name] end
function Head:getNumValues(name) return self.fields[name] and 1 or 0 end
function Head:getAtIndex(name, _) return self.fields[name] end
function Head:add(name, value) self.fields[name] = self.fields[name] and self.fields[name] .. ", " .. value or value end
function Head:replace(name, value) self.fields[name] = value end
function Head:remove(name) self.fields[name] = nil end

local function recalled(lines)
  local found = setmetatable({{fields = {{}}}}, Head)
  for line in lines:gmatch("[^\\n]+") do
    local name, value = line:match("^([^:]+): (.*)$")
    if name then found:add(name, value) else found:replace(":status", line) end
  end
  return found
end

local function allow(headers, state, cookies)
  local missing = {{}}
  if headers:get(":status") ~= "200" then headers:replace(":status", "200") end
  for name in (state.wanted or ""):gmatch("[^,]+") do
    local found = values(headers, name)
    local text = table.concat(found, ", ")
    if #found > 1 or text == "" then headers:remove(name) end
    if text == "" then missing[#missing + 1] = name elseif #found > 1 then headers:add(name, text) end
  end
  if #missing > 0 then headers:add(REMOVE, table.concat(missing, ",")) end
  if not state.always and #cookies > 0 then
    headers:remove("set-cookie")
    for i = 1, math.min(#cookies, {MOST_COOKIES}) do headers:replace(COOKIE .. i, cookies[i]) end
  end
end

local function become(headers, state)
  local status, cookies = tonumber(headers:get(":status")), values(headers, "set-cookie")
  headers:remove(REMOVE)
  headers:remove("content-length")
  headers:remove("location")
  headers:remove("{UNTOLD}")
  for name in (state.kept or ""):gmatch("[^,]+") do
    local text = table.concat(values(headers, name), ", ")
    headers:remove("{ANSWERED}" .. name)
    if text ~= "" then headers:add("{ANSWERED}" .. name, text) end
  end
  if status == 403 and state.challenge then
    status = 401
    headers:replace(":status", "401")
    headers:remove("www-authenticate")
  end
  if status >= 200 and status < 300 then
    allow(headers, state, cookies)
  elseif status == 401 and state.signin then
    headers:replace(":status", "302")
    headers:add("location", state.signin)
    headers:add("{UNTOLD}", "")
  else
    if status ~= 401 then headers:remove("www-authenticate") end
    if status ~= 401 and status ~= 403 then headers:replace(":status", "500") end
    if status == 401 and state.challenge then headers:add("www-authenticate", state.challenge) end
    if not state.always then headers:remove("set-cookie") end
  end
end

local function taken(headers, name)
  local text = headers:get(name)
  if text then headers:remove(name) end
  return text
end

function envoy_on_request(handle)
  local headers, state = handle:headers(), handle:streamInfo():dynamicMetadata()
  local uri = taken(headers, "{_URI}")
  local function filled(text)
    return uri and text and (text:gsub("\\t", function() return escaped(uri) end)) or text
  end
  for key, name in pairs(KEPT) do
    local text = taken(headers, name)
    if text then state:set(STATE, key, filled(text)) end
  end
  local memory, twice = taken(headers, "{_MEMORY}"), taken(headers, "{_TWICE}")
  headers:replace(":method", taken(headers, "{_METHOD}") or "GET")
  local host, path = taken(headers, "{_HOST}"), taken(headers, "{_PATH}")
  if host then headers:replace(":authority", host) end
  if path then headers:replace(":path", filled(path)) end
  local redirect, client = uri and headers:get("{REDIRECT}"), headers:get("x-forwarded-for")
  if redirect then headers:replace("{REDIRECT}", filled(redirect)) end
  if client and client:find(",", 1, true) then headers:replace("x-forwarded-for", client:match("^[^,]*")) end
  for _, name in ipairs(REMOVED) do headers:remove(name) end
  for name in (twice or ""):gmatch("[^,]+") do
    local value = headers:get("{_TWICE}-" .. name)
    headers:remove("{_TWICE}-" .. name)
    if value then headers:add(name, value) end
  end
  if not memory then return end
  for _, name in ipairs({{{_CONDITIONS}}}) do headers:remove(name) end
  local head = head_of(memory, headers)
  if not head then return end
  local lines = remembering(handle, "Recall", head, false)
  state = handle:streamInfo():dynamicMetadata()
  if lines == "" then
    state:set(STATE, "memory", head)
  elseif lines then
    local answer = recalled(lines)
    become(answer, state:get(STATE) or {{}})
    handle:respond(answer.fields, "")
  end
end

function envoy_on_response(handle)
  local state = handle:streamInfo():dynamicMetadata():get(STATE) or {{}}
  local head = state.memory and head_of(handle:headers():get(":status"), handle:headers())
  if head then remembering(handle, "Remember", #state.memory .. "\\n" .. state.memory .. head, true) end
  become(handle:headers(), state)
  for chunk in handle:bodyChunks() do chunk:setBytes("") end
end
"""
_PASSING_ON = f"""
local WITH_COOKIES = {{{", ".join(f'["{status}"] = true' for status in _WITH_COOKIES)}}}

function envoy_on_response(handle)
  local headers = handle:headers()
  if not headers:get("{_COOKIE}1") then return end
  local wanted = WITH_COOKIES[headers:get(":status")]
  for i = 1, {MOST_COOKIES} do
    local cookie = headers:get("{_COOKIE}" .. i)
    headers:remove("{_COOKIE}" .. i)
    if cookie and wanted then headers:add("set-cookie", cookie) end
  end
end
"""
"""The service's cookies reach the client with the statuses with which nginx adds headers. Each has a name of its own until then."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a service is asked, and what its answer is used for.

    `cluster` is the service's, by name. `host`, `path`, `signin` and the values of `headers` are formats of Envoy's. With a `signin`,
    401 becomes a redirect there, with the header `UNTOLD`. `wanted` are the headers of the answer, in lower case, that the backend
    gets, and `kept` those that are noted in the metadata of the request (`ANSWERED`). With `always` the client gets the service's cookies
    whatever the status of its answer is; with `unless_noted` nobody is asked where an earlier rule let a client in. With
    `after_password` that may be the password as well, and who has none is told to show one.
    `memory` is a format for what the answer is remembered by: the first line of a question's head (`xds.authz.answers`); "" where no
    answer is remembered.
    """

    cluster: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    method: str = "GET"
    signin: str = ""
    wanted: tuple[str, ...] = ()
    always: bool = False
    unless_noted: bool = False
    after_password: bool = False
    memory: str = ""
    kept: tuple[str, ...] = field(default=(), repr=False)
    """What is remembered of a question does not depend on it: all headers of an answer are."""


def script() -> HttpFilter:
    """The upstream filter of a service's cluster."""
    return HttpFilter(name=NAME, typed_config=pack(Lua(default_source_code=DataSource(inline_string=_SCRIPT))))


@lru_cache(maxsize=CACHED)
def asking(question: Question) -> tuple[TypedExtensionConfig, ...]:
    """The filters of a route whose requests go on only if the service says so."""
    asked = TypedExtensionConfig(name=NAME, typed_config=pack(_filter(question)))
    before = (joined(),) if question.after_password else ()
    return (*before, _unclaimed(question.wanted), asked) if question.unless_noted and question.wanted else (*before, asked)


def _unclaimed(wanted: Iterable[str]) -> TypedExtensionConfig:
    """The filter that takes what only the service may say from whoever need not ask it; the service is shown it, as by nginx."""
    mutations: list[Mutation] = []
    for name in wanted:
        shown = formatted(_SHOWN, f"%CEL({NOTED} ? '' : request.headers['{name}'])%")
        back = formatted(name, f"%REQ({_SHOWN})%")
        mutations += [Mutation(append=shown), Mutation(remove=name), Mutation(append=back), Mutation(remove=_SHOWN)]
    config = HeaderMutation(mutations=Mutations(request_mutations=mutations))
    return TypedExtensionConfig(name=f"{NAME}-unclaimed", typed_config=pack(config))


def _filter(question: Question) -> ExtAuthz:
    headers, further = _apart(question.headers)
    added = {
        **({_METHOD: question.method} if question.method != "GET" else {}),
        _HOST: question.host,
        _PATH: question.path,
        **({_URI: "%REQ(:path)%"} if _escapes(question) else {}),
        **({_SIGNIN: question.signin} if question.signin else {}),
        **({_WANTED: ",".join(question.wanted)} if question.wanted else {}),
        **({_ALWAYS: "1"} if question.always else {}),
        **({_KEPT: ",".join(question.kept)} if question.kept else {}),
        **({_CHALLENGE: CHALLENGE} if question.after_password else {}),
        **({_MEMORY: question.memory} if question.memory else {}),
        **({_TWICE: ",".join(sorted(further))} if further else {}),
        **{f"{_TWICE}-{name}": text for name, text in further.items()},
        **headers,
    }
    answer = AuthorizationResponse(
        allowed_upstream_headers=_exactly(question.wanted) if question.wanted else None,
        allowed_client_headers=_exactly(("set-cookie", UNTOLD) if question.signin else ("set-cookie",)),
        allowed_client_headers_on_success=_exactly(("set-cookie",)) if question.always else _beginning(_COOKIE),
        dynamic_metadata_from_headers=_beginning(ANSWERED) if question.kept else None,
    )
    service = HttpService(
        server_uri=HttpUri(uri="http://auth.invalid", cluster=question.cluster, timeout=LONGEST),
        authorization_request=AuthorizationRequest(headers_to_add=[HeaderValue(key=name, value=text) for name, text in added.items()]),
        authorization_response=answer,
    )
    own = _exactly((*sorted({name.lower() for name, _ in question.headers}), *_NOT_ASKED.split()))
    return ExtAuthz(
        http_service=service,
        transport_api_version=ApiVersion.V3,
        status_on_error=HttpStatus(code=StatusCode.InternalServerError),
        filter_enabled_metadata=UNLESS_NOTED if question.unless_noted else None,
        allowed_headers=ListStringMatcher(patterns=[StringMatcher(safe_regex=RegexMatcher(regex=".*"))]),
        disallowed_headers=ListStringMatcher(patterns=[*_beginning(_PRIVATE, _OF_ENVOY).patterns, *own.patterns]),
    )


def _escapes(question: Question) -> bool:
    """Whether `ESCAPED_URI` stands in any of its formats."""
    return any(ESCAPED_URI in text for text in (question.path, question.signin, *(text for _, text in question.headers)))


def _apart(headers: Iterable[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Headers by name, and by name in lower case those that stand beside one of the same name: Envoy's filter writes each name once."""
    first: dict[str, str] = {}
    further: dict[str, str] = {}
    names: set[str] = set()
    for name, text in headers:
        if name.lower() in names:
            further[name.lower()] = text
        else:
            names.add(name.lower())
            first[name] = text
    return first, further


@cache
def cookies() -> TypedExtensionConfig:
    """The filter of a route that passes the service's cookies on, without its script."""
    return TypedExtensionConfig(name=_COOKIES, typed_config=pack(Lua()))


@cache
def shared() -> Mapping[str, AnyMessage]:
    """What the route table has for `cookies`.

    A script looks for the first cookie and is done, most often. An expression for each would cost each response three times as much.
    """
    return {_COOKIES: pack(LuaPerRoute(source_code=DataSource(inline_string=_PASSING_ON)))}


def _exactly(names: Iterable[str]) -> ListStringMatcher:
    return ListStringMatcher(patterns=[StringMatcher(exact=name) for name in names])


def _beginning(*prefixes: str) -> ListStringMatcher:
    return ListStringMatcher(patterns=[StringMatcher(prefix=prefix) for prefix in prefixes])
