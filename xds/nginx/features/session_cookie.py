"""session-cookie-*: the cookie of affinity, as ingress-nginx writes it: `<value>|<name of the backend>`, and its attributes.

*balanced*: the routes of a location are there twice, first for requests with the cookie, which are hashed by it, and behind them for those
without. These get a cookie with a new value, by which they are hashed already. *persistent*: the value is the name of the endpoint that
answered, and is sent again when that is another one than the cookie asks for.

Of a canary the name of the backend says whose cookie it is: what came from there goes there, whatever the rules of the canary say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteActionHashPolicy, RouteActionHashPolicyCookie, RouteActionHashPolicyFilterState
from envoy_data_plane.envoy.extensions.filters.common.set_filter_state.v3 import FilterStateValue
from envoy_data_plane.envoy.extensions.filters.http.header_to_metadata.v3 import Config as HeaderToMetadata
from envoy_data_plane.envoy.extensions.filters.http.header_to_metadata.v3 import ConfigKeyValuePair, ConfigRule
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState

from xds.kube.objects import Ingress
from xds.model import Cluster, Forward, HeaderMatch, Location, Route, Settings
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, Notes, Objects, Phase, Risk
from xds.nginx.features import affinity, canary
from xds.nginx.messages import CACHED, ENDPOINT_NAME, LB_METADATA, action_of, kept_text, literal, substitution, text_format
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, boolean, choice, matching, shown
from xds.nginx.variables import quoted
from xds.patterns import regex
from xds.wire.encode import pack

_NAME = "session_cookie"
_LONGEST_NAME = 64
"""Characters of a cookie's name: each of them becomes a part of an expression."""
_LONGEST_ATTRIBUTE = 256
_STATE, _WRITTEN = "xds.session", "xds.session.cookie"
"""Where a new cookie's value is kept, and the whole cookie, from the moment that it chooses an endpoint until the response.

A response of whoever refuses the request before has none.
"""
_HTTPS = "connection.tls_version != ''"
"""True where the client's own connection has TLS. Without, there is no such attribute, and the expression has no value."""
_ENDPOINT = f"xds.upstream_host_metadata.filter_metadata['{LB_METADATA}']['{ENDPOINT_NAME}']"
_REJECTING = (
    "request.useragent.matches('Chrome/[456]|CPU iPhone OS 12|iPad; CPU OS 12')"
    " || (request.useragent.matches('Macintosh.*Intel Mac OS X 10_14.*Safari') && !request.useragent.contains('Chrome'))"
)
"""Browsers that discard a cookie with SameSite=None, as ingress-nginx knows them."""
_DAYS = "'Sun','Mon','Tue','Wed','Thu','Fri','Sat'"
_MONTHS = "'-Jan-','-Feb-','-Mar-','-Apr-','-May-','-Jun-','-Jul-','-Aug-','-Sep-','-Oct-','-Nov-','-Dec-'"
_MOST_SECONDS = 10**9
"""Some thirty years, in which a date stays one that all clients read."""


def _seconds(text: str) -> str:
    """A number in its shortest form. ingress-nginx takes no sign but a minus, and none before 0."""
    number = text.removeprefix("-")
    if not (number.isascii() and number.isdecimal()) or (number != text and not number.strip("0")):
        raise ValueError(f"is {shown(text)}, which is no number of seconds")
    shortest = number.lstrip("0") or "0"
    if int(shortest[:12]) > _MOST_SECONDS:
        raise ValueError(f"is {shown(text)}, which is more than {_MOST_SECONDS:,} seconds")
    return f"-{shortest}" if number != text else shortest


def _attribute(name: str, characters: str, doc: str, example: str) -> Annotation[str]:
    parse = matching(f"[{characters}]{{1,{_LONGEST_ATTRIBUTE}}}", "text that an attribute of a cookie may hold")
    return Annotation(name, parse, doc, example, "", risk=Risk.MEDIUM, beside="affinity")


COOKIE_NAME = Annotation(
    "session-cookie-name",
    matching(rf"[-._~a-zA-Z0-9/: ]{{1,{_LONGEST_NAME}}}", f"name of a cookie of at most {_LONGEST_NAME} characters"),
    "The name of the cookie.",
    "route",
    "INGRESSCOOKIE",
    risk=Risk.MEDIUM,
    beside="affinity",
)
COOKIE_PATH = _attribute("session-cookie-path", "-._~a-zA-Z0-9/:=?&, ", "The path of the cookie, in place of that of the Ingress.", "/app")
COOKIE_DOMAIN = _attribute("session-cookie-domain", "-._~a-zA-Z0-9/: ", "The domain of the cookie.", "example.com")
MAX_AGE = Annotation(
    "session-cookie-max-age", _seconds, "Seconds until the cookie expires.", "172800", "", risk=Risk.MEDIUM, beside="affinity"
)
EXPIRES = Annotation(
    "session-cookie-expires", _seconds, "Seconds until the cookie expires, as a date.", "172800", "", risk=Risk.MEDIUM, beside="affinity"
)
SAME_SITE = Annotation(
    "session-cookie-samesite",
    choice("None", "Lax", "Strict"),
    "The attribute SameSite of the cookie.",
    "Lax",
    "",
    beside="affinity",
)
CONDITIONAL = Annotation(
    "session-cookie-conditional-samesite-none",
    boolean,
    "Whether browsers that would discard a cookie with SameSite=None get it without.",
    "true",
    default=False,
    beside="affinity",
)
SECURE = Annotation(
    "session-cookie-secure",
    boolean,
    "Whether the cookie is for https only, even for clients that came over http; it always is for those that came over https.",
    "true",
    default=False,
    beside="affinity",
)
CHANGE_ON_FAILURE = Annotation(
    "session-cookie-change-on-failure",
    boolean,
    "Whether a client whose endpoint fails gets another one, and a new cookie.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason="a request that cannot reach its endpoint goes to another one in mode balanced, and to none in mode persistent; the cookie "
    "stays, and with it the endpoint once it is back",
    beside="affinity",
)
_ATTRIBUTES = (COOKIE_NAME, COOKIE_PATH, COOKIE_DOMAIN, MAX_AGE, EXPIRES, SAME_SITE, CONDITIONAL, SECURE, CHANGE_ON_FAILURE)


@dataclass(frozen=True, slots=True)
class _Text:
    """A part of a cookie that is always the same."""

    text: str


@dataclass(frozen=True, slots=True)
class _Expression:
    """A part of a cookie that is the value of a CEL expression, or nothing where it has none."""

    cel: str


_Part = _Text | _Expression


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The cookie of an Ingress: `path` is "" for the path of the location.

    `backend` is the name of the backend on a route, by whose cookies its requests find their endpoints, and `fresh` whether these requests
    have no cookie yet. Only `_routes` makes such settings.
    """

    name: str
    before: tuple[str, ...]
    """Attributes before the path."""
    path: str
    secure: bool
    same_site: str
    conditional: bool
    expires: str
    mode: str
    backend: str = ""
    fresh: bool = False


def _read(notes: Notes) -> SessionCookie | None:
    """Everything is read in any case, so that a bad value is seen."""
    name, path, domain = notes.get(COOKIE_NAME), notes.get(COOKIE_PATH), notes.get(COOKIE_DOMAIN)
    expires, age, same_site = notes.get(EXPIRES), notes.get(MAX_AGE), notes.get(SAME_SITE)
    conditional, secure, mode = notes.get(CONDITIONAL), notes.get(SECURE), affinity.read(notes)
    notes.get(CHANGE_ON_FAILURE)
    before = (*([f"Max-Age={age}"] if age else []), *([f"Domain={domain}"] if domain else []))
    return SessionCookie(name, before, path, secure, same_site, conditional, expires, mode) if mode else None


def _resolve(cookie: SessionCookie, item: Ingress, _objects: Objects) -> SessionCookie | Complaint:
    """Not where what writes the cookie, on so many paths, would make a table that takes Envoy long to read."""
    own = replace(cookie, backend="x", fresh=True)
    header = _set_cookie(own).header
    assert header is not None
    size, most = len(_new(own) if cookie.mode != affinity.PERSISTENT else header.value) * 2, item.most_locations
    if size * most > LONGEST_IN_ALL_LOCATIONS:
        return Complaint(
            affinity.AFFINITY.name, f"has a cookie that takes {size:,} bytes on each path, too many for {most:,} paths and hosts"
        )
    return cookie


def _routes(cookie: SessionCookie, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Routes to a canary that lets its clients go have no cookie."""
    cookie = replace(cookie, path=cookie.path or location.path)
    legacy = {offer.action for offer in location.offers if offer.own[canary.NAME].legacy}
    backends = list(dict.fromkeys(r.action for r in routes if isinstance(r.action, Forward)))
    pinned = [_pinned(cookie, routes, action) for action in backends if action not in legacy] if len(backends) > 1 else []
    return (*pinned, *(each for route in routes for each in _with_cookie(cookie, route, legacy)))


def _pinned(cookie: SessionCookie, routes: tuple[Route, ...], action: Forward) -> Route:
    """The requests with a cookie of this backend, whatever else they have."""
    first = next(route for route in routes if route.action == action)
    by_cookie = HeaderMatch(
        "cookie", _has(cookie.name, backend_key(action.cluster)), regex=True, words=f"cookie {cookie.name} of this backend"
    )
    others = tuple(header for header in first.headers if header not in _of_canary(routes))
    return replace(_cookied(cookie, first, fresh=False), headers=(*others, by_cookie), share=None)


def _of_canary(routes: tuple[Route, ...]) -> set[HeaderMatch]:
    """The matches of the canary's rules: those that the last route, which is for all other requests, does not have."""
    return {header for route in routes for header in route.headers} - set(routes[-1].headers)


def _with_cookie(cookie: SessionCookie, route: Route, legacy: set[Any]) -> Iterator[Route]:
    if not isinstance(route.action, Forward):
        yield route
    elif route.action in legacy:
        without = {name: value for name, value in route.settings.items() if name not in (_NAME, affinity.NAME)}
        yield replace(route, settings=Settings(without))
    elif affinity.names_endpoints(cookie.mode, route.action.cluster):
        yield _cookied(cookie, route, fresh=False)
    else:
        has = HeaderMatch("cookie", _has(cookie.name), regex=True, words=f"cookie {cookie.name}")
        yield replace(_cookied(cookie, route, fresh=False), headers=(*route.headers, has))
        yield _cookied(cookie, route, fresh=True)


def _cookied(cookie: SessionCookie, route: Route, *, fresh: bool) -> Route:
    assert isinstance(route.action, Forward)
    cluster = route.action.cluster
    mode = cookie.mode if affinity.names_endpoints(cookie.mode, cluster) else affinity.BALANCED
    own = replace(cookie, mode=mode, backend=backend_key(cluster), fresh=fresh)
    return replace(route, settings=route.settings.but(**{_NAME: own}))


@lru_cache(maxsize=CACHED)
def backend_key(cluster: Cluster) -> str:
    """What ingress-nginx has for a backend's name in its cookies, so that its cookies lead on to the same one of primary and canary."""
    name = f"{cluster.namespace}-{cluster.service}-{cluster.port}"
    return _md5(_md5(name) + name)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=CACHED)
def _has(name: str, backend: str = "") -> str:
    """A pattern for a Cookie header in which there is a cookie of this name with a value, or with one that names the backend."""
    value = rf"[^;|]*\|{backend}" if backend else "[^; ]"
    return rf"(?:.*;)?[ \t]*{regex.literal(name)}={value}{'(?:;.*)?' if backend else '.*'}"


def _patterns(_cookie: SessionCookie, route: Route) -> tuple[str, ...]:
    return tuple(header.value for header in route.headers if header.name == "cookie" and header.regex)


def _filters(cookie: SessionCookie, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    if not cookie.backend:
        return ()
    if cookie.mode == affinity.PERSISTENT:
        return _naming(cookie.name)
    return _drawing(cookie) if cookie.fresh else ()


@lru_cache(maxsize=CACHED)
def _naming(name: str) -> tuple[TypedExtensionConfig, ...]:
    """Finds the endpoint's name in the cookie; the cluster looks for it in this metadata."""
    found = ConfigKeyValuePair(
        metadata_namespace=LB_METADATA, key=ENDPOINT_NAME, regex_value_rewrite=substitution(r'^"?([^|"]*).*$', r"\1")
    )
    config = HeaderToMetadata(request_rules=[ConfigRule(cookie=name, on_header_present=found)])
    return (TypedExtensionConfig(name=_NAME, typed_config=pack(config)),)


@lru_cache(maxsize=CACHED)
def _drawing(cookie: SessionCookie) -> tuple[TypedExtensionConfig, ...]:
    """Draws the value of a new cookie, once for the choice of the endpoint and for the response, and writes the cookie."""
    text = text_format(f"%UNIQUE_ID%|{cookie.backend}")
    drawn = FilterStateValue(object_key=_STATE, factory_key="envoy.hashable_string", format_string=text)
    config = SetFilterState(on_request_headers=[drawn, kept_text(_WRITTEN, _new(cookie), empty=True)])
    return (TypedExtensionConfig(name=_NAME, typed_config=pack(config)),)


def _new(cookie: SessionCookie) -> str:
    """A new cookie as a format."""
    prefix, *rest = _parts(cookie, _Text(""))
    return f"{_format(prefix)}%FILTER_STATE({_STATE}:PLAIN)%{''.join(map(_format, rest))}"


def _on_forward(cookie: SessionCookie, _route: Route, envoy: EnvoyRoute) -> None:
    if not cookie.backend:
        return
    if cookie.mode == affinity.PERSISTENT:
        envoy.response_headers_to_add.append(_set_cookie(cookie))
    elif cookie.fresh:
        action_of(envoy).hash_policy = [RouteActionHashPolicy(filter_state=RouteActionHashPolicyFilterState(key=_STATE))]
        envoy.response_headers_to_add.append(_set_cookie(cookie))
    else:
        action_of(envoy).hash_policy = [RouteActionHashPolicy(cookie=RouteActionHashPolicyCookie(name=cookie.name))]


@lru_cache(maxsize=CACHED)
def _set_cookie(cookie: SessionCookie) -> HeaderValueOption:
    """A cookie beside those of the backend. In mode persistent it is empty, and so not there, where the client has it already."""
    value = f"%FILTER_STATE({_WRITTEN}:PLAIN)%"
    if cookie.mode == affinity.PERSISTENT:
        has_it = f"{_ENDPOINT} == '' || ('cookie' in request.headers && request.headers['cookie'].contains({_ENDPOINT}))"
        parts = _joined(_parts(cookie, _Expression(_ENDPOINT), _Text(f"|{cookie.backend}")))
        value = "".join(_unless(has_it, part) for part in parts)
    header = HeaderValue(key="Set-Cookie", value=value)
    return HeaderValueOption(header=header, append_action=HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD)


def _joined(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Texts that follow each other as one."""
    text = ""
    for part in parts:
        if isinstance(part, _Text):
            text += part.text
        else:
            yield from [_Text(text)] if text else []
            yield part
            text = ""
    yield from [_Text(text)] if text else []


def _format(part: _Part) -> str:
    return literal(part.text) if isinstance(part, _Text) else f"%CEL({part.cel})%"


def _unless(condition: str, part: _Part) -> str:
    """Nothing where the condition is met, or has no value because no endpoint was asked."""
    otherwise = f"'{quoted(part.text)}'" if isinstance(part, _Text) else f"({part.cel})"
    return f"%CEL({condition} ? '' : {otherwise})%"


def _parts(cookie: SessionCookie, *value: _Part) -> Iterator[_Part]:
    """The cookie in the order in which ingress-nginx writes it."""
    yield _Text(f"{cookie.name}=")
    yield from value
    if cookie.expires:
        yield from _date(cookie.expires)
    yield _Text("".join(f"; {attribute}" for attribute in (*cookie.before, f"Path={cookie.path}")))
    yield _Text("; Secure") if cookie.secure else _Expression(f"{_HTTPS} ? '; Secure' : ''")
    yield _Text("; HttpOnly")
    if cookie.same_site == "None" and cookie.conditional:
        yield _Expression(f"'user-agent' in request.headers && ({_REJECTING}) ? '' : '; SameSite=None'")
    elif cookie.same_site:
        yield _Text(f"; SameSite={cookie.same_site}")


def _date(seconds: str) -> Iterator[_Part]:
    """The time of the request and so many seconds, as `Sun, 29-Nov-26 21:57:53 GMT`."""
    then = f"(request.time + duration('{seconds}s'))"
    yield _Text("; Expires=")
    yield _Expression(f"[{_DAYS}][{then}.getDayOfWeek()]")
    yield _Text(", ")
    yield from _two_digits(f"{then}.getDate()")
    yield _Expression(f"[{_MONTHS}][{then}.getMonth()]")
    yield from _two_digits(f"({then}.getFullYear() - 2000)")
    for separator, part in ((" ", "getHours"), (":", "getMinutes"), (":", "getSeconds")):
        yield _Text(separator)
        yield from _two_digits(f"{then}.{part}()")
    yield _Text(" GMT")


def _two_digits(number: str) -> Iterator[_Part]:
    yield _Expression(f"{number} < 10 ? '0' : ''")
    yield _Expression(number)


FEATURE = Feature(
    read=_read,
    annotations=_ATTRIBUTES,
    phase=Phase.SESSION,
    resolve=_resolve,
    routes=_routes,
    on_forward=_on_forward,
    filters=_filters,
    patterns=_patterns,
)
