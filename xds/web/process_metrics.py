"""All metrics of the process but those of the gRPC server (`xds.server.metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds import __version__
from xds.kube.world import World
from xds.snapshot import Snapshot
from xds.web.certificate_expiry import Certificates
from xds.web.contents import Contents
from xds.web.lag import Lag
from xds.web.problems import Problems
from xds.web.staleness import Staleness


class Version(Collector):
    """`xds_build_info{version}`, always 1: the running version, to be joined with other metrics."""

    def collect(self) -> list[GaugeMetricFamily]:
        """One gauge."""
        gauge = GaugeMetricFamily("xds_build_info", "The version that runs; always 1.", labels=["version"])
        gauge.add_metric([__version__], 1)
        return [gauge]


class ProcessMetrics:
    """Everything but the server's counters, registered in `registry`.

    `types` maps type URLs to their short names; `staleness` is that of Staleness. Most metrics are counted at a scrape. The publisher
    updates three: `built` (seconds from a change to the Snapshot), `problems` (a set) and `certificates`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        world: World,
        snapshot: Snapshot,
        *,
        types: Mapping[str, str],
        staleness: Callable[[float], Mapping[str, float]],
    ) -> None:
        self.problems = Problems()
        self.certificates = Certificates()
        self.lag = Lag(registry)
        text = "Seconds from a change of objects until the Snapshot had it, for changes that changed a resource."
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
        self.built = Histogram("xds_build_seconds", text, buckets=buckets, registry=registry)
        own = (self.problems, self.certificates, Contents(world, snapshot, types), Staleness(staleness), Version())
        for collector in own:
            registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
