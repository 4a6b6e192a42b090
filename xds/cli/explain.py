"""`xds explain`: which Ingress, rule, annotations, Service and endpoints answer a URL, and what stands behind them unheard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import re2
from rich.text import Text

from xds.build.memo import Recorder
from xds.cli.arguments import Parsed
from xds.cli.printing import STYLES, object_json, place_json, plural, problem_json, show, show_json, text
from xds.config import Settings, UsageError
from xds.kube.objects import Endpoint, Ingress, Ref, ref
from xds.kube.world import Reader, service, slices_of
from xds.model import Cluster, Forward, PathKind, Problem, Redirect, Respond, Route, Severity, Via
from xds.nginx._feature import Declared
from xds.nginx._registry import known_annotations, known_keys, with_hook
from xds.offline import Loaded, load
from xds.render import names, routes
from xds.translate.backends import addresses, external_host
from xds.translate.certificates import DEFAULT, certificate
from xds.translate.configuration import configuration, ingress_settings
from xds.translate.explain import Answer, BadUrl, Request, answer, backend_of, location, names_under, parse_url, rule_of
from xds.translate.pairs import Pair

VERSION = 1
"""Of the JSON form; docs/schemas/explain.schema.json describes it."""
Json = dict[str, Any]


@dataclass(frozen=True)
class _Case:
    """A request, what answers it, and what it is looked up in."""

    loaded: Loaded
    settings: Settings
    read: Reader
    request: Request
    answer: Answer

    @property
    def ingress(self) -> Ingress | None:
        """The Ingress that the route is from."""
        origin = self.answer.route.origin
        found: Ingress | None = self.loaded.world.get(tuple(origin)) if origin else None
        return found


def run(parsed: Parsed) -> int:
    """Print the explanation; 1 where nothing of the user's answers, but a built-in 404 or 503.

    Raises UsageError for what is no URL, and Failure where a folder cannot be read.
    """
    url, *folders = parsed.positional
    if folders == ["live"]:
        raise UsageError("live: a running management server cannot be asked yet; name a folder of manifests instead.")
    try:
        request = parse_url(url)
    except BadUrl as error:
        raise UsageError(f"{url[:80]!r} {error}.") from None
    found = as_json(load(parsed.settings), parsed.settings, request)
    if parsed.settings.output == "json":
        show_json(found)
    else:
        show(_lines(found))
    return 0 if found["answered"] else 1


def as_json(loaded: Loaded, settings: Settings, request: Request) -> Json:
    """The whole explanation."""
    read = Recorder(loaded.tables.build)
    case = _Case(loaded, settings, read, request, answer(read, loaded.tables.hosts.values, request))
    route = case.answer.route
    wanted = route.action.cluster if isinstance(route.action, Forward) else None
    return {
        "version": VERSION,
        "url": str(request),
        "answered": not (isinstance(route.action, Respond) and route.action.status in (404, 503)),
        "action": _action(case),
        "virtual_host": {"name": case.answer.host or "*", "match": case.answer.chosen.value},
        "route": _route(case, route) | {"position": case.answer.position, "regex_because": _regex_because(case)},
        "certificate": _certificate(case) if request.via is Via.HTTPS else None,
        "service": _service(case),
        "cluster": names.cluster(wanted) if wanted else None,
        "endpoints": _endpoints(case, wanted),
        "annotations": _annotations(case),
        "config": _config(case),
        "conditional": [_route(case, r) for r in case.answer.conditional],
        "shadowed": [_route(case, r) for r in case.answer.shadowed],
        "problems": [problem_json(p) for p in _problems(case)],
    }


def _action(case: _Case) -> Json:
    route = case.answer.route
    match route.action:
        case Forward():
            return {"kind": "forward", "path": _backend_path(case, route)}
        case Redirect():
            return {"kind": "redirect", "status": route.action.status, "location": location(route.action, case.request)}
        case Respond(status):
            return {"kind": "respond", "status": status}


def _backend_path(case: _Case, route: Route) -> str:
    """The path that the endpoint gets."""
    defaults = case.read.unit(configuration).defaults
    action = routes.route(route, defaults).route
    assert action is not None
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
        "headers": [{"name": h.name, "value": h.value, "regex": h.regex} for h in route.headers],
    }


def _placed(case: _Case, about: Ref) -> Json:
    """An object with where it was read."""
    found = case.loaded.world.get(tuple(about))
    return object_json(about) | {"place": place_json(found.meta.place if found else None)}


def _regex_because(case: _Case) -> Json | None:
    """The Ingress that turns the paths of the host into regular expressions, and the feature of it that does."""
    if case.answer.route.match.kind is not PathKind.REGEX:
        return None
    for item in case.read(("ingresses-of", case.answer.host)):
        own = case.read.unit(ingress_settings, item.meta.namespace, item.meta.name)
        for name, feature in with_hook("regex"):
            if name in own and any(feature.regex(own[name], p.path) for r in item.rules for p in r.paths):
                return {"ingress": _placed(case, ref(item)), "feature": name.replace("_", "-")}
    return None


def _certificate(case: _Case) -> Json:
    """The certificate that Envoy finds by SNI: of the host, else of a wildcard above it, else the default one."""
    hosts = case.loaded.tables.hosts.values
    found = next((hosts[n].certificate for n in names_under(case.request.host) if n in hosts and hosts[n].certificate), "")
    secret = found or case.settings.default_ssl_certificate
    pair = case.read.unit(certificate, *secret.split("/", 1)) if secret else None
    if not isinstance(pair, Pair):
        return {"name": DEFAULT, "secret": None, "names": [], "not_after": None}
    until = datetime.fromtimestamp(pair.not_after, UTC).isoformat().replace("+00:00", "Z")
    about = object_json(Ref("Secret", *secret.split("/", 1)))
    return {"name": found or DEFAULT, "secret": about, "names": list(pair.names), "not_after": until}


def _service_ref(case: _Case) -> tuple[Ref, str] | None:
    """The Service that was meant, and its port as text, whether or not it can be reached."""
    action, item = case.answer.route.action, case.ingress
    if isinstance(action, Forward):
        return Ref("Service", action.cluster.namespace, action.cluster.service), str(action.cluster.port)
    backend = backend_of(item, case.answer.route.rule) if item and isinstance(action, Respond) else None
    return (Ref("Service", item.meta.namespace, backend.service), str(backend.port)) if item and backend and backend.service else None


def _service(case: _Case) -> Json | None:
    found = _service_ref(case)
    if found is None:
        return None
    about, port = found
    item = service(case.read, about.namespace, about.name)
    return _placed(case, about) | {"port": port, "exists": item is not None, "type": item.type if item else None}


def _endpoints(case: _Case, wanted: Cluster | None) -> list[Json]:
    """Those that Envoy has, with what it makes of them, and those that are left out as they are not ready."""
    meant = _service_ref(case)
    if meant is None:
        return []
    about = meant[0]
    item = service(case.read, about.namespace, about.name)
    if wanted and item and item.type == "ExternalName":
        return [{"address": external_host(item), "port": wanted.port, "health": "resolved by Envoy"}]
    live = addresses(case.read, wanted) if wanted else ()
    listed = [{"address": a.ip, "port": a.port, "health": "draining" if a.draining else "ready"} for a in live]
    known = {a.ip for a in live}
    unready = {
        ip for piece in slices_of(case.read, about.namespace, about.name) for e in piece.endpoints if _is_out(e) for ip in e.addresses
    }
    return listed + [{"address": ip, "port": None, "health": "not ready"} for ip in sorted(unready - known)]


def _is_out(endpoint: Endpoint) -> bool:
    return not endpoint.ready and not (endpoint.serving and endpoint.terminating)


def _annotations(case: _Case) -> list[Json]:
    """The annotations of the Ingress, as far as they are known: all of them hold for each of its paths."""
    prefix = case.settings.annotations_prefix + "/"
    own = case.ingress.meta.annotations if case.ingress else {}
    return _decided({k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}, known_annotations())


def _config(case: _Case) -> list[Json]:
    found = case.read(("ConfigMap", *case.settings.configmap.split("/", 1))) if case.settings.configmap else None
    return _decided(found.data if found else {}, known_keys())


def _decided(values: Mapping[str, str], known: Mapping[str, Declared[Any]]) -> list[Json]:
    return [{"name": n, "value": values[n][:200], "fidelity": known[n].fidelity.value} for n in sorted(values) if n in known]


def _problems(case: _Case) -> list[Problem]:
    """Those of the objects that have a part in this, and those of rules that lost this path to another."""
    involved = set(_involved(case))
    return [p for p in case.loaded.problems if p.about in involved or _lost_this(case, p)]


def _involved(case: _Case) -> Iterator[Ref]:
    world, meant = case.loaded.world, _service_ref(case)
    if case.answer.route.origin:
        yield case.answer.route.origin
    if meant:
        yield meant[0]
        yield from world.refs(("slices-of", meant[0].namespace, meant[0].name))
    if case.settings.configmap:
        yield Ref("ConfigMap", *case.settings.configmap.split("/", 1))
    if case.request.via is Via.HTTPS and (secret := _certificate(case)["secret"]):
        yield Ref(**secret)


def _lost_this(case: _Case, problem: Problem) -> bool:
    """Whether a conflict is about this path of this host; or a host that does not work is the one that was asked for."""
    item = case.loaded.world.get(tuple(problem.about)) if problem.about.kind == "Ingress" else None
    rule = rule_of(problem.field, item) if item else None
    return problem.code in ("conflict", "path") and rule == (case.answer.host, _path_of(case))


def _path_of(case: _Case) -> str | None:
    """The path as the winning rule has it."""
    rule = rule_of(case.answer.route.rule, case.ingress) if case.ingress else None
    return rule[1] if rule else None


def _lines(found: Json) -> Iterator[Text]:
    yield text((found["url"], "bold"))
    yield text("is answered by " if found["answered"] else ("is not answered by anything of yours: ", "bold red"), *_headline(found))
    yield text("")
    host = found["virtual_host"]
    yield _row("virtual host", f"{host['name']} ({host['match']})")
    route = found["route"]
    name = f"{route['name']}: " if route["name"] else ""
    yield _row("route", f"{name}{_match_words(route)}, number {route['position']} in order of trial")
    if because := route["regex_because"]:
        yield _row("", f"paths are regular expressions here, for {_words(because['ingress'])} has {because['feature']}")
    if route["ingress"]:
        yield _row("rule", f"{_words(route['ingress'])} {route['rule']}")
    if found["service"]:
        yield _row("Service", _service_words(found["service"]))
    if found["cluster"]:
        yield _row("cluster", found["cluster"])
    for endpoint in found["endpoints"]:
        port = "" if endpoint["port"] is None else f" port {endpoint['port']}"
        yield _row("endpoint", f"{endpoint['address']}{port} ({endpoint['health']})")
    if found["certificate"]:
        yield _row("certificate", _certificate_words(found["certificate"]))
    for title in ("annotations", "config"):
        for decided in found[title]:
            yield _row(title.removesuffix("s"), f"{decided['name']}: {decided['value']} ({decided['fidelity']})")
    yield from _other_routes("unless", found["conditional"])
    yield from _other_routes("shadowed", found["shadowed"])
    if found["problems"]:
        yield text("")
    for problem in found["problems"]:
        field = f" {problem['field']}" if problem["field"] else ""
        severity = (f"{problem['severity']:8}", STYLES[Severity(problem["severity"])])
        yield text(severity, f" {_words(problem['object'])}{field}: {problem['sentence']}")


def _headline(found: Json) -> Iterator[str | tuple[str, str]]:
    action = found["action"]
    match action["kind"]:
        case "redirect":
            yield f"a redirect ({action['status']}) to {action['location']}"
        case "respond":
            yield f"{action['status']}"
        case _:
            service = found["service"]
            ready = sum(e["health"] != "not ready" for e in found["endpoints"])
            yield f"Service {service['namespace']}/{service['name']} port {service['port']}"
            yield f" ({plural(ready, 'endpoint')}), which gets the path {action['path']}"


def _other_routes(title: str, others: Iterable[Json]) -> Iterator[Text]:
    for route in others:
        headers = "".join(f", with the header {h['name']}: {h['value']}" for h in route["headers"])
        whose = f"{_words(route['ingress'])} {route['rule']}" if route["ingress"] else "the default backend"
        yield _row(title, f"{whose} ({_match_words(route)}{headers})")


def _row(title: str, content: str) -> Text:
    return text((f"{title:13}", "cyan"), f" {content}")


def _match_words(route: Json) -> str:
    scheme = f" by {route['scheme']}" if route["scheme"] else ""
    return f"{route['match']['kind']} {route['match']['path']}{scheme}"


def _service_words(service: Json) -> str:
    kind = "" if service["type"] in (None, "ClusterIP") else f" of type {service['type']}"
    gone = "" if service["exists"] else ", which does not exist"
    return f"{service['namespace']}/{service['name']} port {service['port']}{kind}{gone}{_at(service['place'])}"


def _certificate_words(found: Json) -> str:
    if found["secret"] is None:
        return "the default one, which is made when the server starts"
    until = f"until {found['not_after']}" if found["not_after"] else ""
    return f"{_words(found['secret'])}, for {', '.join(found['names'][:5])}, {until}"


def _words(about: Mapping[str, str]) -> str:
    return str(Ref(about["kind"], about["namespace"], about["name"])) + _at(about.get("place"))


def _at(place: Any) -> str:
    return f" ({place['file']}:{place['line']})" if place else ""
