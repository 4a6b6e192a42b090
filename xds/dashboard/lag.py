"""How long each Envoy has been behind, by type: from the generations that it has accepted, and when the next ones were published."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from datetime import datetime

from xds.dashboard.subject import Displayed
from xds.debug.subject import Envoy
from xds.server.metrics import SHORT


def lags(subject: Displayed, now: datetime) -> Mapping[str, Mapping[str, float]]:
    """node.id → short name of a type → seconds since the first publication that no stream of this node has accepted.

    A publication that the history does not have any more counts from the oldest one that it has.
    """
    found: dict[str, dict[str, float]] = {}
    streams = [envoy for envoy in subject.envoys() if envoy.node is not None]
    for type_url, short in SHORT.items():
        times = sorted(subject.times(type_url).items())
        generations = [generation for generation, _ in times]
        for node, accepted in _accepted(streams, type_url).items():
            following = bisect.bisect_right(generations, accepted)
            if following < len(times):
                found.setdefault(node, {})[short] = max(0.0, (now - times[following][1]).total_seconds())
    return found


def _accepted(streams: Iterable[Envoy], type_url: str) -> dict[str, int]:
    """Of each node that asks for the type, the furthest generation."""
    found: dict[str, int] = {}
    for stream in streams:
        if stream.node is not None and type_url in stream.session.summaries:
            found[stream.node.id] = max(found.get(stream.node.id, -1), stream.session.accepted_all(type_url))
    return found
