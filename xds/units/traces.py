"""Which Parts of Envoy's configuration an object went into: the opposite direction of `xds.quarantine.blame`.

What belongs here: Ingresses, and entries of the tcp- and udp-services ConfigMaps, since these are what users ask about. What does not:
which Envoys have the Parts (`xds.server.progress`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xds import model
from xds.kube.objects import Ingress, ref
from xds.kube.world import SETTINGS, Reader, hosts_of
from xds.nginx import registry
from xds.nginx.messages import authority
from xds.nginx.registry import secrets_of
from xds.problem import Ref
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET, Part
from xds.translate import further_names, hosts
from xds.translate.certificates import DEFAULT
from xds.translate.selection import served
from xds.units.memo import Recorder
from xds.units.tables import Tables
from xds.units.units import stream_entries


class Asked(NamedTuple):
    """What users may ask about: an Ingress, or one entry (a port) of a ConfigMap of streams."""

    about: Ref
    entry: str = ""

    def __str__(self) -> str:
        return f"{self.about}, entry {self.entry}" if self.entry else str(self.about)


def all_served(tables: Tables) -> list[Asked]:
    """All that this control plane serves, by kind, namespace, name and entry."""
    read = Recorder(tables.build)
    entries = {(about, stream.port) for about, stream in _streams(tables, read)}
    ours = [ref(item) for item in tables.world.objects(Ingress) if served(read, item.meta.namespace, item.meta.name)]
    return [*(Asked(about, str(port)) for about, port in sorted(entries)), *map(Asked, ours)]


def is_served(tables: Tables, asked: Asked) -> bool:
    """Whether it exists, and class, namespace and flags make it ours to serve. It may still be too faulty to have an effect."""
    found = tables.world.get(tuple(asked.about))
    if isinstance(found, Ingress):
        return served(Recorder(tables.build), found.meta.namespace, found.meta.name)
    ours = any(about == asked.about for about, _ in _config_maps(tables))
    return ours and found is not None and asked.entry in found.data


def parts_of(tables: Tables, asked: Asked) -> tuple[Part, ...]:
    """The Parts that it went into, each once; none where it is not ours to serve, or nothing of it works.

    Of an Ingress: the listeners, the virtual hosts of its hosts with their certificates, and the clusters and endpoints of its backends.
    """
    read = Recorder(tables.build)
    found = tables.world.get(tuple(asked.about))
    if not isinstance(found, Ingress):
        return tuple(dict.fromkeys(_of_entry(tables, read, asked)))
    if not served(read, found.meta.namespace, found.meta.name):
        return ()
    prefix = tables.world.get(SETTINGS).annotations_prefix + "/"
    further = sorted({name for name, host in registry.further_names(found, prefix) if further_names.home(read, name) == host})
    return tuple(dict.fromkeys(part for host in (*hosts_of(found), *further) for part in _of_host(tables, read, host, asked.about)))


def _of_host(tables: Tables, read: Reader, name: str, about: Ref) -> Iterator[Part]:
    """The Parts of a host that this Ingress went into: others may have paths on it."""
    found = hosts.virtual_host(read, name) if name else read.unit(hosts.catch_all)
    if found is None:
        return
    yield Part(ROUTE, names.ROUTES, name)
    yield Part(LISTENER, names.HTTP)
    yield from _of_tls(tables, found, about)
    for route in found.routes:
        if route.origin == about:
            for cluster in route.clusters:
                yield from _of_cluster(tables, cluster)
            if route.passwords:
                yield Part(PASSWORDS, names.passwords(route.passwords))


def _of_tls(tables: Tables, found: model.VirtualHost, about: Ref) -> Iterator[Part]:
    """The filter chain of a host, and what that needs. The default certificate's is part of the listener; a closed host has none."""
    tls = found.tls
    is_own = tls not in (model.Terminate(), model.Passthrough(None))
    yield Part(LISTENER, names.HTTPS, names.chain(tls) if is_own else None)
    if isinstance(tls, model.Terminate):
        yield Part(SECRET, tls.certificate or DEFAULT)
        if tls.authority:
            yield Part(SECRET, authority(tls.authority.secret))
    elif tls.cluster and any(_leads_to(route, tls.cluster) for route in found.routes if route.origin == about):
        yield from _of_cluster(tables, tls.cluster)


def _leads_to(route: model.Route, wanted: model.Cluster) -> bool:
    """Whether a route leads to the same Service and port."""
    to = route.action.cluster if isinstance(route.action, model.Forward) else None
    return to is not None and (to.namespace, to.service, to.port) == (wanted.namespace, wanted.service, wanted.port)


def _of_entry(tables: Tables, read: Reader, asked: Asked) -> Iterator[Part]:
    for about, stream in _streams(tables, read):
        if about == asked.about and str(stream.port) == asked.entry:
            yield Part(LISTENER, names.stream(stream.protocol, stream.port))
            yield from _of_cluster(tables, stream.cluster)


def _of_cluster(tables: Tables, wanted: model.Cluster) -> Iterator[Part]:
    """A cluster and its endpoints; an ExternalName has no endpoints, since Envoy resolves it."""
    name = names.cluster(wanted)
    yield Part(CLUSTER, name)
    yield from (Part(SECRET, secret) for secret in secrets_of(wanted))
    if wanted in tables.endpoints.values:
        yield Part(ENDPOINT, name)


def _streams(tables: Tables, read: Reader) -> Iterator[tuple[Ref, model.Stream]]:
    for about, protocol in _config_maps(tables):
        for stream in read.unit(stream_entries, protocol):
            yield about, stream


def _config_maps(tables: Tables) -> list[tuple[Ref, str]]:
    """The ConfigMaps of streams, with their protocol. One may be both."""
    flags = tables.world.get(SETTINGS)
    found = (("TCP", flags.tcp_services_configmap), ("UDP", flags.udp_services_configmap))
    return [(Ref("ConfigMap", *name.split("/", 1)), protocol) for protocol, name in found if name]
