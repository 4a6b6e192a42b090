"""The number of parts that are held because Envoy rejected them, as a metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds.snapshot import Part


class HeldParts(Collector):
    """`xds_held_parts{type}`, counted at a scrape. Parts that are held only during a search do not count.

    `culprits` returns the held parts. `types` maps the served type URLs to their short names.
    """

    def __init__(self, culprits: Callable[[], Collection[Part]], types: Mapping[str, str]) -> None:
        self._culprits = culprits
        self._types = types

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, 0 for types without held parts."""
        text = "Resources, virtual hosts and filter chains that differ from their objects, because Envoy rejects those."
        gauge = GaugeMetricFamily("xds_held_parts", text, labels=["type"])
        counts = Counter(part.type_url for part in self._culprits())
        for type_url, short in self._types.items():
            gauge.add_metric([short], counts[type_url])
        yield gauge
