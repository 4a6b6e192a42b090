"""What clusters are called. A red test here means that clusters of running Envoys would be renamed, and lose connections and statistics."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.nginx.drawing import settings
from tests.nginx.test_cluster_keys import ANNOTATIONS
from xds.model import Cluster
from xds.problem import Ref
from xds.render import names
from xds.translate.hosts import policy

WEB = Cluster("default", "web", 80)
SHOP = Ref("Ingress", "default", "the.shop")


def under(annotations: dict[str, str]) -> Cluster:
    """The cluster of an Ingress with these annotations, where nobody else says anything."""
    return replace(WEB, policy=policy(settings(annotations), settings()))


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({}, "default/web/80"),
        ({"proxy-next-upstream": "timeout error", "proxy-buffer-size": "256k"}, "default/web/80"),
        ({"backend-protocol": "GRPC"}, "default/web/80~b8055bc2"),
        ({"load-balance": "ewma"}, "default/web/80~59086f1a"),
        ({"proxy-buffer-size": "1m"}, "default/web/80~42570250"),
        ({"proxy-connect-timeout": "10"}, "default/web/80~4fd8ba44"),
        ({"proxy-next-upstream": "off"}, "default/web/80~98346c0f"),
        ({"service-upstream": "true"}, "default/web/80~4db7df66"),
        ({"upstream-hash-by": "$request_uri"}, "default/web/80~4f2889f6"),
        ({"backend-protocol": "GRPC", "load-balance": "ewma"}, "default/web/80~520d49c2"),
    ],
)
def test_the_name_under_a_policy_is_pinned(annotations: dict[str, str], name: str) -> None:
    assert names.cluster(under(annotations)) == name


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        (replace(WEB, protocol="UDP"), "default/web/80~e7ae324a"),
        (replace(WEB, send_proxy=True), "default/web/80~42e794b7"),
        (replace(WEB, protocol="UDP", send_proxy=True), "default/web/80~bab4ccbe"),
        (replace(WEB, external=True, asked_by=SHOP), "default/web/80@default/the_shop"),
        (replace(under({"backend-protocol": "GRPC"}), external=True, asked_by=SHOP), "default/web/80@default/the_shop~b8055bc2"),
        (replace(WEB, policy=(("upstream_hash_by", None),)), "default/web/80~4953e0da"),
        (replace(WEB, by_address=True), "default/web/80~ad56966b"),
    ],
    ids=["UDP", "PROXY", "both", "ExternalName", "ExternalName with a policy", "a setting that others have", "TLS that passes through"],
)
def test_the_name_of_any_other_cluster_is_pinned(cluster: Cluster, name: str) -> None:
    assert names.cluster(cluster) == name


@given(ANNOTATIONS, ANNOTATIONS)
def test_clusters_share_a_name_where_their_policies_are_equal_and_nowhere_else(ones: dict[str, str], others: dict[str, str]) -> None:
    one, other = under(ones), under(others)
    assert (names.cluster(one) == names.cluster(other)) is (one.policy == other.policy)
