"""How long the Source has been silent, as a metric that is worked out when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Staleness(Collector):
    """`xds_source_staleness_seconds{kind}`: `of` tells the seconds by kind at a time of `time.monotonic`."""

    def __init__(self, of: Callable[[float], Mapping[str, float]]) -> None:
        self._of = of

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge; without kinds where the Source is never out of date."""
        text = "Seconds since the API server last said something about the objects of a kind; a quiet kind reaches 24."
        gauge = GaugeMetricFamily("xds_source_staleness_seconds", text, labels=["kind"])
        for kind, seconds in sorted(self._of(time.monotonic()).items()):
            gauge.add_metric([kind], seconds)
        yield gauge
