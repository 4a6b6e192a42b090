"""Whatever happens to objects, answers and connections, in any order: in the end the World has what the API server has."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from xds.kube.apiserver.api import Patience
from xds.kube.apiserver.referred import config_maps_of, secrets_of
from xds.kube.apiserver.reflector import Backoff
from xds.kube.objects import Ingress, Object
from xds.problem import Ref

from .scripted import Fault, Scripted, Selection, line, refusal, secret, serving, status, until
from .test_cluster import DEADLINE, KINDS, TLS, following

HASTY = Backoff(first=0.001, longest=0.004, denied=0.004, longest_retry_after=0.001, watch=1.0)
FAULTS = {
    "cut": Fault(),
    "ends": Fault(ends=True),
    "half": Fault(body=b'{"type":"ADDED","object":{"kind'),
    "garbage": Fault("watch", body=b"]\n", ends=True),
    "gone": Fault("watch", body=line("ERROR", status(410, "Expired", "too old")), ends=True),
    "error": Fault("watch", body=line("ERROR", status(500, "InternalError", "etcd")), ends=True),
    "expired": refusal(410, "Expired"),
    "busy": refusal(429, "TooManyRequests", Retry_After="1"),
    "unauthorized": refusal(401, "Unauthorized"),
    "forbidden": refusal(403, "Forbidden"),
    "broken": refusal(500, "InternalError"),
    "get": Fault("get"),
}
PREFIX = "nginx.ingress.kubernetes.io"
names, kinds = st.sampled_from("abc"), st.sampled_from([*KINDS, "secrets", "configmaps"])
steps = st.one_of(
    st.tuples(st.just("put"), kinds, names),
    st.tuples(st.just("put"), kinds, names),
    st.tuples(st.just("delete"), kinds, names),
    st.tuples(st.just("retype"), st.just("secrets"), names),
    st.tuples(st.just("fault"), kinds, st.sampled_from([*FAULTS])),
    st.tuples(st.sampled_from(["cut", "compact", "breathe"]), st.just(""), st.just("")),
)


def put(server: Scripted, plural: str, name: str, *, kind: str = "kubernetes.io/tls") -> None:
    number = server.store.version
    match plural:
        case "ingresses":
            named = {f"{PREFIX}/custom-headers": f"default/{'abc'[number // 3 % 3]}"}
            server.put(plural, name, metadata={"annotations": named}, spec={"tls": [{"secretName": "abc"[number % 3]}]})
        case "services":
            server.put(plural, name, spec={"ports": [{"port": number}]})
        case "endpointslices":
            server.put(plural, name, addressType="IPv4", metadata={"labels": {"kubernetes.io/service-name": name}})
        case "ingressclasses":
            server.put(plural, name, spec={"controller": f"example.org/{number}"})
        case "secrets":
            server.put(plural, name, **secret(kind, text=str(number)))
        case "configmaps":
            server.put(plural, name, data={"number": str(number)})


def act(server: Scripted, what: str, plural: str, which: str) -> None:
    key = (plural, "" if plural == "ingressclasses" else "default", which)
    old = server.store.objects.get(key)
    match what:
        case "put":
            put(server, plural, which, kind=old["type"] if old and plural == "secrets" else "kubernetes.io/tls")
        case "delete" if old:
            server.delete(plural, which)
        case "retype":
            kind = "Opaque" if old is None or old["type"] != "Opaque" else "kubernetes.io/tls"
            if old:
                server.delete(plural, which)
            put(server, plural, which, kind=kind)
        case "fault":
            server.faults[plural].append(FAULTS[which])
        case "compact":
            server.store.compact()
        case "cut":
            server.cut()


def wanted(server: Scripted) -> dict[Ref, Object]:
    """All objects, and of ConfigMaps and of Secrets of other types those that an Ingress refers to."""
    found = server.store.world(*map(Selection, KINDS), TLS)
    ours = [item for item in found.values() if isinstance(item, Ingress)]
    referred = {which for item in ours for which in secrets_of(item, PREFIX) | config_maps_of(item, PREFIX)}
    others = server.store.world(Selection("secrets", selector="type!=kubernetes.io/tls"), Selection("configmaps"))
    return found | {which: item for which, item in others.items() if which in referred}


async def turn() -> None:
    """Let others do something, not for any time."""
    for _ in range(30):
        await asyncio.sleep(0)


async def play(script: list[tuple[str, str, str]], before: int) -> None:
    """The first steps happen before anybody listens, the others while somebody does."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving() as server, following(server, Path(folder), Patience(answer=2, late=1), HASTY) as followed:
            for step in script[:before]:
                act(server, *step)
            known = wanted(server)
            await followed.take()
            if not any(which == "forbidden" for _, _, which in script[:before]):
                assert followed.objects() == known, "the first Change has everything"
            taking = asyncio.create_task(followed.until(lambda: False))
            for step in script[before:]:
                act(server, *step)
                if step[0] == "breathe":
                    await turn()
            server.faults.clear()
            known = wanted(server)
            try:
                await until(lambda: followed.objects() == known and not any(followed.problems.values()), DEADLINE)
                await turn()
                assert followed.objects() == known
            finally:
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)


@settings(max_examples=40)
@given(st.lists(steps, max_size=30), st.integers(0, 10))
def test_in_the_end_the_world_has_what_the_api_server_has(script: list[tuple[str, str, str]], before: int) -> None:
    asyncio.run(play(script, before))
