"""What must outlive a restart beside the objects: what is held because Envoy rejects it, and what is kept of objects that were valid.

What does not belong here: its form (`xds.units.record`), and where it is saved (`xds.coordination`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from xds.certificates.pairs import Pair
from xds.coordination import Coordination
from xds.kube.world import Key, RefusedEdit
from xds.problem import Ref
from xds.quarantine.quarantine import Quarantine
from xds.units.kept import last_forms
from xds.units.record import affordable, encode
from xds.units.tables import Tables


class Checkpoint:
    """Keeps certificates in the World, and saves what is kept with what the quarantine has found out, whenever that is not saved yet."""

    def __init__(self, tables: Tables, quarantine: Quarantine, coordination: Coordination) -> None:
        self._tables = tables
        self._quarantine = quarantine
        self._coordination = coordination
        self._certificates: dict[Key, Pair] = {}
        self._edits: Mapping[Ref, RefusedEdit] = {}
        self._forms: Mapping[str, msgspec.Raw] = {}
        self._saved = b""

    def keep(self, certificates: Mapping[Key, Pair | None]) -> set[Key]:
        """Keep these from now on, or (None) no longer. Returns the keys of the World that this touches."""
        return {key for where, pair in certificates.items() for key in self._keep(where, pair)}

    def restore(self, certificates: Mapping[Key, Pair]) -> set[Key]:
        """Keep these, but for Secrets of which a later one is kept already. Returns the keys of the World that this touches."""
        return self.keep({where: pair for where, pair in certificates.items() if where not in self._certificates})

    def save(self) -> None:
        """Save the record if it differs. One that was always empty is not saved."""
        held, good, edits = self._quarantine.remembered, self._quarantine.good, self._tables.world.refused_edits()
        if edits != self._edits:
            self._edits, self._forms = edits, affordable(last_forms(self._tables))
        if not (held or good or edits or self._certificates or self._saved):
            return
        certificates = {f"{key[1]}/{key[2]}": (pair.chain, pair.key) for key, pair in self._certificates.items()}
        record = encode(held, good, certificates, self._forms)
        if record != self._saved:
            self._saved = record
            self._coordination.save(record)

    def _keep(self, key: Key, pair: Pair | None) -> set[Key]:
        if pair is None:
            self._certificates.pop(key, None)
        else:
            self._certificates[key] = pair
        return self._tables.world.set_constant(key, pair)
