"""What the cluster of an ExternalName is called, and that no setting of its Ingress changes that: for under a new name it begins anew."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType
from hypothesis import given
from hypothesis import strategies as st

from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Path, Rule, Service, ServicePort
from xds.kube.world import World
from xds.nginx.registry import cluster_features, features, known_annotations
from xds.render import names
from xds.snapshot import CLUSTER, ROUTE, Snapshot
from xds.units.tables import Tables

PREFIX = "nginx.ingress.kubernetes.io/"
FLAGS = Flags(watch_ingress_without_class=True, configmap="n/config")
AWAY = Service(meta=Meta(namespace="n", name="away"), type="ExternalName", external_name="example.org", ports=(ServicePort(80, "", 8080),))
ANNOTATIONS = sorted(a.name for name in cluster_features() for a in features()[name].annotations if not a.name.endswith("-secret"))
"""Without the Secret that it names, an annotation closes what its Ingress has."""
POLICIES = st.dictionaries(st.sampled_from(ANNOTATIONS), st.none()).map(lambda d: {n: known_annotations()[n].example for n in d})


def shop(annotations: dict[str, str], name: str = "shop") -> Ingress:
    rule = Rule(f"{name}.example.com", (Path("/", "Prefix", Backend("away", 80)),))
    return Ingress(
        meta=Meta(namespace="n", name=name, annotations={PREFIX + key: text for key, text in annotations.items()}), rules=(rule,)
    )


def resources(*objects: Ingress | ConfigMap) -> Snapshot:
    world, snapshot = World(FLAGS), Snapshot()
    tables = Tables(world)
    tables.apply(world.apply([AWAY, *objects], ())).publish(snapshot)
    assert not tables.build.faults
    return snapshot


def clusters(*objects: Ingress | ConfigMap) -> dict[str, EnvoyCluster]:
    return {name: EnvoyCluster.parse(found.body) for name, found in resources(*objects)[CLUSTER].items()}


@given(POLICIES.filter(lambda found: "backend-protocol" not in found))
def test_no_annotation_of_clusters_changes_the_name(annotations: dict[str, str]) -> None:
    assert clusters(shop(annotations)).keys() == {"n/away/80@n/shop"}


@pytest.mark.parametrize(("annotations", "key", "seconds"), [({}, "", 5), ({"proxy-connect-timeout": "7"}, "", 7), ({}, "9", 9)])
def test_the_settings_of_its_ingress_are_its_policy(annotations: dict[str, str], key: str, seconds: int) -> None:
    config = ConfigMap(meta=Meta(namespace="n", name="config"), data={"proxy-connect-timeout": key} if key else {})
    (found,) = clusters(shop(annotations), config).values()
    assert found.connect_timeout is not None
    assert found.connect_timeout.total_seconds() == seconds


def test_two_ingresses_have_a_cluster_each() -> None:
    found = clusters(shop({"proxy-connect-timeout": "7"}), shop({}, "a.b"))
    assert {name: c.connect_timeout.total_seconds() for name, c in found.items() if c.connect_timeout} == {
        "n/away/80@n/shop": 7,
        "n/away/80@n/a_b": 5,
    }


def test_what_a_route_changes_of_its_ingress_is_in_the_name_and_nothing_else() -> None:
    """AUTO_HTTP makes two clusters, by the scheme of the client."""
    auto = {"backend-protocol": "AUTO_HTTP"}
    both = clusters(shop(auto)).keys()
    assert len(both) == 2
    assert all(name.startswith("n/away/80@n/shop~") for name in both)
    assert clusters(shop(auto | {"proxy-connect-timeout": "7"})).keys() == both


@given(POLICIES)
def test_the_route_table_names_the_clusters_that_there_are(annotations: dict[str, str]) -> None:
    found = resources(shop(annotations))
    table = found[ROUTE][names.ROUTES].body
    assert found[CLUSTER].keys()
    assert all(name.encode() in table for name in found[CLUSTER])


def test_a_dot_in_the_name_of_an_ingress_is_none_in_the_name_of_a_cluster() -> None:
    """Envoy takes the name out of its statistics up to the first dot."""
    found = clusters(shop({}, "a.b.c"))
    assert not any("." in name for name in found)


def test_an_address_asks_no_dns() -> None:
    world, snapshot = World(FLAGS), Snapshot()
    by_address = Service(meta=AWAY.meta, type="ExternalName", external_name="192.0.2.7", ports=AWAY.ports)
    Tables(world).apply(world.apply([by_address, shop({})], ())).publish(snapshot)
    made = EnvoyCluster.parse(snapshot[CLUSTER]["n/away/80@n/shop"].body)
    assert (made.type, made.cluster_type) == (ClusterDiscoveryType.STATIC, None)
