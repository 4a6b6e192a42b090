"""Which Secrets are needed besides those of type kubernetes.io/tls, which are all watched (decision 13).

Of other Secrets only the metadata is watched. A body is fetched by name when an object refers to it, and again when its metadata changes.
What belongs here: references, and which Secrets must be fetched now. What does not: fetching (`xds.kube.apiserver.apiserver`), and the
use of a Secret (`xds.translate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from xds.kube.objects import Ingress, Secret, ref
from xds.kube.source import Batch, Change
from xds.problem import Ref

_BY_FLAG = Ref("Settings", "", "")


def referred_by(item: Ingress, prefix: str) -> frozenset[Ref]:
    """The Secrets that an Ingress names: in `spec.tls`, and in annotations such as `<prefix>/auth-secret` ("name" or "namespace/name").

    All annotations of ingress-nginx that name a Secret end in "-secret", and no others do.
    """
    home = item.meta.namespace
    found = {Ref("Secret", home, entry.secret) for entry in item.tls if entry.secret}
    for key, value in item.meta.annotations.items():
        if key.endswith("-secret") and key.startswith(prefix + "/"):
            space, _, name = value.strip().rpartition("/")
            if name and "/" not in space:
                found.add(Ref("Secret", space or home, name))
    return frozenset(found)


class ReferredSecrets:
    """Keeps track of references to Secrets, and of the Secrets of other types.

    Each method takes the Change of a watch, and returns that for the World. `flagged` are the Secrets that flags name. `is_tls` has the
    Secrets of type kubernetes.io/tls. If a Secret is deleted and created again with another type, two watches report it, in any order.
    Neither may drop for good what the other one has put.
    """

    def __init__(self, is_tls: Container[Ref], prefix: str, flagged: frozenset[Ref] = frozenset()) -> None:
        self._is_tls = is_tls
        self._prefix = prefix
        self._names: dict[Ref, frozenset[Ref]] = {}
        self._referrers: Counter[Ref] = Counter()
        self._there: dict[Ref, str] = {}
        self._held: dict[Ref, str] = {}
        self._due: set[Ref] = set()
        self._refer(_BY_FLAG, flagged, Batch())

    @property
    def due(self) -> frozenset[Ref]:
        """What must be fetched now."""
        return frozenset(self._due)

    def begin(self, which: Ref) -> bool:
        """Before a fetch: whether the Secret is still needed. A change from now on makes it due again."""
        if which not in self._due:
            return False
        self._due.discard(which)
        return True

    def again(self, which: Ref) -> bool:
        """A fetch has failed. The Secret is due again if it is still needed; returns whether it is."""
        if self._is_needed(which):
            self._due.add(which)
        return which in self._due

    def fetched(self, which: Ref, found: Secret | None) -> Change:
        """A fetch has succeeded. None: there is no such Secret."""
        batch = Batch()
        if not self._is_needed(which) or which in self._is_tls:
            return batch.take()
        if found is not None:
            self._held[which] = found.meta.version
            batch.put(found)
        elif self._held.pop(which, None) is not None:
            batch.drop(which)
        return batch.take()

    def ingresses(self, change: Change) -> Change:
        """A Change of Ingresses. Secrets without any reference left are dropped."""
        batch = Batch()
        batch.add(change)
        for item in change.put:
            if isinstance(item, Ingress):
                self._refer(ref(item), referred_by(item, self._prefix), batch)
        for gone in change.drop:
            self._refer(gone, frozenset(), batch)
        return batch.take()

    def tls(self, change: Change) -> Change:
        """A Change of Secrets of type kubernetes.io/tls. Where one is gone, there may be one of another type."""
        self._due.update(gone for gone in change.drop if self._is_needed(gone))
        return change

    def metadata(self, change: Change) -> Change:
        """A Change of Secrets of other types, with metadata only."""
        batch = Batch()
        for item in change.put:
            which = ref(item)
            self._there[which] = item.meta.version
            if which in self._referrers and self._held.get(which) != item.meta.version:
                self._due.add(which)
        for gone in change.drop:
            self._there.pop(gone, None)
            self._forget(gone, batch)
        for where, problems in change.problems.items():
            batch.report(where, *problems)
        return batch.take()

    def _is_needed(self, which: Ref) -> bool:
        return which in self._there and which in self._referrers

    def _refer(self, who: Ref, names: frozenset[Ref], batch: Batch) -> None:
        before = self._names.pop(who, frozenset())
        if names:
            self._names[who] = names
        for which in names - before:
            self._referrers[which] += 1
            if self._is_needed(which) and which not in self._held:
                self._due.add(which)
        for which in before - names:
            self._referrers[which] -= 1
            if not self._referrers[which]:
                del self._referrers[which]
                self._forget(which, batch)

    def _forget(self, which: Ref, batch: Batch) -> None:
        self._due.discard(which)
        if self._held.pop(which, None) is not None and which not in self._is_tls:
            batch.drop(which)
