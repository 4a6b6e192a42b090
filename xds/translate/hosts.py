"""One host: which paths of which Ingresses it has, which of them win, and the routes of each (nginx 4.1 to 4.4).

What does not belong here: what Ingresses claim on a host (`xds.translate.claims`), how a path matches (`xds.translate.paths`), where a
backend leads (`xds.translate.backends`), and what a setting makes of a route (its Feature).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, ingress, ingresses_of, path_share_key, report_about, settings
from xds.model import (
    CLOSED,
    Action,
    Cluster,
    Counted,
    Forward,
    Location,
    Offer,
    PathKind,
    PathMatch,
    Redirect,
    RedirectTo,
    Respond,
    Route,
    Settings,
    Terminate,
    VirtualHost,
)
from xds.nginx import registry
from xds.nginx.feature import Before, Further, Phase
from xds.nginx.registry import asks, besides, cluster_features, drawn, everywhere, features, for_host, guarded, on_path, with_hook
from xds.patterns import regex
from xds.problem import Problem, Ref, Severity
from xds.translate import further_names, guards, offers, paths
from xds.translate.backends import NO_ENDPOINTS, NO_SERVICE, Reach, destination, first_port
from xds.translate.certificates import redirects_to_https
from xds.translate.claims import (
    ROOT,
    Claim,
    Where,
    claimants,
    claims_in_order,
    claims_of,
    default_claim,
    has_regex,
    offering,
    on_host,
    report_claim,
    report_foreign,
    rules_of,
    serving,
    settings_of,
    settings_on,
    shared_settings,
)
from xds.translate.configuration import configuration, ingress_settings
from xds.translate.further_names import Given
from xds.translate.guards import Guard
from xds.translate.regexes import OF_HOST, Allowance, LeftOut, admit, cost_of
from xds.translate.tls import host_tls

_HOST = re.compile(r"(\*\.)?([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?")
_ROOT = PathMatch(PathKind.RAW_PREFIX, "/")
_NOTHING = Respond(404)
MOST_REPEATED = 20
"""Routes of the catch-all up to which each wildcard host repeats them."""
_REPEATED_COST = 100
MOST_EXTERNAL_NAMES = 100
"""Ports of Services of type ExternalName to which one Ingress may lead. Envoy resolves each before it accepts routes to it, and again at
every TTL; a thousand new ones would delay all changes for seconds."""
_HEALTH = PathMatch(PathKind.RAW_PREFIX, "/healthz")
_HEALTHY = Respond(200, (("Content-Type", "text/html"),))
"""No page. (Envoy leaves out the type of an empty body.)"""
_UNREACHABLE = (Reach.NO_SERVICE, Reach.NO_PORT, Reach.REFUSED, Reach.NOT_REACHABLE)


class _Site(NamedTuple):
    """What all locations of a host have in common. `ours` are its Ingresses, the oldest first; `as_regex`: its paths are expressions."""

    host: str
    ours: list[Ingress]
    tls: bool
    as_regex: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """A location with its routes. `rank` is the path by which it is sorted. `closed`: it only replaces paths that are left out."""

    location: Location
    routes: tuple[Route, ...]
    rank: PathMatch
    closed: bool = False


def virtual_host(read: Reader, host: str, *, with_offers: bool = True) -> VirtualHost | None:
    """A host (in lower case; "" is the catch-all) with its routes in the order in which they are tried.

    Those of offers are among them, but without `with_offers`.
    """
    ours = serving(read, host)
    if host and not ours:
        offers.report_none_served(read, host)
        found = read.unit(further_names.given, host)
        return _further_host(read, found) if found else None
    if host and not _acceptable(read, host, ours):
        return None
    _report_foreign(read, host)
    offers.report_foreigners(read, host)
    claims = _claims(read, host, ours)
    own = _routes_of(read, host, ours, claims, tls=redirects_to_https(read, host, ours), with_offers=with_offers)
    further_names.report(read, host)
    return _finished(read, ours, VirtualHost(host, own, host_tls(read, host, ours, claims)))


def _finished(read: Reader, ours: list[Ingress], made: VirtualHost) -> VirtualHost:
    """What features make of a host as a whole, such as whose certificates its clients show: of its further names as well."""
    return registry.of_host((settings_of(read, item) for item in ours), made)


def _further_host(read: Reader, found: Given) -> VirtualHost | None:
    """The virtual host of a further name: a redirect, or the routes of the host that has the name."""
    name, ours = found.name.host, serving(read, found.host)
    tls = Terminate(further_names.certificate_of(read, found))
    if not _HOST.fullmatch(name) or not _acceptable(read, found.host, ours):
        return None
    if found.name.redirect:
        number = next(iter(rules_of(read, found.item, found.host)))[0]
        return VirtualHost(name, (Route(_ROOT, found.name.redirect, ref(found.item), f"spec.rules[{number}]"),), tls)
    if not further_names.is_affordable(read, found):
        return None
    claims = _claims(read, found.host, ours)
    own = _routes_of(read, found.host, ours, claims, tls=further_names.redirects(read, found, ours), with_offers=True)
    return _finished(read, ours, VirtualHost(name, own, tls, deep=name.startswith("*.")))


def _routes_of(read: Reader, host: str, ours: list[Ingress], claims: list[Claim], *, tls: bool, with_offers: bool) -> tuple[Route, ...]:
    """All routes of a host. With `tls` plain http is redirected unless a feature decides otherwise."""
    site = _Site(host, ours, tls, has_regex(read, claims))
    allowance = Allowance(OF_HOST)
    admitted, left_out = admit(read, host, claims, allowance, as_regex=site.as_regex)
    joining = offers.joining(read, host, allowance) if with_offers else {}
    guard = guards.guard_of(read, host)
    taken = _winners(read, host, admitted)
    found = _claimed(read, site, taken, joining, guard)
    _report_without_effect(read, site, taken, joining)
    further = [*_further(read, site, allowance)]
    as_in_nginx = sorted(found, key=lambda each: (len(path := each.location.path.encode()), path), reverse=True)
    first = next((r for each in as_in_nginx if (r := _host_routes(each.location))), ())
    found += (_closure(read, site, each) for each in left_out if guarded(settings_of(read, each.first.item)))
    return (*_with_clusters(read, first), *_ordered(site, found, further, taken, guard))


def beyond_wildcard(read: Reader, host: str) -> VirtualHost:
    """The routes for names that Envoy's wildcard matches and nginx's does not, since they are more than one label longer: the catch-all's.

    Each wildcard host repeats them, so there is a limit: thousands of wildcards and thousands of paths would make millions of routes.
    Where offers make them too many, they are left out.
    """
    for rest in map(read.unit, (catch_all, catch_all_alone)):
        if rest is None or (len(rest.routes) <= MOST_REPEATED and sum(map(cost_of, rest.routes)) <= _REPEATED_COST):
            return rest or VirtualHost("", ())
    for item in serving(read, host)[:1]:
        sentence = (
            f'Names further below "{host[2:]}" than one label are answered with 404, not by the paths without a host: those are more than '
        )
        sentence += f"{MOST_REPEATED}, or regular expressions."
        report_about(read, item, "spec.rules", f"wildcard:{host}", sentence, Severity.WARNING)
    return VirtualHost("", (Route(_ROOT, Respond(404)),))


def catch_all_alone(read: Reader) -> VirtualHost | None:
    """The same routes without those of offers. A Unit."""
    return virtual_host(read, "", with_offers=False)


def catch_all(read: Reader) -> VirtualHost | None:
    """The virtual host for requests whose host no Ingress has. A Unit."""
    return virtual_host(read, "")


def _acceptable(read: Reader, host: str, ours: list[Ingress]) -> bool:
    """Whether the text is a host name; if not, a Problem is reported for each Ingress that has it."""
    if _HOST.fullmatch(host) and (len(host) <= 63 or (len(host) <= 253 and all(len(label) <= 63 for label in host.split(".")))):
        return True
    for item in ours:
        number = next(iter(rules_of(read, item, host)))[0]
        sentence = f"The host {host[:80]!r} {_host_fault(host)}; the rule has no effect."
        report_about(read, item, f"spec.rules[{number}].host", "host", sentence)
    return False


def _host_fault(host: str) -> str:
    if not host.isascii():
        try:
            return f"is not in ASCII; write it as {host.encode('idna').decode()!r}"
        except UnicodeError:
            return "is not in ASCII"
    if re.fullmatch(r".*:\d+", host):
        return "has a port; an Ingress takes all ports"
    if "*" in host:
        return 'is no wildcard: only a first label of "*" is one'
    return "is no DNS name"


def _claims(read: Reader, host: str, ours: list[Ingress]) -> list[Claim]:
    for item in (*ours, *offering(read, host)):
        if not item.rules and item.default_backend is None:
            sentence = "The Ingress has neither rules nor a default backend, and no effect."
            report_about(read, item, "spec", "empty", sentence, Severity.WARNING)
    return [claim for item in ours for claim in claims_of(read, item, host)]


def _winners(read: Reader, host: str, claims: Sequence[Claim]) -> dict[Where, Claim]:
    """The claim that counts for each place, in the order of claims."""
    taken: dict[Where, Claim] = {}
    for claim in claims:
        winner = taken.setdefault(claim.where, claim)
        if winner is not claim:
            _report_conflict(read, host, claim, winner)
    return taken


def _claimed(read: Reader, site: _Site, taken: Mapping[Where, Claim], joining: offers.Joining, guard: Guard | None) -> list[_Found]:
    """The locations that Ingresses claim, those of the oldest first. Before them that of "/": the first of its length, as in nginx.conf."""
    found = {where: _location(read, site, claim, joining.get(where, ()), guard) for where, claim in taken.items()}
    root = found.pop(ROOT, None) or _default(read, site, joining.get(ROOT, ()))
    return [root, *found.values()]


def _location(read: Reader, site: _Site, claim: Claim, offered: Sequence[Claim], guard: Guard | None) -> _Found:
    """The location of a claimed path."""
    _report_escape(read, claim)
    match = paths.match(claim.path, claim.type, as_regex=site.as_regex)
    match = guard.widened(match) if guard else match
    own = settings_on(read, site.host, claim)
    location = Location(site.host, claim.path, match, site.tls, ref(claim.item), claim.field, own, backend=_written(claim))
    return _joined(read, _counted(read, location, claim.number), _backend_action(read, claim), offered)


def _ordered(
    site: _Site, found: list[_Found], further: Sequence[tuple[Further, _Found]], taken: Mapping[Where, Claim], guard: Guard | None
) -> tuple[Route, ...]:
    """The routes of all locations in the order in which they are tried."""
    found.sort(key=lambda each: each.rank.path, reverse=site.as_regex)
    found.sort(key=lambda each: (paths.precedence(each.rank), not each.closed))
    served = [(each.location, each.routes) for each in found if each.routes[-1].action != _NOTHING]
    first, last = _around(further, found, as_regex=site.as_regex)
    return (*(guards.first_routes(served) if guard else guards.dots(further)), *first, *_in_order(site.host, found, taken), *last)


def _report_without_effect(read: Reader, site: _Site, taken: Mapping[Where, Claim], joining: offers.Joining) -> None:
    """Report a path that is never reached, offers for paths that nobody claims, and default backends that others stand before."""
    if site.as_regex and (never := taken.get(("/", paths.EXACT))):
        _report_never_reached(read, site.host, never)
    offers.report_unclaimed(read, site.host, joining, taken.keys() | ({ROOT} if default_claim(site.host, site.ours) else set()))
    _report_lost_defaults(read, site.host, site.ours, taken.get(ROOT))


def _report_never_reached(read: Reader, host: str, claim: Claim) -> None:
    """Where paths are regular expressions, an Exact / begins every path, as a Prefix / does; ingress-nginx writes that one first."""
    where = f'of the host "{host}"' if host else "without a host"
    sentence = f"The path / of type Exact is never reached: paths {where} are regular expressions, and what answers for / of type Prefix "
    sentence += "comes first. Use the type Prefix."
    report_about(read, claim.item, claim.field, f"never-reached:{host}", sentence, Severity.WARNING)


def _further(read: Reader, site: _Site, allowance: Allowance) -> Iterator[tuple[Further, _Found]]:
    """The locations that no Ingress has, as far as the host can pay for their regular expressions.

    The owner of a setting is the oldest Ingress that has this very one; the ConfigMap's needs none.
    """
    defaults = read.unit(configuration).defaults
    shared = shared_settings(read, site.host) if site.ours else for_host(defaults)
    for name, hook in with_hook("locations"):
        if name not in shared:
            continue
        owner = next((item for item in site.ours if settings_of(read, item).get(name) == shared[name]), None)
        own = settings_of(read, owner) if owner else defaults
        root = Location(site.host, "/", _ROOT, site.tls, ref(owner) if owner else None, "", own)
        for each in hook(shared[name], root):
            routes = _routes(read, each.location, Respond(404))
            if allowance.spend(sum(map(cost_of, routes))):
                yield each, _Found(each.location, routes, each.location.match)
            elif owner:
                why = "the regular expressions of its host use up the budget of one host"
                sentence = f"The location in {each.location.rule} has no effect: {why}."
                report_about(read, owner, "metadata.annotations", f"regex-budget-of-host:{site.host}", sentence)


def _around(
    further: Sequence[tuple[Further, _Found]], found: list[_Found], *, as_regex: bool
) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
    """The routes of further locations before those of `found`, and after; some are put among them."""
    among = [each for where, each in further if where.before is Before.SHORTER]
    if not as_regex:
        found += among
        found.sort(key=lambda each: (paths.precedence(each.rank), not each.closed))
    ordered = sorted((pair for pair in further if pair[0].before is not Before.SHORTER), key=lambda pair: pair[0].before)
    first = tuple(route for _, each in ordered for route in each.routes)
    return first, tuple(route for each in among for route in each.routes) if as_regex else ()


def _closure(read: Reader, site: _Site, out: LeftOut) -> _Found:
    """A location in place of left-out paths with access rules: 503 for all requests that they would have matched, and perhaps more."""
    kind = PathKind.REGEX if site.as_regex else PathKind.RAW_PREFIX
    match = PathMatch(kind, regex.literal(out.start) if site.as_regex else paths.encoded(out.start), escaped=True)
    item = out.first.item
    location = Location(site.host, out.start, match, site.tls, ref(item), out.first.field, settings_of(read, item))
    return _Found(location, _routes(read, location, Respond(503)), PathMatch(kind, out.longest), closed=True)


def _in_order(host: str, found: list[_Found], taken: Mapping[Where, Claim]) -> Iterator[Route]:
    """All routes, with those that nginx adds: the health check of the catch-all, and /foo → /foo/ for a path that ends in a slash."""
    redirected: set[str] = set()
    for each in found:
        match, path = each.location.match, each.location.path
        health = not host and match.path == "/" and match.kind is not PathKind.REGEX and ("/healthz", "Exact") not in taken
        if health and not each.closed:
            yield Route(_HEALTH, _HEALTHY, early=True)
        yield from each.routes
        bare = path.removesuffix("/")
        if each.closed or match.kind is PathKind.REGEX or bare in ("", path) or bare in redirected:
            continue
        if (bare, "Exact") not in taken and (bare, "Prefix") not in taken:
            redirected.add(bare)
            exact = replace(paths.match(bare, paths.EXACT, as_regex=False), escaped=match.escaped)
            slash = Redirect(301, RedirectTo.SLASH, relative=asks("is_relative", each.location.settings))
            yield Route(exact, slash, each.location.origin, each.location.rule, counted=each.location.counted)


def _default(read: Reader, site: _Site, offered: Sequence[Claim]) -> _Found:
    """The location for unclaimed paths: the defaultBackend of the host's first Ingress with its annotations, else the global one.

    In the catch-all the annotations of an Ingress that redirect or rewrite have no effect; its access rules and all others have.
    """
    host = site.host
    match = PathMatch(PathKind.REGEX, "/") if site.as_regex else _ROOT
    claim = default_claim(host, site.ours)
    item = site.ours[0] if host else (claim.item if claim else None)
    if item is None:
        base = read.unit(configuration)
        own = _without(base.defaults, Phase.HOST, Phase.RETURN, Phase.SSL_REDIRECT, Phase.ACCESS)
        if registry.closes_all(base.keys):
            own = own.but(**{CLOSED: base.defaults[CLOSED]})
        location = Location(host, "/", match, site.tls, None, "", on_host(read, host, own))
        return _Found(location, _routes(read, location, _global_default(read)), match)
    own = on_host(read, host, on_path(settings_of(read, item), "/"))
    if not host:
        own = _without(own, Phase.HOST, Phase.RETURN, Phase.SSL_REDIRECT)
    location = Location(host, "/", match, site.tls, ref(item), "spec.defaultBackend", own)
    if claim is None:
        return _Found(location, _routes(read, location, _global_default(read)), match)
    location = _counted(read, replace(location, backend=_written(claim)))
    return _joined(read, location, _backend_action(read, claim), offered)


def _counted(read: Reader, location: Location, number: int = 0) -> Location:
    """The location with what its requests are counted by (`--enable-metrics`): its Ingress alone, where that has its share of labels.

    `number` counts the paths before it within its Ingress.
    """
    flags = settings(read)
    if not flags.enable_metrics or location.origin is None:
        return location
    if number >= read(path_share_key(location.origin.namespace)):
        return replace(location, counted=Counted(location.origin, "", "", ""))
    host = location.host if flags.metrics_per_host else ""
    return replace(location, counted=Counted(location.origin, location.backend[0], host, location.path))


def _joined(read: Reader, location: Location, action: Action, offered: Sequence[Claim]) -> _Found:
    """A location with what is offered for it: the first offer of another backend than its own.

    Where the location's own backend cannot be reached, all requests are answered with 503. Where that of the offer cannot, the location's
    own answers them (nginx 4.12).
    """
    wanted, to = offers.first(read, offered, action, lambda claim: _backend_action(read, claim, offered=True))
    if wanted is None or not isinstance(to, Forward) or not isinstance(action, Forward):
        return _Found(location, _routes(read, location, action), location.match)
    own = settings_of(read, wanted.item)
    offer = Offer(to, ref(wanted.item), wanted.field, own, registry.offered(location.settings, own))
    routes = _routes(read, replace(location, offers=(offer,)), action)
    if any(isinstance(route.action, Forward) and (route.origin, route.rule) == (offer.origin, offer.rule) for route in routes):
        return _Found(location, routes, location.match)
    alone = _routes(read, location, action)
    offers.report_unasked(read, location, alone, wanted)
    return _Found(location, alone, location.match)


def _without(own: Settings, *phases: Phase) -> Settings:
    """The settings without those of features that change routes, or filter their requests, in one of these phases; but see `everywhere`."""
    changing = {name for hook in ("routes", "filters") for name, _ in with_hook(hook) if features()[name].phase in phases} - everywhere()
    changing |= {CLOSED} if Phase.ACCESS in phases else set()
    return Settings({name: setting for name, setting in own.items() if name not in changing}) if changing & own.keys() else own


def _routes(read: Reader, location: Location, action: Action) -> tuple[Route, ...]:
    """The routes of a location, after all features have changed them."""
    if asks("to_default", location.settings) and isinstance(default := _global_default(read), Forward):
        location = replace(location, default=default.cluster)
    first = Route(location.match, action, location.origin, location.rule, settings=location.settings)
    routes = _with_clusters(read, drawn(location, first))
    if location.counted:
        routes = tuple(replace(r, counted=location.counted) for r in routes)
    wanted = besides(location)
    return tuple(replace(r, besides=(*wanted, *r.besides)) if isinstance(r.action, Forward) else r for r in routes) if wanted else routes


def _written(claim: Claim) -> tuple[str, int | str]:
    """The backend of a path as the Ingress names it."""
    return claim.backend.service, claim.backend.port


def _host_routes(location: Location) -> tuple[Route, ...]:
    """The routes that precede all others of the host; of several features the first one has them."""
    asked = (draw(location.settings[name], location) for name, draw in with_hook("host_routes") if name in location.settings)
    return next((routes for routes in asked if routes), ())


def _with_clusters(read: Reader, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Give each cluster the policy of its route's settings, which are final now."""
    defaults = read.unit(configuration).defaults

    def finished(r: Route) -> Route:
        if not isinstance(r.action, Forward):
            return r
        found = r.action.cluster
        if found.external:
            changed = _changed(r.settings, cluster_settings(read, r.origin))
            return replace(r, action=replace(r.action, cluster=replace(found, asked_by=r.origin, policy=changed)))
        if r.settings is defaults and not asks("by_address", defaults):
            return r
        wanted = policy(r.settings, defaults)
        return r if wanted == found.policy else replace(r, action=replace(r.action, cluster=replace(found, policy=wanted)))

    return tuple([finished(r) for r in routes])


def cluster_settings(read: Reader, asked_by: Ref | None) -> Settings:
    """The settings on which a cluster's policy is based: those of the Ingress in its name, else the defaults."""
    return read.unit(ingress_settings, asked_by.namespace, asked_by.name) if asked_by else read.unit(configuration).defaults


def _changed(own: Settings, base: Settings) -> tuple[tuple[str, object], ...]:
    """The settings for the cluster in which a route differs from its Ingress."""
    named = ((name, own.get(name)) for name in sorted(cluster_features()))
    return tuple((name, value) for name, value in named if value != base.get(name))


def policy(own: Settings, defaults: Settings) -> tuple[tuple[str, object], ...]:
    """The settings that make a cluster differ from the plain one.

    The Service's own address (service-upstream) does so even where it is the default: it is for http only, and TCP services share the
    plain cluster.
    """
    named = ((name, own.get(name)) for name in sorted(cluster_features()))
    return tuple((name, value) for name, value in named if value != defaults.get(name) or asks("by_address", {name: value}))


def _backend_action(read: Reader, claim: Claim, *, offered: bool = False) -> Action:
    """The action of a claimed path, or of one that is `offered`; a backend that cannot be reached answers 503."""
    backend, namespace = claim.backend, claim.item.meta.namespace
    otherwise = "the Service of its annotations answers" if asks("falls_back", settings_of(read, claim.item)) else "the path answers 503"
    otherwise = "all requests stay with the path's own backend" if offered else otherwise
    if not backend.service:
        what = f"a {backend.resource}" if backend.resource else "nothing"
        who = otherwise if offered else "the default backend answers"
        report_claim(read, claim, "backend", "backend", f"The backend is {what}, not a Service; {who}.")
        return Respond(503) if offered else _global_default(read)
    by_address = asks("by_address", settings_of(read, claim.item))
    found = read.unit(destination, namespace, backend.service, backend.port, by_address)
    if found.reach is Reach.EXTERNAL and (backend.service, found.port) not in read.unit(external_names, namespace, claim.item.meta.name):
        sentence = (
            f"An Ingress can lead to at most {MOST_EXTERNAL_NAMES} ports of Services of type ExternalName; paths to others answer 503."
        )
        report_about(read, claim.item, "spec", "too-many-external-names", sentence)
        return Respond(503)
    if found.reach in (Reach.LIVE, Reach.EXTERNAL):
        return Forward(Cluster(namespace, backend.service, found.port, external=found.reach is Reach.EXTERNAL), found.by_client)
    about = f"Service {namespace}/{backend.service}"
    if found.reach is Reach.NO_PORT:
        which = f"has no port {str(backend.port)[:63]!r}" if backend.port else "is named without a port; write port.number or port.name"
        report_claim(read, claim, "backend.service.port", "no-port", f"{about} {which}; {otherwise}.")
    else:
        severity = Severity.ERROR if found.reach in _UNREACHABLE else Severity.WARNING
        code = NO_ENDPOINTS if found.reach is Reach.NO_ENDPOINTS else NO_SERVICE
        report_claim(read, claim, "backend.service.name", code, f"{about} {found.reach.value}; {otherwise}.", severity)
    return Respond(503)


def external_names(read: Reader, namespace: str, name: str) -> frozenset[tuple[str, int]]:
    """The Services of type ExternalName to which an Ingress leads, with their ports: the first ones of the Ingress. A Unit."""
    item = ingress(read, namespace, name)
    found: dict[tuple[str, int], None] = {}
    backends = [*(claim.backend for _, claim in claims_in_order(item)), item.default_backend] if item else []
    for backend in dict.fromkeys(b for b in backends if b and b.service):
        there = read.unit(destination, namespace, backend.service, backend.port)
        if there.reach is Reach.EXTERNAL:
            found[backend.service, there.port] = None
        if len(found) == MOST_EXTERNAL_NAMES:
            break
    return frozenset(found)


def _global_default(read: Reader) -> Action:
    """The action of --default-backend-service while it has endpoints, else 404 (nginx 4.4)."""
    name = settings(read).default_backend_service
    if not name:
        return Respond(404)
    namespace, service_name = name.split("/", 1)
    found = read.unit(destination, namespace, service_name, read.unit(first_port, namespace, service_name))
    if found.reach in (Reach.LIVE, Reach.EXTERNAL):
        return Forward(Cluster(namespace, service_name, found.port, external=found.reach is Reach.EXTERNAL), found.by_client)
    sentence = f"--default-backend-service: the Service {found.reach.value}; a built-in 404 answers instead."
    read.report(Problem(Ref("Service", namespace, service_name), "", "default-backend", sentence, Severity.WARNING))
    return Respond(404)


def _report_foreign(read: Reader, host: str) -> None:
    everybody = claimants(read, host) if len(ingresses_of(read, host)) > 1 else []
    if any(item.meta.namespace != everybody[0].meta.namespace for item in everybody):
        report_foreign(read, host, everybody)


def _report_escape(read: Reader, claim: Claim) -> None:
    if escape := paths.escape(claim.path):
        sentence = f"In the path {claim.path[:80]!r} {escape} stands for itself, as in ingress-nginx; write the character that is meant."
        report_claim(read, claim, "path", "path-escape", sentence, Severity.WARNING)


def _report_conflict(read: Reader, host: str, claim: Claim, winner: Claim) -> None:
    where = f'host "{host}"' if host else "no host"
    owner = "this same Ingress" if winner.item is claim.item else str(ref(winner.item))
    path = claim.path[:80]
    sentence = f"The path {path!r} of {where} already belongs to {owner} ({winner.field}), which comes first; this one has no effect."
    report_claim(read, claim, "path", "conflict", sentence)


def _report_lost_defaults(read: Reader, host: str, ours: list[Ingress], root: Claim | None) -> None:
    """Report default backends without effect: on a host all but that of its first Ingress, in the catch-all all but the first.

    Where a rule of the catch-all has "/", those of Ingresses without rules have no effect.
    """
    if host:
        owner, lost = str(ref(ours[0])), [i for i in ours[1:] if i.default_backend not in (None, ours[0].default_backend)]
        what = f'What no path of host "{host}" takes'
    else:
        bare = [item for item in ours if item.default_backend and not item.rules]
        owner, lost = f"{ref(root.item)} ({root.field})" if root else str(ref(bare[0])) if bare else "", bare if root else bare[1:]
        what = "What no other host or path takes"
    for item in lost:
        sentence = f"{what} already belongs to {owner}; there this default backend has no effect."
        report_about(read, item, "spec.defaultBackend", f"conflict:{host}" if host else "conflict", sentence)
