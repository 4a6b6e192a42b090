"""load-balance: how the endpoint of a request is chosen."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteActionHashPolicy, RouteActionHashPolicyConnectionProperties

from xds.model import Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Scope, with_key
from xds.nginx.messages import action_of
from xds.nginx.values import Refused, shown

_POLICIES = {
    "round_robin": ClusterLbPolicy.ROUND_ROBIN,
    "ewma": ClusterLbPolicy.LEAST_REQUEST,
    "least_conn": ClusterLbPolicy.LEAST_REQUEST,
    "ip_hash": ClusterLbPolicy.RING_HASH,
}
_OF_INGRESS_NGINX = ("round_robin", "ewma")
_OF_OTHERS = {
    "chash": "upstream-hash-by",
    "chashsubset": "upstream-hash-by",
    "sticky_balanced": "affinity",
    "sticky_persistent": "affinity",
}
"""Words that ingress-nginx takes too, and the annotation that asks for the same; without it they mean nothing of use."""


def _parse(text: str) -> str:
    """ingress-nginx refuses its own words in capitals, and those of earlier versions, which are of use here."""
    if text in _OF_INGRESS_NGINX:
        return text
    if text.lower() in _POLICIES and text.lower() not in _OF_INGRESS_NGINX:
        return text.lower()
    if text in _OF_OTHERS:
        raise ValueError(f"is {shown(text)}, which {_OF_OTHERS[text]} asks for by itself")
    raise Refused(f"is {shown(text)}, which is none of {', '.join(_POLICIES)}")


LOAD_BALANCE = with_key(
    Annotation(
        "load-balance",
        _parse,
        "How endpoints are chosen: round_robin, ewma, least_conn or ip_hash.",
        "ewma",
        "round_robin",
        Fidelity.APPROXIMATE,
        "with ewma and least_conn, of two endpoints the one with fewer open requests is taken",
        lambda name, _paths: name in ("ewma", "least_conn"),
        scope=Scope.UPSTREAM,
    )
)


def _on_cluster(name: str, cluster: EnvoyCluster) -> None:
    """round_robin is what a cluster has anyway, where the Service itself (sessionAffinity) asks for nothing else."""
    if name != "round_robin":
        cluster.lb_policy = _POLICIES[name]


def _on_forward(name: str, _route: Route, envoy: EnvoyRoute) -> None:
    if name == "ip_hash":
        by_client = RouteActionHashPolicyConnectionProperties(source_ip=True)
        action_of(envoy).hash_policy = [RouteActionHashPolicy(connection_properties=by_client)]


FEATURE = Feature(
    read=lambda notes: notes.get(LOAD_BALANCE), annotations=(LOAD_BALANCE,), on_forward=_on_forward, cluster=True, on_cluster=_on_cluster
)
