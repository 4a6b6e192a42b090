"""One Ingress as JSON: its paths and who has them, what stands behind them, certificates, the verdicts of annotations, Problems.

What does not belong here: on how many Envoys it is in effect (`xds.debug.programmed`), and words for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from xds.explain.backing import certificate_json, endpoints_json, service_json
from xds.explain.document import decided
from xds.explain.owners import backend_words
from xds.json_forms import Json, object_json, place_json, problem_json
from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, hosts_of, refused_edit, settings
from xds.model import Cluster, Forward, Terminate
from xds.nginx.feature import Role
from xds.nginx.registry import known_annotations
from xds.problem import Problem, Ref
from xds.render import names
from xds.translate.claims import ROOT, Claim, Where, claimed, claims_in_order, offers_in_order
from xds.translate.hosts import virtual_host
from xds.translate.selection import served_as
from xds.units.memo import Recorder
from xds.units.tables import Tables

MOST_PATHS = 100
MOST_HOSTS = 50
"""Hosts of which the certificate and the clusters are looked up."""
MOST_SERVICES = 30
MOST_ENDPOINTS = 100
MOST_PROBLEMS = 200
MOST_ANNOTATIONS = 200


@dataclass(frozen=True)
class _Subject:
    """An Ingress, and what it is looked up in."""

    tables: Tables
    read: Reader
    item: Ingress
    role: Role | None
    clusters: dict[str, list[Cluster]]
    """Where the routes of each of its rules lead, by the field of the rule."""


def ingress_document(tables: Tables, problems: Collection[Problem], about: Ref) -> Json | None:
    """The first of everything, with the number of all. `problems` are all that there are. None where there is no such Ingress."""
    item = tables.world.get(tuple(about))
    if not isinstance(item, Ingress):
        return None
    read = Recorder(tables.build)
    role = served_as(read, item.meta.namespace, item.meta.name)
    case = _Subject(tables, read, item, role, _clusters(read, item) if role else {})
    edit = refused_edit(read, item.meta.namespace, item.meta.name)
    written = edit.written if edit else item
    annotations = _annotations(case, written)
    own = sorted((problem for problem in problems if problem.about == about), key=lambda problem: problem.severity.rank)
    claims = _claims(case)
    first = list(islice(claims, MOST_PATHS))
    owners = {host: _owners(read, host) for host in dict.fromkeys(host for host, _ in first)} if role else {}
    paths = [_path(case, host, claim, owners.get(host, {}).get(claim.where)) for host, claim in first]
    return {
        "object": object_json(about),
        "place": place_json(item.meta.place),
        "created": item.meta.created or None,
        "class": item.class_name,
        "served": role is not None,
        "role": role.value if role else None,
        "edit_refused": edit is not None,
        "paths": paths,
        "paths_total": len(paths) + sum(1 for _ in claims),
        "services": list(islice(_services(case), MOST_SERVICES)),
        "certificates": list(_certificates(case)) if role is Role.CLAIMS else [],
        "annotations": annotations[:MOST_ANNOTATIONS],
        "annotations_total": len(annotations),
        "problems": [problem_json(problem) for problem in own[:MOST_PROBLEMS]],
        "problems_total": len(own),
    }


def _claims(case: _Subject) -> Iterator[tuple[str, Claim]]:
    """Its paths with their hosts; and its default backend, for the catch-all or for what is left of its hosts."""
    if case.role is Role.OFFERS:
        yield from offers_in_order(case.item)
        return
    roots = set()
    for host, claim in claims_in_order(case.item):
        roots |= {host} if claim.where == ROOT else set()
        yield host, claim
    if case.item.default_backend:
        for host in (host for host in islice(hosts_of(case.item), MOST_HOSTS) if host not in roots):
            yield host, Claim(case.item, *ROOT, case.item.default_backend, "spec.defaultBackend")


def _owners(read: Reader, host: str) -> dict[Where, Ref]:
    return {where: ref(claims[0].item) for where, claims in claimed(read, host).items()}


def _path(case: _Subject, host: str, claim: Claim, owner: Ref | None) -> Json:
    own = owner == ref(case.item)
    state = "canary" if case.role is Role.OFFERS else "owned" if own else "taken" if owner else "not served"
    path, kind = claim.where
    return {
        "host": host or None,
        "path": path,
        "type": kind,
        "backend": backend_words(claim.backend),
        "state": state,
        "owner": object_json(owner) if owner and not own else None,
        "clusters": [names.cluster(cluster) for cluster in case.clusters.get(claim.field, [])],
    }


def _clusters(read: Reader, item: Ingress) -> dict[str, list[Cluster]]:
    found: dict[str, dict[Cluster, None]] = {}
    for host in islice(hosts_of(item), MOST_HOSTS):
        made = virtual_host(read, host)
        for route in made.routes if made else ():
            if route.origin == ref(item) and isinstance(route.action, Forward):
                found.setdefault(route.rule, {})[route.action.cluster] = None
    return {rule: list(clusters) for rule, clusters in found.items()}


def _services(case: _Subject) -> Iterator[Json]:
    """Each Service and port behind its routes once, with the endpoints."""
    for cluster in dict.fromkeys(cluster for clusters in case.clusters.values() for cluster in clusters):
        if not cluster.service:
            continue
        about = Ref("Service", cluster.namespace, cluster.service)
        endpoints = endpoints_json(case.read, about, cluster)
        yield service_json(case.read, about, str(cluster.port)) | {
            "cluster": names.cluster(cluster),
            "endpoints": endpoints[:MOST_ENDPOINTS],
            "endpoints_total": len(endpoints),
            "ready": sum(endpoint["health"] != "not ready" for endpoint in endpoints),
        }


def _certificates(case: _Subject) -> Iterator[Json]:
    """The certificates that Envoy shows for its hosts, each with those hosts. A host whose TLS passes through has none."""
    hosts: dict[Terminate, list[str]] = {}
    for host in islice(hosts_of(case.item), MOST_HOSTS):
        found = case.tables.hosts.values.get(host)
        if found and isinstance(found.tls, Terminate):
            hosts.setdefault(Terminate(found.tls.certificate), []).append(host)
    for tls, of_tls in hosts.items():
        yield certificate_json(case.read, tls) | {"hosts": [host or None for host in of_tls]}


def _annotations(case: _Subject, written: Ingress) -> list[Json]:
    """Those with our prefix, as they are written now: each with its verdict, "unknown" for a name that nobody knows."""
    prefix = settings(case.read).annotations_prefix + "/"
    own = {key.removeprefix(prefix): value for key, value in written.meta.annotations.items() if key.startswith(prefix)}
    known = decided(own, known_annotations())
    unknown = [{"name": n, "value": value[:200], "fidelity": "unknown"} for n, value in own.items() if n not in known_annotations()]
    return sorted([*known, *unknown], key=lambda each: str(each["name"]))
