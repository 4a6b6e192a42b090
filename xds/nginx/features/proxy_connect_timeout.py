"""proxy-connect-timeout: how long a connection to an endpoint may take."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster

from xds.nginx.feature import Annotation, Feature, with_key
from xds.nginx.values import LONGEST_SECONDS, whole

PROXY_CONNECT_TIMEOUT = with_key(
    Annotation(
        "proxy-connect-timeout",
        whole(1, LONGEST_SECONDS),
        "Seconds until an attempt to connect to an endpoint counts as failed.",
        "10",
        5,
    )
)


def _on_cluster(seconds: int, cluster: EnvoyCluster) -> None:
    cluster.connect_timeout = timedelta(seconds=seconds)


FEATURE = Feature(
    read=lambda notes: notes.get(PROXY_CONNECT_TIMEOUT), annotations=(PROXY_CONNECT_TIMEOUT,), cluster=True, on_cluster=_on_cluster
)
