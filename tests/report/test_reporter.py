"""A replica against an API server: who is told what, when, and by whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kube.scripted import Fault, Json, until
from tests.kube.writable import Mishap, Writable
from xds.problem import Problem, Ref, Severity

from .following import replica

WEB = Ref("Ingress", "default", "a")
BROKEN = Problem(WEB, "spec.rules[0].host", "bad-host", "This is no host.")


def put(server: Writable, name: str, **fields: Any) -> None:
    server.put("ingresses", name, spec={"rules": [{"host": f"{name}.test"}], **fields})


def told(server: Writable, name: str = "a") -> list[tuple[str, str, str, int]]:
    """Type, reason, message and count of each Event about an Ingress."""
    found = [item for item in server.all("events") if item["involvedObject"]["name"] == name]
    return sorted((item["type"], item["reason"], item["message"], item["count"]) for item in found)


SYNC = ("Normal", "Sync", "Scheduled for sync", 1)
WARNING = ("Warning", "BadHost", "spec.rules[0].host: This is no host.", 1)


async def test_every_ingress_of_ours_gets_its_address_and_is_told_that_it_is_taken_over(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path):
        await until(lambda: server.addresses("a") == ["192.0.2.1"] and told(server) == [SYNC])
        put(server, "b")
        await until(lambda: server.addresses("b") == ["192.0.2.1"] and told(server, "b") == [SYNC])


async def test_an_event_leads_to_its_ingress(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path):
        await until(lambda: told(server) == [SYNC])
    (event,), ingress = server.all("events"), server.get("ingresses", "a")
    assert ingress is not None
    assert event["involvedObject"] == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "namespace": "default",
        "name": "a",
        "uid": ingress["metadata"]["uid"],
    }
    assert event["metadata"]["namespace"] == "default"
    assert event["firstTimestamp"] == event["lastTimestamp"]
    assert (event["source"], event["reportingInstance"]) == ({"component": "xds"}, "xds-0")


async def test_an_ingress_of_another_class_is_told_nothing_until_it_is_ours(server: Writable, tmp_path: Path) -> None:
    server.put("ingressclasses", "nginx", spec={"controller": "k8s.io/ingress-nginx"})
    server.put("ingressclasses", "other", spec={"controller": "example.com/other"})
    put(server, "a", ingressClassName="other")
    put(server, "ours", ingressClassName="nginx")
    async with replica(server, tmp_path) as running:
        running.judged(BROKEN)
        await until(lambda: server.addresses("ours") == ["192.0.2.1"] and told(server, "ours") == [SYNC])
        assert server.addresses("a") == []
        assert told(server) == []
        put(server, "a", ingressClassName="nginx")
        await until(lambda: server.addresses("a") == ["192.0.2.1"] and told(server) == [SYNC, WARNING])


async def test_a_class_that_becomes_ours_brings_its_ingresses(server: Writable, tmp_path: Path) -> None:
    put(server, "a", ingressClassName="late")
    async with replica(server, tmp_path) as running:
        await until(lambda: running.reporter.is_leading)
        server.put("ingressclasses", "late", spec={"controller": "k8s.io/ingress-nginx"})
        await until(lambda: server.addresses("a") == ["192.0.2.1"] and told(server) == [SYNC])


async def test_a_canary_gets_an_address_and_an_excluded_catch_all_does_not(server: Writable, tmp_path: Path) -> None:
    marked = {"annotations": {"nginx.ingress.kubernetes.io/canary": "true"}}
    server.put("ingresses", "canary", spec={"rules": [{"host": "a.test"}]}, metadata=marked)
    put(server, "excluded", defaultBackend={"service": {"name": "s", "port": {"number": 80}}})
    async with replica(server, tmp_path, disable_catch_all=True) as running:
        await until(lambda: server.addresses("canary") == ["192.0.2.1"])
        excluded = Problem(Ref("Ingress", "default", "excluded"), "", "catch-all-disabled", "It is ignored.")
        running.judged(excluded)
        await until(lambda: told(server, "excluded") == [("Warning", "CatchAllDisabled", "It is ignored.", 1)])
        assert server.addresses("excluded") == []


async def test_a_problem_is_a_warning_and_one_worth_knowing_is_none(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    note = Problem(WEB, "metadata", "annotation-approximate", "It works nearly.", Severity.NOTE)
    elsewhere = Problem(Ref("Service", "default", "a"), "", "x", "It is no Ingress.")
    async with replica(server, tmp_path, disable_sync_events=True) as running:
        running.judged(note, elsewhere, Problem(Ref("Ingress", "", ""), "", "forbidden", "Of no Ingress."), BROKEN)
        await until(lambda: bool(told(server)))
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert told(server) == [WARNING]
    assert len(server.all("events")) == 1


async def test_a_problem_that_comes_back_is_counted_and_its_sentence_brought_up_to_date(server: Writable, tmp_path: Path) -> None:
    """In between there is one of another Ingress, whose Event shows that the absence of the first was seen."""
    put(server, "a")
    put(server, "b")
    async with replica(server, tmp_path, disable_sync_events=True) as running:
        running.judged(BROKEN)
        await until(lambda: told(server) == [WARNING])
        (first,) = server.all("events")
        running.judged(replace(BROKEN, about=Ref("Ingress", "default", "b")))
        await until(lambda: told(server, "b") == [WARNING])
        running.judged(Problem(WEB, BROKEN.field, BROKEN.code, "Other words."))
        await until(lambda: told(server) == [("Warning", "BadHost", "spec.rules[0].host: Other words.", 2)])
        (second,) = [each for each in server.all("events") if each["involvedObject"]["name"] == "a"]
    assert second["firstTimestamp"] == first["firstTimestamp"]
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


async def test_a_restart_repeats_nothing(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path) as running:
        running.judged(BROKEN)
        await until(lambda: told(server) == [SYNC, WARNING] and server.addresses("a") == ["192.0.2.1"])
    before = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in server.all("events")}
    patched = len(server.asked("patch", "ingresses"))
    async with replica(server, tmp_path, "xds-0_2") as running:
        running.judged(BROKEN)
        await until(lambda: len(server.asked("patch", "events")) == 1 and not server.flying)
        await asyncio.sleep(0.02)
    assert {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in server.all("events")} == before
    assert len(server.asked("patch", "ingresses")) == patched
    assert len(server.asked("create", "events")) == 3, "the one of the Problem, which was there"


async def test_an_ingress_that_is_made_anew_is_told_anew(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path) as running:
        running.judged(BROKEN)
        await until(lambda: told(server) == [SYNC, WARNING])
        server.reading.delete("ingresses", "a")
        put(server, "a")
        await until(lambda: told(server) == [SYNC, SYNC, WARNING, WARNING])


async def test_without_updates_of_the_status_there_are_events_only(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path, update_status=False):
        await until(lambda: told(server) == [SYNC])
    assert server.asked("patch", "ingresses") == []


async def test_a_role_without_events_is_one_problem_and_the_status_is_written(server: Writable, tmp_path: Path) -> None:
    server.forbidden.add(("create", "events"))
    put(server, "a")
    put(server, "b")
    async with replica(server, tmp_path) as running:
        await until(lambda: server.addresses("a") == server.addresses("b") == ["192.0.2.1"] and bool(running.told.get("events default")))
        assert running.told["events default"] == [
            (
                'Namespace default: The role does not allow "create" on events in namespace default: '
                "Problems of Ingresses there are not written as Events."
            )
        ]


async def test_an_event_is_not_lost_to_an_api_server_that_just_started_and_says_403(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.mishaps["events"].extend([Mishap(403, "Forbidden")] * 2)
    async with replica(server, tmp_path) as running:
        await until(lambda: told(server) == [SYNC])
        assert running.heard == []


async def test_events_are_written_again_as_soon_as_a_role_allows_them(server: Writable, tmp_path: Path) -> None:
    server.forbidden.add(("create", "events"))
    put(server, "a")
    async with replica(server, tmp_path) as running:
        await until(lambda: bool(running.told.get("events default")))
        server.forbidden.clear()
        put(server, "b")
        await until(lambda: told(server, "b") == [SYNC] and running.told["events default"] == [])


async def test_a_namespace_that_goes_is_no_problem_of_the_role(server: Writable, tmp_path: Path) -> None:
    """Nothing can be made in it any more, so it is not tried again either."""
    put(server, "a")
    put(server, "b")
    server.mishaps["events"].append(Mishap(403, "Forbidden: it is being terminated"))
    async with replica(server, tmp_path) as running:
        await until(lambda: told(server, "b") == [SYNC])
        assert running.heard == []
    assert [write.body["involvedObject"]["name"] for write in server.asked("create", "events")] == ["a", "b"]


@pytest.mark.parametrize("mishap", [Mishap(429), Mishap(500), Mishap(lost=True)], ids=["busy", "broken", "answer lost"])
async def test_an_event_that_fails_is_written_after_a_while(server: Writable, tmp_path: Path, mishap: Mishap) -> None:
    put(server, "a")
    server.mishaps["events"].append(mishap)
    async with replica(server, tmp_path):
        await until(lambda: told(server) == [SYNC])


def balancer(*addresses: str) -> Json:
    entries = [{"ip": address} for address in addresses]
    return {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": entries}}}


BY_SERVICE: Json = {"publish_status_address": (), "publish_service": "here/envoy"}


async def test_the_address_of_the_published_service_is_followed(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.put("services", "envoy", "here", **balancer())
    async with replica(server, tmp_path, **BY_SERVICE) as running:
        await until(lambda: bool(running.told.get("status addresses")))
        assert running.told["status addresses"] == [
            "Service here/envoy: --publish-service names this Service, but it has no address yet (LoadBalancer); no status is written."
        ]
        server.put("services", "envoy", "here", **balancer("192.0.2.7"))
        await until(lambda: server.addresses("a") == ["192.0.2.7"] and running.told["status addresses"] == [])
        server.put("services", "envoy", "here", **balancer("192.0.2.8"))
        await until(lambda: server.addresses("a") == ["192.0.2.8"])
    assert server.reading.asked("get", "services") == []


async def test_an_address_that_is_gone_for_now_stays_published(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.put("services", "envoy", "here", **balancer("192.0.2.7"))
    async with replica(server, tmp_path, **BY_SERVICE) as running:
        await until(lambda: server.addresses("a") == ["192.0.2.7"])
        server.reading.delete("services", "envoy", "here")
        await until(lambda: bool(running.told.get("status addresses")))
        put(server, "b")
        await until(lambda: server.addresses("b") == ["192.0.2.7"])
    assert server.addresses("a") == ["192.0.2.7"]


async def test_a_published_service_outside_of_the_watched_namespace_is_followed_without_any_other_right(
    server: Writable, tmp_path: Path
) -> None:
    put(server, "a")
    server.put("services", "envoy", "here", **balancer("192.0.2.7"))
    async with replica(server, tmp_path, watch_namespace="default", **BY_SERVICE):
        await until(lambda: server.addresses("a") == ["192.0.2.7"])
        server.put("services", "envoy", "here", **balancer("192.0.2.8"))
        await until(lambda: server.addresses("a") == ["192.0.2.8"])
    assert server.reading.asked("get", "services") == []


async def test_a_published_service_that_does_not_exist_is_a_problem(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, **BY_SERVICE) as running:
        await until(lambda: bool(running.told.get("status addresses")))
        assert running.told["status addresses"] == [
            "Service here/envoy: --publish-service names this Service, but it does not exist, or may not be read; no status is written."
        ]


def envoy(server: Writable, name: str, node: str, ready: str = "True", component: str = "envoy") -> None:
    conditions = [{"type": "Ready", "status": ready}]
    labels = {"app.kubernetes.io/component": component}
    status = {"phase": "Running", "conditions": conditions}
    server.put("pods", name, "here", spec={"nodeName": node}, status=status, metadata={"labels": labels})


async def test_the_nodes_of_ready_envoys_are_published_where_no_flag_says_what(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    for number in range(150):  # more than a page
        addresses = [{"type": "InternalIP", "address": f"10.1.0.{number}"}]
        server.put("nodes", f"n{number}", status={"addresses": addresses})
    envoy(server, "envoy-1", "n7")
    envoy(server, "envoy-2", "n149")
    envoy(server, "envoy-3", "n3", ready="False")
    envoy(server, "not-an-envoy", "n4", component="web")
    async with replica(server, tmp_path, publish_status_address=()):
        await until(lambda: server.addresses("a") == ["10.1.0.149", "10.1.0.7"])


def node(server: Writable, name: str, address: str) -> None:
    server.put("nodes", name, status={"addresses": [{"type": "InternalIP", "address": address}]})


async def test_an_envoy_that_comes_or_goes_and_a_node_that_moves_is_followed(server: Writable, tmp_path: Path) -> None:
    """Each by itself: it is watched, not looked up now and then."""
    put(server, "a")
    node(server, "n1", "10.1.0.1")
    node(server, "n2", "10.1.0.2")
    envoy(server, "envoy-1", "n1")
    async with replica(server, tmp_path, publish_status_address=(), status_update_interval=3600.0):
        await until(lambda: server.addresses("a") == ["10.1.0.1"])
        envoy(server, "envoy-2", "n2")
        await until(lambda: server.addresses("a") == ["10.1.0.1", "10.1.0.2"])
        envoy(server, "envoy-1", "n1", ready="False")
        await until(lambda: server.addresses("a") == ["10.1.0.2"])
        node(server, "n2", "10.1.0.9")
        await until(lambda: server.addresses("a") == ["10.1.0.9"])
        envoy(server, "envoy-1", "n1")
        await until(lambda: server.addresses("a") == ["10.1.0.1", "10.1.0.9"])
        server.reading.delete("pods", "envoy-1", "here")
        await until(lambda: server.addresses("a") == ["10.1.0.9"])
        envoy(server, "envoy-1", "n1")
        await until(lambda: server.addresses("a") == ["10.1.0.1", "10.1.0.9"])
        server.reading.delete("nodes", "n2")
        await until(lambda: server.addresses("a") == ["10.1.0.1"])


@pytest.mark.parametrize(("internal", "address"), [(False, "192.0.2.1"), (True, "10.1.0.1")], ids=["external", "internal"])
async def test_the_address_of_a_node_is_the_one_that_was_asked_for(server: Writable, tmp_path: Path, internal: bool, address: str) -> None:
    put(server, "a")
    addresses = [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}]
    server.put("nodes", "n1", status={"addresses": addresses})
    envoy(server, "envoy-1", "n1")
    async with replica(server, tmp_path, publish_status_address=(), report_node_internal_ip_address=internal):
        await until(lambda: server.addresses("a") == [address])


async def test_while_nodes_are_not_known_yet_nothing_is_said_about_them(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    node(server, "n1", "10.1.0.1")
    envoy(server, "envoy-1", "n1")
    gate = asyncio.Event()
    server.reading.faults["nodes"].append(Fault("list", gate=gate))
    async with replica(server, tmp_path, publish_status_address=()) as running:
        await until(lambda: told(server) == [SYNC] and server.reading.watched("pods"))
        await asyncio.sleep(0.02)  # time for a look at the addresses
        gate.set()
        await until(lambda: server.addresses("a") == ["10.1.0.1"])
        assert running.heard == []


async def test_where_the_last_envoy_is_gone_statuses_stay_and_that_is_a_problem(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    node(server, "n1", "10.1.0.1")
    envoy(server, "envoy-1", "n1")
    async with replica(server, tmp_path, publish_status_address=()) as running:
        await until(lambda: server.addresses("a") == ["10.1.0.1"])
        server.reading.delete("pods", "envoy-1", "here")
        await until(lambda: bool(running.told.get("status addresses")))
        (sentence,) = running.told["status addresses"]
        assert "No ready pod with labels app.kubernetes.io/component=envoy" in sentence
    assert server.addresses("a") == ["10.1.0.1"]


@pytest.mark.parametrize("flags", [{"publish_status_address": ("192.0.2.1",)}, {"update_status": False}], ids=["a flag says", "no status"])
async def test_pods_and_nodes_are_not_asked_for_where_nobody_needs_them(server: Writable, tmp_path: Path, flags: Json) -> None:
    put(server, "a")
    async with replica(server, tmp_path, **({"publish_status_address": ()} | flags)):
        await until(lambda: told(server) == [SYNC])
    assert [each.which.plural for each in server.reading.requests if each.which.plural in ("pods", "nodes")] == []


async def test_pods_and_nodes_are_asked_for_by_the_leader_alone(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one", publish_status_address=()) as first:
        await until(lambda: first.reporter.is_leading and server.reading.watched("nodes") and server.reading.watched("pods"))
        before = len(server.reading.asked("list", "nodes"))
        async with replica(server, tmp_path, "two", publish_status_address=()):
            looks = len(server.reading.asked("get", "leases"))
            await until(lambda: len(server.reading.asked("get", "leases")) > looks)
        assert len(server.reading.asked("list", "nodes")) == before
        await first.reporter.stop()
        await until(lambda: not server.reading.watched("nodes") and not server.reading.watched("pods"))


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("which", ["pods", "nodes"])
async def test_a_role_that_does_not_allow_to_know_the_nodes_is_one_problem(server: Writable, tmp_path: Path, which: str, verb: str) -> None:
    put(server, "a")
    node(server, "n1", "10.1.0.1")
    envoy(server, "envoy-1", "n1")
    server.reading.forbidden.add((verb, which))
    async with replica(server, tmp_path, publish_status_address=()) as running:
        await until(lambda: any("does not allow" in each for sentences in running.told.values() for each in sentences))
        (sentence,) = [each for sentences in running.told.values() for each in sentences if "does not allow" in each]
        assert f'The role does not allow "{verb}" on {which}' in sentence
    assert bool(server.asked("patch", "ingresses")) is (verb == "watch")


async def test_an_address_that_is_none_is_a_problem_of_its_flag(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, publish_status_address=("192.0.2.1", "foo_bar")) as running:
        await until(lambda: bool(running.told.get("status addresses")))
        assert running.told["status addresses"] == [
            "Flag --publish-status-address: 'foo_bar' is neither an IP nor a host name; no status is written."
        ]


def controller(server: Writable, name: str, **metadata: Any) -> None:
    labels = {"app": "xds", "pod-template-hash": name}
    server.put("pods", name, "here", spec={"nodeName": "n"}, status={"phase": "Running"}, metadata={"labels": labels, **metadata})


async def test_shutdown_clears_nothing(server: Writable, tmp_path: Path) -> None:
    controller(server, "xds-0")
    put(server, "a")
    async with replica(server, tmp_path):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.addresses("a") == ["192.0.2.1"]


CLEARING: Json = {"update_status_on_shutdown": True, "status_update_interval": 0.001}


async def test_the_last_replica_clears_the_status_where_that_was_asked_for(server: Writable, tmp_path: Path) -> None:
    server.put("ingressclasses", "other", spec={"controller": "example.com/other"})
    controller(server, "xds-0")
    put(server, "a")
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
    server.put("ingresses", "theirs", spec={"ingressClassName": "other"}, status=status)
    async with replica(server, tmp_path, **CLEARING) as running:
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
        server.gate = asyncio.Event()
        stopping = asyncio.create_task(running.reporter.stop())
        await until(lambda: len(server.asked("patch", "ingresses")) == 2)
        await asyncio.sleep(0.02)  # time for another look at the addresses
        server.gate.set()
        await stopping
    assert server.addresses("a") == []
    assert server.addresses("theirs") == ["203.0.113.1"]


async def test_a_replica_that_is_not_the_last_one_clears_nothing(server: Writable, tmp_path: Path) -> None:
    controller(server, "xds-0")
    controller(server, "xds-1")
    put(server, "a")
    async with replica(server, tmp_path, **CLEARING):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.addresses("a") == ["192.0.2.1"]


async def test_a_role_that_does_not_allow_to_list_pods_clears_nothing_and_that_is_said(
    server: Writable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    controller(server, "xds-0")
    put(server, "a")
    server.reading.forbidden.add(("list", "pods"))
    async with replica(server, tmp_path, **CLEARING):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.addresses("a") == ["192.0.2.1"]
    assert 'The role does not allow "list" on pods in namespace here' in caplog.text


async def test_a_replica_that_does_not_know_whether_it_is_the_last_one_clears_nothing(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path, **CLEARING):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.addresses("a") == ["192.0.2.1"]
