"""custom-http-errors, disable-proxy-intercept-errors: the statuses of answers in whose place a Service of pages answers.

That Service is the one of the annotation `default-backend`, as long as it has endpoints, else the one of --default-backend-service. Without
either it is nginx itself, which has a page for 404 only. The statuses of the ConfigMap always lead to the latter two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import Metadata, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from xds.model import Cluster, Forward, Location, Route, Settings
from xds.nginx import error_pages
from xds.nginx.error_pages import ANSWERED, ErrorPages
from xds.nginx.feature import Annotation, Feature, Fidelity, FilterPlace, Key, Notes, Phase, Unreadable
from xds.nginx.features import backend_protocol, default_backend
from xds.nginx.features.backend_protocol import Protocol
from xds.nginx.features.default_backend import Fallback
from xds.nginx.features.headers_for_all import ADD_HEADERS, HIDE_HEADERS, SERVER
from xds.nginx.features.hsts import leave_out_where_asked, leaving_out
from xds.nginx.messages import formatted
from xds.nginx.registry import cluster_name
from xds.nginx.values import boolean, shown

NAME = "custom_http_errors"
_CODE = re.compile(r"[45][0-9]{2}")
_GRPC = (Protocol.GRPC, Protocol.GRPCS)
_REASON = (
    f"of a request's body the pages' Service gets up to {error_pages.LARGEST_BODY:,} bytes, if it had come before the answer; "
    f"a page has {error_pages.LARGEST_PAGE:,} bytes at most"
)
Codes = tuple[int, ...]


def _codes(text: str) -> Codes:
    """The statuses of a list, each once. As in ingress-nginx, one that is no error spoils all."""
    parts = [part.strip() for part in text.split(",")]
    if (bad := next((part for part in parts if not _CODE.fullmatch(part)), None)) is not None:
        raise ValueError(f"is {shown(text)}, where {shown(bad)} is no status from 400 to 599")
    return tuple(sorted({int(part) for part in parts}))


def _codes_for_all(text: str) -> Codes:
    """The same of the ConfigMap, where redirects count as well. As in ingress-nginx, what is no such status is left out."""
    parts = (part.strip() for part in text.split(","))
    found = {int(part) for part in parts if re.fullmatch(r"[345][0-9]{2}", part)}
    if not found:
        raise ValueError(f"is {shown(text)}, in which there is no status from 300 to 599")
    return tuple(sorted(found))


CUSTOM_HTTP_ERRORS_KEY = Key[Codes](
    "custom-http-errors",
    _codes_for_all,
    "The statuses of answers that --default-backend-service replaces, on all paths without statuses of their own.",
    "404,503",
    (),
    Fidelity.APPROXIMATE,
    _REASON,
)
DISABLE_PROXY_INTERCEPT_ERRORS_KEY = Key(
    "disable-proxy-intercept-errors", boolean, "Whether custom-http-errors leaves the answers of backends alone.", "true", default=False
)
CUSTOM_HTTP_ERRORS = Annotation[Codes](
    "custom-http-errors",
    _codes,
    "The statuses of answers that the default backend replaces, from Envoy or a backend.",
    "404,503",
    (),
    Fidelity.APPROXIMATE,
    _REASON,
    unreadable=Unreadable.LEAVES_OUT,
)
DISABLE_PROXY_INTERCEPT_ERRORS = Annotation(
    "disable-proxy-intercept-errors",
    boolean,
    "Whether custom-http-errors leaves the answers of backends alone. Without effect while the ConfigMap has statuses.",
    "true",
    default=False,
    beside="custom-http-errors",
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """The statuses of an Ingress (`own`) and of the ConfigMap (`for_all`), and whether each leaves alone what backends say.

    `added`, `hidden` and `server` are those of `ErrorPages`. `pages` is what a route says of them, once that is known.
    """

    own: Codes
    for_all: Codes
    own_is_local: bool
    is_local: bool
    added: tuple[str, ...]
    hidden: tuple[str, ...]
    server: bool
    pages: ErrorPages | None = None


def _read(notes: Notes) -> Replaced | None:
    own, for_all = notes.get(CUSTOM_HTTP_ERRORS), notes.key(CUSTOM_HTTP_ERRORS_KEY)
    own_choice, is_local = notes.own(DISABLE_PROXY_INTERCEPT_ERRORS), notes.key(DISABLE_PROXY_INTERCEPT_ERRORS_KEY)
    if not own and not for_all:
        return None
    headers = notes.key(ADD_HEADERS)
    added = tuple(sorted(name.lower() for name, value in headers if value))
    hidden = tuple(sorted({*notes.key(HIDE_HEADERS), *(name.lower() for name, value in headers if not value)}))
    return Replaced(own, for_all, is_local if own_choice is None else own_choice, is_local, added, hidden, notes.key(SERVER))


def _pages(wanted: Replaced, location: Location) -> tuple[Cluster, ...]:
    """Whom to ask: a cluster of its own for the Service of the annotation, and for that of all."""
    services = []
    fallback = location.settings.get(default_backend.NAME)
    if _own(wanted, location) and isinstance(fallback, Fallback) and fallback.port:
        services.append(fallback.cluster)
    if location.default:
        services.append(location.default)
    return tuple(Cluster(each.namespace, each.service, each.port, ((NAME, ""),), external=each.external, aside=True) for each in services)


def _own(wanted: Replaced, location: Location) -> Codes:
    """The statuses of the Ingress itself, for its own backends: what it has no path for does not count."""
    return wanted.own if location.backend[0] else ()


def _routes(wanted: Replaced, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    own = _own(wanted, location)
    codes = own or wanted.for_all
    if not codes:
        return tuple(replace(r, settings=_without(r.settings)) for r in routes)
    clusters = _pages(wanted, location)
    service, port = location.backend
    made = ErrorPages(
        codes,
        tuple(map(cluster_name, clusters)),
        500 if 404 in wanted.for_all else 404,
        location.origin.namespace if location.origin else "",
        location.origin.name if location.origin else "",
        service,
        str(port) if service else "",
        wanted.added,
        wanted.hidden,
        wanted.server,
    )
    for_all = bool(wanted.for_all) and not wanted.is_local
    local = not for_all and (wanted.own_is_local if own else wanted.is_local)
    local = local or location.settings.get(backend_protocol.NAME) in _GRPC
    there = replace(wanted, own=codes, own_is_local=local, pages=made)
    return tuple(_with_pages(r, there, clusters) for r in routes)


def _without(own: Settings) -> Settings:
    return Settings({name: setting for name, setting in own.items() if name != NAME})


def _with_pages(route: Route, there: Replaced, clusters: tuple[Cluster, ...]) -> Route:
    """A route that forwards gets its further clusters by the hook for them."""
    besides = route.besides if isinstance(route.action, Forward) else (*route.besides, *clusters)
    return replace(route, settings=route.settings.but(**{NAME: there}), besides=besides)


def _on_route(wanted: Replaced, route: Route, envoy: EnvoyRoute) -> None:
    if wanted.pages is None:
        return
    envoy.metadata = envoy.metadata or Metadata()
    envoy.metadata.filter_metadata[error_pages.NAME] = error_pages.metadata(wanted.pages)
    leave_out_where_asked(envoy)
    if wanted.own_is_local and isinstance(route.action, Forward):
        envoy.response_headers_to_add.append(formatted(ANSWERED, "%RESPONSE_CODE_DETAILS%"))


def _filters(wanted: Replaced, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    return error_pages.filters() if wanted.pages else ()


def _on_upstream(asked: object, options: HttpProtocolOptions) -> None:
    """The setting of a cluster that gives pages is a text; that of all others says whether they have pages."""
    if isinstance(asked, str):
        options.http_filters.append(error_pages.of_cluster())


FEATURE = Feature[Any](
    read=_read,
    annotations=(CUSTOM_HTTP_ERRORS, DISABLE_PROXY_INTERCEPT_ERRORS),
    keys=(CUSTOM_HTTP_ERRORS_KEY, DISABLE_PROXY_INTERCEPT_ERRORS_KEY),
    phase=Phase.ERRORS,
    routes=_routes,
    clusters=_pages,
    on_route=_on_route,
    filters=_filters,
    place=FilterPlace.ERRORS,
    shared=lambda: {**error_pages.shared(), **leaving_out()},
    to_default=lambda _wanted: True,
    on_upstream=_on_upstream,
)
