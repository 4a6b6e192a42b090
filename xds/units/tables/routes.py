"""The route table: virtual hosts, what stands around them, and how they are joined to one resource."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable

from xds.kube.world import Key, World, host_of_key
from xds.model import Cluster
from xds.nginx.registry import secrets_of
from xds.render import names, routes
from xds.snapshot import ROUTE, Part, Resource
from xds.units import units
from xds.units.memo import Build
from xds.units.parts import Frame, Host, Value, same
from xds.units.tables.backends import Backends
from xds.units.tables.holds import Holds
from xds.units.tables.listeners import HttpsListener
from xds.units.tables.password_files import PasswordFiles
from xds.units.tables.table import Single, Table, Touched
from xds.units.tables.update import Update

_MASK = (1 << 128) - 1


class RouteTable:
    """The virtual hosts that the World asks for, as one RouteConfiguration. They want clusters, filter chains and password files."""

    def __init__(
        self, world: World, build: Build, holds: Holds, backends: Backends, https: HttpsListener, passwords: PasswordFiles
    ) -> None:
        self.hosts: Table[str, Host] = Table(build, units.host, ROUTE, lambda name: Part(ROUTE, names.ROUTES, name), holds)
        self._world = world
        self._backends = backends
        self._https = https
        self._passwords = passwords
        self._frame = Single(build, units.route_table, Part(ROUTE, names.ROUTES), holds)
        self._joined = Joined()
        self._sharing: Counter[str] = Counter()
        self.hosts.want([""])

    def follow(self, keys: Iterable[Key]) -> None:
        """Want the hosts that some Ingress names by now, and no others."""
        for key in keys:
            if host := host_of_key(key):
                wanted, there = self.hosts.wants(host), self._world.has_host(host)
                if there != wanted:
                    self.hosts.want([host] if there else (), () if there else [host])

    def weight(self, touched: Touched) -> int:
        """The bytes of the hosts that may be made again."""
        hosts = (self.hosts.values.get(name) for name in touched.of(units.host))
        return sum(len(host.body) for host in hosts if host)

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self.hosts.look_again(parts)
        self._frame.look_again(parts)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring the table up to date, and what its hosts want."""
        changed = False
        for name, part, old, new in self.hosts.refresh(touched):
            changed = True
            before, after = (old.clusters if old else frozenset()), (new.clusters if new else frozenset())
            self._backends.want(after - before, before - after)
            self._https.secrets.want(_secrets(after - before), _secrets(before - after))
            known, needed = (old.passwords if old else frozenset()), (new.passwords if new else frozenset())
            self._passwords.want(needed - known, known - needed)
            self._https.serve(name, old.tls if old else None, new.tls if new else None)
            self._sharing.update(new.sharing if new else ())
            self._sharing.subtract(old.sharing if old else ())
            self._joined.put(name, old, new)
            if not same(old, new):
                update.move(part, old, new)
        if changed or self._frame.is_due(touched):
            frame = self._frame.refresh(update)
            if frame is not None:
                update.add(ROUTE, names.ROUTES, self._joined.resource(names.ROUTES, self._around(frame)))

    def _around(self, frame: Frame) -> Frame:
        """The frame with what features of the present hosts have in the table."""
        shared = (routes.shared(name) for name in sorted(+self._sharing))
        return Frame(frame.before, b"".join([frame.after, *shared]))

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        values = self.hosts.values
        found = {part: values[part.piece] for part in parts if part.type_url == ROUTE and part.piece is not None and part.piece in values}
        return {**found, **self._frame.among(parts)}

    def naming(self, clusters: Collection[Cluster]) -> dict[Part, Value]:
        """The virtual hosts that need one of these clusters. Costs what there is."""
        return {self.hosts.part(n): host for n, host in self.hosts.values.items() if not host.clusters.isdisjoint(clusters)}


def _secrets(clusters: Iterable[Cluster]) -> list[str]:
    """The SDS secrets that clusters refer to, once for each that does."""
    return [name for cluster in clusters for name in secrets_of(cluster)]


class Joined:
    """Virtual hosts in the order of their names, so that nothing need be sorted to be joined; and a sum that stands for all of them."""

    __slots__ = ("_bodies", "_order", "_sum")

    def __init__(self) -> None:
        self._order: list[str] = []
        self._bodies: list[bytes] = []
        self._sum = 0

    def put(self, name: str, old: Host | None, new: Host | None) -> None:
        """A host is another one, new or gone."""
        self._sum = (self._sum + (new.digest if new else 0) - (old.digest if old else 0)) & _MASK
        place = bisect.bisect_left(self._order, name)
        end = place + (place < len(self._order) and self._order[place] == name)
        self._order[place:end] = [name] if new else []
        self._bodies[place:end] = [new.body] if new else []

    def resource(self, name: str, frame: Frame) -> Resource:
        """The RouteConfiguration of this name. Its bytes are joined when they are first needed."""
        parts = [frame.before, *self._bodies, frame.after]
        head = hashlib.blake2b(frame.before + frame.after, digest_size=16).digest()
        version = hashlib.blake2b(head + self._sum.to_bytes(16, "little"), digest_size=8).hexdigest()
        return Resource.joined(name, version, lambda: b"".join(parts))
