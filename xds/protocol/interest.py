"""Which names of one type a client subscribes to: by name, or all of them with a wildcard.

Rules W1 to W7 and S4 of docs/protocol-rules.md. What was sent of these names, and what the client has, is in `xds.protocol.subscription`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from xds.bitset import Names
from xds.protocol.discovery import NOTHING
from xds.snapshot import State

WILDCARD = "*"


@dataclass(slots=True, eq=False)
class Interest:
    """The names of one type that one client subscribes to.

    `legacy_wildcard`: a first request without names asks for everything (W4). `by_name` are the names subscribed one by one that exist,
    `missing` those that do not: the client gets each as soon as it does (S4, D4).
    """

    state: State
    legacy_wildcard: bool
    by_name: Names
    missing: frozenset[str] = NOTHING
    wildcard: bool = False
    has_named: bool = False
    """A request had names. From then on an empty list is no wildcard (W1)."""

    def all_names_if(self, listed: bool) -> bool:
        """Whether a request asks for everything, by a wildcard that is `listed` in it or, without any names so far, by its silence."""
        return listed if self.has_named else self.legacy_wildcard

    @property
    def existing(self) -> Names:
        """The existing names that the client subscribes to."""
        return self.state.existing if self.wildcard else self.by_name

    @property
    def is_empty(self) -> bool:
        """Whether the client subscribes to no name, existing or not."""
        return not (self.existing or self.missing)

    def __contains__(self, name: str) -> bool:
        return self.wildcard or name in self.missing or name in self.by_name

    def among(self, names: Collection[str]) -> list[str]:
        """Those of the names that the client subscribes to; the missing ones first."""
        if self.wildcard:
            return list(names)
        return [*(name for name in names if name in self.missing), *self.by_name.among(names)]

    def equals(self, names: Collection[str]) -> bool:
        """State of the world: whether a request with these names would change nothing."""
        requested = frozenset(names)
        if not requested and not self.has_named:
            return True
        return requested == {*self.missing, *self.by_name} | ({WILDCARD} if self.wildcard else set())

    def add(self, present: Collection[str], absent: Collection[str]) -> None:
        """The client subscribes to these as well."""
        self._set_by_name(self.by_name | self.state.names(present))
        self.missing = self.missing.union(absent) or NOTHING

    def remove(self, names: Collection[str]) -> tuple[list[str], list[str]]:
        """The client unsubscribes from these. Returns the existing and the missing ones to which it had subscribed by name."""
        present, absent = self.state.split({*self.missing.intersection(names), *self.by_name.among(names)})
        self._set_by_name(self.by_name - self.state.names(present))
        self.missing = self.missing.difference(absent) or NOTHING
        return present, absent

    def appeared(self, name: str) -> None:
        """A name exists now."""
        if name in self.missing:
            self.missing -= {name}
            self._set_by_name(self.by_name | self.state.index.names((name,)))

    def disappeared(self, gone: Collection[str]) -> None:
        """These names exist no longer."""
        if named := self.by_name.among(gone):
            self.missing = self.missing.union(named)
            self._set_by_name(self.by_name - self.state.index.names(named))

    def _set_by_name(self, names: Names) -> None:
        """Equal sets of all streams are one object: 1.25 kB for 10,000 names."""
        self.by_name = self.state.existing if names == self.state.existing else names
