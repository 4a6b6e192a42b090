"""How far each connected Envoy is, in the terms of the API server: up to which resourceVersions it has everything.

Once in a while a *sample* is taken: which versions have been read by now, and in which generation each type of resource is with them (-1
where there is none of it, so that nobody has to ask for it). An Envoy has reached the newest sample of which it has every type. What does
not belong here: one object (`xds.server.progress`), and telling anybody (`xds.replicas.peers`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xds.kube.objects import ConfigMap, Ingress
from xds.kube.source import Change
from xds.replicas.peers import Counts, Reached
from xds.server.progress import Listening
from xds.snapshot import TYPES, Snapshot

_SAMPLES = 120


class _Sample(NamedTuple):
    reached: Reached
    generations: tuple[int, ...]


class Census:
    """`read` is to be told of each Change once it has been taken over and published; `take` tells how far the Envoys are."""

    def __init__(self) -> None:
        self._read = Reached()
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._streams: dict[Listening, Reached] = {}  # how far their Envoys were when it was last looked

    def read(self, change: Change) -> None:
        """These versions have come. Of one kind they come in their order."""
        for item in change.put:
            if isinstance(item, (Ingress, ConfigMap)) and item.meta.version.isdecimal():
                version, (ingresses, config_maps) = int(item.meta.version), self._read
                if isinstance(item, Ingress):
                    self._read = Reached(max(ingresses, version), config_maps)
                else:
                    self._read = Reached(ingresses, max(config_maps, version))

    def take(self, snapshot: Snapshot, streams: Iterable[Listening]) -> Counts:
        """How many Envoys of these streams are how far. To be called again and again: each call is a sample."""
        now = _Sample(self._read, tuple(snapshot[type_url].generation if snapshot[type_url] else -1 for type_url in TYPES))
        if not self._samples or self._samples[-1] != now:
            self._samples.append(now)
        by_node: dict[str, list[Listening]] = {}
        for stream in streams:
            if stream.node is not None:
                by_node.setdefault(stream.node.id, []).append(stream)
        found = {node: self._reached(of_node) for node, of_node in by_node.items()}
        self._streams = {stream: found[node] for node, of_node in by_node.items() for stream in of_node}
        return Counter(found.values())

    def _reached(self, streams: Sequence[Listening]) -> Reached:
        """Where the samples do not reach back far enough it is what it was. Only an Envoy that comes anew may have less than before."""
        before = max((self._streams[stream] for stream in streams if stream in self._streams), default=Reached())
        sessions = [stream.session for stream in streams]
        accepted = [max(session.accepted_all(type_url) for session in sessions) for type_url in TYPES]
        for sample in reversed(self._samples):
            if all(has >= wanted for has, wanted in zip(accepted, sample.generations, strict=True)):
                return sample.reached
        return before
