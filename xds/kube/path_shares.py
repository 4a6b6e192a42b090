"""How many paths of each Ingress have labels of their own in metrics of requests, so that no namespace takes the room of the others.

An index of the World: it is settled once a change, and costs what the change touches while all paths have room. Beyond that, the
namespaces with the most paths give way first, and in each of them the Ingresses with the most. Ingresses of all classes count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection

from xds import request_metrics
from xds.problem import Ref

_STEPS = tuple(sorted({int(1.25**n) for n in range(42)}))
"""Shares that there are. Between two of them a change of others changes nothing, so that routes stay as they are."""


class PathShares:
    """By namespace, the most paths of one Ingress that are counted apart. All are, up to MOST_PATHS, while there is room."""

    def __init__(self) -> None:
        self._paths: dict[str, dict[str, int]] = {}
        self._total = 0
        self._shares: dict[str, int] = {}
        self._changed = False

    def count(self, which: Ref, paths: int) -> None:
        """An Ingress has so many paths now."""
        paths = min(paths, request_metrics.MOST_PATHS)
        of_namespace = self._paths.setdefault(which.namespace, {})
        before = of_namespace.pop(which.name, 0)
        if paths:
            of_namespace[which.name] = paths
        if not of_namespace:
            del self._paths[which.namespace]
        self._total += paths - before
        self._changed = self._changed or paths != before

    def share(self, namespace: str) -> int:
        """The most paths of each Ingress of a namespace."""
        return self._shares.get(namespace, request_metrics.MOST_PATHS)

    def settle(self) -> set[str]:
        """Share out anew, where something has changed. Returns the namespaces whose share is another one now."""
        if not self._changed:
            return set()
        self._changed = False
        before, self._shares = self._shares, self._limited() if self._total > request_metrics.MOST_APART else {}
        return {namespace for namespace, share in before.items() ^ self._shares.items()}

    def _limited(self) -> dict[str, int]:
        totals = {namespace: sum(paths.values()) for namespace, paths in self._paths.items()}
        most = fair_share(totals.values(), request_metrics.MOST_APART)
        return {namespace: fair_share(self._paths[namespace].values(), most) for namespace, total in totals.items() if total > most}


def fair_share(wanted: Collection[int], room: int) -> int:
    """The most that each may have, so that all who want no more get what they want and all together have room; 1 at least."""
    fits = bisect_right(_STEPS, room, key=lambda step: sum(min(each, step) for each in wanted))
    return _STEPS[max(0, fits - 1)]
