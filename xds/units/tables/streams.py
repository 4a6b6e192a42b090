"""The listeners of the tcp- and udp-services ConfigMaps."""

from __future__ import annotations

from collections.abc import Collection

from xds.model import Cluster, Stream
from xds.render import names
from xds.snapshot import LISTENER, Part, Resource
from xds.units import units
from xds.units.memo import Build, Unit
from xds.units.parts import Entry, Value
from xds.units.tables.backends import Backends
from xds.units.tables.holds import Holds
from xds.units.tables.table import Table, Touched
from xds.units.tables.update import Update


class Streams:
    """A listener for each entry. They want clusters."""

    def __init__(self, build: Build, holds: Holds, backends: Backends) -> None:
        self.listeners: Table[Stream, Entry] = Table(
            build, units.stream_listener, LISTENER, lambda e: Part(LISTENER, names.stream(e.protocol, e.port)), holds
        )
        self._build = build
        self._backends = backends
        self._entries: dict[str, tuple[Stream, ...]] = {"TCP": (), "UDP": ()}
        for protocol in self._entries:
            build.keep(Unit(units.stream_entries, (protocol,)))

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self.listeners.look_again(parts)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring the listeners up to date, and what they want."""
        self._follow()
        values: dict[Part, Entry | None] = {}
        for _, part, old, new in self.listeners.refresh(touched):
            self._backends.want(new.clusters if new else (), old.clusters if old else ())
            update.move(part, old, new)
            values[part] = new
        for part, value in values.items():
            update.add(LISTENER, part.resource, None if value is None else Resource.of(part.resource, value.body))

    def _follow(self) -> None:
        """Want the listeners of the entries that there are now."""
        for protocol, before in self._entries.items():
            now: tuple[Stream, ...] = self._build.value(Unit(units.stream_entries, (protocol,))) or ()
            if now is not before:  # else nothing is compared: most changes are of something else
                self._entries[protocol] = now
                self.listeners.want(set(now) - set(before), set(before) - set(now))

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        return {**self.listeners.among(parts)}

    def naming(self, clusters: Collection[Cluster]) -> dict[Part, Value]:
        """The entries that need one of these clusters. Costs what there is."""
        return {self.listeners.part(e): value for e, value in self.listeners.values.items() if not value.clusters.isdisjoint(clusters)}
