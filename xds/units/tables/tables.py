"""All tables over one World, in the order in which they are brought up to date."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from xds.kube.world import SETTINGS, Key, World
from xds.model import Terminate
from xds.nginx import registry
from xds.problem import Problem
from xds.snapshot import CLUSTER, Part
from xds.units.memo import Build
from xds.units.parts import Held, Move, Raw, Value
from xds.units.tables.backends import Backends
from xds.units.tables.holds import Holds
from xds.units.tables.listeners import HttpListener, HttpsListener
from xds.units.tables.password_files import PasswordFiles
from xds.units.tables.routes import RouteTable
from xds.units.tables.streams import Streams
from xds.units.tables.table import Touched
from xds.units.tables.update import Update

_ENTRY = 100
"""Bytes that an entry of an object, such as a path or an endpoint, takes: about, and at most."""


class Group(Protocol):
    """Resources that are brought up to date together."""

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring up to date what was touched, is newly wanted or not any more, or is to be looked at again; and note it."""

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """What the Snapshot has of those of the Parts that are there. Costs what there is."""


class Tables:
    """All tables, over one World. `apply` computes, and touches no Snapshot; so it may run beside readers of one.

    `held` is what is held from the beginning, `raws` are for tests of refusals.
    """

    def __init__(self, world: World, held: Mapping[Part, Held] | None = None, raws: Iterable[Raw] = ()) -> None:
        self.world = world
        prefix = world.get(SETTINGS).annotations_prefix + "/"
        world.name_by(lambda item: registry.further_names(item, prefix))
        self.build = build = Build(world.get)
        self.holds = holds = Holds(raws)
        holds.update(held or {})
        backends = Backends(build, holds)
        self._https = https = HttpsListener(build, holds, backends)
        passwords = PasswordFiles(build, holds)
        self._routes = RouteTable(world, build, holds, backends, https, passwords)
        self._streams = Streams(build, holds, backends)
        # users come first
        self._groups: tuple[Group, ...] = (self._routes, self._streams, HttpListener(build, holds), https, backends, passwords)
        self.hosts = self._routes.hosts
        self.streams = self._streams.listeners
        self.secrets = https.secrets
        self.clusters = backends.clusters
        self.endpoints = backends.endpoints

    def apply(self, keys: Iterable[Key]) -> Update:
        """What these keys of the World, new, changed or gone, do to the resources."""
        return self.refresh(self.touch(keys))

    def touch(self, keys: Iterable[Key]) -> Touched:
        """Note that these keys of the World have changed. `refresh` must follow, once, before anything else is asked of the tables."""
        keys = set(keys)
        touched = Touched(self.build.stale_kept(keys))
        touched.weight = sum(self.world.entries(key) for key in keys) * _ENTRY + self._routes.weight(touched)
        self._routes.follow(keys)
        return touched

    def refresh(self, touched: Touched) -> Update:
        """What was touched does to the resources."""
        update = Update()
        self._look_again(self.holds.free())
        self._refresh(touched, update)
        if free := self.holds.free():  # a cluster may be there again by now
            self._look_again(free)
            self._refresh(Touched(), update)
        for part, value in self.holds.ended.items():
            update.moved.setdefault(part, Move(value, value))
        self.holds.ended.clear()
        return update

    def hold(self, orders: Mapping[Part, Held | None]) -> Update:
        """Hold these from now on, or (None) hold them no longer."""
        for part, held in orders.items():
            if held is None:
                self.holds.pop(part, None)
            else:
                self.holds[part] = held
        self._look_again(orders.keys())
        update = self.refresh(Touched())
        update.held = [part for part, held in orders.items() if held is not None and part.piece is None and not held.along]
        return update

    def values(self, parts: Iterable[Part]) -> dict[Part, Value]:
        """What the Snapshot has of these Parts, as far as they are there. Costs what there is."""
        wanted = frozenset(parts)
        return {part: value for group in self._groups for part, value in group.among(wanted).items()}

    def certificates_of_hosts(self) -> list[tuple[str, str]]:
        """Each host with a certificate of its own, and the name of that. Another thread may refresh meanwhile. Costs what there is."""
        found = list(self.hosts.values.items())
        return [(host, value.tls.certificate) for host, value in found if isinstance(value.tls, Terminate) and value.tls.certificate]

    def naming(self, clusters: Collection[Part]) -> dict[Part, Value]:
        """The virtual hosts and the entries of stream ConfigMaps that need one of these clusters. Costs what there is."""
        wanted = self.clusters.called(clusters)
        return {**self._routes.naming(wanted), **self._streams.naming(wanted)}

    def hosts_of(self, cluster: str) -> set[str]:
        """The hosts that need the cluster of this name, for their routes or for TLS that passes through. Costs what there is."""
        wanted = self.clusters.called([Part(CLUSTER, cluster)])
        return {*self._https.passed_to(wanted), *(name for name, host in self.hosts.values.items() if not wanted.isdisjoint(host.clusters))}

    def problems(self) -> list[Problem]:
        """All Problems of what is there now, each once, in the order of object and field."""
        found = {p: p for problems in self.build.problems.values() for p in problems}
        return sorted(found, key=lambda p: (p.about, p.field, p.code))

    def _look_again(self, parts: Collection[Part]) -> None:
        for group in self._groups if parts else ():
            group.look_again(parts)

    def _refresh(self, touched: Touched, update: Update) -> None:
        for group in self._groups:
            group.refresh(touched, update)
