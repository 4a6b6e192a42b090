"""A Snapshot in a few lines: what is there beyond the resources that everybody has, and in which fields it differs from the usual.

Made from the bytes that Envoy gets, read back; so nothing in them can change unseen, and the usual need not be repeated in every file.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Endpoint, EndpointPort, EndpointSlice, Ingress, Meta, Path, Rule, Service, ServicePort
from xds.kube.world import DEFAULT_CERTIFICATE, World
from xds.offline import MADE_AT_START, Loaded
from xds.problem import Problem
from xds.render.static import Json, as_json
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Snapshot
from xds.units.tables import Tables

_REST = "any other name"
_PATHS = {"path": "exact", "path_separated_prefix": "prefix", "prefix": "raw prefix"}


def summary(loaded: Loaded) -> Json:
    """Hosts, listeners, clusters, endpoints, secrets and Problems; what is as usual is left out, and sections without content."""
    table, usual_table = _table(loaded.snapshot), _table(_usual())
    hosts, usual_hosts = table.pop("virtual_hosts"), usual_table.pop("virtual_hosts")
    made = {
        "hosts": {h["name"]: [_route(r) for r in h["routes"]] for h in hosts if h not in usual_hosts},
        "table": _differences(table, usual_table),
        "listeners": dict(_listeners(loaded.snapshot)),
        "clusters": {name: _differences(_nameless_cluster(c), _usual_cluster()) for name, c in _of(loaded.snapshot, CLUSTER).items()},
        "endpoints": {name: list(_endpoints(e)) for name, e in _of(loaded.snapshot, ENDPOINT).items()},
        "secrets": sorted(set(loaded.snapshot[SECRET]) - {"default"}),
        "problems": [_problem(p) for p in loaded.problems],
        "faults": list(loaded.faults),
    }
    return {section: content for section, content in made.items() if content}


def whole(loaded: Loaded, name: str) -> Json:
    """One resource in full, but for the many buckets of limits: `name` is "Listener http", "Cluster default/web/80", …"""
    kind, _, resource = name.partition(" ")
    type_url = next(t for t in (CLUSTER, ENDPOINT, LISTENER, ROUTE) if t.endswith(f".{kind}"))
    found: Json = _shortened(as_json(type_url, loaded.snapshot[type_url][resource].body))
    return found


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: f"{len(each)} buckets" if key == "descriptors" else _shortened(each) for key, each in value.items()}


def _of(snapshot: Snapshot, type_url: str) -> dict[str, Json]:
    return {name: json.loads(_json(type_url, snapshot[type_url][name].body)) for name in sorted(snapshot[type_url])}


@cache
def _json(type_url: str, body: bytes) -> str:
    """As text, for its readers change what they get; most listeners are the same in many cases."""
    return json.dumps(as_json(type_url, body))


def _table(snapshot: Snapshot) -> Json:
    return _of(snapshot, ROUTE)["ingress"]


@cache
def _usual() -> Snapshot:
    """What one plain Ingress, one TCP port and one UDP port come to."""
    where = Rule("usual", (Path("/", "Exact", Backend("s", 1)),))
    put = (
        Ingress(meta=Meta(namespace="n", name="i"), rules=(where,)),
        Service(meta=Meta(namespace="n", name="s"), ports=(ServicePort(1), ServicePort(1, protocol="UDP"))),
        EndpointSlice(
            meta=Meta(namespace="n", name="e"),
            service="s",
            ports=(EndpointPort(port=1), EndpointPort(port=1, protocol="UDP")),
            endpoints=(Endpoint(("10.0.0.1",)),),
        ),
        ConfigMap(meta=Meta(namespace="n", name="tcp"), data={"1": "n/s:1"}),
        ConfigMap(meta=Meta(namespace="n", name="udp"), data={"1": "n/s:1"}),
    )
    flags = Flags(watch_ingress_without_class=True, tcp_services_configmap="n/tcp", udp_services_configmap="n/udp")
    world = World(flags, {DEFAULT_CERTIFICATE: (MADE_AT_START, MADE_AT_START)})
    snapshot = Snapshot()
    Tables(world).apply(world.apply(put)).publish(snapshot)
    return snapshot


@cache
def _usual_cluster() -> Json:
    return _nameless_cluster(_of(_usual(), CLUSTER)["n/s/1"])


@cache
def _usual_route() -> Json:
    """Of a path that forwards, but for the match and the cluster."""
    host = next(h for h in _table(_usual())["virtual_hosts"] if h["name"] == "usual")
    return _nameless_route(next(r for r in host["routes"] if "route" in r))


def _nameless_cluster(cluster: Json) -> Json:
    return {key: value for key, value in cluster.items() if key not in ("name", "metadata")}


def _nameless_route(route: Json) -> Json:
    made = {key: value for key, value in route.items() if key not in ("name", "match")}
    for config in made.get("typed_per_filter_config", {}).values():
        for each in config.get("filter_chain", {}).get("filters", ()):
            _shorten(each)
    if "route" in made:
        made["route"] = {key: value for key, value in made["route"].items() if key != "cluster"}
    return made


def _shorten(http_filter: Json) -> None:
    """Headers that a filter overwrites, as `name: value`."""
    mutations = http_filter["typed_config"].get("mutations", {})
    for side, changes in mutations.items():
        if all(change.get("append", {}).get("append_action") == "OVERWRITE_IF_EXISTS_OR_ADD" for change in changes):
            mutations[side] = [f"{change['append']['header']['key']}: {change['append']['header']['value']}" for change in changes]


def _route(route: Json) -> str | dict[str, list[str]]:
    """`exact /foo -> default/web/80 (from …)`, and what is not as usual."""
    rest = _nameless_route(route)
    usual: Json = {}
    if "route" in route:
        to, usual = f"-> {route['route']['cluster']}", _usual_route()
    elif "redirect" in route:
        to = f"redirect {rest.pop('redirect')}"
    else:
        to = str(rest.pop("direct_response")["status"])
        for option in rest.pop("response_headers_to_add", ()):
            to += f" {option['header']['key']}: {option['header']['value']}"
    whose = f" ({route['name']})" if route.get("name") else ""
    line = f"{_match(route['match'])} {to}{whose}"
    differences = _differences(rest, usual)
    return {line: differences} if differences else line


def _match(match: Json) -> str:
    headers = "".join(f" [{_not(h)}{h['name']} {_flat_text(h['string_match'])}]" for h in match.get("headers", ()))
    if share := match.get("runtime_fraction", {}).get("default_value"):
        headers += f" [{share['numerator']} of a {share.get('denominator', 'HUNDRED').lower()}]"
    headers += "".join(f" [{state['key']} {_flat_text(state['string_match'])}]" for state in match.get("filter_state", ()))
    if "tls_context" in match:
        headers += f" [certificate {_flat_text(match['tls_context'])}]"
    if "safe_regex" in match:
        return f"regex {match['safe_regex']['regex']}{headers}"
    kind = next(kind for kind in _PATHS if kind in match)
    return f"{_PATHS[kind]} {match[kind]}{headers}"


def _not(header: Json) -> str:
    """What stands before a header that a request must not have; one that is not there at all is to be seen so as well."""
    assert header.get("invert_match", False) is header.get("treat_missing_header_as_empty", False)
    return "not " if header.get("invert_match") else ""


def _flat_text(value: Json) -> str:
    return ", ".join(f"{path}={inner}" for path, inner in _flat(value))


def _listeners(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    """What is not as usual; of https, the hosts of each filter chain, and how those differ in which TLS does not end."""
    usual = _of(_usual(), LISTENER)
    for name, listener in _of(snapshot, LISTENER).items():
        default, *chains = listener.get("filter_chains", [{}])
        ending = [chain for chain in chains if "transport_socket" in chain]
        matcher = listener.pop("filter_chain_matcher", {})
        same = {"filter_chains": [default]} if chains else {}
        found: list[Any] = _differences({**listener, **same}, _unmatched(usual.get(name) or usual[f"{name.partition('/')[0]}/1"]))
        found = [line for line in found if not line.endswith(f"= {name}")]
        before: Json = {}
        for chain in chains:
            line, called = f"{chain['name']} for {', '.join(_server_names(matcher, chain['name']))}", {"name": chain["name"]}
            differing = _differences(_bare(chain), _bare(default)) if chain in ending else _differences(chain, {**before, **called})
            found.append({line: differing} if differing else line)
            before = before if chain in ending else chain
        led_to = {on["action"]["typed_config"]["value"] for on in _by_name(matcher).values()}
        for closed in sorted(led_to - {chain["name"] for chain in chains}):
            found.append(f"no chain {closed} for {', '.join(_server_names(matcher, closed))}")
        if found:
            yield name, found


def _unmatched(listener: Json) -> Json:
    return {key: value for key, value in listener.items() if key != "filter_chain_matcher"}


def _server_names(matcher: Json, chain: str) -> list[str]:
    """The names that lead to a chain, as an Ingress writes them. Each is there with and without the dot of the root."""
    names = {name for name, on in _by_name(matcher).items() if on["action"]["typed_config"]["value"] == chain}
    assert {f"{name}." for name in names - {_REST} if not name.endswith(".")} == {name for name in names if name.endswith(".")}
    return sorted(name for name in names if not name.endswith("."))


def _by_name(matcher: Json) -> Json:
    """What the matcher does with each name, and each wildcard, that it knows."""
    if not matcher:
        return {}
    found = dict(matcher.get("matcher_tree", {}).get("exact_match_map", {}).get("map", {}).items())
    last = matcher["on_no_match"].get("matcher", matcher)
    if last["on_no_match"]["action"]["typed_config"]["value"] != "default":
        found[_REST] = last["on_no_match"]
    for wildcard in last.get("matcher_list", {}).get("matchers", ()):
        found["*" + wildcard["predicate"]["single_predicate"]["value_match"]["suffix"]] = wildcard["on_match"]
    return found


def _bare(chain: Json) -> Any:
    """A filter chain without what makes it that of one certificate: its own name, in its note as well, and that of the certificate."""
    made: Json = copy.deepcopy({key: value for key, value in chain.items() if key != "name"})
    for noted in made["filters"][0]["typed_config"]["on_new_connection"]:
        noted["format_string"]["text_format_source"] = {}
    for shown in made["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificate_sds_secret_configs"]:
        shown["name"] = ""
    return made


def _endpoints(assignment: Json) -> Iterator[str]:
    for locality in assignment.get("endpoints", ()):
        for endpoint in locality["lb_endpoints"]:
            where = endpoint["endpoint"]["address"]["socket_address"]
            yield " ".join(filter(None, (f"{where['address']} port {where['port_value']}", endpoint.get("health_status", "").lower())))


def _problem(problem: Problem) -> str:
    return f"{problem.severity.value}: {problem} [{problem.code}]"


def _differences(found: Any, usual: Any) -> list[str]:
    """`path = value` for what is new or other, `no path` for what is not there."""
    now, before = ({path: inner for path, inner in _flat(value) if path} for value in (found, usual))
    gone = [f"no {path}" for path in before if path not in now]
    return [f"{path} = {value}" for path, value in now.items() if before.get(path, now) != value] + gone


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key != "@type":
                yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, value
