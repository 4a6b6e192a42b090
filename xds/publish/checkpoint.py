"""What must outlive a restart beside the objects: what is held because Envoy refuses it, and certificates that are kept.

What does not belong here: its form (`xds.units.record`), and where it is saved (`xds.coordination`).
"""

from __future__ import annotations

from collections.abc import Mapping

from xds.certificates.pairs import Pair
from xds.coordination import Coordination
from xds.kube.world import Key, World
from xds.quarantine.quarantine import Quarantine
from xds.units.record import encode


class Checkpoint:
    """Keeps certificates in the World, and saves them with what the quarantine has found out whenever that differs from what was saved."""

    def __init__(self, world: World, quarantine: Quarantine, coordination: Coordination) -> None:
        self._world = world
        self._quarantine = quarantine
        self._coordination = coordination
        self._certificates: dict[Key, Pair] = {}
        self._saved = b""

    def keep(self, certificates: Mapping[Key, Pair | None]) -> set[Key]:
        """Keep these from now on, or (None) no longer. Returns the keys of the World that this touches."""
        return {key for where, pair in certificates.items() for key in self._keep(where, pair)}

    def restore(self, certificates: Mapping[Key, Pair]) -> set[Key]:
        """Keep these, but for Secrets of which a later one is kept already. Returns the keys of the World that this touches."""
        return self.keep({where: pair for where, pair in certificates.items() if where not in self._certificates})

    def save(self) -> None:
        """Save the record if it differs. One that was always empty is not saved: nobody needs to know."""
        held, good = self._quarantine.remembered, self._quarantine.good
        if not (held or good or self._certificates or self._saved):
            return
        certificates = {f"{key[1]}/{key[2]}": (pair.chain, pair.key) for key, pair in self._certificates.items()}
        record = encode(held, good, certificates)
        if record != self._saved:
            self._saved = record
            self._coordination.save(record)

    def _keep(self, key: Key, pair: Pair | None) -> set[Key]:
        if pair is None:
            self._certificates.pop(key, None)
        else:
            self._certificates[key] = pair
        return self._world.set_constant(key, pair)
