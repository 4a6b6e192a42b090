"""Clusters are found by their hash: many of one Service must not be compared with each other one by one."""

from __future__ import annotations

from xds.model import Cluster
from xds.problem import Ref


def test_clusters_of_one_external_service_differ_in_their_hashes_by_the_ingresses_that_ask_for_them() -> None:
    """Each Ingress has one of its own, so 10,000 with equal hashes would take minutes."""
    hashes = {hash(Cluster("one", "web", 80, external=True, asked_by=Ref("Ingress", "one", f"i{n}"))) for n in range(1_000)}
    assert len(hashes) > 990


def test_equal_clusters_have_equal_hashes() -> None:
    one, other = (Cluster("one", "web", 80, (("a", 1),), external=True, asked_by=Ref("Ingress", "one", "i")) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
