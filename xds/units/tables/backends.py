"""Clusters, and the endpoints of each: wanted by whatever names a cluster."""

from __future__ import annotations

from collections.abc import Collection

from xds.model import Cluster
from xds.render import names
from xds.snapshot import CLUSTER, ENDPOINT, Part
from xds.units import units
from xds.units.memo import Build
from xds.units.parts import Value
from xds.units.tables.holds import Holds
from xds.units.tables.table import Table, Touched, publish
from xds.units.tables.update import Update


class Backends:
    """The clusters that are wanted, with their endpoints. What wants them is brought up to date first."""

    def __init__(self, build: Build, holds: Holds) -> None:
        self.clusters: Table[Cluster, bytes] = Table(build, units.cluster, CLUSTER, lambda c: Part(CLUSTER, names.cluster(c)), holds)
        self.endpoints: Table[Cluster, bytes] = Table(
            build, units.load_assignment, ENDPOINT, lambda c: Part(ENDPOINT, names.cluster(c)), holds
        )

    def want(self, more: Collection[Cluster], fewer: Collection[Cluster]) -> None:
        """These clusters are named once more, those once less."""
        self.clusters.want(more, fewer)
        self.endpoints.want(more, fewer)

    def look_again(self, parts: Collection[Part]) -> None:
        """What is held of these has changed."""
        self.clusters.look_again(parts)
        self.endpoints.look_again(parts)

    def refresh(self, touched: Touched, update: Update) -> None:
        """Bring both up to date."""
        publish(self.clusters, touched, update)
        publish(self.endpoints, touched, update)

    def among(self, parts: Collection[Part]) -> dict[Part, Value]:
        """The values of those of the Parts that are there."""
        return {**self.clusters.among(parts), **self.endpoints.among(parts)}
