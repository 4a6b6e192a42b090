"""Maps generations of the Snapshot to resourceVersions: up to which object version each connected Envoy is programmed.

A *sample*, taken every second, holds the newest resourceVersions that were read, and the generation of each type at that time. The
generation is -1 for a type without resources, because no Envoy has to subscribe to it. An Envoy has reached the newest sample of which it
has accepted every type. What does not belong here: the state of one object (`xds.server.progress`), and sharing the counts
(`xds.replicas.peers`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xds.kube.objects import ConfigMap, Ingress
from xds.kube.source import Change
from xds.replicas.peers import Counts, Reached
from xds.server.frontier import ConnectedStream
from xds.server.progress import by_envoy
from xds.snapshot import PASSWORDS, TYPES, Snapshot

_SAMPLES = 120


class _Sample(NamedTuple):
    reached: Reached
    generations: tuple[int, ...]


class Census:
    """The caller passes each Change to `read` once it is published. `take` takes a sample and counts the Envoys."""

    def __init__(self) -> None:
        self._read = Reached()
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._streams: dict[ConnectedStream, Reached] = {}  # what their Envoys had reached at the last sample

    def read(self, change: Change) -> None:
        """These versions were read. The versions of one kind come in ascending order."""
        for item in change.put:
            if isinstance(item, (Ingress, ConfigMap)) and item.meta.version.isdecimal():
                version, (ingresses, config_maps) = int(item.meta.version), self._read
                if isinstance(item, Ingress):
                    self._read = Reached(max(ingresses, version), config_maps)
                else:
                    self._read = Reached(ingresses, max(config_maps, version))

    def take(self, snapshot: Snapshot, streams: Iterable[ConnectedStream]) -> Counts:
        """The number of Envoys by what they have reached. To be called every second: each call takes a sample."""
        now = _Sample(self._read, tuple(snapshot[type_url].generation if snapshot[type_url] else -1 for type_url in TYPES))
        if not self._samples or self._samples[-1] != now:
            self._samples.append(now)
        by_node = by_envoy(streams)
        found = {node: self._reached(of_node) for node, of_node in by_node.items()}
        self._streams = {stream: found[node] for node, of_node in by_node.items() for stream in of_node}
        return Counter(found.values())

    def _reached(self, streams: Sequence[ConnectedStream]) -> Reached:
        """What these streams of one Envoy have reached.

        If that is older than all samples, the last result holds: a stream loses nothing. Password files count only where the Envoy has its
        authorisation service: one without it is not behind with everything else.
        """
        before = max((self._streams[stream] for stream in streams if stream in self._streams), default=Reached())
        sessions = [stream.session for stream in streams]
        accepted = [max(session.accepted_all(type_url) for session in sessions) for type_url in TYPES]
        for sample in reversed(self._samples):
            wanted = zip(TYPES, accepted, sample.generations, strict=True)
            if all(has >= generation or (type_url == PASSWORDS and has < 0) for type_url, has, generation in wanted):
                return sample.reached
        return before
