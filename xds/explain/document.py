"""From a URL to its explanation as JSON: which Ingress, rule, annotations, Service and endpoints answer it, and what stands behind them.

docs/schemas/explain.schema.json describes it. `xds.explain.route_of` finds the route; this module adds the names of resources and
the objects around the answer. What does not belong here: words for people (`xds.cli.explain`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import re2

from xds.config import Flags
from xds.explain.backing import certificate_json, endpoints_json, service_json
from xds.explain.route_of import HttpRequest, MatchedRoute, answer, backend_of, location, names_under, rule_of
from xds.json_forms import Json, object_json, place_json, problem_json
from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, World, slices_key
from xds.model import CLOSED, Cluster, Forward, HostTls, Passthrough, PathKind, Redirect, Respond, Route, Terminate, Via
from xds.nginx.feature import Declared
from xds.nginx.registry import known_annotations, known_keys, with_hook
from xds.problem import Problem, Ref
from xds.render import names, routes
from xds.translate.backends import addresses
from xds.translate.claims import claims_of, offerers, serving
from xds.translate.configuration import configuration, ingress_settings
from xds.translate.hosts import virtual_host
from xds.translate.paths import EXACT
from xds.units.memo import Recorder
from xds.units.tables import Tables

VERSION = 1
"""Of the JSON form."""


@dataclass(frozen=True)
class _Case:
    """A request, what answers it, and what it is looked up in. Where TLS of the host is `passed` through, the answer is that of "/"."""

    world: World
    tables: Tables
    settings: Flags
    problems: Collection[Problem]
    read: Reader
    request: HttpRequest
    answer: MatchedRoute
    passed: Passthrough | None

    @property
    def ingress(self) -> Ingress | None:
        """The Ingress that the route is from."""
        origin = self.answer.route.origin
        found: Ingress | None = self.world.get(tuple(origin)) if origin else None
        return found


def explain(world: World, tables: Tables, settings: Flags, problems: Collection[Problem], request: HttpRequest) -> Json:
    """The whole explanation. `problems` are all that there are; those that have a part in this are picked out."""
    read = Recorder(tables.build)
    tls = _tls(tables, request)
    passed = tls if isinstance(tls, Passthrough) and request.via is Via.HTTPS else None
    of_root = replace(request, path="/", query="") if passed else request
    case = _Case(
        world, tables, settings, problems, read, of_root, answer(partial(virtual_host, read), tables.hosts.values, of_root), passed
    )
    route, wanted, action = case.answer.route, _wanted(case), _action(case)
    return {
        "version": VERSION,
        "url": str(request),
        "answered": action["kind"] != "close" and not (action["kind"] == "respond" and action["status"] in (404, 503)),
        "action": action,
        "virtual_host": {"name": case.answer.host or "*", "match": case.answer.chosen.value},
        "route": _route(case, route) | {"position": case.answer.position, "regex_because": _regex_because(case)},
        "certificate": _certificate(case),
        "service": _service(case),
        "cluster": names.cluster(wanted) if wanted else None,
        "besides": [names.cluster(cluster) for cluster in route.besides],
        "endpoints": _endpoints(case, wanted),
        "annotations": _annotations(case),
        "config": _config(case),
        "shares": [] if passed else [_route(case, r) for r in case.answer.shares],
        "conditional": [] if passed else [_route(case, r) for r in case.answer.conditional if r.handshake is None],
        "shadowed": [] if passed else [_route(case, r) for r in case.answer.shadowed],
        "problems": [problem_json(p) for p in _problems(case)],
        "remarks": [] if passed else [*request.remarks, *_assumed(tls, request)],
    }


def _assumed(tls: HostTls, request: HttpRequest) -> Iterator[str]:
    """What the explanation assumes of the client, where the host asks it for a certificate."""
    if request.via is Via.HTTPS and isinstance(tls, Terminate) and tls.authority:
        yield f"this is for a client with a certificate that Secret {tls.authority.secret} vouches for; auth-tls-* may refuse others"


def _tls(tables: Tables, request: HttpRequest) -> HostTls:
    """Where TLS of the name that a client asks for (SNI) ends: as that of the host, else as that of a wildcard above it."""
    hosts = tables.hosts.values
    return next((hosts[n].tls for n in names_under(request.host) if n in hosts and hosts[n].tls != Terminate()), Terminate())


def _wanted(case: _Case) -> Cluster | None:
    """The cluster that answers, if one does."""
    if case.passed:
        return case.passed.cluster
    action = case.answer.route.action
    return action.cluster if isinstance(action, Forward) else None


def _action(case: _Case) -> Json:
    route = case.answer.route
    if case.passed:
        return {"kind": "close", "reason": why} if (why := _why_closed(case, case.passed)) else {"kind": "passthrough"}
    match route.action:
        case Forward():
            return {"kind": "forward", "path": _backend_path(case, route)}
        case Redirect():
            return {"kind": "redirect", "status": route.action.status, "location": location(route.action, case.request)}
        case Respond(status):
            return {"kind": "respond", "status": status, "reason": _reason(case, status)}


def _why_closed(case: _Case, passed: Passthrough) -> str:
    """Why nothing answers a connection whose TLS passes through; "" where something does."""
    if passed.cluster is None:
        code = f"tls-passthrough:{case.answer.host}"
        return next((p.sentence.rstrip(".") for p in case.problems if p.code == code), "its TLS passes through to nothing")
    about = f"Service {passed.cluster.namespace}/{passed.cluster.service}"
    return "" if addresses(case.read, passed.cluster) else f"{about} has no ready endpoint"


def _reason(case: _Case, status: int) -> str:
    """Why a path of an Ingress is not forwarded: the access rule that closes it, or the fault of its rule. "" for other routes."""
    route = case.answer.route
    if case.ingress is None or status != 503:
        return ""
    if closed := route.settings.get(CLOSED):
        return str(closed)
    problem = next((p for p in case.problems if p.about == route.origin and p.field.startswith(f"{route.rule}.")), None)
    return problem.sentence.rstrip(".") if problem else ""


def _backend_path(case: _Case, route: Route) -> str:
    """The path that the endpoint gets; where variables stand in it, Envoy's format."""
    defaults = case.read.unit(configuration).defaults
    action = routes.route(route, defaults).route
    assert action is not None
    if action.path_rewrite:
        return action.path_rewrite + case.request.query
    rewrite = action.regex_rewrite
    if rewrite is None or rewrite.pattern is None:
        return case.request.path + case.request.query
    return str(re2.sub(rewrite.pattern.regex, rewrite.substitution, case.request.path)) + case.request.query


def _route(case: _Case, route: Route) -> Json:
    return {
        "ingress": _placed(case, route.origin) if route.origin else None,
        "rule": route.rule,
        "name": routes.route(route, case.read.unit(configuration).defaults).name,
        "match": {"kind": route.match.kind.value, "path": route.match.path},
        "scheme": route.via.value,
        "headers": [{"name": h.name, "value": h.value, "regex": h.regex, "words": h.words} for h in route.headers],
        "share": {"parts": route.share.parts, "of": route.share.of} if route.share else None,
        "cluster": names.cluster(route.action.cluster) if isinstance(route.action, Forward) else None,
    }


def _placed(case: _Case, about: Ref) -> Json:
    """An object with where it was read."""
    found = case.world.get(tuple(about))
    return object_json(about) | {"place": place_json(found.meta.place if found else None)}


def _regex_because(case: _Case) -> Json | None:
    """The Ingress that turns the paths of the host into regular expressions, and the feature of it that does."""
    if case.answer.route.match.kind is not PathKind.REGEX:
        return None
    for item in serving(case.read, case.answer.host):
        own = case.read.unit(ingress_settings, item.meta.namespace, item.meta.name)
        for name, regex in with_hook("regex"):
            if name in own and any(regex(own[name], p.path or "/", p.type == EXACT) for r in item.rules for p in r.paths):
                return {"ingress": _placed(case, ref(item)), "feature": name.replace("_", "-")}
    return None


def _certificate(case: _Case) -> Json | None:
    """The certificate that Envoy shows: of the host, else of a wildcard above it, else the default one; None where it shows none."""
    tls = _tls(case.tables, case.request)
    return certificate_json(case.read, tls) if case.request.via is Via.HTTPS and isinstance(tls, Terminate) else None


def _service_ref(case: _Case) -> tuple[Ref, str] | None:
    """The Service that was meant, and its port as text, whether or not it can be reached."""
    action, item = case.answer.route.action, case.ingress
    if wanted := _wanted(case):
        return Ref("Service", wanted.namespace, wanted.service), str(wanted.port)
    backend = backend_of(item, case.answer.route.rule) if item and isinstance(action, Respond) else None
    return (Ref("Service", item.meta.namespace, backend.service), str(backend.port)) if item and backend and backend.service else None


def _service(case: _Case) -> Json | None:
    found = _service_ref(case)
    return service_json(case.read, *found) if found else None


def _endpoints(case: _Case, wanted: Cluster | None) -> list[Json]:
    """Those of the Service that was meant."""
    meant = _service_ref(case)
    return endpoints_json(case.read, meant[0], wanted) if meant else []


def _annotations(case: _Case) -> list[Json]:
    """The annotations of the Ingress, as far as they are known: all of them hold for each of its paths."""
    return decided(_own(case), known_annotations())


def _own(case: _Case) -> Mapping[str, str]:
    """The annotations of the Ingress, without prefix."""
    prefix = case.settings.annotations_prefix + "/"
    own = case.ingress.meta.annotations if case.ingress else {}
    return {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}


def _config(case: _Case) -> list[Json]:
    return decided(_data(case), known_keys())


def _data(case: _Case) -> Mapping[str, str]:
    """The ConfigMap's keys."""
    found = case.read(("ConfigMap", *case.settings.configmap.split("/", 1))) if case.settings.configmap else None
    data: Mapping[str, str] = found.data if found else {}
    return data


def decided(values: Mapping[str, str], known: Mapping[str, Declared[Any]]) -> list[Json]:
    """What becomes of values that users wrote, as far as their names are known: the verdict of each."""
    return [{"name": n, "value": values[n][:200], "fidelity": known[n].fidelity.value} for n in sorted(values) if n in known]


def _problems(case: _Case) -> list[Problem]:
    """Those of the objects that have a part in this, and those of rules that lost this path to another; the worst first."""
    involved = set(_involved(case))
    return sorted((p for p in case.problems if p.about in involved or _lost_this(case, p)), key=lambda p: p.severity.rank)


def _involved(case: _Case) -> Iterator[Ref]:
    world, meant = case.world, _service_ref(case)
    if case.answer.route.origin:
        yield case.answer.route.origin
    elif case.answer.route.early:  # it holds for the whole host, so any Ingress of it may be the reason
        yield from (ref(item) for item in serving(case.read, case.answer.host))
    for item in offerers(case.read, case.answer.host):
        if any(claim.path == _path_of(case) for claim in claims_of(case.read, item, case.answer.host)):
            yield ref(item)
    if meant:
        yield meant[0]
        yield from world.refs(slices_key(meant[0].namespace, meant[0].name))
    if case.settings.configmap:
        yield Ref("ConfigMap", *case.settings.configmap.split("/", 1))
    if (shown := _certificate(case)) and shown["secret"]:
        yield Ref(**shown["secret"])


def _lost_this(case: _Case, problem: Problem) -> bool:
    """Whether a conflict is about this path of this host; or a host that does not work is the one that was asked for."""
    item = case.world.get(tuple(problem.about)) if problem.about.kind == "Ingress" else None
    rule = rule_of(problem.field, item) if item else None
    return problem.code in ("conflict", "path") and rule == (case.answer.host, _path_of(case))


def _path_of(case: _Case) -> str | None:
    """The path as the winning rule has it."""
    rule = rule_of(case.answer.route.rule, case.ingress) if case.ingress else None
    return rule[1] if rule else None
