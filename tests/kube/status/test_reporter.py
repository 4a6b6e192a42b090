"""A replica against an API server: who is told what, when, and by whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.kube.scripted import Fault, Json, refusal, until
from tests.kube.writable import Mishap, Writable
from xds.kube.objects import Ref
from xds.model import Problem, Severity

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
    put(server, "a")
    async with replica(server, tmp_path, disable_sync_events=True) as running:
        running.judged(BROKEN)
        await until(lambda: told(server) == [WARNING])
        (first,) = server.all("events")
        running.judged()
        await asyncio.sleep(0.02)
        running.judged(Problem(WEB, BROKEN.field, BROKEN.code, "Other words."))
        await until(lambda: told(server) == [("Warning", "BadHost", "spec.rules[0].host: Other words.", 2)])
        (second,) = server.all("events")
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
                "what is wrong with an Ingress there is not told as an Event."
            )
        ]


async def test_a_namespace_that_goes_is_no_problem_of_the_role(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.mishaps["events"].append(Mishap(403, "Forbidden: it is being terminated"))
    async with replica(server, tmp_path) as running:
        await until(lambda: bool(server.asked("create", "events")) and not server.flying)
        await asyncio.sleep(0.02)
        assert "events default" not in running.told


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
        await until(lambda: server.addresses("a") == ["192.0.2.7"])
        assert running.told["status addresses"] == []
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


async def test_a_published_service_that_is_not_watched_is_asked_for(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.put("services", "envoy", "here", **balancer("192.0.2.7"))
    async with replica(server, tmp_path, watch_namespace="default", **BY_SERVICE):
        await until(lambda: server.addresses("a") == ["192.0.2.7"])


def envoy(server: Writable, name: str, node: str, ready: str = "True") -> None:
    conditions = [{"type": "Ready", "status": ready}]
    labels = {"app.kubernetes.io/component": "envoy"}
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
    async with replica(server, tmp_path, publish_status_address=()):
        await until(lambda: server.addresses("a") == ["10.1.0.149", "10.1.0.7"])


@pytest.mark.parametrize("which", ["pods", "nodes"])
async def test_a_role_that_does_not_allow_to_look_addresses_up_is_one_problem(server: Writable, tmp_path: Path, which: str) -> None:
    put(server, "a")
    envoy(server, "envoy-1", "n1")
    if which == "pods":
        server.forbidden.add(("list", which))
    else:
        server.reading.forbidden.add(("list", which))
    async with replica(server, tmp_path, publish_status_address=()) as running:
        await until(lambda: told(server) == [SYNC] and bool(running.told.get("status addresses")))
        (sentence,) = running.told["status addresses"]
        assert f'The role does not allow "list" on {which}' in sentence
    assert server.asked("patch", "ingresses") == []


async def test_an_address_that_is_none_is_a_problem_of_its_flag(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, publish_status_address=("192.0.2.1", "foo_bar")) as running:
        await until(lambda: bool(running.told.get("status addresses")))
        assert running.told["status addresses"] == [
            "Flag --publish-status-address: 'foo_bar' is neither an IP nor a host name; no status is written."
        ]


async def test_addresses_that_cannot_be_looked_up_now_are_looked_up_again(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    server.put("services", "envoy", "here", **balancer("192.0.2.7"))
    server.reading.faults["services"].extend([refusal(500, verb="get"), Fault("get")])
    async with replica(server, tmp_path, watch_namespace="default", **BY_SERVICE):
        await until(lambda: server.addresses("a") == ["192.0.2.7"])
    assert len(server.reading.asked("get", "services")) >= 3


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


async def test_a_replica_that_does_not_know_whether_it_is_the_last_one_clears_nothing(server: Writable, tmp_path: Path) -> None:
    put(server, "a")
    async with replica(server, tmp_path, **CLEARING):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.addresses("a") == ["192.0.2.1"]
