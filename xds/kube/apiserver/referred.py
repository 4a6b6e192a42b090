"""Which Secrets and ConfigMaps are needed because an Ingress, or a key of the ConfigMap of `--configmap`, names them.

Secrets of type kubernetes.io/tls are all watched (decision 13), and so are the ConfigMaps that flags name. Of others only the metadata is
watched. A body is fetched by name when an Ingress refers to it, and again when its metadata changes. What belongs here: references, and
which objects must be fetched now. What does not: fetching (`xds.kube.apiserver.apiserver`), and the use of an object (`xds.translate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable

from xds.kube.objects import ConfigMap, Ingress, Secret, ref
from xds.kube.source import Batch, Change
from xds.problem import Ref

_BY_FLAG = Ref("Settings", "", "")


NAMING_CONFIG_MAPS = ("auth-proxy-set-headers", "custom-headers")
"""The annotations that name a ConfigMap, as `namespace/name`."""


NAMING_CONFIG_MAPS_OF_ALL = ("add-headers", "proxy-set-headers")
"""The keys of the ConfigMap of `--configmap` that name another one."""


def config_maps_of_keys(item: ConfigMap) -> frozenset[Ref]:
    """The ConfigMaps that the keys of a ConfigMap name."""
    return _config_maps(item.data.get(name, "") for name in NAMING_CONFIG_MAPS_OF_ALL)


def config_maps_of(item: Ingress, prefix: str) -> frozenset[Ref]:
    """The ConfigMaps that an Ingress names in annotations such as `<prefix>/custom-headers`."""
    return _config_maps(item.meta.annotations.get(f"{prefix}/{name}", "") for name in NAMING_CONFIG_MAPS)


def _config_maps(written: Iterable[str]) -> frozenset[Ref]:
    """Of texts such as `namespace/name`."""
    found = (text.strip().split("/") for text in written)
    return frozenset(Ref("ConfigMap", *parts) for parts in found if len(parts) == 2 and all(parts))


def secrets_of(item: Ingress, prefix: str) -> frozenset[Ref]:
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


class Referred:
    """Keeps track of references to objects of one kind, and of those objects of which only the metadata is watched.

    Each method takes the Change of a watch, and returns that for the World. `names` are the objects that an Ingress refers to, `flagged`
    those that flags name. `watched` has the objects that another watch reports whole. If a Secret is deleted and created again with
    another type, two watches report it, in any order. Neither may drop for good what the other one has put.
    """

    def __init__(
        self, names: Callable[[Ingress], frozenset[Ref]], watched: Container[Ref] = (), flagged: frozenset[Ref] = frozenset()
    ) -> None:
        self._names_of = names
        self._watched = watched
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
        """Before a fetch: whether the object is still needed. A change from now on makes it due again."""
        if which not in self._due:
            return False
        self._due.discard(which)
        return True

    def again(self, which: Ref) -> bool:
        """A fetch has failed. The object is due again if it is still needed; returns whether it is."""
        if self._is_needed(which):
            self._due.add(which)
        return which in self._due

    def fetched(self, which: Ref, found: Secret | ConfigMap | None) -> Change:
        """A fetch has succeeded. None: there is no such object."""
        batch = Batch()
        if not self._is_needed(which) or which in self._watched:
            return batch.take()
        if found is not None:
            self._held[which] = found.meta.version
            batch.put(found)
        elif self._held.pop(which, None) is not None:
            batch.drop(which)
        return batch.take()

    def ingresses(self, change: Change) -> Change:
        """A Change of Ingresses. Objects without any reference left are dropped."""
        batch = Batch()
        batch.add(change)
        for item in change.put:
            if isinstance(item, Ingress):
                self._refer(ref(item), self._names_of(item), batch)
        for gone in change.drop:
            self._refer(gone, frozenset(), batch)
        return batch.take()

    def keys(self, change: Change) -> Change:
        """A Change of ConfigMaps that flags name: their keys may refer to others."""
        batch = Batch()
        batch.add(change)
        for item in change.put:
            if isinstance(item, ConfigMap):
                self._refer(ref(item), config_maps_of_keys(item), batch)
        for gone in change.drop:
            self._refer(gone, frozenset(), batch)
        return batch.take()

    def whole(self, change: Change) -> Change:
        """A Change of objects that another watch reports whole. Where one is gone, there may be one that is not."""
        self._due.update(gone for gone in change.drop if self._is_needed(gone))
        return change

    def metadata(self, change: Change) -> Change:
        """A Change of objects with metadata only."""
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
        if self._held.pop(which, None) is not None and which not in self._watched:
            batch.drop(which)
