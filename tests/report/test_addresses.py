"""Which addresses are published (nginx 4.14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from xds.kube.objects import Meta, Node, Pod, Service
from xds.problem import Problem
from xds.report.status_addresses import differ, entries, normal, of_nodes, of_service, pods, read_node, read_pod, siblings

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


def running_on(node: str, *, ready: bool = True) -> Pod:
    return Pod(meta=META, node=node, running=True, ready=ready)


def node(name: str, *addresses: tuple[str, str]) -> Node:
    return Node(meta=Meta(namespace="", name=name), addresses=addresses)


POD = running_on("one")
NODES = [
    node("one", ("Hostname", "one"), ("InternalIP", "10.1.0.1"), ("ExternalIP", "192.0.2.1")),
    node("two", ("InternalIP", "10.1.0.2")),
    node("three", ("ExternalIP", "192.0.2.3"), ("InternalIP", "10.1.0.3")),
]


def test_a_node_that_runs_a_ready_pod_is_published_and_others_are_not() -> None:
    assert of_nodes([POD, running_on("three", ready=False), running_on("")], NODES, internal=False) == ("192.0.2.1",)


def test_a_node_without_an_external_address_is_published_by_its_internal_one() -> None:
    assert of_nodes([POD, running_on("two")], NODES, internal=False) == ("10.1.0.2", "192.0.2.1")


def test_an_address_that_a_node_has_left_empty_is_none() -> None:
    empty = node("one", ("ExternalIP", ""), ("ExternalIP", "192.0.2.1"), ("InternalIP", "10.1.0.1"))
    assert of_nodes([POD], [empty], internal=False) == ("192.0.2.1",)


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


def pod(name: str = "a", phase: str = "Running", ready: str = "True", **metadata: Any) -> dict[str, Any]:
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]
    return {"metadata": {"name": name, **metadata}, "spec": {"nodeName": "one"}, "status": {"phase": phase, "conditions": conditions}}


def raw(item: Any) -> Raw:
    return Raw(json.dumps(item).encode())


def a_pod(item: dict[str, Any]) -> Pod:
    found = read_pod(raw(item))
    assert isinstance(found, Pod)
    return found


def test_a_pod_says_where_it_runs_and_whether_it_is_ready() -> None:
    found = a_pod(pod(namespace="here", labels={"a": "b"}))
    assert found == Pod(meta=Meta(namespace="here", name="a", labels={"a": "b"}), node="one", running=True, ready=True)


@pytest.mark.parametrize(
    ("wrong", "running"),
    [({"phase": "Pending"}, False), ({"ready": "False"}, True), ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False)],
    ids=["pending", "not ready", "terminating"],
)
def test_a_pod_that_does_not_run_or_says_so_is_not_ready(wrong: dict[str, str], running: bool) -> None:
    found = a_pod(pod(**wrong))
    assert (found.running, found.ready) == (running, False)


def test_a_node_has_its_addresses_in_order() -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}]}
    found = read_node(raw({"metadata": {"name": "one"}, "status": status}))
    assert found == node("one", ("InternalIP", "10.1.0.1"), ("ExternalIP", "192.0.2.1"))


def test_pods_and_nodes_of_which_nothing_is_known_yet_have_nothing() -> None:
    bare = {"metadata": {"name": "a"}}
    assert a_pod(bare) == Pod(meta=Meta(namespace="", name="a"))
    assert read_node(raw(bare)) == node("a")


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"metadata": {"name": "a\xff"}}', b"[" * 100_000], ids=["list", "empty", "bytes", "deep"])
def test_what_is_no_pod_and_no_node_is_a_problem(text: bytes) -> None:
    for read in (read_pod, read_node):
        assert isinstance(read(Raw(text)), Problem)


def page(*items: dict[str, Any], token: str | None = None) -> bytes:
    return json.dumps({"kind": "List", "metadata": {"continue": token} if token else {}, "items": list(items)}).encode()


def test_a_page_of_pods_says_what_comes_next() -> None:
    assert pods(page(pod(), token="more")) == ([a_pod(pod())], "more")


def test_what_is_no_list_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expected"):
        pods(b"[]")


def test_replicas_of_all_versions_have_the_labels_of_a_pod_without_its_hashes() -> None:
    hashes = {"pod-template-hash": "abc", "controller-revision-hash": "d", "pod-template-generation": "3"}
    found = [
        a_pod(pod(name, labels=labels))
        for name, labels in {
            "me": {"app": "xds", **hashes},
            "old": {"app": "xds", "pod-template-hash": "xyz", "team": "a"},
            "other": {"app": "envoy"},
        }.items()
    ]
    assert [each.meta.name for each in siblings(found, "me")] == ["old"]


def test_a_pod_without_labels_or_that_is_not_there_has_no_replicas() -> None:
    found = [a_pod(pod("bare")), a_pod(pod("a", labels={"app": "xds"}))]
    assert siblings(found, "bare") == siblings(found, "nobody") == []
