"""Several replicas: one of them writes, another one takes its place, and nobody flaps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.kube.frozen import proxied
from tests.kube.scripted import Fault, refusal, until
from tests.kube.writable import Mishap, Writable

from .following import replica

LEASE = "ingress-controller-leader"


def holder(server: Writable, name: str = LEASE) -> str:
    lease = server.get("leases", name, "here")
    return str(lease["spec"]["holderIdentity"]) if lease else ""


async def test_the_lease_has_the_name_that_was_asked_for_and_says_who_leads(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one", election_id="another-leader") as running:
        await until(lambda: running.reporter.is_leading)
        lease = server.get("leases", "another-leader", "here")
        assert lease is not None
        spec = lease["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("one", 3, 0)
        assert spec["acquireTime"] == spec["renewTime"]
        renewed = spec["renewTime"]
        await until(lambda: server.get("leases", "another-leader", "here")["spec"]["renewTime"] > renewed)  # type: ignore[index]
        assert server.get("leases", "another-leader", "here")["spec"]["acquireTime"] == renewed  # type: ignore[index]


async def test_only_the_leader_writes(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one") as first:
        await until(lambda: first.reporter.is_leading)
        async with replica(server, tmp_path, "two") as second:
            server.put("ingresses", "a", spec={})
            await until(lambda: server.addresses("a") == ["192.0.2.1"])
            await until(lambda: len(second.world.objects(object)) == 1)
            assert not second.reporter.is_leading
    assert len(server.asked("patch", "ingresses")) == 1


async def test_a_leader_that_ends_gives_the_lease_back_and_the_next_one_takes_over_at_once(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one") as first:
        await until(lambda: first.reporter.is_leading)
        async with replica(server, tmp_path, "two") as second:
            await until(lambda: len(server.reading.asked("get", "leases")) >= 2)
            await first.reporter.stop()
            assert holder(server) == ""
            looks = len(server.reading.asked("get", "leases"))
            await until(lambda: second.reporter.is_leading)
            assert len(server.reading.asked("get", "leases")) <= looks + 2, "it does not wait until the Lease has run out, which takes four"
            lease = server.get("leases", LEASE, "here")
            assert lease is not None
            assert lease["spec"]["leaseTransitions"] == 1
            server.put("ingresses", "a", spec={})
            await until(lambda: server.addresses("a") == ["192.0.2.1"])


async def test_a_leader_that_is_not_heard_is_replaced_and_knows_it_before(
    server: Writable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with replica(server, tmp_path, "one") as first:
        await until(lambda: first.reporter.is_leading)
        async with replica(server, tmp_path, "two") as second:
            server.deaf_to.add("one")
            await until(lambda: second.reporter.is_leading)
            assert holder(server) == "two"
            assert [record.message.partition(" writes")[0] for record in caplog.records if record.name == "xds"] == [
                "leader: one",
                "no longer the leader: one",
                "leader: two",
            ]
            server.deaf_to.clear()


async def test_what_comes_between_does_not_cost_the_lead(server: Writable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with replica(server, tmp_path, "one", election_ttl=9.0) as first:
        await until(lambda: first.reporter.is_leading)
        server.mishaps["leases"].extend([Mishap(500), Mishap(lost=True)])
        server.reading.faults["leases"].append(Fault())
        before = len(server.asked("update", "leases"))
        await until(lambda: len(server.asked("update", "leases")) >= before + 4)
        assert first.reporter.is_leading
    assert [record.message.partition(":")[0] for record in caplog.records if record.name == "xds"] == [
        "leader",
        "no longer the leader",
    ]


async def test_connections_that_say_nothing_more_do_not_cost_the_lead(
    server: Writable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes stop, while TCP stays acknowledged; new connections are well."""
    caplog.set_level(logging.INFO)
    async with proxied(server.reading.url) as (proxy, url):
        server.reading.url = url
        async with replica(server, tmp_path, "one", election_ttl=15.0) as first:
            await until(lambda: first.reporter.is_leading)
            for _ in range(2):
                proxy.freeze()
                before = len(server.asked("update", "leases"))
                await until(lambda before=before: len(server.asked("update", "leases")) >= before + 2)
            assert first.reporter.is_leading
        assert [record.message.partition(":")[0] for record in caplog.records if record.name == "xds"] == [
            "leader",
            "no longer the leader",
        ]


async def test_a_lease_that_somebody_deletes_is_made_anew(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one") as first:
        await until(lambda: first.reporter.is_leading)
        server.reading.delete("leases", LEASE, "here")
        await until(lambda: holder(server) == "one")
        assert first.told.get("Lease here/ingress-controller-leader", []) == []


@pytest.mark.parametrize("verb", ["get", "create", "update"])
async def test_a_role_that_does_not_allow_the_lease_is_one_problem_until_it_does(server: Writable, tmp_path: Path, verb: str) -> None:
    place = "Lease here/ingress-controller-leader"
    if verb == "get":
        server.reading.forbidden.add((verb, "leases"))
    else:
        server.forbidden.add((verb, "leases"))
    async with replica(server, tmp_path, "one") as running:
        await until(lambda: bool(running.told.get(place)))
        assert running.told[place] == [
            f'{place}: The role does not allow "{verb}" on leases in namespace here: no status and no Events are written.'
        ]
        server.reading.forbidden.clear()
        server.forbidden.clear()
        await until(lambda: running.reporter.is_leading and running.told[place] == [])


async def test_an_api_server_that_just_started_and_says_403_is_no_problem_of_the_role(server: Writable, tmp_path: Path) -> None:
    server.reading.faults["leases"].extend([refusal(403, "Forbidden")] * 2)
    server.mishaps["leases"].extend([Mishap(403, "Forbidden")] * 2)
    async with replica(server, tmp_path, "one") as running:
        await until(lambda: running.reporter.is_leading)
        assert len(server.asked("create", "leases")) == 3
        server.mishaps["leases"].append(Mishap(500))
        server.reading.faults["leases"].extend([refusal(403, "Forbidden")] * 2)  # the next start of the API server
        updates = len(server.asked("update", "leases"))
        await until(lambda: not server.reading.faults["leases"] and len(server.asked("update", "leases")) >= updates + 2)
        assert running.heard == []


async def test_a_namespace_that_does_not_exist_is_a_problem(server: Writable, tmp_path: Path) -> None:
    place = "Lease here/ingress-controller-leader"
    server.mishaps["leases"].extend([Mishap(404, "NotFound")] * 100)
    async with replica(server, tmp_path, "one") as running:
        await until(lambda: bool(running.told.get(place)))
        (sentence,) = running.told[place]
        assert sentence.startswith(f"{place}: There is no namespace here for this Lease (--pod-namespace)")
        server.mishaps["leases"].clear()
        await until(lambda: running.reporter.is_leading and running.told[place] == [])


async def test_without_an_election_everybody_writes_and_there_is_no_lease(server: Writable, tmp_path: Path) -> None:
    server.put("ingresses", "a", spec={})
    async with replica(server, tmp_path, disable_leader_election=True):
        await until(lambda: server.addresses("a") == ["192.0.2.1"])
    assert server.all("leases") == []


async def test_problems_of_reporting_are_withdrawn_with_the_lead(server: Writable, tmp_path: Path) -> None:
    async with replica(server, tmp_path, "one", publish_status_address=("foo_bar",)) as first:
        await until(lambda: bool(first.told.get("status addresses")))
        await first.reporter.stop()
        assert first.told["status addresses"] == []
