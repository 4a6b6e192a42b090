"""Which Units are wanted, and the Snapshot that their values make: where a change of the World becomes a change of resources.

Hosts want clusters and certificates, entries of the stream ConfigMaps want listeners and clusters, clusters want endpoints. Each table
follows the one that wants it, so that a change costs what it touches. Where a Part is held (`xds.units.parts`), what is held takes the
place of its Unit's value before anything follows it: so the clusters that held bytes name are wanted, too.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from envoy_data_plane.envoy.config.listener.v3 import Listener

from xds import model
from xds.kube.world import Key, World
from xds.problem import Problem
from xds.render import listeners, names
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part, Reference, Resource, Snapshot
from xds.translate.certificates import DEFAULT
from xds.units import units
from xds.units.memo import Build, Unit
from xds.units.parts import Chain, Entry, Frame, Held, Host, Move, Raw, Value, digest, names_cluster, replaced, same, stand_in

N = TypeVar("N", bound=Hashable)
V = TypeVar("V", bound=Value)
_MASK = (1 << 128) - 1
_ENTRY = 100
"""Bytes that an entry of an object, such as a path or an endpoint, comes to: about, and at most."""
_ROUTES = Reference(ROUTE, names.ROUTES)
_HTTP = Part(LISTENER, names.HTTP)
_HTTPS = Part(LISTENER, names.HTTPS)
_TABLE = Part(ROUTE, names.ROUTES)


@dataclass(slots=True)
class Update:
    """What is to be published: resources by type that are new or different, and names that are gone; and which Parts moved.

    `held` are those that are held from now on: what was out of them is not kept for anybody.
    """

    put: dict[str, list[Resource]] = field(default_factory=dict)
    drop: dict[str, list[str]] = field(default_factory=dict)
    moved: dict[Part, Move] = field(default_factory=dict)
    held: list[Part] = field(default_factory=list)

    def add(self, type_url: str, name: str, resource: Resource | None) -> None:
        """Note one resource, or that it is gone."""
        if resource is None:
            self.drop.setdefault(type_url, []).append(name)
        else:
            self.put.setdefault(type_url, []).append(resource)

    def move(self, part: Part, old: Value | None, new: Value | None) -> None:
        """Note that a Part is another one now. What moved twice has the old value of the first time."""
        first = self.moved.get(part)
        self.moved[part] = Move(first.old if first else old, new)

    def publish(self, snapshot: Snapshot) -> dict[str, frozenset[str]]:
        """Take it over into the Snapshot; returns the names that truly changed, by type."""
        for part in self.held:
            snapshot[part.type_url].doubt((part.resource,))
        types = {*self.put, *self.drop}
        changed = {t: snapshot[t].update(self.put.get(t, ()), self.drop.get(t, ())) for t in sorted(types)}
        return {t: found for t, found in changed.items() if found}


class Holds(dict[Part, Held]):
    """What is held. A hold ends by itself when the content is no longer the one that was refused, or not there any more.

    `ended` are those that have, with what Envoy is to have of them now; whoever takes note of them empties it.
    """

    def __init__(self, raws: Iterable[Raw] = ()) -> None:
        super().__init__()
        self.ended: dict[Part, Value | None] = {}
        self._raws = tuple(raws)

    def effective(self, part: Part, value: V | None) -> V | None:
        """What Envoy is to have of a Part whose Unit has this value."""
        if self._raws:
            value = cast("V | None", replaced(part, value, self._raws))
        if not self or (held := self.get(part)) is None:
            return value
        if value is not None and (self.is_along(held, value) if held.along else digest(value) == held.refused):
            return cast("V | None", stand_in(held, value))
        del self[part]
        self.ended[part] = value
        return value

    def is_along(self, held: Held, value: Value | None = None) -> bool:
        """Whether one of the clusters with which this is held is left out; with a `value`, one of those that it names."""
        missing = [part for part in held.along if part in self and self[part].instead is None]
        return bool(missing if value is None else names_cluster(value).intersection(missing))


class Touched(NamedTuple):
    """The kept Units that may be out of date: function → first arguments. `weight` is about how many bytes are to be made again."""

    units: dict[Callable[..., Any], set[Any]]
    weight: int


class Table(Generic[N, V]):
    """Values by name, each that of a Unit; `want` counts by how many a name is needed. `part` says what a name is to Envoy."""

    def __init__(self, build: Build, function: Callable[..., Any], part: Callable[[N], Part], holds: Holds) -> None:
        self.values: dict[N, V] = {}
        self._build = build
        self._function = function
        self.part = part
        self._holds = holds
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

    def look_again(self, parts: Iterable[Part]) -> None:
        """What is held of these has changed."""
        self._new |= self.called(set(parts))

    def called(self, parts: Collection[Part]) -> set[N]:
        """The names of these Parts, as far as somebody needs them. Costs what there is."""
        return {name for name in self._wanted if self.part(name) in parts}

    def among(self, parts: Collection[Part]) -> dict[Part, V]:
        """The values of those of the Parts that are there. Costs what there is."""
        return {part: value for name, value in self.values.items() if (part := self.part(name)) in parts}

    def refresh(self, touched: Mapping[Callable[..., Any], set[Any]]) -> Iterator[tuple[N, Part, V | None, V | None]]:
        """Bring up to date what was touched, newly wanted, or not any more: (name, Part, old value, new value) where they differ."""
        found = self._new | touched.get(self._function, set())
        self._new = set()
        parts = sorted(((self.part(name), name) for name in found), key=lambda pair: (pair[0], pair[1] in self._wanted))
        there = {part for part, name in parts if name in self._wanted}
        for part, name in parts:
            old = self.values.get(name)
            new = None
            if name in self._wanted:
                new = self._holds.effective(part, self._build.value(Unit(self._function, (name,))))
            elif part not in there:
                self._holds.effective(part, None)
            if new is None:
                self.values.pop(name, None)
            else:
                self.values[name] = new
            if old != new:
                yield name, part, old, new


class Tables:
    """All tables, over one World. `apply` computes, and touches no Snapshot; so it may run beside whoever reads one.

    `held` is what is held from the beginning, `raws` are for tests of refusals.
    """

    def __init__(self, world: World, held: Mapping[Part, Held] | None = None, raws: Iterable[Raw] = ()) -> None:
        self.world = world
        self.build = Build(world.get)
        self.holds = holds = Holds(raws)
        holds.update(held or {})
        self.hosts: Table[str, Host] = Table(self.build, units.host, lambda name: Part(ROUTE, names.ROUTES, name), holds)
        self.clusters: Table[model.Cluster, bytes] = Table(self.build, units.cluster, lambda c: Part(CLUSTER, names.cluster(c)), holds)
        self.endpoints: Table[model.Cluster, bytes] = Table(
            self.build, units.load_assignment, lambda c: Part(ENDPOINT, names.cluster(c)), holds
        )
        self.secrets: Table[str, bytes] = Table(self.build, units.secret, lambda name: Part(SECRET, name), holds)
        self.streams: Table[model.Stream, Entry] = Table(
            self.build, units.stream_listener, lambda e: Part(LISTENER, names.stream(e.protocol, e.port)), holds
        )
        self._entries: dict[str, tuple[model.Stream, ...]] = {"TCP": (), "UDP": ()}
        self._singles = {u: Unit(u, ()) for u in (units.route_table, units.http_listener, units.https_listener)}
        self._single_values: dict[Callable[..., Any], Any] = {}
        self._chains: dict[str, dict[str, None]] = {}  # certificate → hosts that are served under it
        self._chain_values: dict[str, Chain] = {}
        self._chain_bytes: dict[str, bytes] = {}
        self._order: list[str] = []  # the hosts that there are, sorted
        self._bodies: list[bytes] = []  # theirs, in that order
        self._sum = 0
        self._begin()

    def apply(self, keys: Iterable[Key]) -> Update:
        """What these keys of the World, new, changed or gone, do to the resources."""
        return self.refresh(self.touch(keys))

    def touch(self, keys: Iterable[Key]) -> Touched:
        """Note that these keys of the World have changed. `refresh` must follow, once, before anything else is asked of the tables."""
        keys = set(keys)
        found = Touched({}, sum(self.world.entries(key) for key in keys) * _ENTRY)
        for unit in self.build.touch(keys):
            found.units.setdefault(unit.function, set()).add(unit.arguments[0] if unit.arguments else None)
        self._want_hosts(keys)
        hosts = (self.hosts.values.get(name) for name in found.units.get(units.host, ()))
        return found._replace(weight=found.weight + sum(len(host.body) for host in hosts if host))

    def refresh(self, touched: Touched) -> Update:
        """What was touched does to the resources."""
        return self._refresh(touched.units, set())

    def hold(self, orders: Mapping[Part, Held | None]) -> Update:
        """Hold these from now on, or (None) hold them no longer."""
        for part, held in orders.items():
            if held is None:
                self.holds.pop(part, None)
            else:
                self.holds[part] = held
        for table in (self.hosts, self.clusters, self.endpoints, self.secrets, self.streams):
            table.look_again(orders)
        singles: tuple[tuple[Callable[..., Any], Part], ...] = (
            (units.route_table, _TABLE),
            (units.http_listener, _HTTP),
            (units.https_listener, _HTTPS),
        )
        touched = {function: {None} for function, part in singles if part in orders}
        chains = {part.piece for part in orders if part[:2] == _HTTPS[:2] and part.piece is not None}
        update = self._refresh(touched, chains)
        update.held = [part for part, held in orders.items() if held is not None and part.piece is None and not held.along]
        return update

    def values(self, parts: Iterable[Part]) -> dict[Part, Value]:
        """What the Snapshot has of these Parts, as far as they are there. Costs what there is."""
        wanted = set(parts)
        found: dict[Part, Value] = {p: self.hosts.values[p.piece] for p in wanted if p.type_url == ROUTE and p.piece in self.hosts.values}
        chains = (p for p in wanted if p[:2] == _HTTPS[:2] and p.piece in self._chain_values)
        found |= {p: self._chain_values[p.piece] for p in chains if p.piece is not None}
        singles = {_TABLE: units.route_table, _HTTP: units.http_listener, _HTTPS: units.https_listener}
        found |= {p: self._single_values[u] for p, u in singles.items() if p in wanted and u in self._single_values}
        types = {part.type_url for part in wanted}
        tables: tuple[tuple[str, Table[Any, Any]], ...] = (
            (CLUSTER, self.clusters),
            (ENDPOINT, self.endpoints),
            (SECRET, self.secrets),
            (LISTENER, self.streams),
        )
        for type_url, table in tables:
            if type_url in types:
                found |= table.among(wanted)
        return found

    def naming(self, clusters: Collection[Part]) -> dict[Part, Value]:
        """The virtual hosts and the entries of stream ConfigMaps that need one of these clusters. Costs what there is."""
        wanted = self.clusters.called(clusters)
        found: dict[Part, Value] = {self.hosts.part(n): v for n, v in self.hosts.values.items() if not wanted.isdisjoint(v.clusters)}
        found |= {self.streams.part(n): v for n, v in self.streams.values.items() if not wanted.isdisjoint(v.clusters)}
        return found

    def problems(self) -> list[Problem]:
        """All Problems of what is there now, each once, in the order of object and field."""
        found = {p: p for problems in self.build.problems.values() for p in problems}
        return sorted(found, key=lambda p: (p.about, p.field, p.code))

    def _begin(self) -> None:
        self.hosts.want([""])
        self.secrets.want([DEFAULT])
        for protocol in self._entries:
            self.build.keep(Unit(units.stream_entries, (protocol,)))
        for unit in self._singles.values():
            self.build.keep(unit)

    def _refresh(self, touched: Mapping[Callable[..., Any], set[Any]], certificates: set[str]) -> Update:
        """`certificates` are those whose filter chains are to be looked at again."""
        update = Update()
        self._free_along()
        moved = self._refresh_hosts(touched, update) | certificates
        secrets = self._refresh_table(self.secrets, SECRET, touched, update)
        moved |= {name for name, there in secrets if there != (name in self._chain_bytes)}
        self._refresh_streams(touched, update)
        self._refresh_singles(touched, update, moved)
        self._refresh_clusters(touched, update)
        if self._free_along():
            self._refresh_hosts({}, update)
            self._refresh_streams({}, update)
            self._refresh_clusters({}, update)
        for part, value in self.holds.ended.items():
            update.moved.setdefault(part, Move(value, value))
        self.holds.ended.clear()
        return update

    def _free_along(self) -> bool:
        """What was held along with clusters of which none is left out any longer is to be looked at again; whether there is such."""
        free = [part for part, held in self.holds.items() if held.along and not self.holds.is_along(held)]
        for table in (self.hosts, self.streams) if free else ():
            table.look_again(free)
        return bool(free)

    def _refresh_clusters(self, touched: Mapping[Callable[..., Any], set[Any]], update: Update) -> None:
        for table, type_url in ((self.clusters, CLUSTER), (self.endpoints, ENDPOINT)):
            self._refresh_table(table, type_url, touched, update)

    def _refresh_table(
        self, table: Table[Any, bytes], type_url: str, touched: Mapping[Callable[..., Any], set[Any]], update: Update
    ) -> list[tuple[Any, bool]]:
        """The names whose resource changed, and whether it is there."""
        found = []
        for name, part, old, new in table.refresh(touched):
            update.add(type_url, part.resource, None if new is None else Resource.of(part.resource, new))
            update.move(part, old, new)
            found.append((name, new is not None))
        return found

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
        for name, part, old, new in self.hosts.refresh(touched):
            changed = True
            before, after = (old.clusters if old else frozenset()), (new.clusters if new else frozenset())
            for table in (self.clusters, self.endpoints):
                table.want(after - before, before - after)
            self._sum = (self._sum + (new.digest if new else 0) - (old.digest if old else 0)) & _MASK
            self._put_body(name, new.body if new else None)
            moved |= self._move_certificate(name, old.certificate if old else "", new.certificate if new else "")
            if not same(old, new):
                update.move(part, old, new)
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
        frame: Frame | None = self._single(units.route_table, _TABLE, update)
        if frame is None:
            return
        parts = [frame.before, *self._bodies, frame.after]

        head = hashlib.blake2b(frame.before + frame.after, digest_size=16).digest()
        version = hashlib.blake2b(head + self._sum.to_bytes(16, "little"), digest_size=8).hexdigest()
        update.add(ROUTE, names.ROUTES, Resource.joined(names.ROUTES, version, lambda: b"".join(parts)))

    def _single(self, function: Callable[..., Any], part: Part, update: Update) -> Any:
        """The value of a Part that there is one of, brought up to date.

        None: the resource is gone, because Envoy has refused all there ever was of it; or our own code has failed (`Build.failures`), and
        then what is out there stays.
        """
        old = self._single_values.get(function)
        new = self.holds.effective(part, self.build.value(self._singles[function]))
        if new is None and part in self.holds:
            self._single_values.pop(function, None)
            update.add(part.type_url, part.resource, None)
            update.move(part, old, None)
        elif new is not None:
            self._single_values[function] = new
            if not same(old, new):
                update.move(part, old, new)
        return new

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
        for protocol, before in self._entries.items():
            now = self.build.value(Unit(units.stream_entries, (protocol,))) or ()
            if now is not before:  # else nothing is compared: most changes are of something else
                self._entries[protocol] = now
                self.streams.want(set(now) - set(before), set(before) - set(now))
        parts: dict[Part, None] = {}
        for _, part, old, new in self.streams.refresh(touched):
            more, fewer = (new.clusters if new else frozenset()), (old.clusters if old else frozenset())
            for table in (self.clusters, self.endpoints):
                table.want(more, fewer)
            update.move(part, old, new)
            parts[part] = None
        for part in parts:
            new_value = cast("Entry | None", update.moved[part].new)
            update.add(LISTENER, part.resource, None if new_value is None else Resource.of(part.resource, new_value.body))

    def _refresh_singles(self, touched: Mapping[Callable[..., Any], set[Any]], update: Update, moved: set[str]) -> None:
        if units.http_listener in touched or units.http_listener not in self._single_values:
            body = self._single(units.http_listener, _HTTP, update)
            if body is not None:
                update.add(LISTENER, names.HTTP, Resource.of(names.HTTP, body, [_ROUTES]))
        bare = self._single_values.get(units.https_listener)
        if units.https_listener in touched or bare is None:
            bare = self._single(units.https_listener, _HTTPS, update)
            moved = moved | set(self._chains)
        elif not moved:
            return
        if bare is not None:
            self._publish_https(bare, moved, update)

    def _publish_https(self, bare: Listener, moved: set[str], update: Update) -> None:
        for certificate in sorted(moved):
            self._refresh_chain(certificate, bare, update)
        body = listeners.https_bytes(bare, self._chain_bytes, self._served_under())
        refers = [_ROUTES, Reference(SECRET, DEFAULT), *(Reference(SECRET, name) for name in sorted(self._chain_bytes))]
        update.add(LISTENER, names.HTTPS, Resource.of(names.HTTPS, body, refers))

    def _served_under(self) -> dict[str, str]:
        """Host → certificate. Where a held Part still has a host that is served under another one by now, that one has it."""
        found: dict[str, str] = {}
        for certificate in sorted(self._chain_values):
            now = self._chains.get(certificate, {})
            for host in self._chain_values[certificate].hosts:
                if host in now or host not in found:
                    found[host] = certificate
        return found

    def _refresh_chain(self, certificate: str, bare: Listener, update: Update) -> None:
        part = _HTTPS._replace(piece=certificate)
        old, hosts = self._chain_values.get(certificate), self._chains.get(certificate)
        there = certificate in self.secrets.values  # else its hosts are served under the default certificate
        new = self.holds.effective(part, Chain(tuple(sorted(hosts))) if hosts and there else None)
        if new is None:
            self._chain_values.pop(certificate, None)
            self._chain_bytes.pop(certificate, None)
        else:
            self._chain_values[certificate] = new
            self._chain_bytes[certificate] = listeners.chain_bytes(certificate, bare)
        if old != new:
            update.move(part, old, new)
