"""Which Units are wanted, and the Snapshot that their values make: where a change of the World becomes a change of resources.

Hosts want clusters and certificates, entries of the stream ConfigMaps want listeners and clusters, clusters want endpoints. Each table
follows the one that wants it, so that a change costs what it touches.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds import model
from xds.build import units
from xds.build.memo import Build, Unit
from xds.kube.world import Key, World
from xds.render import listeners, names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Reference, Resource, Snapshot
from xds.translate.certificates import DEFAULT

N = TypeVar("N", bound=Hashable)
_MASK = (1 << 128) - 1
_ROUTES = Reference(ROUTE, names.ROUTES)


@dataclass(slots=True)
class Update:
    """What is to be published: resources by type that are new or different, and names that are gone."""

    put: dict[str, list[Resource]] = field(default_factory=dict)
    drop: dict[str, list[str]] = field(default_factory=dict)

    def add(self, type_url: str, name: str, resource: Resource | None) -> None:
        """Note one resource, or that it is gone."""
        if resource is None:
            self.drop.setdefault(type_url, []).append(name)
        else:
            self.put.setdefault(type_url, []).append(resource)

    def publish(self, snapshot: Snapshot) -> dict[str, frozenset[str]]:
        """Take it over into the Snapshot; returns the names that truly changed, by type."""
        types = {*self.put, *self.drop}
        changed = {t: snapshot[t].update(self.put.get(t, ()), self.drop.get(t, ())) for t in sorted(types)}
        return {t: found for t, found in changed.items() if found}


class Table(Generic[N]):
    """Values by name, each that of a Unit; `want` counts by how many a name is needed. `order` is the sort key of names."""

    def __init__(self, build: Build, function: Callable[..., Any], order: Callable[[N], Any]) -> None:
        self.values: dict[N, Any] = {}
        self._build = build
        self._function = function
        self._order = order
        self._wanted: Counter[N] = Counter()
        self._new: set[N] = set()

    def want(self, more: Iterable[N], fewer: Iterable[N] = ()) -> None:
        """These are needed once more, those once less."""
        for name in more:
            self._wanted[name] += 1
            if self._wanted[name] == 1:
                self._build.keep(Unit(self._function, (name,)))
                self._new.add(name)
        for name in fewer:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name]
                self._build.release(Unit(self._function, (name,)))
                self._new.add(name)

    def wants(self, name: N) -> bool:
        """Whether somebody needs it."""
        return name in self._wanted

    def refresh(self, touched: Mapping[Callable[..., Any], set[Any]]) -> Iterator[tuple[N, Any, Any]]:
        """Bring up to date what was touched and what is newly wanted, or not any more: (name, old value, new value) where they differ."""
        names_, self._new = self._new | touched.get(self._function, set()), set()
        for name in sorted(names_, key=self._order):
            old = self.values.get(name)
            new = self._build.value(Unit(self._function, (name,))) if name in self._wanted else None
            if new is None:
                self.values.pop(name, None)
            else:
                self.values[name] = new
            if old != new:
                yield name, old, new


class Tables:
    """All tables, over one World. `apply` computes, and touches no Snapshot; so it may run beside whoever reads one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.build = Build(world.get)
        self.hosts: Table[str] = Table(self.build, units.host, str)
        self.clusters: Table[model.Cluster] = Table(self.build, units.cluster, names.cluster)
        self.endpoints: Table[model.Cluster] = Table(self.build, units.load_assignment, names.cluster)
        self.secrets: Table[str] = Table(self.build, units.secret, str)
        self.streams: Table[model.Stream] = Table(self.build, units.stream_listener, repr)
        self._entries: Table[str] = Table(self.build, units.stream_entries, str)
        self._singles = {u: Unit(u, ()) for u in (units.route_table, units.http_listener, units.https_listener)}
        self._chains: dict[str, dict[str, None]] = {}  # certificate → hosts that are served under it
        self._chain_bytes: dict[str, bytes] = {}
        self._single_values: dict[Callable[..., Any], Any] = {}
        self._order: list[str] = []  # the hosts that there are, sorted
        self._bodies: list[bytes] = []  # theirs, in that order
        self._sum = 0
        self._begin()

    def apply(self, keys: Iterable[Key]) -> Update:
        """What these keys of the World, new, changed or gone, do to the resources."""
        keys = set(keys)
        touched: dict[Callable[..., Any], set[Any]] = {}
        for unit in self.build.touch(keys):
            touched.setdefault(unit.function, set()).add(unit.arguments[0] if unit.arguments else None)
        update = Update()
        self._want_hosts(keys)
        new_certificates = self._refresh_hosts(touched, update)
        self._refresh_streams(touched, update)
        self._refresh_singles(touched, update, new_certificates)
        for table, type_url in ((self.clusters, CLUSTER), (self.endpoints, ENDPOINT)):
            for wanted, _, body in table.refresh(touched):
                name = names.cluster(wanted)
                update.add(type_url, name, None if body is None else Resource.of(name, body))
        for name, _, body in self.secrets.refresh(touched):
            update.add(SECRET, name, None if body is None else Resource.of(name, body))
        return update

    def problems(self) -> list[model.Problem]:
        """All Problems of what is there now, each once, in the order of object and field."""
        found = {p: p for problems in self.build.problems.values() for p in problems}
        return sorted(found, key=lambda p: (p.about, p.field, p.code))

    def _begin(self) -> None:
        self.hosts.want([""])
        self.secrets.want([DEFAULT])
        self._entries.want(["TCP", "UDP"])
        for unit in self._singles.values():
            self.build.keep(unit)

    def _want_hosts(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key[0] == "ingresses-of" and key[1]:
                wanted = self.hosts.wants(key[1])
                if self.world.has_host(key[1]) and not wanted:
                    self.hosts.want([key[1]])
                elif wanted and not self.world.has_host(key[1]):
                    self.hosts.want((), [key[1]])

    def _refresh_hosts(self, touched: Mapping[Callable[..., Any], set[Any]], update: Update) -> set[str]:
        """Route table and wanted clusters; returns the certificates whose hosts are others now."""
        moved: set[str] = set()
        changed = False
        for name, old, new in self.hosts.refresh(touched):
            changed = True
            before, after = (old.clusters if old else frozenset()), (new.clusters if new else frozenset())
            for table in (self.clusters, self.endpoints):
                table.want(after - before, before - after)
            self._sum = (self._sum + (new.digest if new else 0) - (old.digest if old else 0)) & _MASK
            self._put_body(name, new.body if new else None)
            moved |= self._move_certificate(name, old.certificate if old else "", new.certificate if new else "")
        if changed or units.route_table in touched or units.route_table not in self._single_values:
            self._publish_routes(update)
        return moved

    def _put_body(self, host: str, body: bytes | None) -> None:
        """The hosts are kept in order, so that the table need not be sorted to be joined."""
        place = bisect.bisect_left(self._order, host)
        end = place + (place < len(self._order) and self._order[place] == host)
        self._order[place:end] = [host] if body is not None else []
        self._bodies[place:end] = [body] if body is not None else []

    def _publish_routes(self, update: Update) -> None:
        frame: units.Frame | None = self.build.value(self._singles[units.route_table])
        if frame is None:  # a fault of ours (`Build.failures`): what is out there stays
            return
        self._single_values[units.route_table] = frame
        parts = [frame.before, *self._bodies, frame.after]

        head = hashlib.blake2b(frame.before + frame.after, digest_size=16).digest()
        version = hashlib.blake2b(head + self._sum.to_bytes(16, "little"), digest_size=8).hexdigest()
        update.add(ROUTE, names.ROUTES, Resource.joined(names.ROUTES, version, lambda: b"".join(parts)))

    def _move_certificate(self, host: str, old: str, new: str) -> set[str]:
        """A host is served under another certificate now."""
        if old == new:
            return set()
        if old:
            del self._chains[old][host]
            if not self._chains[old]:
                del self._chains[old]
                self.secrets.want((), [old])
        if new:
            if new not in self._chains:
                self._chains[new] = {}
                self.secrets.want([new])
            self._chains[new][host] = None
        return {c for c in (old, new) if c}

    def _refresh_streams(self, touched: Mapping[Callable[..., Any], set[Any]], update: Update) -> None:
        for _, old, new in self._entries.refresh(touched):
            more, fewer = set(new or ()) - set(old or ()), set(old or ()) - set(new or ())
            self.streams.want(more, fewer)
            for table in (self.clusters, self.endpoints):
                table.want([e.cluster for e in more], [e.cluster for e in fewer])
        changed = list(self.streams.refresh(touched))
        there = {names.stream(e.protocol, e.port) for e, _, body in changed if body is not None}
        for entry, _, body in changed:
            name = names.stream(entry.protocol, entry.port)
            if body is not None:
                update.add(LISTENER, name, Resource.of(name, body))
            elif name not in there:
                update.add(LISTENER, name, None)

    def _refresh_singles(self, touched: Mapping[Callable[..., Any], set[Any]], update: Update, moved: set[str]) -> None:
        if units.http_listener in touched or units.http_listener not in self._single_values:
            body = self._single_values[units.http_listener] = self.build.value(self._singles[units.http_listener])
            if body is not None:
                update.add(LISTENER, names.HTTP, Resource.of(names.HTTP, body, [_ROUTES]))
        bare = self._single_values.get(units.https_listener)
        if units.https_listener in touched or bare is None:
            bare = self._single_values[units.https_listener] = self.build.value(self._singles[units.https_listener])
            moved = moved | set(self._chains)
        elif not moved:
            return
        if bare is not None:
            self._publish_https(bare, moved, update)

    def _publish_https(self, bare: Listener, moved: set[str], update: Update) -> None:
        for certificate in moved:
            if certificate in self._chains:
                self._chain_bytes[certificate] = listeners.chain_bytes(certificate, sorted(self._chains[certificate]), bare)
            else:
                self._chain_bytes.pop(certificate, None)
        body = listeners.https_bytes(bare, self._chain_bytes)
        refers = [_ROUTES, Reference(SECRET, DEFAULT), *(Reference(SECRET, name) for name in sorted(self._chains))]
        update.add(LISTENER, names.HTTPS, Resource.of(names.HTTPS, body, refers))
