"""What every Envoy should hold: named, versioned resources of each type, and in which order they last changed. One for all streams.

Here belongs what is the same for every stream. What one stream was sent is in `xds.protocol`; what the resources are made from is in
`xds.units`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xds import passwords
from xds.bitset import NameIndex, Names

_PREFIX = "type.googleapis.com/"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
PASSWORDS = passwords.TYPE
"""Our own type: no Envoy asks for it, only the authorisation service beside one."""
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, PASSWORDS)


class Part(NamedTuple):
    """One thing that Envoy can reject: a resource, or a piece of one.

    A piece is a virtual host of the route table, or a filter chain of the https listener. `resource` is the Envoy resource name: "ingress",
    "https", "default/app/80". `piece` is, of a virtual host, its host as in `xds.model` ("" is the catch-all). Of a filter chain it is the
    name of its certificate ("ns/secret"). None is the whole resource, or what holds its pieces together.
    """

    type_url: str
    resource: str
    piece: str | None = None


class Reference(NamedTuple):
    """That a resource names another one, which Envoy subscribes to by itself: a listener its routes and secrets, a cluster its secrets.

    `how` stands for the bytes of the reference (the ConfigSource in an SdsSecretConfig), where these are not always the same. A reference
    whose `how` has changed counts as a new one.
    """

    type_url: str
    name: str
    how: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One Envoy resource. Two that have the same name and version are equal: a version stands for the bytes."""

    name: str
    version: str
    refers: tuple[Reference, ...] = dataclasses.field(default=(), compare=False)
    _body: bytes | Callable[[], bytes] = dataclasses.field(default=b"", compare=False, repr=False)

    @classmethod
    def of(cls, name: str, body: bytes, refers: Iterable[Reference] = ()) -> Resource:
        """A resource from its bytes (the value of the Any); its version is 16 hex digits of their hash."""
        return cls(name, hashlib.blake2b(body, digest_size=8).hexdigest(), tuple(refers), body)

    @classmethod
    def joined(cls, name: str, version: str, join: Callable[[], bytes], refers: Iterable[Reference] = ()) -> Resource:
        """A resource composed of parts: `version` is a hash of theirs, `join` makes the bytes, once, when they are first needed."""
        return cls(name, version, tuple(refers), join)

    @property
    def body(self) -> bytes:
        """The serialised message. Never in a repr: it may be a private key."""
        if not isinstance(self._body, bytes):
            object.__setattr__(self, "_body", self._body())
        assert isinstance(self._body, bytes)
        return self._body


@dataclass(frozen=True, slots=True)
class StateChange:
    """What an update of a State changes: resources that are new or different, names that are gone; and by how much `sum`, a sum of hashes.

    `doubted` are names that a client has rejected.
    """

    new: Mapping[str, Resource]
    old: frozenset[str]
    sum: int
    doubted: tuple[str, ...] = ()


class State(Mapping[str, Resource]):
    """All resources of one type.

    A change costs what changed, whatever the number of resources and of streams. `generation` counts the changes. Deleted names stay in
    the log, and in `gone`, until `Snapshot.compact` learns that no stream needs them.
    """

    def __init__(self, index: NameIndex | None = None) -> None:
        self.index = NameIndex() if index is None else index
        """Makes sets of the names of this State."""
        self.generation = 0
        self.existing = self.index.none
        """The names of all resources."""
        self.version = version_of(())
        """A hash of names and versions alone, in whichever order they came: the same at all replicas (V1, V6)."""
        self.gone: dict[str, Resource | None] = {}
        """Deleted names → their last bytes, for state-of-the-world clients that may still use them. Where a client has rejected those
        bytes, the ones accepted before; None where there are none."""
        self.unproven: dict[str, Resource | None] = {}
        """Names whose present bytes no client has accepted yet (`prove`) → the bytes last accepted; None where there are none."""
        self.doubted: set[str] = set()
        """The unproven names that were in a response which a client has rejected (`doubt`)."""
        self._now: dict[str, Resource] = {}
        self._changed: dict[str, int] = {}  # name → generation of its last change, oldest first; with the names that are gone
        self._since: dict[int, tuple[str, ...]] = {}  # the answers of `since` in this generation: most streams ask the same
        self._sorted: tuple[Resource, ...] | None = None
        self._names: frozenset[str] | None = None
        self._versions: dict[str, str] | None = None  # name → version, for clients that list what they have
        self._referred: dict[str, dict[Reference, int]] = {}  # name → what it refers to → generation in which it began to
        self._sum = 0

    def update(self, put: Iterable[Resource], drop: Iterable[str] = ()) -> frozenset[str]:
        """Adds or replaces resources and deletes names; returns the names that truly changed.

        A resource with the version that is there already is no change, nor is a deleted name that is not there. A name in both is put.
        All types of one Snapshot are updated before a Session is notified (`Session.publish`) or queried.
        """
        return self.take(self.difference(put, drop))

    def difference(self, put: Iterable[Resource], drop: Iterable[str] = (), doubted: Iterable[str] = ()) -> StateChange:
        """What `update` would change; `doubted` are names to `doubt` before. Changes nothing, so it may be worked out in another thread.

        It is about the resources of this moment: nothing else may be taken over before it is.
        """
        given = {resource.name: resource for resource in put}
        now = self._now
        new = {name: resource for name, resource in given.items() if now.get(name) != resource}
        old = {name for name in drop if name in now and name not in given}
        gone = sum(_digest(now[name]) for name in (*new, *old) if name in now)
        return StateChange(new, frozenset(old), sum(map(_digest, new.values())) - gone, tuple(doubted))

    def take(self, difference: StateChange) -> frozenset[str]:
        """Takes it over; returns the names that changed."""
        self.doubt(difference.doubted)
        new, old = difference.new, difference.old
        if not new and not old:
            return frozenset()
        self.generation += 1
        self._since.clear()
        self._sorted = self._names = self._versions = None
        self._sum += difference.sum
        for name in old:
            self._delete(name)
        self._put(new)
        names = (*new, *old)
        for name in names:
            self._changed.pop(name, None)  # so that the name moves to the end: the log is in the order of generations
        self._changed.update(dict.fromkeys(names, self.generation))
        self.existing = (self.existing | self.index.names(new)) - self.index.names(old)
        self.doubted.difference_update(new, old)
        self.version = self.version_with(())
        return frozenset(names)

    def _delete(self, name: str) -> None:
        self.gone[name] = self._now.pop(name)
        if name in self.doubted:
            self.gone[name] = self.unproven.pop(name)
        self._referred.pop(name, None)

    def _put(self, new: Mapping[str, Resource]) -> None:
        now, gone, unproven = self._now, self.gone, self.unproven
        known = {name: gone.pop(name) for name in gone.keys() & new.keys()}
        accepted = {name: unproven.pop(name) for name in unproven.keys() & new.keys()}
        back = {name for name, resource in accepted.items() if resource == new[name]}
        back |= {name for name, resource in known.items() if name not in accepted and resource == new[name]}
        # Of the others, what is there was accepted, or was gone, and differs: `difference` has seen to that.
        unproven.update(
            {name: accepted[name] if name in accepted else now.get(name) or known.get(name) for name in new if name not in back}
        )
        now.update(new)
        for name, resource in new.items():
            if resource.refers or name in self._referred:
                self._refer(resource)

    def _refer(self, resource: Resource) -> None:
        before = self._referred.pop(resource.name, {})
        if resource.refers:
            self._referred[resource.name] = {r: before.get(r, self.generation) for r in resource.refers}

    def prove(self, resources: Iterable[Resource], names: Collection[str]) -> None:
        """A client has accepted these resources; `names` are those that it had not accepted before. Costs nothing where all are proven."""
        if self.unproven and (found := self.unproven.keys() & names):
            for resource in resources:
                if resource.name in found and (self._now.get(resource.name) or self.gone[resource.name]) == resource:
                    del self.unproven[resource.name]
                    self.doubted.discard(resource.name)

    def doubt(self, names: Collection[str]) -> None:
        """A client has rejected a response in which these names were new or different."""
        for name in self.unproven.keys() & names:
            if name in self.gone:
                self.gone[name] = self.unproven.pop(name)
            else:
                self.doubted.add(name)

    def references(self, name: str, after: int = -1) -> list[Reference]:
        """The references of a resource that are newer than that generation."""
        return [reference for reference, began in self._referred.get(name, {}).items() if began > after]

    def since(self, generation: int) -> tuple[str, ...]:
        """The names that were changed or deleted after that generation."""
        if (known := self._since.get(generation)) is None:
            found = []
            for name, changed in reversed(self._changed.items()):
                if changed <= generation:
                    break
                found.append(name)
            known = self._since[generation] = tuple(found)
        return known

    def changed(self, name: str) -> int:
        """The generation in which a resource was last changed or deleted; 0 for a name that is not known."""
        return self._changed.get(name, 0)

    def version_with(self, others: Iterable[Resource]) -> str:
        """The version of all resources together with some more that are not among them."""
        return f"{sum(map(_digest, others), self._sum) % 2**64:016x}"

    @property
    def size(self) -> int:
        """The bytes of all resources, counted on each call: 2 ms for 10,000 of them."""
        return sum(len(resource.body) for resource in self._now.values())

    def select(self, names: Collection[str]) -> tuple[Resource, ...]:
        """The resources of these names, sorted by name; they must exist, and no name may occur twice."""
        if len(names) < len(self._now):
            return tuple(self._now[name] for name in sorted(names))
        if self._sorted is None:
            self._sorted = tuple(self._now[name] for name in sorted(self._now))
        return self._sorted

    def shared(self, present: Collection[str]) -> frozenset[str]:
        """These names, which must exist, as a set. Where they are all there are, every caller gets the same object: that saves memory."""
        if len(present) < len(self._now):
            return frozenset(present)
        if self._names is None:
            self._names = frozenset(self._now)
        return self._names

    def names(self, present: Collection[str]) -> Names:
        """These names, which must exist and be distinct, as a bitset; `existing` itself where they are all there are."""
        return self.existing if len(present) == len(self._now) else self.index.names(present)

    def split(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The names that exist, and those that do not, each in the given order."""
        now = self._now
        names = list(names)
        present = [name for name in names if name in now]
        return present, [name for name in names if name not in now] if len(present) < len(names) else []

    def same(self, versions: Mapping[str, str]) -> frozenset[str]:
        """The names whose version is this one. As `shared`: a thousand Envoys that come back have everything as it is."""
        if self._versions is None:
            self._versions = {name: resource.version for name, resource in self._now.items()}
        if versions == self._versions:
            return self.shared(versions)
        version_of_name = self._versions.get
        return frozenset(name for name, version in versions.items() if version_of_name(name) == version)

    def compact(self, generation: int, kept: Collection[str] = ()) -> list[str]:
        """Forgets the names deleted up to that generation, except `kept`; returns what it forgot. See `Snapshot.compact`."""
        forgotten = [name for name in self.gone if self._changed[name] <= generation and name not in kept]
        for name in forgotten:
            del self.gone[name], self._changed[name]
            self.unproven.pop(name, None)
        return forgotten

    def remembers(self, name: str) -> bool:
        """Whether the name exists, or was deleted and not forgotten."""
        return name in self._changed

    def __contains__(self, name: object) -> bool:
        return name in self._now

    def __getitem__(self, name: str) -> Resource:
        return self._now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def __repr__(self) -> str:
        return f"<State: {len(self._now)} resources, generation {self.generation}, {len(self.gone)} gone>"


class Snapshot:
    """The resources of all types. The publisher sets `ready` once they are complete; before that, Sessions send nothing (O7)."""

    def __init__(self) -> None:
        self.ready = False
        self._index = NameIndex()
        self._states = {type_url: State(self._index) for type_url in TYPES}

    def __getitem__(self, type_url: str) -> State:
        """The State of a type; an empty one for a type that is not served."""
        state = self._states.get(type_url)
        return State() if state is None else state

    def take(self, differences: Mapping[str, StateChange]) -> dict[str, frozenset[str]]:
        """Takes over what differs, by type; returns the names that changed, by type."""
        changed = {type_url: self[type_url].take(difference) for type_url, difference in differences.items()}
        return {type_url: names for type_url, names in changed.items() if names}

    def compact(self, seen: Mapping[str, int], kept: Mapping[str, Collection[str]]) -> None:
        """Forgets deleted names: log entries, last bytes, and numbers, which become free for other names.

        `seen`: by type, the lowest generation that a stream has caught up with; `kept`: by type, the names whose removal a stream
        withholds. Costs what is gone. `xds.protocol.session.compact` gets both from the Sessions.
        """
        for type_url, generation in seen.items():
            for name in self[type_url].compact(generation, kept.get(type_url, ())):
                if not any(state.remembers(name) for state in self._states.values()):
                    self._index.free(name)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(state)} {type_url.rpartition('.')[2]}" for type_url, state in self._states.items())
        return f"<Snapshot{'' if self.ready else ' (not ready)'}: {sizes}>"


def version_of(resources: Iterable[Resource]) -> str:
    """The version of a set of resources: that of a State that has no others."""
    return f"{sum(map(_digest, resources)) % 2**64:016x}"


def _digest(resource: Resource) -> int:
    return int.from_bytes(hashlib.blake2b(f"{resource.name}={resource.version}".encode(), digest_size=8).digest(), "little")
