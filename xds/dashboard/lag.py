"""How long each Envoy has been behind, by type: from the generations that it has accepted, and when the next ones were published."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from datetime import datetime

from xds.dashboard.subject import Displayed
from xds.server.metrics import SHORT


def lags(subject: Displayed, now: datetime) -> Mapping[str, Mapping[str, float]]:
    """node.id → short name of a type → seconds since the first publication that no stream of this node has accepted.

    A publication that the history does not have any more counts from the oldest one that it has.
    """
    accepted: dict[tuple[str, str], int] = {}
    for stream in subject.envoys():
        node = stream.node.id if stream.node else ""
        for type_url in stream.session.summaries:
            accepted[node, type_url] = max(accepted.get((node, type_url), -1), stream.session.accepted_all(type_url))
    times = {type_url: sorted(subject.times(type_url).items()) for type_url in SHORT}
    found: dict[str, dict[str, float]] = {}
    for (node, type_url), generation in accepted.items():
        following = bisect.bisect_right(times[type_url], generation, key=lambda published: published[0])
        if following < len(times[type_url]):
            found.setdefault(node, {})[SHORT[type_url]] = max(0.0, (now - times[type_url][following][1]).total_seconds())
    return found
