"""How much is held because Envoy has refused it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds.snapshot import Part


class HeldParts(Collector):
    """`xds_held_parts{type}`, counted when it is asked for; without what is held only while a culprit is searched for.

    `culprits` gives what is held, `types` has the type urls that are served and what operators call them.
    """

    def __init__(self, culprits: Callable[[], Collection[Part]], types: Mapping[str, str]) -> None:
        self._culprits = culprits
        self._types = types

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, 0 for types of which nothing is held."""
        text = "Resources, virtual hosts and filter chains that are not as their objects say, because Envoy refuses that."
        gauge = GaugeMetricFamily("xds_held_parts", text, labels=["type"])
        counts = Counter(part.type_url for part in self._culprits())
        for type_url, short in self._types.items():
            gauge.add_metric([short], counts[type_url])
        yield gauge
