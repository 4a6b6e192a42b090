"""Virtual hosts and routes, and the route table around them: as whole messages, and as bytes that are joined from templates.

What does not belong here: which routes a host has (`xds.translate.hosts`), and what a setting changes of one (its Feature).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    Metadata,
    RuntimeFractionalPercent,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    FilterConfig,
    HeaderMatcher,
    RedirectAction,
    RedirectActionRedirectResponseCode,
    Route,
    RouteAction,
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import FilterChain, FilterChainConfigPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value

from xds import model, request_metrics
from xds.nginx.feature import FilterPlace, Phase
from xds.nginx.messages import ARRIVED, OWN_SCHEME, formatted, overwriting, substitution
from xds.nginx.registry import asks, features, with_hook
from xds.nginx.variables import BEST_HOST_WITHOUT_PORT, HOST
from xds.patterns import regex, spelling
from xds.render import handshakes, names
from xds.render.answers import TO_HTTPS
from xds.wire.encode import encode, field, pack
from xds.wire.template import Template, placeholder

_HOST = f"%CEL({HOST})%"
_PATH = "%CEL(re.extract(request.path, '^(.*?)/?$', '\\\\1'))%"
_HOST_AND_PORT = "%REQ(:authority)%"
_QUERY = "%CEL(request.query != '' ? '?' : '')%%CEL(request.query)%"
_EVERYTHING = (model.PathMatch(model.PathKind.RAW_PREFIX, "/"), model.PathMatch(model.PathKind.REGEX, "/"))
_OFF_LOCATION = (model.RedirectTo.PATH, model.RedirectTo.NAME)
"""What nginx answers before it looks for a location."""
_NO_LIMIT = datetime.timedelta(0)
_KEPT_BODY = 1 << 20
"""Bytes of a request's body that are kept until an endpoint answers: so much can be sent to another one, or to a mirror.

Without it that would be the buffer of a connection, and larger uploads would fail at the first endpoint that does not answer.
"""
_OF_BODIES = frozenset((FilterPlace.PACE, FilterPlace.BODY, FilterPlace.COMPRESSION))
_RULES = frozenset(place.value for place in (FilterPlace.ACCESS, FilterPlace.AUTH))
"""The places of filters by which the routes of an Ingress let clients in."""

FORWARDED = {
    "X-Real-IP": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "X-Forwarded-For": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "X-Original-Forwarded-For": "%REQ(x-forwarded-for)%",
    "X-Forwarded-Host": "%REQ(:authority)%",
    "X-Original-Forwarded-Host": "%REQ(x-forwarded-host)%",
    "X-Forwarded-Scheme": "%REQ(x-forwarded-proto)%",
    "X-Scheme": "%REQ(x-forwarded-proto)%",
}
"""Request headers about the client (nginx 4.9); an empty value adds no header. The listener adds X-Forwarded-Port and X-Request-ID."""

_NOT_FOR_CLIENTS = (*(f"x-accel-{name}" for name in ("redirect", "expires", "buffering", "limit-rate", "charset")), "x-pad")
"""Response headers that nginx reads and does not pass on."""
_REFUSED_HOSTS = r".*(?:,|\.\.|/).*|\.?(?::.*)?"
"""What nginx does not accept as a host: two Host headers (Envoy joins them with a comma), two dots in a row, a slash, an empty one."""


def table(defaults: model.Settings, filters: Mapping[str, AnyMessage]) -> RouteConfiguration:
    """The one route table without its virtual hosts: what all of them share; `filters` are those that others configure."""
    own = _filters_of_table(defaults)
    made = RouteConfiguration(
        name=names.ROUTES,
        ignore_port_in_host_matching=True,
        request_headers_to_add=[formatted(name, value) for name, value in FORWARDED.items()],
        request_headers_to_remove=["proxy", "x-envoy-external-address", ARRIVED],
        response_headers_to_remove=["server", "x-envoy-upstream-service-time", *_NOT_FOR_CLIENTS],
        typed_per_filter_config={**own, **filters},
    )
    for name, draw in with_hook("on_table"):
        if name in defaults:
            draw(defaults[name], made)
    return made


@cache
def shared(feature: str) -> bytes:
    """What a feature has in the table for filters of routes, as fields of a RouteConfiguration that follow others."""
    return encode(RouteConfiguration(typed_per_filter_config=dict(dict(with_hook("shared"))[feature]())))


def virtual_host(host: model.VirtualHost, catch_all: model.VirtualHost | None, defaults: model.Settings) -> VirtualHost:
    """One host. A wildcard of nginx matches one label only: what Envoy's `*.foo.com` matches beyond that gets the catch-all's routes."""
    routes = [route(r, defaults, _pattern_of(host)) for r in _needed(host)]
    if not host.host:
        routes = [_refused_hosts(), *routes]
    if catch_all and _is_wildcard(host.host):
        routes += [_refused_hosts(), *(route(r, defaults) for r in catch_all.routes)]
    return VirtualHost(name=host.host or "*", domains=[host.host or "*"], routes=routes, request_body_buffer_limit=_KEPT_BODY)


def route(wanted: model.Route, defaults: model.Settings, host: str = "") -> Route:
    """One route of a host. Named after the rule of the Ingress that it comes from."""
    made = Route(match=_match(wanted, [_one_label(host)] if _is_wildcard(host) else [], by_forwarded=_by_forwarded(defaults)))
    if wanted.handshake:
        assert made.match is not None
        handshakes.put(made.match, wanted.handshake, host)
    if wanted.origin:
        made.name = _name(wanted)
    match wanted.action:
        case model.Forward():
            _forward(made, wanted, wanted.action)
        case model.Respond():
            _respond(made, wanted.action)
        case model.Redirect(to=model.RedirectTo.REWRITTEN):
            made.redirect = _rewritten(wanted.action)
        case model.Redirect(status):
            made.direct_response = DirectResponseAction(status=status)
            location = _location(wanted.action, host, by_forwarded=_by_forwarded(defaults))
            made.response_headers_to_add = [formatted("Location", location)]
    _ask("on_route", made, wanted)
    if wanted.counted:
        _count(made, _labels(wanted, wanted.counted))
    _put_filters(made, wanted, defaults)
    if wanted.early or (isinstance(wanted.action, model.Redirect) and wanted.action.to in _OFF_LOCATION):
        for name, draw in with_hook("off_location"):
            if name in defaults:
                draw(defaults[name], made)
    return made


def _count(made: Route, labels: str) -> None:
    """Put the labels where the listeners' counters find them (`xds.render.request_counts`)."""
    made.metadata = made.metadata or Metadata()
    made.metadata.filter_metadata[request_metrics.METADATA] = Struct(fields={request_metrics.LABELS: Value(string_value=labels)})


def _labels(wanted: model.Route, counted: model.Counted) -> str:
    """The labels of a route's requests. One that leads elsewhere than the location's owner says is that of a canary."""
    offered = wanted.origin != counted.origin and isinstance(wanted.action, model.Forward)
    canary = names.upstream(wanted.action.cluster) if offered and isinstance(wanted.action, model.Forward) else ""
    return request_metrics.joined(counted.origin.namespace, counted.origin.name, counted.service, canary, counted.host, counted.path)


def _respond(made: Route, action: model.Respond) -> None:
    """Answered here. By a Content-Type among the headers `xds.render.answers` sees that the body is to stay as it is."""
    headers = list(action.headers)
    made.direct_response = DirectResponseAction(status=action.status)
    if action.body:
        made.direct_response.body = DataSource(inline_string=action.body)
        if "content-type" not in (name.lower() for name, _ in headers):
            headers.append(("Content-Type", "text/plain; charset=utf-8"))
    made.response_headers_to_add = [overwriting(name, value) for name, value in headers]


def _rewritten(action: model.Redirect) -> RedirectAction:
    scheme, host, path, *_ = urlsplit(action.location)
    return RedirectAction(
        scheme_redirect=scheme,
        host_redirect=host,
        regex_rewrite=substitution(action.pattern, path),
        response_code=RedirectActionRedirectResponseCode.FOUND,
    )


def virtual_host_bytes(host: model.VirtualHost, catch_all: model.VirtualHost | None, defaults: model.Settings) -> bytes:
    """`encode(virtual_host(…))`, from templates of its routes."""
    name = (host.host or "*").encode()
    parts = [field(1, name), field(2, name), *([] if host.host else [_refused_hosts_bytes()])]
    parts += [field(3, route_bytes(r, defaults, _pattern_of(host))) for r in _needed(host)]
    if catch_all and _is_wildcard(host.host):
        parts += [_refused_hosts_bytes(), *(field(3, route_bytes(r, defaults)) for r in catch_all.routes)]
    return b"".join([*parts, _buffer_limit_bytes()])


@cache
def _refused_hosts_bytes() -> bytes:
    return field(3, encode(_refused_hosts()))


@cache
def _buffer_limit_bytes() -> bytes:
    return encode(VirtualHost(request_body_buffer_limit=_KEPT_BODY))


@cache
def _refused_hosts() -> Route:
    """The first route of the catch-all: 400 for invalid hosts, which no Ingress can have."""
    host = HeaderMatcher(name=":authority", string_match=StringMatcher(safe_regex=RegexMatcher(regex=_REFUSED_HOSTS)))
    return Route(match=RouteMatch(prefix="/", headers=[host]), direct_response=DirectResponseAction(status=400))


def route_bytes(wanted: model.Route, defaults: model.Settings, host: str = "") -> bytes:
    """`encode(route(…))`. Routes that differ only in path, name, and cluster or Location share a template."""
    forwards = isinstance(wanted.action, model.Forward)
    if wanted.handshake or wanted.early or any(name in wanted.settings for name in _by_path(forwards=forwards)):
        return encode(route(wanted, defaults, host))
    if isinstance(wanted.action, model.Redirect) and wanted.action.to in (*_OFF_LOCATION, model.RedirectTo.REWRITTEN):
        return encode(route(wanted, defaults, host))
    kind, text = _path(wanted.match)
    action, target = wanted.action, "-"
    if isinstance(action, model.Forward):
        action, target = model.Forward(model.Cluster("", "", 0), action.by_client), names.cluster(action.cluster)
    elif isinstance(action, model.Redirect):
        target = _location(action, host, by_forwarded=_by_forwarded(defaults))
        action = model.Redirect(action.status, model.RedirectTo.HTTPS if _is_to_https(action) else model.RedirectTo.URL)
    settings = (wanted.settings, defaults) if forwards else (_on_every_action(wanted.settings), _on_every_action(defaults))
    shape = (
        kind,
        action,
        wanted.origin is None,
        wanted.via,
        wanted.headers,
        wanted.share,
        *settings,
        host if _is_wildcard(host) else "",
        wanted.counted is not None,
    )
    labels = _labels(wanted, wanted.counted) if wanted.counted else "-"
    return _template(*shape).fill(text, _name(wanted) if wanted.origin else "-", target, labels)


@lru_cache(maxsize=4096)
def _template(
    kind: model.PathKind,
    action: model.Action,
    nameless: bool,
    via: model.Via,
    headers: tuple[model.HeaderMatch, ...],
    share: model.Share | None,
    settings: model.Settings,
    defaults: model.Settings,
    wildcard: str,
    counted: bool,
) -> Template:
    """The template that such routes share; its placeholders are path, name, cluster or Location, and the labels of its counters."""
    some = model.Route(model.PathMatch(kind, "/"), action, None, "", via, headers, settings, share)
    made = route(some, defaults, wildcard)
    assert made.match is not None
    _put_path(made.match, kind, placeholder(0))
    made.name = "" if nameless else placeholder(1)
    if made.route is not None:
        made.route.cluster = placeholder(2)
    if isinstance(action, model.Redirect):
        made.response_headers_to_add[0] = formatted("Location", placeholder(2))
    if counted:
        _count(made, placeholder(3))
    return Template(made, 4)


@cache
def _by_path(*, forwards: bool) -> tuple[str, ...]:
    """The features whose routes have no template: what these render depends on more than the template's placeholders."""
    hooks = ("on_route", "filters", "on_forward") if forwards else ("on_route", "filters")
    return tuple(name for hook in hooks for name, _ in with_hook(hook) if features()[name].by_path)


def _needed(host: model.VirtualHost) -> tuple[model.Route, ...]:
    """The routes of a host without redundant ones: Envoy loads a route table of thousands faster with fewer."""
    routes = _joined_redirects(host.routes)
    if _is_wildcard(host.host) or not host.host:
        return routes  # others follow the last one, or its 404 is the table's last word
    last = routes[-1] if routes else None
    if last and last.action == model.Respond(404) and last.match in _EVERYTHING and last.handshake is None and not _shows(last):
        return routes[:-1]  # what matches no route is answered with 404 anyway, whichever requests the last one was for
    return routes


def _shows(wanted: model.Route) -> bool:
    """Whether its features render anything that Envoy's own 404 lacks. What concerns bodies does not count: it has none to speak of."""
    own = wanted.settings
    filters = (
        tuple(draw(own[name], wanted)) for name, draw in with_hook("filters") if name in own and features()[name].place not in _OF_BODIES
    )
    return any(name in own for name, _ in with_hook("on_route")) or any(filters)


def _joined_redirects(routes: tuple[model.Route, ...]) -> tuple[model.Route, ...]:
    """One redirect to https for the whole host, if every path has the same one before it."""
    redirects = [r for r in routes if _to_https(r)]
    if not redirects or redirects[-1].match not in _EVERYTHING or len({(r.action, _on_every_action(r.settings)) for r in redirects}) > 1:
        return routes
    covered: set[model.PathMatch] = set()
    others = []
    for r in routes:
        if _to_https(r):
            covered.add(r.match)
        elif r.via is not model.Via.HTTPS and r.match not in covered and not (r.early and r.handshake):
            return routes  # but for what is about TLS or an https that a client claims, which no redirect matches
        else:
            others.append(r)
    return (redirects[-1], *others)


def _to_https(wanted: model.Route) -> bool:
    for_all = wanted.via is model.Via.HTTP and not wanted.headers and wanted.share is None and wanted.handshake is None
    return for_all and _is_to_https(wanted.action)


def _is_to_https(action: model.Action) -> bool:
    return isinstance(action, model.Redirect) and action.to is model.RedirectTo.HTTPS


@lru_cache(maxsize=16)
def _by_forwarded(defaults: model.Settings) -> bool:
    """Whether X-Forwarded-Proto is what a proxy in front says."""
    return asks("by_forwarded", defaults)


def _pattern_of(host: model.VirtualHost) -> str:
    """The host as its routes must know it; "" where that is any name that Envoy finds the virtual host by."""
    return "" if host.deep else host.host


def _is_wildcard(host: str) -> bool:
    return host.startswith("*.")


def _name(wanted: model.Route) -> str:
    assert wanted.origin is not None
    return f"{wanted.origin.namespace}/{wanted.origin.name} {wanted.rule}"


def _match(wanted: model.Route, matchers: Iterable[HeaderMatcher], *, by_forwarded: bool) -> RouteMatch:
    """What a proxy says of the scheme decides about the redirect to https alone: no access rule may depend on a client's header."""
    headers = [*matchers, *(_header_matcher(h) for h in wanted.headers)]
    if wanted.via is not model.Via.ANY:
        own = by_forwarded and not _is_to_https(wanted.action)
        headers.append(_by_scheme(OWN_SCHEME if own else "x-forwarded-proto", wanted.via))
    made = RouteMatch(headers=headers, runtime_fraction=_fraction(wanted.share) if wanted.share else None)
    _put_path(made, *_path(wanted.match))
    return made


def _path(match: model.PathMatch) -> tuple[model.PathKind, str]:
    """How Envoy matches the path: as text where only one spelling reaches the match, else by a regular expression."""
    pattern = spelling.pattern(match)
    return (model.PathKind.REGEX, pattern) if pattern else (match.kind, match.path)


def _put_path(made: RouteMatch, kind: model.PathKind, text: str) -> None:
    match kind:
        case model.PathKind.EXACT:
            made.path = text
        case model.PathKind.PREFIX:
            made.path_separated_prefix = text
        case model.PathKind.RAW_PREFIX:
            made.prefix = text
        case model.PathKind.REGEX:
            made.safe_regex = RegexMatcher(regex=text)


@cache
def _by_scheme(header: str, via: model.Via) -> HeaderMatcher:
    """Matches the scheme of the request; the listener overwrites a client's own header, unless it is to be believed."""
    return HeaderMatcher(name=header, string_match=StringMatcher(exact=via.value))


@lru_cache(maxsize=1024)
def _fraction(share: model.Share) -> RuntimeFractionalPercent:
    """A share in hundredths where that is exact, else in millionths. A share above none and below all stays so when it is rounded."""
    percent, rest = divmod(100 * share.parts, share.of)
    if rest == 0:
        return RuntimeFractionalPercent(FractionalPercent(percent, FractionalPercentDenominatorType.HUNDRED))
    millionths = min(max(round(1_000_000 * share.parts / share.of), 1), 999_999)
    return RuntimeFractionalPercent(FractionalPercent(millionths, FractionalPercentDenominatorType.MILLION))


def _header_matcher(wanted: model.HeaderMatch) -> HeaderMatcher:
    """An inverted matcher also matches requests without the header; by default Envoy's matcher would not."""
    value = StringMatcher(safe_regex=RegexMatcher(regex=wanted.value)) if wanted.regex else StringMatcher(exact=wanted.value)
    value.ignore_case = wanted.any_case
    inverted = wanted.inverted
    return HeaderMatcher(name=wanted.name, string_match=value, invert_match=inverted, treat_missing_header_as_empty=inverted)


@lru_cache(maxsize=1024)
def _one_label(host: str) -> HeaderMatcher:
    """nginx's `*.foo.com`: one label and no more, any port."""
    pattern = rf"(?i)[-\w]+{regex.literal(host[1:])}\.?(:[0-9]+)?"
    return HeaderMatcher(name=":authority", string_match=StringMatcher(safe_regex=RegexMatcher(regex=pattern)))


def _forward(made: Route, wanted: model.Route, action: model.Forward) -> None:
    """Forward to a cluster without a limit of time (Envoy's default is 15 s): idle time-outs limit a request."""
    made.route = RouteAction(cluster=names.cluster(action.cluster), timeout=_NO_LIMIT)
    _ask("on_forward", made, wanted)
    if made.route.regex_rewrite or made.route.path_rewrite:
        _ask("on_rewritten", made, wanted)
    if action.by_client and not made.route.hash_policy:
        by_address = RouteActionHashPolicyConnectionProperties(source_ip=True)
        made.route.hash_policy = [RouteActionHashPolicy(connection_properties=by_address)]


def _ask(hook: str, made: Route, wanted: model.Route) -> None:
    """Call this hook of every feature for which the route has a setting."""
    for name, draw in with_hook(hook):
        if (setting := wanted.settings.get(name)) is not None:
            draw(setting, wanted, made)


@lru_cache(maxsize=4096)
def _on_every_action(settings: model.Settings) -> model.Settings:
    """The settings of features that change a route whether it forwards or not; only these distinguish routes that do not forward."""
    names_of = {name for hook in ("on_route", "filters") for name, _ in with_hook(hook)}
    return model.Settings({name: setting for name, setting in settings.items() if name in names_of})


def _put_filters(made: Route, wanted: model.Route, defaults: model.Settings) -> None:
    """Add a route's own filters to what its features have configured, in those places where they differ from the table's.

    A route that no Ingress requests has no settings, and the filters of the table: but for those of locations (`_beyond_locations`).
    """
    own, theirs = _on_every_action(wanted.settings), _filters_of_table(defaults)
    if wanted.settings is defaults and not theirs.keys() & _RULES:
        return
    mine = _own_filters(wanted, own) if own else _filters_of_table(_beyond_locations(defaults))
    made.typed_per_filter_config |= {
        place: mine.get(place) or _none() for place in {**mine, **theirs} if mine.get(place) != theirs.get(place)
    }


@lru_cache(maxsize=16)
def _beyond_locations(defaults: model.Settings) -> model.Settings:
    """What of the ConfigMap holds where no location answers: no rules (a health check comes from anywhere), and no snippet of locations."""
    return model.Settings({name: setting for name, setting in defaults.items() if name in features() and not _of_locations(name)})


def _of_locations(name: str) -> bool:
    feature = features()[name]
    return feature.phase is Phase.RETURN or feature.place.value in _RULES


@lru_cache(maxsize=16)
def _filters_of_table(defaults: model.Settings) -> dict[str, AnyMessage]:
    """The filters of routes that say nothing else: those of a location of which the ConfigMap decides everything."""
    return _own_filters(model.Route(model.PathMatch(model.PathKind.RAW_PREFIX, "/"), model.Respond(404)), defaults)


def _own_filters(wanted: model.Route, settings: model.Settings) -> dict[str, AnyMessage]:
    """The HTTP filters that these settings need, by the listener's places for them."""
    places: dict[FilterPlace, list[TypedExtensionConfig]] = {}
    for name, filters in with_hook("filters"):
        if name in settings and (asked_for := tuple(filters(settings[name], wanted))):
            places.setdefault(features()[name].place, []).extend(asked_for)
    return {place.value: _packed(tuple(filters)) for place, filters in places.items()}


@cache
def _none() -> AnyMessage:
    """Neither filters of a route's own nor those of the table."""
    return pack(FilterConfig(disabled=True))


def _packed(filters: tuple[TypedExtensionConfig, ...]) -> AnyMessage:
    return pack(FilterChainConfigPerRoute(filter_chain=FilterChain(filters=list(filters))))


def _location(action: model.Redirect, host: str, *, by_forwarded: bool) -> str:
    """The format of a Location header. A host that is known is written as text, which is cheaper than extracting it from the request.

    Where proxies in front may name scheme and host (`by_forwarded`), ingress-nginx uses their words for redirects to https and to another
    name only. The port of the listener is of no use to their clients.
    """
    scheme = f"%REQ({OWN_SCHEME if by_forwarded else 'x-forwarded-proto'})%"
    here = f"{scheme}://{_HOST_AND_PORT}"
    written = action.location.replace("%", "%%")
    match action.to:
        case model.RedirectTo.URL | model.RedirectTo.REWRITTEN:
            return f"https://{written.removeprefix(TO_HTTPS)}" if written.startswith(TO_HTTPS) else written
        case model.RedirectTo.PATH:
            return f"{here}{written}"
        case model.RedirectTo.HTTPS:
            return _to_https_here(action, host, written, by_forwarded=by_forwarded)
        case model.RedirectTo.HERE if action.relative:
            return written
        case model.RedirectTo.HERE:
            return f"{scheme}://{_HOST if not host or _is_wildcard(host) else host}{written}"
        case model.RedirectTo.NAME if by_forwarded:
            return f"%REQ(x-forwarded-proto)%://{written}{_PATH}"
        case model.RedirectTo.NAME:
            return f"%REQ(x-forwarded-proto)%://{written}:%REQ(x-forwarded-port)%{_PATH}"
        case model.RedirectTo.SLASH:
            return f"{'' if action.relative else here}%PATH(NQ)%/{_QUERY}"


def _to_https_here(action: model.Redirect, host: str, port: str, *, by_forwarded: bool) -> str:
    """The Location of a redirect to https: the host as sent, without its port; if its length is known, cutting it there is cheaper.

    Without the last slash `answers` completes it: an expression here costs Envoy 30 µs whenever any host changes.
    """
    if by_forwarded:
        return f"https://%CEL({BEST_HOST_WITHOUT_PORT})%{port}%REQ(:path)%" if action.keep_slash else f"{TO_HTTPS}{port}%REQ(:path)%"
    known = bool(host) and not _is_wildcard(host)
    name = f"%REQ(:authority):{len(host)}%" if known else _HOST
    return f"{'https://' if action.keep_slash else TO_HTTPS}{name}{port}%REQ(:path)%"
