"""Which objects are to blame when Envoy rejects a Part: from Parts to the objects that they were made from, and to Problems about these.

What does not belong here: finding out which Part Envoy rejects (`xds.quarantine.quarantine`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xds.kube.objects import ref
from xds.kube.world import SETTINGS, ingresses_of
from xds.problem import Place, Problem, Ref
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET, Part
from xds.translate.certificates import DEFAULT
from xds.translate.further_names import home
from xds.translate.selection import served
from xds.units.memo import Recorder
from xds.units.parts import Held
from xds.units.tables import Tables

_MOST = 20
"""Objects to blame for one Part that are reported."""
_KINDS: Mapping[str, str] = {
    CLUSTER: "cluster",
    ENDPOINT: "endpoints of cluster",
    LISTENER: "listener",
    SECRET: "secret",
    PASSWORDS: "password file",
}


def problems(tables: Tables, culprits: Mapping[Part, Held]) -> dict[Part, tuple[Problem, ...]]:
    """A Problem on each object that is to blame for one of these Parts, with Envoy's own words; none where no object is."""
    return {part: tuple(_of(tables, part, held)) for part, held in culprits.items()}


def objects(tables: Tables, part: Part) -> list[Ref]:
    """The objects that a Part was made from and that a user can fix, at most 20. Linear in all hosts."""
    if part.type_url == ROUTE and part.piece is not None:
        return _ingresses(tables, part.piece)[:_MOST]
    if part.type_url == PASSWORDS:
        return [Ref("Secret", *part.resource.split("/")[:2])]
    cluster = part.resource if part.type_url in (CLUSTER, ENDPOINT) else names.passed_to(part.piece or "")
    if cluster:
        service = Ref("Service", *cluster.split("/")[:2])
        is_host = any(wanted.host and names.cluster(wanted) == cluster for wanted in tables.clusters.values)
        return [*([] if is_host else [service]), *_users(tables, cluster)][:_MOST]
    certificate = part.resource if part.type_url == SECRET else part.piece
    if certificate is not None:
        certificate = names.certificate_of(names.secret_of(certificate))
        named = tables.world.get(SETTINGS).default_ssl_certificate if certificate == DEFAULT else certificate
        return [Ref("Secret", *named.split("/", 1))] if named else []
    return _config_map(tables, part)


def _of(tables: Tables, part: Part, held: Held) -> Iterator[Problem]:
    found = objects(tables, part)
    state = "What it accepted before stays in place" if held.instead is not None else "It is left out"
    refused = f"{in_words(part)}, which is made from this object"
    if held.along:
        refused = f"{in_words(min(held.along))}, to which the {refused}, leads now"
    sentence = f"Envoy rejects the {refused}. {state} until the object is changed. Envoy's error: {held.words}"
    code = f"envoy-refused:{part.type_url.rsplit('.', 1)[1]}:{part.resource}{'' if part.piece is None else ':' + part.piece}"
    for which in [one for one in found if one in held.causes] or found:
        yield Problem(which, "", code, sentence, place=_place(tables, which))


def in_words(part: Part) -> str:
    """A Part as operators see it in Envoy, such as `virtual host "a.example.com"`."""
    if part.type_url == ROUTE:
        return "route table" if part.piece is None else f'virtual host "{part.piece or "*"}"'
    if part.piece is not None:
        passed = names.passed_to(part.piece)
        return (
            f'filter chain that passes TLS through to "{passed}"'
            if passed
            else f'filter chain of certificate "{names.certificate_of(part.piece)}"'
        )
    return f'{_KINDS[part.type_url]} "{part.resource}"'


def _place(tables: Tables, which: Ref) -> Place | None:
    item = tables.world.get(tuple(which))
    return None if item is None else item.meta.place


def _ingresses(tables: Tables, host: str) -> list[Ref]:
    read = Recorder(tables.build)
    return [ref(i) for i in ingresses_of(read, home(read, host)) if served(read, i.meta.namespace, i.meta.name)]


def _users(tables: Tables, cluster: str) -> list[Ref]:
    """The Ingresses of the hosts that want a cluster, as far as they are in the namespace of its Service: no others may name it."""
    namespace = cluster.split("/", 1)[0]
    found = {which for host in tables.hosts_of(cluster) for which in _ingresses(tables, host) if which.namespace == namespace}
    return sorted(found)


def _config_map(tables: Tables, part: Part) -> list[Ref]:
    """The ConfigMap behind what no Ingress makes: a stream's listener, or what all hosts share."""
    flags = tables.world.get(SETTINGS)
    named = {"tcp": flags.tcp_services_configmap, "udp": flags.udp_services_configmap}.get(part.resource.split("/")[0], flags.configmap)
    return [Ref("ConfigMap", *named.split("/", 1))] if named else []
