"""The number of objects in the World, and of resources in the Snapshot, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds.kube.world import World
from xds.snapshot import Snapshot


class Contents(Collector):
    """`xds_objects{kind}`, `xds_resources{type}` and `xds_resource_bytes{type}`, counted at a scrape.

    `types` maps the served type URLs to their short names.
    """

    def __init__(self, world: World, snapshot: Snapshot, types: Mapping[str, str]) -> None:
        self._world = world
        self._snapshot = snapshot
        self._types = types

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Three gauges."""
        objects = GaugeMetricFamily("xds_objects", "Kubernetes objects that were read and are kept.", labels=["kind"])
        for kind, count in sorted(self._world.kinds.items()):
            objects.add_metric([kind], count)
        yield objects
        resources = GaugeMetricFamily("xds_resources", "Resources that an Envoy is to hold.", labels=["type"])
        size = GaugeMetricFamily("xds_resource_bytes", "Bytes of the resources that an Envoy is to hold.", labels=["type"])
        for type_url, short in self._types.items():
            state = self._snapshot[type_url]
            resources.add_metric([short], len(state))
            size.add_metric([short], state.size)
        yield resources
        yield size
