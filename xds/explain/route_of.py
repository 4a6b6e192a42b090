"""From a URL to the route that answers it: what Envoy does with a request, computed on the Model.

The steps are Envoy's: path normalisation of the HTTP connection manager as configured in `xds.render`, then route matching of
envoy.config.route.v3. What does not belong here: names of resources (`xds.explain.document`), and
wording (`xds.cli.explain`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, urlsplit

import idna
import re2

from xds.kube.objects import Backend, Ingress
from xds.model import Handshake, HeaderMatch, PathKind, PathMatch, Redirect, RedirectTo, Route, Via, VirtualHost
from xds.patterns import spelling

VirtualHosts = Callable[[str], VirtualHost | None]
"""The virtual host of a name in lower case ("" is the catch-all), such as `xds.translate.hosts.virtual_host` of a World."""

_DOTS_AND_MORE = re.compile(r"(?<=/)(\.\.?);[^/]*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_HOST = re.compile(r"[a-z0-9_.-]+")
_RULE = re.compile(r"spec\.rules\[(\d+)\]\.http\.paths\[(\d+)\]")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LABEL = re.compile(r"[-\w]+", re.ASCII)


class BadUrl(ValueError):
    """Why a text is no valid URL: the end of a sentence."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as Envoy sees it. `host` is in lower case and ASCII; `path` is normalised, `query` has its "?" or is ""."""

    via: Via
    host: str
    port: int
    path: str
    query: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    """Those of its own, by names in lower case, each once."""
    remarks: tuple[str, ...] = ()
    """What no route decides, and what Envoy makes of the text of this URL that nginx does not, in sentences."""

    @property
    def authority(self) -> str:
        """The Host header."""
        host = _in_url(self.host)
        return host if self.port == _port_of(self.via) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.via.value}://{self.authority}{self.path}{self.query}"


class Chosen(Enum):
    """How a virtual host was found."""

    EXACT = "exact"
    WILDCARD = "wildcard"
    CATCH_ALL = "catch-all"


@dataclass(frozen=True, slots=True)
class MatchedRoute:
    """The route that answers a request.

    `host` is the virtual host ("" for the catch-all), `position` how many of its routes were tried, from 1. `shares` are routes before it
    that answer a part of such requests, by chance, and `conditional` those that would answer if the request had other headers. `shadowed`
    are those of other rules behind it that match as well.
    """

    chosen: Chosen
    host: str
    route: Route
    position: int
    shares: tuple[Route, ...]
    conditional: tuple[Route, ...]
    shadowed: tuple[Route, ...]


def parse_url(text: str, method: str = "GET") -> HttpRequest:
    """Read a URL as people type it; without a scheme it is http. Raises BadUrl, also for a method that is no token.

    The request has no headers of its own.
    """
    if any(c.isspace() or not c.isprintable() for c in text):
        raise BadUrl("holds a space or a control character")
    if not _METHOD.fullmatch(method):
        raise BadUrl(f"has the method {method[:20]!r}, which is none")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"is no URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise BadUrl(f"has the scheme {parts.scheme[:20]!r}; only http and https are served")
    via = Via(parts.scheme)
    query = f"?{quote(parts.query, safe=_SENT + _ESCAPED)}" if parts.query else ""
    path = normalised(quote(parts.path, safe=_SENT) or "/")
    host, remarks = _ascii_host(parts.hostname or ""), tuple(_remarks(parts.path, parts.query, method))
    return HttpRequest(via, host, _port_of(via) if port is None else port, path, query, method, remarks=remarks)


_SENT = "%/:@!$&'()*+,;=-._~?\\[]"
"""Characters that clients send as they are, and that stay so in a path; others are percent-encoded by clients, or by Envoy."""
_ESCAPED = '|{}^`"<>'
"""Characters that some clients send as they are, and that Envoy escapes in a path, not in a query."""


def _remarks(path: str, query: str, method: str) -> Iterator[str]:
    """What no route decides, and what cannot be the same as with nginx, for any Ingresses (docs/differences.md)."""
    if "%00" in path:
        yield "A path with %00 is answered with 400, whatever the route."
    if not (path + query).isascii():
        yield "A client that sends this unescaped over HTTP/1 gets 400; browsers escape it, and this explains the escaped URL."
    if odd := "".join(dict.fromkeys(c for c in path if c in _ESCAPED)):
        yield f"The backend gets {odd} escaped, as {quote(odd)}; nginx passes it on as it was sent."
    if method == "TRACE":
        yield "TRACE is answered with 405, whatever the route."
    elif method in ("CONNECT", "QUERY"):
        yield f"{method} is answered with 400{', unless it has a Content-Type' if method == 'QUERY' else ''}."


def normalised(path: str) -> str:
    """A path as Envoy matches and forwards it: unreserved characters unescaped, "." and ".." resolved, then slashes merged.

    What follows a semicolon after dots does not count. Of a path that has nothing but slashes two are left.
    """
    path = _ESCAPE.sub(_unescaped, _DOTS_AND_MORE.sub(r"\1", path).replace("\\", "/"))
    segments: list[str] = []
    *parents, last = path.split("/")[1:]
    for segment in parents:
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if last == "..":
        segments = segments[:-1]
    path = "/".join(("", *segments, "" if last in (".", "..") else last))
    return re.sub(r"/{2,}", "/", path) if path.strip("/") else "/" * min(len(path), 2)


def answer(hosts: VirtualHosts, served: Container[str], request: HttpRequest) -> MatchedRoute:
    """What answers a request; `served` are the hosts that have a virtual host, which `hosts` translates."""
    chosen, host = _choose(hosts, served, request.host)
    found = hosts(host)
    assert found is not None
    matching = [(n, route) for n, route in enumerate(found.routes, 1) if _takes_path(route, request)]
    position, route = next((n, r) for n, r in matching if _has_headers(r, request) and (r.share is None or r.share.parts == r.share.of))
    shares = tuple(r for n, r in matching if n < position and _has_headers(r, request))
    conditional = tuple(r for n, r in matching if n < position and not _has_headers(r, request))
    behind = (r for n, r in matching if n > position and _RULE.match(r.rule) and _has_headers(r, request))
    shadowed = tuple(r for r in behind if (r.origin, r.rule) != (route.origin, route.rule))
    return MatchedRoute(chosen, host, route, position, shares, conditional, shadowed)


def location(redirect: Redirect, request: HttpRequest) -> str:
    """The Location header of a redirect, as `xds.render.routes` makes it."""
    match redirect.to:
        case RedirectTo.URL:
            return redirect.location
        case RedirectTo.HTTPS:
            path = request.path + request.query
            return f"https://{_in_url(request.host)}{redirect.location}{path if redirect.keep_slash else path.removesuffix('/')}"
        case RedirectTo.PATH:
            return f"{request.via.value}://{request.authority}{redirect.location}"
        case RedirectTo.HERE if redirect.relative:
            return redirect.location
        case RedirectTo.HERE:
            return f"{request.via.value}://{_in_url(request.host)}{redirect.location}"
        case RedirectTo.NAME:
            port = 443 if request.via is Via.HTTPS else request.port
            return f"{request.via.value}://{redirect.location}:{port}{(request.path + request.query).removesuffix('/')}"
        case RedirectTo.REWRITTEN:
            scheme, host, path, *_ = urlsplit(redirect.location)
            return f"{scheme}://{host}{re2.sub(redirect.pattern, path, request.path)}{request.query}"
        case RedirectTo.SLASH:
            here = "" if redirect.relative else f"{request.via.value}://{request.authority}"
            return f"{here}{request.path}/{request.query}"


def names_under(host: str) -> Iterator[str]:
    """The names under which Envoy looks for a host, in its order: itself, then wildcards from the longest to the shortest."""
    yield host
    while "." in host:
        host = host.split(".", 1)[1]
        yield f"*.{host}"


def matches(match: PathMatch, path: str) -> bool:
    """Whether a normalised path, without its query, is one that a route takes."""
    if pattern := spelling.pattern(match):
        return re2.fullmatch(pattern, path) is not None
    match match.kind:
        case PathKind.EXACT:
            return path == match.path
        case PathKind.PREFIX:
            return path == match.path or path.startswith(match.path + "/")
        case _:
            return path.startswith(match.path)


def backend_of(item: Ingress, rule: str) -> Backend | None:
    """The backend that a rule of an Ingress names; `rule` is as in `Route.rule`."""
    if found := _RULE.match(rule):
        return item.rules[int(found[1])].paths[int(found[2])].backend
    return item.default_backend


def rule_of(field: str, item: Ingress) -> tuple[str, str] | None:
    """Host (in lower case) and path of the rule that a Problem's field is in; None where it is in none.

    A Problem may be about another object of the same name, of which this one counts: it may have rules that this one has not.
    """
    found = _RULE.match(field)
    if found is None or int(found[1]) >= len(item.rules):
        return None
    rule = item.rules[int(found[1])]
    return (rule.host.lower(), rule.paths[int(found[2])].path or "/") if int(found[2]) < len(rule.paths) else None


def _choose(hosts: VirtualHosts, served: Container[str], host: str) -> tuple[Chosen, str]:
    for name in names_under(host):
        if name in served:
            if name == host:
                return Chosen.EXACT, name
            # Envoy's wildcard takes any number of labels; the routes of most take one, and leave the others to the catch-all.
            found = hosts(name)
            takes = (found is not None and found.deep) or _LABEL.fullmatch(host.removesuffix(name[1:]))
            return (Chosen.WILDCARD, name) if takes else (Chosen.CATCH_ALL, "")
    return Chosen.CATCH_ALL, ""


def _takes_path(route: Route, request: HttpRequest) -> bool:
    return route.via in (Via.ANY, request.via) and matches(route.match, request.path) and _is_met(route.handshake, request)


def _is_met(wanted: Handshake | None, request: HttpRequest) -> bool:
    """Whether a client meets it that names the host in TLS, and shows a certificate as it should be."""
    if wanted is None:
        return True
    if request.via is not Via.HTTPS:
        return not (wanted.into or wanted.subject or wanted.unnamed or wanted.presented or wanted.validated)
    return not (wanted.elsewhere or wanted.unnamed or wanted.presented is False or wanted.validated is False)


def _has_headers(route: Route, request: HttpRequest) -> bool:
    path = request.path + request.query
    sent = {":authority": request.authority, ":method": request.method, ":path": path, "x-forwarded-proto": request.via.value}
    sent = {**dict(request.headers), **sent}
    return all(_has(header, sent.get(header.name.lower())) for header in route.headers)


def _has(header: HeaderMatch, value: str | None) -> bool:
    if value is None:
        return header.inverted
    if header.regex:
        return (re2.fullmatch(header.value, value) is not None) is not header.inverted
    alike = value.lower() == header.value.lower() if header.any_case else value == header.value
    return alike is not header.inverted


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0]


def _ascii_host(host: str) -> str:
    """A host name as clients send it: IDN in punycode, in lower case, without the dot of the root."""
    if ":" in host:
        return str(ipaddress.ip_address(host))
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as error:
            raise BadUrl(f"has a host that is no domain name: {error}") from None
    found = host.lower().removesuffix(".")
    if not _HOST.fullmatch(found):
        raise BadUrl(f"has {f'the host {found[:60]!r}, which is no host name' if found else 'no host'}")
    return found


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port_of(via: Via) -> int:
    return 443 if via is Via.HTTPS else 80
