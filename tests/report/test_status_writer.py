"""The status of each Ingress of ours comes to say what it should, by one write each, and no other object is touched."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.kube.scripted import until
from tests.kube.writable import Mishap, Writable
from xds.kube import parse
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import WritePauses
from xds.kube.objects import Ingress
from xds.problem import Problem, Ref
from xds.report.status_writer import AT_ONCE, ATTEMPTS, StatusWriter

HASTY = WritePauses(first=0.001, longest=0.01, throttled=0.01, confirm_denial=0.1)
WANTED = ("192.0.2.1", "a.example.com")
A = Ref("Ingress", "default", "a")


class Known:
    """What a World knows: the server's Ingresses as of the last `look_up`, all of them ours but the `others`."""

    def __init__(self, server: Writable) -> None:
        self._server = server
        self.objects: dict[Ref, Ingress] = {}
        self.others: set[str] = set()
        self.told: dict[str, list[str]] = {}

    def look_up(self) -> list[Ref]:
        for item in self._server.all("ingresses"):
            made = parse.from_json(json.dumps(item).encode(), kind="Ingress", api_version="networking.k8s.io/v1")
            assert isinstance(made, Ingress)
            self.objects[Ref("Ingress", made.meta.namespace, made.meta.name)] = made
        return list(self.objects)

    def current(self, which: Ref) -> Ingress | None:
        return None if which.name in self.others else self.objects.get(which)

    def tell(self, place: str, problems: tuple[Problem, ...]) -> None:
        self.told[place] = [str(problem) for problem in problems]


@asynccontextmanager
async def writing(
    api: Api, known: Known, wanted: tuple[str, ...] | None = WANTED, pauses: WritePauses = HASTY
) -> AsyncIterator[StatusWriter]:
    writer = StatusWriter(api, known.current, known.tell, pauses)
    writer.wanted = wanted
    task = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(120):
            yield writer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(server: Writable, name: str, *addresses: str, namespace: str = "default") -> None:
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}
    server.put("ingresses", name, namespace, spec={"rules": [{"host": f"{name}.test"}]}, status=status)


async def test_an_ingress_without_an_address_gets_it_and_nothing_else_of_it_changes(server: Writable, api: Api) -> None:
    server.put("ingresses", "a", spec={"rules": [{"host": "a.test"}]}, metadata={"labels": {"team": "web"}})
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await writer.settled()
    found = server.get("ingresses", "a")
    assert found is not None
    assert found["status"] == {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.example.com"}]}}
    assert found["spec"] == {"rules": [{"host": "a.test"}]}
    assert found["metadata"]["labels"] == {"team": "web"}
    (write,) = server.writes
    assert (write.verb, write.part, set(write.body)) == ("patch", "status", {"metadata", "status"})


async def test_an_ingress_that_says_so_already_is_not_written_to(server: Writable, api: Api) -> None:
    put(server, "a", "192.0.2.1")
    known = Known(server)
    async with writing(api, known, ("192.0.2.1",)) as writer:
        writer.look(known.look_up())
        await writer.settled()
    assert server.writes == []


async def test_nothing_is_written_before_it_is_known_what(server: Writable, api: Api) -> None:
    put(server, "a", "192.0.2.9")
    known = Known(server)
    async with writing(api, known, None) as writer:
        writer.look(known.look_up())
        await writer.settled()
    assert server.writes == []


async def test_an_ingress_of_another_class_is_never_written_to(server: Writable, api: Api) -> None:
    put(server, "a")
    put(server, "theirs")
    known = Known(server)
    known.others = {"theirs"}
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await writer.settled()
    assert [write.name for write in server.writes] == ["a"]


async def test_an_ingress_that_became_somebody_elses_before_we_knew_is_left_alone(server: Writable, api: Api) -> None:
    """The version says which Ingress is meant."""
    put(server, "a")
    known = Known(server)
    known.look_up()
    server.put("ingresses", "a", spec={"ingressClassName": "theirs"})
    async with writing(api, known) as writer:
        writer.look([A])
        await until(lambda: len(server.writes) >= 2)
        known.others = {"a"}
        await writer.settled()
    assert server.done == []
    assert server.addresses("a") == []


async def test_an_edit_between_look_and_write_is_not_lost(server: Writable, api: Api) -> None:
    put(server, "a")
    known = Known(server)
    known.look_up()
    server.put("ingresses", "a", spec={"rules": [{"host": "new.test"}]})
    async with writing(api, known) as writer:
        writer.look([A])
        await until(lambda: bool(server.writes))
        known.look_up()
        await writer.settled()
    found = server.get("ingresses", "a")
    assert found is not None
    assert found["spec"] == {"rules": [{"host": "new.test"}]}
    assert server.addresses("a") == [*WANTED]


async def test_a_second_look_before_the_watch_has_told_writes_nothing(server: Writable, api: Api) -> None:
    put(server, "a")
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await writer.settled()
        writer.look([A])
        await writer.settled()
    assert len(server.writes) == 1


async def test_another_address_is_written_before_the_watch_has_told_of_the_last_one(server: Writable, api: Api) -> None:
    put(server, "a")
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await writer.settled()
        writer.wanted = ("192.0.2.2",)
        writer.look([A])
        await writer.settled()
    assert server.addresses("a") == ["192.0.2.2"]
    assert len(server.writes) == 2, "no attempt was in vain"


async def test_an_address_that_somebody_else_wrote_is_replaced(server: Writable, api: Api) -> None:
    put(server, "a")
    known = Known(server)
    async with writing(api, known, ("192.0.2.1",)) as writer:
        writer.look(known.look_up())
        await writer.settled()
        put(server, "a", "203.0.113.9")
        writer.look(known.look_up())
        await writer.settled()
    assert server.addresses("a") == ["192.0.2.1"]


async def test_many_are_written_at_a_time_and_not_more(server: Writable, api: Api) -> None:
    for number in range(100):
        put(server, f"i{number}")
    server.gate = asyncio.Event()
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await until(lambda: server.flying == AT_ONCE)
        await asyncio.sleep(0.01)
        assert server.flying == AT_ONCE
        server.gate.set()
        await writer.settled()
    assert server.most == AT_ONCE
    assert len(server.writes) == 100


@pytest.mark.parametrize(
    "mishap",
    [Mishap(409, "Conflict"), Mishap(429, "TooManyRequests"), Mishap(500, "InternalError"), Mishap(503), Mishap(lost=True)],
    ids=["conflict", "busy", "broken", "away", "answer lost"],
)
async def test_a_write_that_fails_is_made_again(server: Writable, api: Api, mishap: Mishap) -> None:
    put(server, "a")
    server.mishaps["ingresses"].append(mishap)
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await until(lambda: bool(server.writes) and not server.flying)
        known.look_up()
        await writer.settled()
    assert server.addresses("a") == [*WANTED]
    assert len(server.done) == 1


async def test_what_fails_often_waits_for_another_look_and_holds_nobody_up(
    server: Writable, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    put(server, "a")
    put(server, "b")
    server.mishaps["ingresses"].extend([Mishap(500, "InternalError")] * ATTEMPTS)
    known = Known(server)
    async with writing(api, known) as writer:
        known.look_up()
        writer.look([A])
        await writer.settled()
        assert len(server.writes) == ATTEMPTS
        assert [record.message.partition(":")[0] for record in caplog.records] == ["the status of Ingress default/a was not written"]
        writer.look([Ref("Ingress", "default", "b")])
        await writer.settled()
        assert (server.addresses("a"), server.addresses("b")) == ([], [*WANTED])
        writer.look_again()
        await writer.settled()
    assert server.addresses("a") == [*WANTED]


async def test_an_api_server_that_just_started_and_says_403_is_asked_until_it_has_read_its_roles(server: Writable, api: Api) -> None:
    """More often than a write that fails for another reason, and no Problem of the role."""
    put(server, "a")
    server.mishaps["ingresses"].extend([Mishap(403, "Forbidden")] * (ATTEMPTS + 1))
    known = Known(server)
    async with writing(api, known, pauses=replace(HASTY, confirm_denial=3600.0)) as writer:
        writer.look(known.look_up())
        await writer.settled()
    assert server.addresses("a") == [*WANTED]
    assert known.told.get("status", []) == []


async def test_a_role_that_lacks_the_verb_is_one_problem_and_is_not_asked_for_every_ingress(server: Writable, api: Api) -> None:
    for number in range(200):
        put(server, f"i{number}")
    server.forbidden.add(("patch", "ingresses/status"))
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await writer.settled()
        assert {write.name for write in server.writes} <= {f"i{number}" for number in range(AT_ONCE)}
        assert known.told["status"] == [
            (
                'Namespace default: The role does not allow "patch" on ingresses/status in namespace default: '
                "Ingresses there do not show where they can be reached."
            )
        ]
        server.forbidden.clear()
        writer.look_again()
        await writer.settled()
    assert all(server.addresses(f"i{number}") == [*WANTED] for number in range(200))
    assert known.told["status"] == []


async def test_an_ingress_that_is_gone_is_no_fault(server: Writable, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    put(server, "a")
    known = Known(server)
    known.look_up()
    server.reading.delete("ingresses", "a")
    async with writing(api, known) as writer:
        writer.look([A])
        await writer.settled()
        assert len(server.writes) == 1
        writer.look_again()
        await writer.settled()
    assert len(server.writes) == 1
    assert caplog.records == []


async def test_what_changes_while_it_is_written_is_looked_at_again(server: Writable, api: Api) -> None:
    put(server, "a")
    server.gate = asyncio.Event()
    known = Known(server)
    async with writing(api, known) as writer:
        writer.look(known.look_up())
        await until(lambda: server.flying == 1)
        writer.wanted = ("192.0.2.2",)
        writer.look([A])
        await asyncio.sleep(0.02)
        assert server.flying == 1, "never two writes of one object at a time"
        server.gate.set()
        await writer.settled()
    assert server.addresses("a") == ["192.0.2.2"]


async def test_a_fault_of_ours_stops_nobody_else(server: Writable, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    put(server, "a")
    put(server, "b")
    known = Known(server)
    known.look_up()
    current = known.current

    def broken(which: Ref) -> Ingress | None:
        if which == A:
            raise LookupError("scripted")
        return current(which)

    known.current = broken  # type: ignore[method-assign]
    async with writing(api, known) as writer:
        writer.look([A, Ref("Ingress", "default", "b")])
        await writer.settled()
    assert server.addresses("b") == [*WANTED]
    assert "please report it" in caplog.text
