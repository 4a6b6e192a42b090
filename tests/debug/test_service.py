"""Our debug service: what it makes of what its Subject says, and what it says to those who ask for what cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from tests.debug.conftest import Caller, Connect, Scripted
from tests.server.client import eventually, resource
from xds.debug import v1
from xds.debug.service import Debug
from xds.debug.subject import Effect, Explained
from xds.problem import Place, Problem, Ref, Severity
from xds.protocol.discovery import Wire
from xds.server.progress import Cause, LaggingEnvoy, PlacedPart, Programmed, Rejection, Verb
from xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Part
from xds.units.traces import Asked

WEB = Asked(Ref("Ingress", "shop", "web"))
PORT = Asked(Ref("ConfigMap", "ingress", "tcp"), "5432")
HOST = Part(ROUTE, "ingress", "shop.example")
ALL = Programmed((PlacedPart(HOST, "v1", 1),), envoys=2, lacking=())
SOME = replace(ALL, lacking=(LaggingEnvoy("b", (HOST,), (Rejection("b", ROUTE, "no memory"),)),))
HELD = replace(ALL, parts=(PlacedPart(HOST, "v1", 1, "bad regex"),), lacking=(LaggingEnvoy("a", (HOST,)), LaggingEnvoy("b", (HOST,))))


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code(), refused.value.details() or ""


# Fleet


async def test_fleet_tells_of_the_replica_before_there_is_a_snapshot(subject: Scripted, call: Caller) -> None:
    subject.waiting, subject.staleness = ("Services have not been listed.",), {"Service": 1.5}
    found: v1.FleetResponse = await call("Debug/Fleet", v1.FleetRequest())
    assert (found.replica, found.version, found.ready) == ("xds-0", "1.2.3", False)
    assert (found.waiting, found.staleness_seconds) == (["Services have not been listed."], {"Service": 1.5})


async def test_fleet_tells_what_is_published(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("a"), resource("b"))
    found: v1.FleetResponse = await call("Debug/Fleet", v1.FleetRequest())
    clusters = next(published for published in found.published if published.type_url == CLUSTER)
    assert found.ready
    assert (clusters.resources, clusters.version) == (2, subject.snapshot[CLUSTER].version)


@pytest.mark.parametrize("wire", Wire)
async def test_fleet_tells_who_is_connected_and_how_far_it_is(subject: Scripted, call: Caller, connect: Connect, wire: Wire) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.put(ENDPOINT, resource("web", "bad"))
    client = connect(wire)
    await client.subscribe(CLUSTER)
    clusters = await client.read()
    await client.answer(clusters)
    await client.subscribe(ENDPOINT, ["web"])
    endpoints = await client.read()
    await eventually(lambda: any(e.session.summaries[CLUSTER].settled for e in subject.envoys()))

    async def types() -> dict[str, v1.EnvoyType]:
        (envoy,) = (await call("Debug/Fleet", v1.FleetRequest())).envoys
        assert (envoy.node_id, envoy.cluster, envoy.only_type_url) == ("envoy-1", "edge", "")
        assert envoy.wire is (v1.Wire.DELTA if wire is Wire.DELTA else v1.Wire.STATE_OF_THE_WORLD)
        assert envoy.peer.startswith("ipv4:127.0.0.1:")
        assert envoy.connected_since <= datetime.now(UTC)
        return {found.type_url: found for found in envoy.types}

    found = await types()
    assert found[CLUSTER] == v1.EnvoyType(type_url=CLUSTER, accepted_version=subject.snapshot[CLUSTER].version, wildcard=True, in_sync=True)
    assert found[ENDPOINT] == v1.EnvoyType(type_url=ENDPOINT, nonces_in_flight=[endpoints.nonce], names=1)
    await client.answer(endpoints, ["web"], error="no such port")
    await eventually(lambda: any(e.session.rejections for e in subject.envoys()))
    rejected = (await types())[ENDPOINT]
    assert rejected.rejection == v1.Rejection(resources=["web"], error="no such port")
    assert not rejected.in_sync


async def test_fleet_can_be_asked_for_one_envoy(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    for node in ("a", "b"):
        client = connect(node=node)
        await client.subscribe(CLUSTER)
        await client.read()
    found: v1.FleetResponse = await call("Debug/Fleet", v1.FleetRequest(node_id="b"))
    assert [envoy.node_id for envoy in found.envoys] == ["b"]


# Problems

BAD = Problem(Ref("Ingress", "shop", "web"), "spec.rules[0].host", "host", "is no host", place=Place("shop.yaml", 1, 12))
RISKY = Problem(
    Ref("Ingress", "shop", "web"),
    "metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]",
    "annotation-approximate",
    "nearly",
    Severity.NOTE,
)
OTHER = Problem(Ref("Secret", "shop", "tls"), "", "expired", "is over", Severity.WARNING)


async def test_problems_are_told_with_object_field_and_place(subject: Scripted, call: Caller) -> None:
    subject.found = [OTHER, BAD, RISKY]
    found: v1.ProblemsResponse = await call("Debug/Problems", v1.ProblemsRequest())
    assert [(p.object.kind if p.object else "", p.code) for p in found.problems] == [
        ("Ingress", "annotation-approximate"),
        ("Ingress", "host"),
        ("Secret", "expired"),
    ]
    assert found.problems[1] == v1.Problem(
        object=v1.ObjectReference(kind="Ingress", namespace="shop", name="web"),
        field="spec.rules[0].host",
        code="host",
        severity=v1.Severity.ERROR,
        sentence="is no host",
        place=v1.Place(file="shop.yaml", line=12, document=1),
        feature="host",
    )
    assert (found.problems[0].feature, found.problems[0].severity) == ("rewrite_target", v1.Severity.NOTE)


@pytest.mark.parametrize(
    ("request_", "codes"),
    [
        (v1.ProblemsRequest(kind="Secret"), ["expired"]),
        (v1.ProblemsRequest(name="web", namespace="shop"), ["annotation-approximate", "host"]),
        (v1.ProblemsRequest(namespace="other"), []),
    ],
)
async def test_problems_can_be_asked_for_by_object(subject: Scripted, call: Caller, request_: v1.ProblemsRequest, codes: list[str]) -> None:
    subject.found = [OTHER, BAD, RISKY]
    assert [p.code for p in (await call("Debug/Problems", request_)).problems] == codes


# Explain


async def test_explain_says_who_has_it(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    for node in ("a", "b"):
        client = connect(node=node)
        await client.subscribe(CLUSTER)
        await client.read()
    document = {"version": 1, "answered": True, "url": "http://sh\u00f6p/"}
    subject.explained = Explained(document, "shop/web r", "shop.example", "shop/web/80", SOME)
    found: v1.ExplainResponse = await call("Debug/Explain", v1.ExplainRequest(url="x"))
    assert found == v1.ExplainResponse(
        json='{"version": 1, "answered": true, "url": "http://sh\u00f6p/"}',
        answered=True,
        route="shop/web r",
        virtual_host="shop.example",
        cluster="shop/web/80",
        node_ids=["a"],
        waiting_node_ids=["b"],
    )


async def test_explain_of_what_is_no_url_is_refused_with_a_sentence(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    assert await refusal(call("Debug/Explain", v1.ExplainRequest(url="x"))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "GET 'x' is no URL.",
    )


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Explain", v1.ExplainRequest(url="http://a")),
        ("Programmed", v1.ProgrammedRequest(namespace="shop", name="web")),
        ("ListProgrammed", v1.ListProgrammedRequest()),
    ],
)
async def test_before_the_first_snapshot_it_is_too_early_to_say(subject: Scripted, call: Caller, method: str, request_: Any) -> None:
    subject.waiting = ("Services have not been listed.",)
    assert await refusal(call(f"Debug/{method}", request_)) == (
        grpc.StatusCode.UNAVAILABLE,
        "there is no Snapshot yet: Services have not been listed.",
    )


# Programmed


async def programmed(call: Caller, **request: Any) -> v1.ProgrammedResponse:
    found: v1.ProgrammedResponse = await call("Debug/Programmed", v1.ProgrammedRequest(namespace="shop", name="web", **request))
    return found


async def test_programmed_tells_who_has_it_and_what_it_went_into(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", SOME)
    found = await programmed(call)
    assert found == v1.ProgrammedResponse(
        object=v1.ObjectReference(kind="Ingress", namespace="shop", name="web"),
        resource_version="17",
        content_hash=found.content_hash,
        accepted=1,
        envoys=2,
        waiting_node_ids=["b"],
        rejections=[v1.NodeRejection(node_id="b", type_url=ROUTE, error="no memory")],
        resources=[v1.ProgrammedResource(type_url=ROUTE, name="ingress", piece="shop.example", version="v1")],
    )


async def test_programmed_hashes_content_not_generations(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    hashes = []
    for placed in (PlacedPart(HOST, "v1", 1), PlacedPart(HOST, "v1", 2), PlacedPart(HOST, "v2", 1)):
        subject.effects[WEB] = Effect(WEB, "17", replace(ALL, parts=(placed,)))
        hashes.append((await programmed(call)).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(("piece", "shown"), [(None, ""), ("", "*"), ("a.example", "a.example")])
async def test_programmed_tells_the_catch_all_from_the_whole(subject: Scripted, call: Caller, piece: str | None, shown: str) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", replace(ALL, parts=(PlacedPart(Part(ROUTE, "ingress", piece), "v1", 1),)))
    assert [r.piece for r in (await programmed(call)).resources] == [shown]


async def test_programmed_of_what_is_not_there_says_so(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    code, text = await refusal(programmed(call))
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.endswith(
        "Ingress shop/web is not served here: there is none, or it belongs to another ingress class or an unwatched namespace."
    )


async def test_programmed_of_an_entry_that_is_not_there_names_the_flags(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    request = v1.ProgrammedRequest(kind="ConfigMap", namespace="ingress", name="tcp", entry="80")
    code, text = await refusal(call("Debug/Programmed", request))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "is in no ConfigMap that --tcp-services-configmap or --udp-services-configmap names." in text


async def test_an_entry_of_a_config_map_is_asked_for_by_its_port(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[PORT] = Effect(PORT, "3", ALL)
    request = v1.ProgrammedRequest(kind="ConfigMap", namespace="ingress", name="tcp", entry="5432")
    found: v1.ProgrammedResponse = await call("Debug/Programmed", request)
    assert (found.entry, found.programmed) == ("5432", True)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (v1.ProgrammedRequest(kind="Pod", namespace="a", name="b"), "'Pod'"),
        (v1.ProgrammedRequest(name="b"), "namespace"),
        (v1.ProgrammedRequest(kind="ConfigMap", namespace="a", name="b"), "entry"),
        (v1.ProgrammedRequest(namespace="a", name="b", entry="80"), "entry"),
        (v1.ProgrammedRequest(namespace="a", name="b", timeout_seconds=-1.0), "timeout_seconds"),
        (v1.ProgrammedRequest(namespace="a", name="b", timeout_seconds=1e9), "timeout_seconds"),
        (v1.ProgrammedRequest(namespace="a", name="b", timeout_seconds=float("nan")), "timeout_seconds"),
    ],
)
async def test_a_question_after_nothing_is_refused(call: Caller, request_: v1.ProgrammedRequest, word: str) -> None:
    code, text = await refusal(call("Debug/Programmed", request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert word in text


async def test_who_waits_is_answered_once_all_have_it(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", SOME)
    waiting = asyncio.create_task(programmed(call, wait=True, timeout_seconds=300.0))
    assert not (await programmed(call)).programmed  # answered later, and yet before
    assert not waiting.done()
    subject.effects[WEB] = Effect(WEB, "17", ALL)
    assert (await waiting).programmed


async def test_who_waits_is_told_how_far_it_is_when_the_time_is_up(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", SOME)
    found = await programmed(call, wait=True, timeout_seconds=0.01)
    assert (found.accepted, found.programmed) == (1, False)


async def test_who_waits_for_what_stays_held_is_told_before_the_time_is_up(subject: Scripted) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", HELD)
    request = v1.ProgrammedRequest(namespace="shop", name="web", wait=True, timeout_seconds=300.0)
    found = await Debug(subject, poll_every=0, believe_after=0.01).programmed(request)
    assert (found.held, found.accepted, found.programmed) == ("ingress: bad regex", 0, False)


async def test_who_waits_does_not_mind_what_is_held_for_a_moment(subject: Scripted) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", HELD)
    request = v1.ProgrammedRequest(namespace="shop", name="web", wait=True, timeout_seconds=300.0)
    waiting = asyncio.create_task(Debug(subject, poll_every=0, believe_after=60).programmed(request))
    for _ in range(10):
        await asyncio.sleep(0)
    subject.effects[WEB] = Effect(WEB, "17", ALL)
    assert (await waiting).programmed


async def test_who_waits_waits_for_the_edition_that_is_there_when_the_question_comes(subject: Scripted, call: Caller) -> None:
    """What was accepted may be older than what the caller has just written."""
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "17", ALL)
    subject.versions[WEB] = "18"
    found = await programmed(call, wait=True, timeout_seconds=0.01)
    assert (found.accepted, found.programmed, found.resource_version) == (0, False, "17")
    subject.effects[WEB] = Effect(WEB, "19", ALL)
    assert (await programmed(call, wait=True, timeout_seconds=300.0)).programmed


async def test_an_edition_that_is_asked_for_must_have_been_read(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects[WEB] = Effect(WEB, "9", HELD)
    found = await programmed(call, resource_version="10")
    assert (found.accepted, found.programmed, found.held) == (0, False, "")
    subject.effects[WEB] = Effect(WEB, "9", ALL)
    assert (await programmed(call, resource_version="9")).programmed


async def test_who_waits_for_what_exists_nowhere_is_told_at_once(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.current = _nothing  # type: ignore[method-assign, assignment]
    code, _ = await refusal(programmed(call, wait=True, timeout_seconds=300.0))
    assert code is grpc.StatusCode.NOT_FOUND


async def _nothing(_: Asked) -> None:
    return None


async def test_all_objects_are_listed_without_their_resources(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.effects = {PORT: Effect(PORT, "3", ALL), WEB: Effect(WEB, "17", SOME)}

    async def listed(**request: Any) -> list[str]:
        found: v1.ListProgrammedResponse = await call("Debug/ListProgrammed", v1.ListProgrammedRequest(**request))
        assert not any(o.resources for o in found.objects)
        return [o.object.name if o.object else "" for o in found.objects]

    assert await listed() == ["tcp", "web"]
    assert await listed(namespace="shop") == ["web"]
    assert await listed(unfinished=True) == ["web"]


# History

CAUSE = Cause(Ref("Ingress", "shop", "web"), "17", Verb.CHANGED)


async def test_history_has_the_last_changes_newest_first(subject: Scripted, call: Caller) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.put(CLUSTER, resource("other"), causes=[CAUSE])
    found: v1.HistoryResponse = await call("Debug/History", v1.HistoryRequest())
    assert [change.number for change in found.changes] == [2, 1]
    newest = found.changes[0]
    assert newest == v1.Change(
        number=2,
        time=subject.history()[0].at,
        causes=[
            v1.Cause(object=v1.ObjectReference(kind="Ingress", namespace="shop", name="web"), resource_version="17", verb=v1.Verb.CHANGED)
        ],
        causes_total=1,
        resources=[v1.ChangedResources(type_url=CLUSTER, names=["other"], total=1)],
        build_milliseconds=1.0,
    )
    limited: v1.HistoryResponse = await call("Debug/History", v1.HistoryRequest(limit=1))
    assert limited.changes == [newest]


async def test_history_tells_who_rejects_a_change_and_when_all_have_it(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web", "1"))
    client = connect()
    await client.subscribe(CLUSTER)
    await client.answer(await client.read())
    await eventually(lambda: any(e.session.summaries[CLUSTER].settled for e in subject.envoys()))
    subject.put(CLUSTER, resource("web", "2"))

    async def newest() -> v1.Change:
        found: v1.Change = (await call("Debug/History", v1.HistoryRequest(limit=1))).changes[0]
        return found

    assert ((await newest()).waiting, (await newest()).accepted_milliseconds) == (True, None)
    await client.answer(await client.read(), error="no")
    await eventually(lambda: bool(subject.history()[0].rejections))
    assert (await newest()).rejections == [v1.NodeRejection(node_id="envoy-1", type_url=CLUSTER, error="no")]
    assert (await newest()).rejections_total == 1
    subject.put(CLUSTER, resource("web", "3"))
    await client.answer(await client.read())
    await eventually(lambda: not subject.history()[0].waiting)
    assert (await newest()).accepted_milliseconds is not None


async def test_watch_tells_each_change_from_now_on_and_how_it_goes_on(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web", "1"))
    client = connect()
    await client.subscribe(CLUSTER)
    await client.answer(await client.read())
    await eventually(lambda: any(e.session.summaries[CLUSTER].settled for e in subject.envoys()))
    watching = call.stream("Debug/Watch", v1.WatchRequest())
    await watching.initial_metadata()

    async def next_change() -> v1.Change:
        change = v1.WatchResponse.parse(await watching.read()).change
        assert change is not None
        return change

    subject.put(CLUSTER, resource("web", "2"))
    first = await next_change()
    assert (first.number, first.waiting) == (2, True)
    await client.answer(await client.read())
    second = await next_change()
    assert (second.number, second.waiting) == (2, False)
    watching.cancel()


async def test_watch_says_nothing_twice(subject: Scripted) -> None:
    watching = Debug(subject, poll_every=0).watch(v1.WatchRequest())
    for number in (1, 2, 3):
        subject.put(CLUSTER, resource("web", str(number)))
        said = (await anext(watching)).change
        assert said is not None
        assert said.number == number


async def test_bytes_that_are_no_request_are_refused(call: Caller) -> None:
    assert await refusal(call("Debug/Fleet", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the request is not a FleetRequest.",
    )
