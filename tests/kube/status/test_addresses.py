"""Which addresses are published (reference 4.14)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xds.kube.objects import Meta, Service
from xds.kube.status.addresses import Node, Pod, differ, entries, nodes, normal, of_nodes, of_service, pods, siblings

META = Meta(namespace="ingress", name="controller")


def service(**fields: Any) -> Service:
    return Service(meta=META, **fields)


@pytest.mark.parametrize(
    ("found", "addresses"),
    [
        (service(type="ExternalName", external_name="Gate.Example.com."), ("gate.example.com",)),
        (service(cluster_ips=("10.0.0.9", "fd00::9")), ("10.0.0.9",)),
        (service(cluster_ips=("10.0.0.9",), external_ips=("192.0.2.1",)), ("10.0.0.9",)),
        (service(type="NodePort", cluster_ips=("10.0.0.9",)), ("10.0.0.9",)),
        (service(type="NodePort", cluster_ips=("10.0.0.9",), external_ips=("192.0.2.2", "192.0.2.1")), ("192.0.2.1", "192.0.2.2")),
        (
            service(
                type="LoadBalancer", cluster_ips=("10.0.0.9",), load_balancer=("lb.example.com", "192.0.2.7"), external_ips=("192.0.2.1",)
            ),
            ("192.0.2.1", "192.0.2.7", "lb.example.com"),
        ),
        (service(type="LoadBalancer", cluster_ips=("10.0.0.9",)), ()),
        (service(headless=True), ()),
    ],
    ids=[
        "external name",
        "cluster IP",
        "external IPs count not",
        "node port",
        "its external IPs",
        "balancer",
        "balancer to come",
        "headless",
    ],
)
def test_a_service_is_reached_where_its_type_says(found: Service, addresses: tuple[str, ...]) -> None:
    assert of_service(found) == addresses


def test_addresses_are_sorted_each_once_and_as_the_api_server_takes_them() -> None:
    given = ["b.example.com", "192.0.2.9", "192.0.2.9", "2001:DB8:0::1", " A.example.com. "]
    assert normal(given) == ("192.0.2.9", "2001:db8::1", "a.example.com", "b.example.com")


@pytest.mark.parametrize("text", ["", "foo_bar", "-a.example.com", "a b", "http://a.example.com", "a" * 254, "*.example.com", "1.2.3.4:80"])
def test_what_is_neither_an_ip_nor_a_host_name_is_no_address(text: str) -> None:
    assert normal([text]) == ()


POD = Pod("envoy-1", "one", running=True, ready=True)
NODES = [
    Node("one", (("Hostname", "one"), ("InternalIP", "10.1.0.1"), ("ExternalIP", "192.0.2.1"))),
    Node("two", (("InternalIP", "10.1.0.2"),)),
    Node("three", (("ExternalIP", "192.0.2.3"), ("InternalIP", "10.1.0.3"))),
]


def test_a_node_that_runs_a_ready_pod_is_published_and_others_are_not() -> None:
    unready = Pod("envoy-3", "three", running=True, ready=False)
    assert of_nodes([POD, unready, Pod("envoy-9", "", running=True, ready=True)], NODES, internal=False) == ("192.0.2.1",)


def test_a_node_without_an_external_address_is_published_by_its_internal_one() -> None:
    assert of_nodes([POD, Pod("envoy-2", "two", running=True, ready=True)], NODES, internal=False) == ("10.1.0.2", "192.0.2.1")


def test_internal_addresses_are_published_where_they_are_asked_for() -> None:
    assert of_nodes([POD], NODES, internal=True) == ("10.1.0.1",)


def test_an_ip_is_written_as_an_ip_and_a_name_as_a_hostname() -> None:
    assert entries(("192.0.2.1", "2001:db8::1", "a.example.com")) == [
        {"ip": "192.0.2.1"},
        {"ip": "2001:db8::1"},
        {"hostname": "a.example.com"},
    ]


def test_a_status_that_says_the_same_in_another_order_does_not_differ() -> None:
    assert not differ(["b", "a"], ("a", "b"))
    assert differ(["a", "a", "b"], ("a", "b"))
    assert differ([], ("a",))


def page(*items: dict[str, Any], token: str | None = None) -> bytes:
    return json.dumps({"kind": "List", "metadata": {"continue": token} if token else {}, "items": list(items)}).encode()


def pod(name: str = "a", phase: str = "Running", ready: str = "True", **metadata: Any) -> dict[str, Any]:
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]
    return {"metadata": {"name": name, **metadata}, "spec": {"nodeName": "one"}, "status": {"phase": phase, "conditions": conditions}}


def test_a_page_of_pods_says_which_are_ready_and_what_comes_next() -> None:
    assert pods(page(pod(), token="more")) == ([Pod("a", "one", running=True, ready=True)], "more")


@pytest.mark.parametrize(
    ("wrong", "running"),
    [({"phase": "Pending"}, False), ({"ready": "False"}, True), ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False)],
    ids=["pending", "not ready", "terminating"],
)
def test_a_pod_that_does_not_run_or_says_so_is_not_ready(wrong: dict[str, str], running: bool) -> None:
    ((found,), _) = pods(page(pod(**wrong)))
    assert (found.running, found.ready) == (running, False)


def test_pods_and_nodes_of_which_nothing_is_known_yet_have_nothing() -> None:
    bare = page({"metadata": {"name": "a"}})
    assert pods(bare) == ([Pod("a", "", running=False, ready=False)], "")
    assert nodes(bare) == ([Node("a", ())], "")


def test_a_page_of_nodes_has_their_addresses_in_order() -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}]}
    found = nodes(page({"metadata": {"name": "one"}, "status": status}, token="more"))
    assert found == ([Node("one", (("InternalIP", "10.1.0.1"), ("ExternalIP", "192.0.2.1")))], "more")


def test_what_is_no_list_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expected"):
        nodes(b"[]")


def test_replicas_of_all_versions_have_the_labels_of_a_pod_without_its_hashes() -> None:
    labels = {"app": "xds", "pod-template-hash": "abc", "controller-revision-hash": "d", "pod-template-generation": "3"}
    assert siblings(json.dumps({"metadata": {"name": "a", "labels": labels}}).encode()) == "app=xds"
    assert siblings(b'{"metadata": {"name": "a"}}') == ""
