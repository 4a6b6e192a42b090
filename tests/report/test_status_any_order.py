"""Whatever happens to Ingresses, addresses and answers, in any order: in the end each of ours says what it should, and no other does."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kube.scripted import Fault, Json, refusal, until
from tests.kube.writable import Mishap, Writable, writable

from .following import Replica, replica

OURS, THEIRS, FOREIGN = "nginx", "other", "203.0.113.1"
MISHAPS = {
    "conflict": Mishap(409, "Conflict"),
    "busy": Mishap(429, "TooManyRequests"),
    "broken": Mishap(500, "InternalError"),
    "lost": Mishap(lost=True),
}
FAULTS = {"cut": Fault(), "gone": refusal(410, "Expired"), "away": refusal(503)}
names = st.sampled_from("abc")
steps = st.one_of(
    st.tuples(st.just("edit"), names),
    st.tuples(st.just("give"), names),
    st.tuples(st.just("take"), names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("overwrite"), names),
    st.tuples(st.just("publish"), st.sampled_from(["192.0.2.1", "192.0.2.2", ""])),
    st.tuples(st.just("mishap"), st.sampled_from([*MISHAPS])),
    st.tuples(st.just("fault"), st.sampled_from([*FAULTS])),
    st.tuples(st.just("breathe"), st.integers(1, 30).map(str)),
)


def put(server: Writable, name: str, *, of: str = "", address: str = "") -> None:
    """As a user's write through the API server: the status stays, and so does the class where none is given."""
    old: Json = server.get("ingresses", name) or {}
    spec = {
        "ingressClassName": of or old.get("spec", {}).get("ingressClassName", OURS),
        "rules": [{"host": f"v{len(server.reading.store.log)}"}],
    }
    status = {"loadBalancer": {"ingress": [{"ip": address}]}} if address else old.get("status", {})
    server.put("ingresses", name, spec=spec, status=status)


def publish(server: Writable, address: str) -> None:
    entries = [{"ip": address}] if address else []
    server.put("services", "envoy", "here", spec={"type": "LoadBalancer"}, status={"loadBalancer": {"ingress": entries}})


def act(server: Writable, what: str, which: str) -> None:
    match what:
        case "edit":
            put(server, which)
        case "give":
            put(server, which, of=OURS)
        case "take":
            put(server, which, of=THEIRS)
        case "overwrite":
            put(server, which, address=FOREIGN)
        case "delete" if server.get("ingresses", which):
            server.reading.delete("ingresses", which)
        case "publish":
            publish(server, which)
        case "mishap":
            server.mishaps["ingresses"].append(MISHAPS[which])
        case "fault":
            server.reading.faults["ingresses"].append(FAULTS[which])
            server.reading.cut()


def is_settled(server: Writable, wanted: str) -> bool:
    ours = [item["metadata"]["name"] for item in server.all("ingresses") if item["spec"]["ingressClassName"] == OURS]
    return all(server.addresses(name) == [wanted] for name in ours)


def untouched(server: Writable) -> bool:
    """Whether no status of an Ingress that was theirs at that moment ever came to have an address of ours."""
    before: dict[str, Json] = {}
    for entry in server.reading.store.log:
        if entry.plural == "ingresses":
            name, status = entry.object["metadata"]["name"], entry.object.get("status", {})
            if entry.object["spec"]["ingressClassName"] == THEIRS and status != before.get(name, {}) and FOREIGN not in str(status):
                return False
            before[name] = {} if entry.type == "DELETED" else status
    return True


async def play(script: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with writable() as server:
            server.put("ingressclasses", OURS, spec={"controller": "k8s.io/ingress-nginx"})
            server.put("ingressclasses", THEIRS, spec={"controller": "example.com/other"})
            publish(server, "192.0.2.9")
            flags: Json = {"publish_status_address": (), "publish_service": "here/envoy", "status_update_interval": 0.05}
            async with replica(server, Path(folder), disable_leader_election=True, **flags) as running:
                await follow(server, running, script)
            assert untouched(server)


async def follow(server: Writable, running: Replica, script: list[tuple[str, str]]) -> None:
    for what, which in script:
        act(server, what, which)
        for _ in range(int(which) if what == "breathe" else 0):
            await asyncio.sleep(0)
    server.mishaps.clear()
    server.reading.faults.clear()
    publish(server, "192.0.2.7")
    await until(lambda: is_settled(server, "192.0.2.7"))


@settings(max_examples=40)
@given(st.lists(steps, max_size=30))
def test_in_the_end_every_ingress_of_ours_says_where_it_is_and_no_other_was_touched(script: list[tuple[str, str]]) -> None:
    asyncio.run(play(script))
