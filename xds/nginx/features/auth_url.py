"""auth-url: a service is asked about each request before it goes on, and global-auth-url: the same for all Ingresses.

A location is asked for by itself: the host and the path of the service may depend on it, so its routes get a `Question` of their own. Then
`xds.nginx.authorization` draws it. Redirects and our own responses ask nobody, for nginx gives them before it asks.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.kube.objects import Ingress
from xds.model import Cluster, Forward, Location, PathKind, Respond, Route
from xds.nginx import outermost
from xds.nginx.access import NO_AUTH_LOCATIONS, is_exempt, satisfies_any
from xds.nginx.authorization import ESCAPED_URI, Question, asking, cookies, script, shared
from xds.nginx.feature import (
    Annotation,
    Closed,
    Feature,
    Fidelity,
    FilterPlace,
    Key,
    Notes,
    Objects,
    Phase,
    Risk,
    Unreadable,
)
from xds.nginx.features.configuration_snippet import of_answer
from xds.nginx.features.hsts import HSTS, leave_out_where_asked, leaving_out
from xds.nginx.messages import SENT_FROM
from xds.nginx.registry import cluster_name
from xds.nginx.targets import Target, cluster_of, named_cluster, speak, target
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, boolean, matching, readable, refusing, shown, whole
from xds.nginx.variables import as_format, ascii_proofs, known, too_many

NAME = "auth_url"
_CHARACTERS = r"[-A-Za-z0-9._~/:,?&=$ ]*"
"""What ingress-nginx takes in a URL with variables."""
_URL = re.compile(r"((?i:https?))://([^/?:\[]+|\[[^]]*\])(?::([0-9]{0,5}))?(/[^?]*)?(\?.*)?")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HOST_VARIABLE = re.compile(r"\$(?:host|http_host|best_http_host|server_name)(?![A-Za-z0-9_])")
"""Variables in the host of auth-url: all of them stand for the host of the Ingress."""
_ESCAPED = re.compile(r"\$escaped_request_uri(?![A-Za-z0-9_])")
_OF_SUBREQUEST = re.compile(r"\$(uri|document_uri|args|query_string|is_args)(?![A-Za-z0-9_])")
"""Variables in auth-url that are not those of the request: nginx works them out in its request to the service."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_OF_ENVOY = ("x-envoy-", "x-xds-")
"""How the names of headers begin that control Envoy, such as to try again a million times."""
_OF_THE_CONNECTION = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_DURATION = re.compile(r"(?: *[0-9]{3} +)*? *[0-9]+(?:ms|[smhdwMy]) *")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 30 * 86400, "y": 365 * 86400}
_WITHOUT_STATUS = ("200", "301", "302")
_LONGEST_MEMORY = 365 * 86400.0
"""Seconds for which an answer may be remembered."""
_HERE = "$pass_access_scheme://$host"
"""What nginx puts before a path in a Location header: scheme and host, without the port."""
_REDIRECT = "X-Auth-Request-Redirect"
_RETURN_TO = "$pass_access_scheme://$http_host$escaped_request_uri"
_CACHE = (
    "each Envoy remembers answers by itself, in memory; "
    "an answer to a question with a byte above 127 in a header or the URL is not remembered"
)
_POOLED = "Envoy keeps connections to the service open by itself, for all locations that ask it"


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of auth-url as they are written; `path` may be empty, and has the query. `host` may be, or have in it, `$host`."""

    scheme: str
    host: str
    port: str
    path: str

    def server(self, host: str) -> Target:
        """The server, where `$host` is this host. Raises ValueError as `target` does."""
        return target(self.scheme, _HOST_VARIABLE.sub(host, self.host), self.port)

    @property
    def by_host(self) -> bool:
        """Whether another host means another server."""
        return bool(_HOST_VARIABLE.search(self.host))


_plain = matching(_CHARACTERS, "URL in which variables may stand: only letters, digits, and -._~/:,?&=$ are taken")
_written = refusing(_plain)


def _variables(text: str) -> str:
    """The text, if the value of each variable is known. Raises ValueError."""
    known(_ESCAPED.sub("", text))
    return text


def _url(text: str) -> Url:
    found = _URL.fullmatch(_written(text))
    if found is None or " " in text:
        raise ValueError(f"is {shown(text)}, which is no URL such as https://auth.example.com/check, with http or https and a host")
    scheme, host, port, path, query = found.groups()
    url = Url(scheme.lower(), host, port or "", (path or "") if not query else f"{path or '/'}{query}")
    try:
        url.server("example.com")
    except ValueError as error:
        raise ValueError(f"is {shown(text)}, {error}") from None
    _variables(_OF_SUBREQUEST.sub("", url.path))
    return url


def _signin(text: str) -> str:
    if " " in _plain(text):
        raise ValueError(f"is {shown(text)}, which has a space in it")
    return _variables(text)


def _headers(text: str) -> tuple[str, ...]:
    """Names separated by commas, in lower case, each once."""
    names = [name for part in matching(".*", "list of headers")(text).split(",") if (name := part.strip())]
    if odd := next((name for name in names if not _HEADER_NAME.fullmatch(name)), None):
        raise ValueError(f"has {shown(odd)}, which is no name of a header")
    if odd := next((name for name in names if not _may_be_set(name)), None):
        raise ValueError(f"has {odd}, which no service may set in a request")
    return tuple(dict.fromkeys(name.lower() for name in names))


def _may_be_set(name: str) -> bool:
    """Whether an author may choose the value of a header: it is neither of a connection, nor for Envoy."""
    return name.lower() not in _OF_THE_CONNECTION and not name.lower().startswith(_OF_ENVOY)


def _method(text: str) -> str:
    if text not in _METHODS:
        raise ValueError(f"is {shown(text)}, which is none of {', '.join(_METHODS)}")
    return text


def _durations(text: str) -> str:
    """Statuses and a time, several of them separated by commas, as ingress-nginx takes them."""
    parts = [part for part in text.split(",") if part.strip()]
    if not parts or not all(_DURATION.fullmatch(part) for part in parts):
        raise ValueError(f"is {shown(text)}, which is no list of statuses with a time, such as 200 202 401 5m")
    return text


def _lasting(durations: str) -> str:
    """Seconds by status, `200=300,401=60`, of an acceptable auth-cache-duration.

    A time without statuses is for 200, 301 and 302. Of two times for a status the first one holds, as for nginx' `proxy_cache_valid`.
    """
    found: dict[str, float] = {}
    for *statuses, lasting in filter(None, map(str.split, durations.split(","))):
        number = lasting.rstrip("mshdwMy")
        seconds = min(float(number[:15]) * _SECONDS[lasting[len(number) :]], _LONGEST_MEMORY)
        for status in statuses or _WITHOUT_STATUS:
            found.setdefault(status, seconds)
    return ",".join(f"{status}={seconds:.3f}" for status, seconds in found.items())


def _cache_key(text: str) -> str:
    """All of the credentials stand for `$remote_user`: nobody has checked them before the service is asked."""
    return _variables(_REMOTE_USER.sub("$http_authorization", _key_characters(text)))


_REMOTE_USER = re.compile(r"\$(?:\{remote_user\}|remote_user(?![A-Za-z0-9_]))")
_key_characters = matching(r"[-A-Za-z0-9_${}]*", "text of variables")
_redirect: Callable[[str], str] = lambda text: _variables(matching(r"[-A-Za-z0-9._~/:,?&=$]*", "URL")(text))  # noqa: E731
_parameter = matching(r"[-A-Za-z0-9._~/:,?&=]+", "name of a parameter")
_CLOSES, _APPROXIMATE, _IGNORED = Unreadable.CLOSES, Fidelity.APPROXIMATE, Fidelity.IGNORED

AUTH_URL = Annotation[Url | None](
    "auth-url",
    _url,
    "The service that is asked about each request: 2xx lets the request pass, 401 and 403 refuse it, and any other status is 500.",
    "https://auth.example.com/check",
    None,
    risk=Risk.HIGH,
    unreadable=_CLOSES,
)
AUTH_METHOD = Annotation(
    "auth-method", _method, "The method with which the service is asked.", "POST", "", beside="auth-url", unreadable=_CLOSES
)
AUTH_SIGNIN = Annotation(
    "auth-signin",
    _signin,
    "Where a client is redirected when the service answers 401.",
    "https://$host/oauth2/start?rd=$escaped_request_uri",
    "",
    risk=Risk.HIGH,
    beside="auth-url",
)
AUTH_SIGNIN_REDIRECT_PARAM = Annotation(
    "auth-signin-redirect-param",
    _parameter,
    "The parameter of auth-signin with the URL to return to, unless auth-signin has it.",
    "return",
    "rd",
    risk=Risk.MEDIUM,
    beside="auth-url",
)
AUTH_RESPONSE_HEADERS = Annotation[tuple[str, ...]](
    "auth-response-headers",
    _headers,
    "Headers of the service's answer that the backend gets, instead of what the client sent under these names.",
    "X-User, X-Groups",
    (),
    risk=Risk.MEDIUM,
    beside="auth-url",
    unreadable=_CLOSES,
)
AUTH_REQUEST_REDIRECT = Annotation(
    "auth-request-redirect",
    _redirect,
    "The header X-Auth-Request-Redirect for the service; the path and query of the request otherwise.",
    "https://example.com$request_uri",
    "",
    risk=Risk.MEDIUM,
    beside="auth-url",
)
AUTH_PROXY_SET_HEADERS = Annotation(
    "auth-proxy-set-headers",
    str,
    "The ConfigMap (`namespace/name`) with further headers for the service.",
    "default/headers",
    "",
    risk=Risk.MEDIUM,
    beside="auth-url",
    unreadable=_CLOSES,
)
AUTH_CACHE_KEY = Annotation(
    "auth-cache-key",
    _cache_key,
    "The key by which answers are cached.",
    "$cookie_session",
    "",
    _APPROXIMATE,
    _CACHE,
    risk=Risk.MEDIUM,
    beside="auth-url",
)
AUTH_CACHE_DURATION = Annotation(
    "auth-cache-duration",
    _durations,
    "How long answers are cached, by status, unless they have a lifetime of their own.",
    "200 202 10m",
    "200 202 401 5m",
    risk=Risk.MEDIUM,
    beside="auth-cache-key",
    unreadable=_CLOSES,
)
AUTH_ALWAYS_SET_COOKIE = Annotation(
    "auth-always-set-cookie",
    boolean,
    "Whether the client gets the service's cookies with every status, and not only with 2xx and 3xx.",
    "true",
    default=False,
    beside="auth-url",
)
ENABLE_GLOBAL_AUTH = Annotation(
    "enable-global-auth", boolean, "Whether the ConfigMap's global-auth-url applies to this Ingress.", "false", default=True
)
_NUMBER = whole(0, 10**9)
_ROWS: tuple[tuple[str, Callable[[str], Any], str, str, Any], ...] = (
    ("auth-keepalive", _NUMBER, "The idle connections to the service.", "10", 0),
    ("auth-keepalive-share-vars", boolean, "Whether the request to the service shares nginx' variables.", "true", False),
    ("auth-keepalive-requests", _NUMBER, "Requests on one connection to the service.", "100", 1000),
    ("auth-keepalive-timeout", _NUMBER, "Seconds for which a connection to the service may be idle.", "30", 60),
)
_KEEPALIVE = tuple(Annotation(*row, _IGNORED, _POOLED, beside="auth-url") for row in _ROWS)


def _of_all(annotation: Annotation[Any]) -> Key[Any]:
    """The ConfigMap key that is to global-auth-url what an annotation is to auth-url."""
    a = annotation
    return Key(f"global-{a.name}", a.parse, a.doc, a.example, a.default, a.fidelity, a.reason)


GLOBAL_AUTH_URL = replace(_of_all(AUTH_URL), doc="The service that is asked about the requests of all Ingresses.", unreadable=_CLOSES)
_GLOBAL = {
    a.name: _of_all(a)
    for a in (
        *(AUTH_METHOD, AUTH_SIGNIN, AUTH_SIGNIN_REDIRECT_PARAM, AUTH_RESPONSE_HEADERS, AUTH_REQUEST_REDIRECT, AUTH_CACHE_KEY),
        *(AUTH_CACHE_DURATION, AUTH_ALWAYS_SET_COOKIE),
    )
}


@dataclass(frozen=True, slots=True)
class AuthUrl:
    """What an Ingress, or the ConfigMap, wants to be asked.

    `headers` are those of auth-proxy-set-headers: before `resolve` only the name of their ConfigMap is known, `headers_from`. `cluster` is
    where one server is asked about all hosts of an Ingress; `question` is what a route asks. `of_all`: it is that of the ConfigMap.
    `hsts`: https responses have Strict-Transport-Security, but for the redirect to `signin`.
    """

    url: Url
    method: str = ""
    signin: str = ""
    wanted: tuple[str, ...] = ()
    redirect: str = ""
    always: bool = False
    cache_key: str = ""
    durations: str = ""
    headers_from: str = ""
    exempt: tuple[str, ...] = ()
    of_all: bool = False
    hsts: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    cluster: Cluster | None = None
    question: Question | None = None


def _read(notes: Notes) -> AuthUrl | None:
    """Every annotation and key is read in any case, so that a bad value is seen before there is an auth-url."""
    spared, url, hsts = notes.key(NO_AUTH_LOCATIONS), notes.own(AUTH_URL), notes.key(HSTS)
    for annotation in _ANNOTATIONS:
        notes.own(annotation)
    if url:
        return replace(_wanted(url, notes.get, spared, notes.get(AUTH_PROXY_SET_HEADERS)), hsts=hsts)
    of_all = {name: notes.key(key) for name, key in _GLOBAL.items()}
    if not notes.get(ENABLE_GLOBAL_AUTH) or not (url := notes.key(GLOBAL_AUTH_URL)):
        return None
    return replace(_wanted(url, lambda annotation: of_all[annotation.name], spared), of_all=True, hsts=hsts)


def _wanted(url: Url, get: Callable[[Annotation[Any]], Any], spared: tuple[str, ...], headers_from: str = "") -> AuthUrl:
    signin = get(AUTH_SIGNIN)
    return AuthUrl(
        url,
        method=get(AUTH_METHOD),
        signin=_returning(signin, get(AUTH_SIGNIN_REDIRECT_PARAM)) if signin else "",
        wanted=get(AUTH_RESPONSE_HEADERS),
        redirect=get(AUTH_REQUEST_REDIRECT),
        always=get(AUTH_ALWAYS_SET_COOKIE),
        cache_key=get(AUTH_CACHE_KEY),
        durations=get(AUTH_CACHE_DURATION),
        headers_from=headers_from,
        exempt=spared,
    )


def _returning(signin: str, parameter: str) -> str:
    """Where clients sign in, with the URL to return to as a parameter, unless it is there already."""
    query = signin.partition("?")[2].partition("#")[0]
    given = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if not given:
        return f"{signin}?{parameter}={_RETURN_TO}"
    return signin if given.get(parameter) else f"{signin}&{parameter}={_RETURN_TO}"


def _resolve(auth: AuthUrl, item: Ingress, objects: Objects) -> AuthUrl | Closed:
    """The servers that may be asked, and the headers of the ConfigMap. That of all Ingresses is what the DNS says, and needs neither."""
    if auth.of_all:
        return auth
    found: Cluster | None = None
    for host in sorted({rule.host.lower() for rule in item.rules} or {""}) if auth.url.by_host else ("",):
        if auth.url.by_host and (not host or "*" in host):
            which = f"the host {host}" if host else "all hosts"
            return Closed(AUTH_URL.name, f"has a variable for its host, and stands on an Ingress for {which}; name the service instead")
        cluster = cluster_of(auth.url.server(host), NAME, item.meta.namespace, objects)
        if isinstance(cluster, str):
            return Closed(AUTH_URL.name, cluster)
        found = None if auth.url.by_host else cluster
    headers = _headers_of(auth.headers_from, objects) if auth.headers_from else ()
    if isinstance(headers, Closed):
        return headers
    made = replace(auth, headers=headers, cluster=found)
    texts = (
        auth.url.host,
        auth.url.path,
        auth.signin,
        auth.redirect,
        *(auth.cache_key, auth.cache_key),
        *auth.wanted,
        *auth.wanted,
        *(t for header in headers for t in header),
    )
    size = sum(len(text.encode()) for text in texts)
    if size * item.most_locations > LONGEST_IN_ALL_LOCATIONS:
        sentence = f"and what belongs to it come to {size:,} bytes on each path, too many for {item.most_locations:,} paths and hosts"
        return Closed(AUTH_URL.name, sentence)
    why = too_many(texts, item.most_locations)
    return Closed(AUTH_URL.name, f"with what belongs to it {why}") if why else made


def _headers_of(written: str, objects: Objects) -> tuple[tuple[str, str], ...] | Closed:
    """The headers of a ConfigMap, sorted by name: their values are texts in which variables may stand."""
    found = objects.config_map(AUTH_PROXY_SET_HEADERS, written)
    if isinstance(found, Closed):
        return found
    about = f"ConfigMap {found.meta.namespace}/{found.meta.name}"
    headers: list[tuple[str, str]] = []
    for name in sorted(found.data):
        if not _HEADER_NAME.fullmatch(name) or not _may_be_set(name):
            return Closed(AUTH_PROXY_SET_HEADERS.name, f"names {about}, where {shown(name)} is no header that may be set")
        try:
            headers.append((name, _in_one_line(_variables(readable(found.data[name])))))
        except ValueError as error:
            return Closed(AUTH_PROXY_SET_HEADERS.name, f"names {about}, where {shown(name)} {error}")
    return tuple(headers)


def _in_one_line(text: str) -> str:
    if "\n" in text or "\t" in text:
        raise ValueError("has several lines, or a tab")
    return text


def _on_path(auth: AuthUrl, path: str) -> AuthUrl | None:
    return None if is_exempt(path, auth.exempt) else auth


def _routes(auth: AuthUrl, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """What goes to a backend, or to nobody's (404), is asked about; what comes before in nginx' order, and 503, is not."""
    return tuple(_asked(auth, location, route) if _passes(route) else route for route in routes)


def _passes(route: Route) -> bool:
    return isinstance(route.action, Forward) or route.action == Respond(404)


def _asked(auth: AuthUrl, location: Location, route: Route) -> Route:
    cluster = _cluster(auth, location)
    own = route.settings.but(**{NAME: replace(auth, question=_question(auth, location, route))})
    return replace(route, settings=own, besides=(*route.besides, cluster))


def _cluster(auth: AuthUrl, location: Location) -> Cluster:
    namespace = location.origin.namespace if location.origin else ""
    return auth.cluster or named_cluster(auth.url.server(location.host or "nobody"), NAME, namespace)


def _question(auth: AuthUrl, location: Location, route: Route) -> Question:
    def made(text: str) -> str:
        return as_format(_ESCAPED.sub(ESCAPED_URI, text), route)

    headers = {
        "X-Request-ID": "%REQ(x-request-id)%",
        "X-Original-URL": "%REQ(x-forwarded-proto)%://%REQ(:authority)%%REQ(:path)%",
        "X-Original-Method": "%REQ(:method)%",
        "X-Sent-From": SENT_FROM,
        "X-Real-IP": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "X-Forwarded-For": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        _REDIRECT: made(auth.redirect or "$request_uri"),
        **({"X-Original-URI": "%REQ(:path)%", "X-Scheme": "%REQ(x-forwarded-proto)%"} if auth.method else {}),
    }
    further = tuple((name, made(text)) for name, text in auth.headers)
    signin = f"{_HERE}{auth.signin}" if auth.signin.startswith("/") and not auth.signin.startswith("//") else auth.signin
    question = Question(
        cluster_name(_cluster(auth, location)),
        made(auth.url.host),
        made(_path(auth.url, location)),
        (*headers.items(), *further),
        auth.method or "GET",
        made(signin),
        auth.wanted,
        auth.always,
        satisfies_any(route.settings),
        satisfies_any(route.settings) and "auth_basic" in route.settings,
        kept=of_answer(route.settings),
    )
    return replace(question, memory=f"{_memory(auth, location, question)} {made(auth.cache_key)}") if auth.cache_key else question


def _memory(auth: AuthUrl, location: Location, question: Question) -> str:
    """What comes before the key of a remembered answer: where the question is asked, and how long answers last.

    Another question, such as that of a changed auth-url, is a place of its own.
    """
    origin = location.origin
    place = (origin and (origin.namespace, origin.name), location.host, location.path, location.match.kind.name, question)
    hashed = hashlib.blake2b(repr(place).encode(), digest_size=16).hexdigest()
    proofs = ascii_proofs(auth.cache_key)
    return f"{hashed} {_lasting(auth.durations)} {len(proofs)}={''.join(proofs)}"


def _path(url: Url, location: Location) -> str:
    """The path and query that the service is asked for. Where the URL has none, it is that of nginx' internal location."""
    kind = {PathKind.EXACT: "Exact", PathKind.REGEX: "ImplementationSpecific"}.get(location.match.kind, "Prefix")
    internal = f"/_external-auth-{base64.urlsafe_b64encode(location.path.encode()).decode().rstrip('=')}-{kind}"
    return _OF_SUBREQUEST.sub(lambda found: internal if found[1].endswith("uri") else "", url.path or internal)


def _filters(auth: AuthUrl, route: Route) -> Iterable[TypedExtensionConfig]:
    return asking(auth.question) if auth.question and _passes(route) else ()


def _on_route(auth: AuthUrl, route: Route, envoy: EnvoyRoute) -> None:
    if not auth.question or not _passes(route):
        return
    if not auth.always:
        outermost.put(envoy, cookies())
    if auth.question.signin:
        leave_out_where_asked(envoy, ours=auth.hsts)


def _on_upstream(_how: str, options: HttpProtocolOptions) -> None:
    options.http_filters.append(script())


_ANNOTATIONS: tuple[Annotation[Any], ...] = (
    AUTH_URL,
    AUTH_METHOD,
    AUTH_SIGNIN,
    AUTH_SIGNIN_REDIRECT_PARAM,
    AUTH_RESPONSE_HEADERS,
    AUTH_REQUEST_REDIRECT,
    AUTH_PROXY_SET_HEADERS,
    AUTH_CACHE_KEY,
    AUTH_CACHE_DURATION,
    AUTH_ALWAYS_SET_COOKIE,
    ENABLE_GLOBAL_AUTH,
    *_KEEPALIVE,
)
FEATURE = Feature[Any](
    read=_read,
    annotations=_ANNOTATIONS,
    keys=(GLOBAL_AUTH_URL, *_GLOBAL.values()),
    phase=Phase.ACCESS,
    resolve=_resolve,
    on_path=_on_path,
    routes=_routes,
    on_route=_on_route,
    filters=_filters,
    place=FilterPlace.AUTH,
    shared=lambda: {**shared(), **leaving_out()},
    on_cluster=speak,
    on_upstream=_on_upstream,
)
