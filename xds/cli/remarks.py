"""What `xds check` reports once for a whole folder, in place of a Problem for each object.

What belongs here: what lies beside manifests in a repository (charts, templates, patches of kustomize), and what a repository never
holds because the cluster makes it. `--strict` leaves the latter as Problems. What does not: judging objects (`xds.translate`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xds.cli.printing import plural
from xds.config import Flags
from xds.kube.manifests import DUPLICATE
from xds.kube.objects import Backend, EndpointSlice, Ingress, Secret, Service, ref
from xds.kube.parse import ENCRYPTED, MADE, NO_MANIFEST, REFUSED, TEMPLATE
from xds.kube.world import World
from xds.model import Forward
from xds.nginx.feature import Role
from xds.offline import Loaded
from xds.problem import Problem, Ref, Severity
from xds.translate.backends import NO_ENDPOINTS, NO_SERVICE
from xds.translate.hosts import virtual_host
from xds.translate.offers import NOBODY
from xds.translate.selection import served_as
from xds.units.memo import Recorder

_ISSUERS = ("cert-manager.io/issuer", "cert-manager.io/cluster-issuer", "certmanager.k8s.io/issuer", "certmanager.k8s.io/cluster-issuer")
"""Annotations by which cert-manager makes the Secrets of an Ingress' tls section (cert-manager's ingress-shim)."""
_TLS_ACME = "kubernetes.io/tls-acme"
_PATH = re.compile(r"spec\.rules\[(\d+)\]\.http\.paths\[(\d+)\]\.")
_TLS = re.compile(r"spec\.tls\[(\d+)\]\.secretName")
_DATA = re.compile(r"data\[(.*)\]")
_SHOWN = 3


@dataclass(frozen=True)
class Judged:
    """The Problems of objects, and sentences about the folder as a whole."""

    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


class _Step(NamedTuple):
    """Problems that a remark stands for, and the remark."""

    gone: frozenset[Problem]
    remark: str


_NOTHING = _Step(frozenset(), "")


def judged(loaded: Loaded, settings: Flags) -> Judged:
    """The Problems and remarks to show."""
    steps = [_no_manifests(loaded), _templates(loaded), _kustomize(loaded, settings), _reported_twice(loaded), _shares(loaded)]
    if not settings.strict:
        steps += [_issued(loaded), _encrypted(loaded), _endpoints(loaded), _primaries(loaded), _exported(loaded)]
    gone = frozenset[Problem]().union(*(step.gone for step in steps))
    return Judged(tuple(p for p in loaded.problems if p not in gone), tuple(step.remark for step in steps if step.remark))


def _no_manifests(loaded: Loaded) -> _Step:
    found = _of(loaded, NO_MANIFEST)
    names = _names(found)
    return _Step(found, f"Left out because they are no Kubernetes manifests: {_listed(names)}.") if found else _NOTHING


def _templates(loaded: Loaded) -> _Step:
    found = _of(loaded, TEMPLATE)
    how = "render them first, for instance with `helm template CHART | xds check -`"
    return _Step(found, f"Left out as Helm templates: {_listed(_names(found))}; {how}.") if found else _NOTHING


def _kustomize(loaded: Loaded, settings: Flags) -> _Step:
    """Patches are no objects, and bases and overlays have the same ones; only kustomize knows what comes out."""
    kustomized = loaded.kustomized
    if not kustomized.folders:
        return _NOTHING
    twice = frozenset(p for p in _of(loaded, DUPLICATE) if p.place and _folder(p.place.file, settings) in kustomized.folders)
    folders = sorted(os.path.relpath(folder) for folder in kustomized.folders)
    counts = ((len(kustomized.parts), "patch"), (len(twice), "repeated object"))
    parts = " and ".join(plural(count, noun) for count, noun in counts if count)
    was = "was" if sum(count for count, _ in counts) == 1 else "were"
    remark = f"Kustomize builds what is in {_listed(folders, 'folder')}{f'; {parts} {was} left out' if parts else ''}. "
    return _Step(twice, f"{remark}Check what comes out with `kubectl kustomize {folders[-1]} | xds check -`.")


def _folder(file: str, settings: Flags) -> str:
    """The absolute path of the folder that a Place's file is in."""
    folders = [path for path in settings.manifests if path.is_dir()]
    return os.path.dirname(os.path.abspath(os.path.join(folders[0], file) if len(folders) == 1 else file))


def _reported_twice(loaded: Loaded) -> _Step:
    """What an API server thinks of a value is of no interest where the value cannot be served; and an empty Ingress is one complaint."""
    known = {(p.about, p.field) for p in loaded.problems if p.severity is Severity.ERROR or (p.field == "spec" and p.code != REFUSED)}
    return _Step(frozenset(p for p in _of(loaded, REFUSED) if (p.about, p.field) in known), "")


def _issued(loaded: Loaded) -> _Step:
    """Secrets that are made in the cluster: for annotations such as kubernetes.io/tls-acme, or because an object orders them."""
    orders = _of(loaded, MADE)
    made = {p.about for p in orders}
    secrets = ((p, _missing_secret(loaded.world, p)) for p in loaded.problems)
    missing = {p: secret for p, secret in secrets if secret and (secret in made or _is_issued(loaded.world, p.about))}
    names = sorted({f"{secret.namespace}/{secret.name}" for secret in missing.values()})
    remark = f"Not in the folder because they are issued in the cluster: {_listed(names, 'Secret')}." if missing else ""
    return _Step(orders | frozenset(missing), remark)


def _is_issued(world: World, about: Ref) -> bool:
    found = world.get(about)
    if not isinstance(found, Ingress):
        return False
    notes = found.meta.annotations
    return any(notes.get(name) for name in _ISSUERS) or notes.get(_TLS_ACME, "").lower() == "true"


def _encrypted(loaded: Loaded) -> _Step:
    """Secrets that SOPS keeps readable for the cluster alone."""
    found = _of(loaded, ENCRYPTED)
    secrets = {p.about for p in found}
    found |= {p for p in loaded.problems if _missing_secret(loaded.world, p) in secrets}
    names = sorted(f"{about.namespace}/{about.name}" for about in secrets)
    return _Step(found, f"Encrypted with SOPS, so not judged: {_listed(names, 'Secret')}.") if found else _NOTHING


def _missing_secret(world: World, problem: Problem) -> Ref | None:
    """The Secret that a tls entry names and that is not there, if this is what a Problem is about."""
    found, entry = world.get(problem.about), _TLS.fullmatch(problem.field)
    if problem.code.partition(":")[0] != "secret-missing" or not isinstance(found, Ingress) or not entry:
        return None
    return Ref("Secret", found.meta.namespace, found.tls[int(entry[1])].secret)


def _endpoints(loaded: Loaded) -> _Step:
    """The cluster makes EndpointSlices of pods; a Service of which a folder has none is not judged by them."""
    known = {(s.meta.namespace, s.service) for s in loaded.world.objects(EndpointSlice)}
    services = {p: _service(loaded.world, p) for p in _of(loaded, NO_ENDPOINTS)}
    gone = {p: service for p, service in services.items() if service and service not in known}
    names = sorted({"/".join(service) for service in gone.values()})
    remark = f"Without EndpointSlices in the folder, which a cluster makes, so endpoints were not judged: {_listed(names, 'Service')}."
    return _Step(frozenset(gone), remark) if gone else _NOTHING


def _primaries(loaded: Loaded) -> _Step:
    """Canaries may be deployed apart from the Ingress that has the host."""
    found = frozenset(p for p in loaded.problems if p.code.partition(":")[0] == NOBODY)
    hosts = sorted({f"{p.about.namespace}/{p.about.name} ({p.code.partition(':')[2]})" for p in found})
    remark = f"Without an Ingress in the folder that claims the host, so not judged: {_listed(hosts, 'canary', 'canaries')}."
    return _Step(found, remark) if found else _NOTHING


def _exported(loaded: Loaded) -> _Step:
    """`kubectl get ingresses -A -o yaml` by itself: objects that a cluster has stored, without the Services and Secrets beside them."""
    world = loaded.world
    items = list(world.objects(Ingress))
    if not items or not all(item.uid for item in items):
        return _NOTHING
    gone: frozenset[Problem] = frozenset()
    kinds = []
    if not any(True for _ in world.objects(Service)):
        gone |= _of(loaded, NO_SERVICE)
        kinds.append("Services")
    if not any(True for _ in world.objects(Secret)):
        gone |= {p for p in loaded.problems if _missing_secret(world, p)}
        kinds.append("Secrets")
    what = " and ".join(kinds)
    remark = f"These Ingresses come from a cluster, without its {what}; so backends and certificates were not judged. "
    return _Step(gone, f"{remark}docs/migrate.md has the commands that export all.") if gone else _NOTHING


def _shares(loaded: Loaded) -> _Step:
    """Paths that ingress-nginx would give a share to a canary as well, because they lead to the Service of its primary."""
    read = Recorder(loaded.tables.build)
    canaries = {
        ref(item) for item in loaded.world.objects(Ingress) if read.unit(served_as, item.meta.namespace, item.meta.name) is Role.OFFERS
    }
    shared: set[tuple[str, str, int]] = set()
    alone: dict[str, tuple[str, str, int]] = {}
    for host in loaded.tables.hosts.values if canaries else ():
        found = virtual_host(read, host)
        routes = [(r, r.action.cluster) for r in (found.routes if found else ()) if isinstance(r.action, Forward)]
        joined = {r.match for r, _ in routes if r.origin in canaries}
        for route, cluster in routes:
            which = (cluster.namespace, cluster.service, cluster.port)
            if route.origin in canaries:
                continue
            if route.match in joined:
                shared.add(which)
            else:
                alone[f"{host or '*'}{route.match.path}"] = which
    places = sorted(place for place, which in alone.items() if which in shared)
    remark = (
        f"In ingress-nginx these get a share of a canary as well, as they lead to the Service of its primary: {_listed(places, 'path')}."
    )
    return _Step(frozenset(), remark) if places else _NOTHING


def _service(world: World, problem: Problem) -> tuple[str, str] | None:
    """Namespace and name of the Service that a Problem about missing endpoints is about."""
    found = world.get(problem.about)
    if isinstance(found, Ingress):
        backend = _backend(found, problem.field)
        return (found.meta.namespace, backend.service) if backend else None
    if (key := _DATA.fullmatch(problem.field)) and found is not None:
        namespace, _, name = found.data.get(key[1], "").partition(":")[0].strip().partition("/")
        return (namespace, name)
    return None


def _backend(item: Ingress, field: str) -> Backend | None:
    if place := _PATH.match(field):
        return item.rules[int(place[1])].paths[int(place[2])].backend
    return item.default_backend


def _of(loaded: Loaded, code: str) -> frozenset[Problem]:
    return frozenset(p for p in loaded.problems if p.code == code)


def _names(problems: Iterable[Problem]) -> list[str]:
    return sorted({p.about.name for p in problems})


def _listed(names: Sequence[str], noun: str = "file", nouns: str = "") -> str:
    """`a.yaml, b.yaml, c.yaml and 4 more files`."""
    shown, more = ", ".join(names[:_SHOWN]), len(names) - _SHOWN
    return f"{shown} and {more} more {(nouns or f'{noun}s') if more > 1 else noun}" if more > 0 else shown
