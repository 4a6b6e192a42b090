"""affinity: a cookie keeps a client with its endpoint. How clusters choose for it; the cookie itself is that of `session_cookie`.

*balanced*: the value of the cookie is hashed, so that every Envoy chooses the same endpoint, and a share of the clients moves when
endpoints are added. *persistent*: the cookie names the endpoint, by a name that nobody can read (`xds.render.endpoints`), and holds while
that is there.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import (
    ClusterDiscoveryType,
    ClusterLbPolicy,
    ClusterLbSubsetConfig,
    ClusterLbSubsetConfigLbSubsetFallbackPolicy,
    ClusterLbSubsetConfigLbSubsetSelector,
)

from xds.model import Cluster
from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, Phase, Risk
from xds.nginx.messages import ENDPOINT_NAME
from xds.nginx.values import choice

NAME = "affinity"
BALANCED, PERSISTENT = "balanced", "persistent"

AFFINITY = Annotation(
    "affinity",
    choice("cookie"),
    "Whether a cookie keeps a client with its endpoint.",
    "cookie",
    "",
)
AFFINITY_MODE = Annotation(
    "affinity-mode",
    choice(BALANCED, PERSISTENT),
    "Whether some clients move to endpoints that are added (balanced), or all stay while theirs is there (persistent).",
    PERSISTENT,
    BALANCED,
    Fidelity.APPROXIMATE,
    "an ExternalName, whose addresses Envoy takes from the DNS, is always balanced",
    lambda mode, _paths: mode == PERSISTENT,
    risk=Risk.MEDIUM,
    beside="affinity",
)


def read(notes: Notes) -> str | None:
    """The mode; None without affinity."""
    mode = notes.get(AFFINITY_MODE)
    return mode if notes.get(AFFINITY) else None


def names_endpoints(mode: str, cluster: Cluster) -> bool:
    """Whether a cookie names an endpoint of this cluster, instead of being hashed."""
    return mode == PERSISTENT and not cluster.external


def _on_cluster(mode: str, cluster: EnvoyCluster) -> None:
    """A named endpoint that is not there any more is as good as none: then the cluster chooses as it does for everybody."""
    if mode == BALANCED or cluster.type is not ClusterDiscoveryType.EDS:
        cluster.lb_policy = ClusterLbPolicy.RING_HASH
        return
    one = ClusterLbSubsetConfigLbSubsetSelector(keys=[ENDPOINT_NAME], single_host_per_subset=True)
    fallback = ClusterLbSubsetConfigLbSubsetFallbackPolicy.ANY_ENDPOINT
    cluster.lb_subset_config = ClusterLbSubsetConfig(fallback_policy=fallback, subset_selectors=[one])


FEATURE = Feature(
    read=read,
    annotations=(AFFINITY, AFFINITY_MODE),
    phase=Phase.SESSION,
    cluster=True,
    on_cluster=_on_cluster,
    by_endpoint=lambda mode: mode == PERSISTENT,
)
