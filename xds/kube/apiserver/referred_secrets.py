"""Which Secrets are needed besides those of type kubernetes.io/tls, which are all watched (decision 13).

Of the other Secrets only metadata is watched; a body is fetched by name, when something refers to it, and again when its metadata
changes. What belongs here: who refers to what, and what must be fetched now. What does not: fetching (`xds.kube.apiserver.apiserver`),
and what a Secret is good for (`xds.translate`).
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
    """Follows who refers to which Secret, and which Secrets of other types there are.

    Each method takes what a watch told and returns what the World is to be told. `is_tls` has the Secrets of type kubernetes.io/tls: of a
    Secret that was deleted and made anew with another type, two watches tell, in any order, and neither may take away for good what the
    other one brought. `flagged` are the Secrets that flags name.
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
        """Before a Secret is fetched: whether that is still needed. What changes from now on makes it due again."""
        if which not in self._due:
            return False
        self._due.discard(which)
        return True

    def again(self, which: Ref) -> bool:
        """A Secret could not be fetched: whether it is needed still; then it is due."""
        if self._is_needed(which):
            self._due.add(which)
        return which in self._due

    def fetched(self, which: Ref, found: Secret | None) -> Change:
        """A Secret as it is now; None where there is none."""
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
        """Ingresses that came or went; a Secret that nobody refers to any more goes, too."""
        batch = Batch()
        batch.add(change)
        for item in change.put:
            if isinstance(item, Ingress):
                self._refer(ref(item), referred_by(item, self._prefix), batch)
        for gone in change.drop:
            self._refer(gone, frozenset(), batch)
        return batch.take()

    def tls(self, change: Change) -> Change:
        """Secrets of type kubernetes.io/tls; where one goes, there may be one of another type by now."""
        self._due.update(gone for gone in change.drop if self._is_needed(gone))
        return change

    def metadata(self, change: Change) -> Change:
        """Secrets of other types, of which only the metadata is known."""
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
