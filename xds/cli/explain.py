"""`xds explain`: which Ingress, rule, annotations, Service and endpoints answer a URL, and what they shadow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.text import Text

from xds.addresses import RUNNING
from xds.cli.arguments import Parsed
from xds.cli.printing import STYLES, plural, show, show_json, text
from xds.config import Flags, UsageError
from xds.explain.document import explain
from xds.explain.route_of import BadUrl, parse_url
from xds.json_forms import Json
from xds.offline import load
from xds.problem import Ref, Severity


def run(parsed: Parsed) -> int:
    """Print the explanation; 1 where nothing of the user's answers, but a built-in 404 or 503.

    A running server is asked where `live` or its --debug-address is given. Raises UsageError for an invalid URL, and Failure where a folder
    cannot be read, or there is no response.
    """
    url, *folders = parsed.positional
    if folders == ["live"] or (not parsed.settings.manifests and parsed.settings.debug_address != RUNNING):
        return _print(_ask(parsed.settings.debug_address, url), parsed.settings)
    try:
        request = parse_url(url)
    except BadUrl as error:
        raise UsageError(f"{url[:80]!r} {error}.") from None
    loaded = load(parsed.settings)
    return _print(explain(loaded.world, loaded.tables, parsed.settings, loaded.problems, request), parsed.settings)


def _ask(address: str, url: str) -> Json:
    """The same of a running server, and which of its Envoys have what answers."""
    from xds.cli.live import ask  # gRPC takes longer to import than a folder to read
    from xds.debug import v1

    found = ask(address, "Explain", v1.ExplainRequest(url=url), v1.ExplainResponse)
    document: Json = json.loads(found.json)
    return document | {"envoys": {"programmed": list(found.node_ids), "waiting": list(found.waiting_node_ids)}}


def _print(found: Json, settings: Flags) -> int:
    if settings.output == "json":
        show_json(found)
    else:
        show(_lines(found))
    return 0 if found["answered"] else 1


def _lines(found: Json) -> Iterator[Text]:
    yield text((found["url"], "bold"))
    yield text("is answered by " if found["answered"] else ("is answered by none of your Ingresses: ", "bold red"), *_headline(found))
    yield text("")
    host = found["virtual_host"]
    yield _row("virtual host", f"{host['name']} ({host['match']})")
    route = found["route"]
    name = f"{route['name']}: " if route["name"] else ""
    yield _row("route", f"{name}{_match_words(route)}, number {route['position']} in order of trial")
    if route["match"]["kind"] == "pattern":
        yield _row("", "paths of this host have access rules, and where escaped slashes lead cannot be known")
    if because := route["regex_because"]:
        yield _row("", f"paths are regular expressions here, for {_words(because['ingress'])} has {because['feature']}")
    if route["ingress"]:
        yield _row("rule", f"{_words(route['ingress'])} {route['rule']}")
    if found["service"]:
        yield _row("Service", _service_words(found["service"]))
    yield from _clusters(found)
    for endpoint in found["endpoints"]:
        port = "" if endpoint["port"] is None else f" port {endpoint['port']}"
        yield _row("endpoint", f"{endpoint['address']}{port} ({endpoint['health']})")
    if found["certificate"]:
        yield _row("certificate", _certificate_words(found["certificate"]))
    for title in ("annotations", "config"):
        for decided in found[title]:
            yield _row(title.removesuffix("s"), f"{decided['name']}: {decided['value']} ({decided['fidelity']})")
    for remark in found["remarks"]:
        yield _row("but", remark)
    if "envoys" in found:
        yield _row("Envoys", _envoys_words(found["envoys"]))
    yield from _other_routes("share", found["shares"])
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
            yield f"{action['status']}" + (f", because {action['reason']}" if action["reason"] else "")
        case "close":
            yield f"a closed connection, because {action['reason']}"
        case _:
            service = found["service"]
            ready = sum(e["health"] != "not ready" for e in found["endpoints"])
            yield f"Service {service['namespace']}/{service['name']} port {service['port']}"
            gets = "to which TLS is passed through" if action["kind"] == "passthrough" else f"which gets the path {action['path']}"
            yield f" ({plural(ready, 'endpoint')}), {gets}"


def _clusters(found: Json) -> Iterator[Text]:
    """The cluster that answers, and those that take part without an answer."""
    if found["cluster"]:
        yield _row("cluster", found["cluster"])
    for cluster in found["besides"]:
        yield _row("", f"besides it {cluster}, which is asked as well")


def _other_routes(title: str, others: Iterable[Json]) -> Iterator[Text]:
    for route in others:
        headers = "".join(f", with the {h['words'] or _header_words(h)}" for h in route["headers"])
        whose = f"{_words(route['ingress'])} {route['rule']}" if route["ingress"] else "the default backend"
        part = f"{route['share']['parts']} of {route['share']['of']} requests: " if route["share"] else ""
        to = f" -> cluster {route['cluster']}" if route["cluster"] else ""
        yield _row(title, f"{part}{whose} ({_match_words(route)}{headers}){to}")


def _header_words(header: Json) -> str:
    return f"header {header['name']}: {header['value']}"


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


def _envoys_words(envoys: Json) -> str:
    have, lack = envoys["programmed"], envoys["waiting"]
    missing = f"; not on {', '.join(lack[:5])}{f' and {len(lack) - 5} more' if len(lack) > 5 else ''}" if lack else ""
    return f"programmed on {len(have)} of {len(have) + len(lack)}{missing}"


def _words(about: Mapping[str, str]) -> str:
    return str(Ref(about["kind"], about["namespace"], about["name"])) + _at(about.get("place"))


def _at(place: Any) -> str:
    return f" ({place['file']}:{place['line']})" if place else ""
