"""How long the Source has received no response, as a metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Staleness(Collector):
    """`xds_source_staleness_seconds{kind}`, computed at a scrape. `of` returns the seconds by kind at a time of time.monotonic."""

    def __init__(self, of: Callable[[float], Mapping[str, float]]) -> None:
        self._of = of

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, without series where the Source is never out of date."""
        text = "Seconds since the last response of the API server about a kind; a quiet kind reaches 24."
        gauge = GaugeMetricFamily("xds_source_staleness_seconds", text, labels=["kind"])
        for kind, seconds in sorted(self._of(time.monotonic()).items()):
            gauge.add_metric([kind], seconds)
        yield gauge
