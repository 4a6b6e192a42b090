"""What follows from a change of the World: resources to publish, and which Parts are others now."""

from __future__ import annotations

from dataclasses import dataclass, field

from xds.snapshot import Part, Resource, Snapshot, StateChange
from xds.units.parts import Move, Value


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

    def differences(self, snapshot: Snapshot) -> dict[str, StateChange]:
        """What it changes in the Snapshot, by type. Nothing else may be published before that is taken over."""
        types = sorted({*self.put, *self.drop, *(part.type_url for part in self.held)})
        return {t: snapshot[t].difference(self.put.get(t, ()), self.drop.get(t, ()), self._doubted(t)) for t in types}

    def publish(self, snapshot: Snapshot) -> dict[str, frozenset[str]]:
        """Take it over into the Snapshot; returns the names that truly changed, by type."""
        return snapshot.take(self.differences(snapshot))

    def _doubted(self, type_url: str) -> list[str]:
        return [part.resource for part in self.held if part.type_url == type_url]
