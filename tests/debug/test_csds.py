"""The client status discovery service: every state that a resource can be in for an Envoy, and what a caller may leave out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from envoy_data_plane.envoy.admin.v3 import ClientResourceStatus as Theirs
from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import GenericSecret, Secret, TlsCertificate, TlsSessionTicketKeys
from envoy_data_plane.envoy.service.status.v3 import ClientStatusRequest, ClientStatusResponse
from envoy_data_plane.envoy.service.status.v3 import ConfigStatus as Ours
from envoy_data_plane.envoy.type.matcher.v3 import (
    NodeMatcher,
    RegexMatcher,
    StringMatcher,
    StructMatcher,
    StructMatcherPathSegment,
    ValueMatcher,
)

from tests.debug.conftest import Caller, Connect, Scripted
from tests.server.client import Client, eventually, resource
from xds.debug import csds
from xds.debug.csds import ClientStatus, TooLarge, shown
from xds.debug.nodes import matches
from xds.debug.subject import InvalidArgument
from xds.protocol.discovery import Wire
from xds.server.messages import EnvoyNode
from xds.snapshot import CLUSTER, ENDPOINT, SECRET, Resource

FETCH, STREAM = "ClientStatusDiscoveryService/FetchClientStatus", "ClientStatusDiscoveryService/StreamClientStatus"


async def configs(call: Caller, **request: Any) -> dict[str, Any]:
    """Name → GenericXdsConfig of the only client; nothing if it has not been heard of yet."""
    clients = (await call(FETCH, ClientStatusRequest(**request))).config
    assert len(clients) <= 1
    return {config.name: config for client in clients for config in client.generic_xds_configs}


async def statuses(call: Caller) -> dict[str, tuple[Ours, Theirs]]:
    return {name: (found.config_status, found.client_status) for name, found in (await configs(call)).items()}


async def becomes(call: Caller, **wanted: tuple[Ours, Theirs]) -> None:
    """What the Envoy has just said may not have been read yet."""
    async with asyncio.timeout(120):
        while (found := await statuses(call)) != wanted:
            assert found.keys() <= wanted.keys()
            await asyncio.sleep(0.005)


async def accepting(client: Client, type_url: str, *names: str) -> Any:
    await client.subscribe(type_url, names)
    response = await client.read()
    await client.answer(response, names)
    return response


@pytest.mark.parametrize("wire", Wire)
async def test_a_resource_is_stale_until_it_is_accepted(subject: Scripted, call: Caller, connect: Connect, wire: Wire) -> None:
    subject.put(CLUSTER, resource("web"))
    client = connect(wire)
    await client.subscribe(CLUSTER, ["web"])
    response = await client.read()
    await becomes(call, web=(Ours.STALE, Theirs.REQUESTED))
    assert (await configs(call))["web"].version_info == ""
    await client.answer(response, ["web"])
    await becomes(call, web=(Ours.SYNCED, Theirs.ACKED))
    state = subject.snapshot[CLUSTER]
    assert (await configs(call))["web"].version_info == (state["web"].version if wire is Wire.DELTA else state.version)


@pytest.mark.parametrize("wire", Wire)
async def test_an_older_edition_that_is_held_counts_as_accepted_by_the_client(
    subject: Scripted, call: Caller, connect: Connect, wire: Wire
) -> None:
    subject.put(CLUSTER, resource("web", "1"))
    client = connect(wire)
    await accepting(client, CLUSTER, "web")
    await becomes(call, web=(Ours.SYNCED, Theirs.ACKED))
    subject.put(CLUSTER, resource("web", "2"))
    await client.read()
    await becomes(call, web=(Ours.STALE, Theirs.ACKED))


async def test_what_changes_while_an_answer_is_awaited_is_not_sent(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    client = connect(Wire.SOTW)
    await client.subscribe(CLUSTER)
    await client.read()
    subject.put(CLUSTER, resource("other"))
    await becomes(call, web=(Ours.STALE, Theirs.REQUESTED), other=(Ours.NOT_SENT, Theirs.REQUESTED))


@pytest.mark.parametrize("wire", Wire)
async def test_a_rejected_resource_is_shown_as_it_was_rejected_and_why(
    subject: Scripted, call: Caller, connect: Connect, wire: Wire
) -> None:
    subject.put(ENDPOINT, resource("web", "1"))
    client = connect(wire)
    await accepting(client, ENDPOINT, "web")
    subject.put(ENDPOINT, resource("web", "bad"))
    await client.answer(await client.read(), ["web"], error="no such port")
    await becomes(call, web=(Ours.ERROR, Theirs.NACKED))
    found = (await configs(call))["web"]
    assert found.error_state.details == "no such port"
    assert found.error_state.version_info == subject.snapshot[ENDPOINT]["web"].version
    assert found.xds_config.value == b"web=bad"


async def test_what_was_rejected_and_is_another_by_now_is_to_be_sent(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web", "bad"))
    client = connect(Wire.DELTA)
    await client.subscribe(CLUSTER)
    await client.answer(await client.read(), error="no such port")
    await becomes(call, web=(Ours.ERROR, Theirs.NACKED))
    subject.snapshot[CLUSTER].update([resource("web", "good")])  # and no stream has been woken yet
    await becomes(call, web=(Ours.NOT_SENT, Theirs.NACKED))
    found = (await configs(call))["web"]
    assert (found.xds_config.value, found.error_state.details) == (b"web=good", "no such port")


async def test_what_stood_in_a_rejected_response_and_was_accepted_since_is_in_no_error(
    subject: Scripted, call: Caller, connect: Connect
) -> None:
    subject.put(ENDPOINT, resource("a"), resource("b"))
    client = connect(Wire.DELTA)
    await client.subscribe(ENDPOINT, ["a", "b"])
    await client.answer(await client.read(), error="one of them")
    apart = [await client.read(), await client.read()]
    await client.answer(next(response for response in apart if response.resources[0].name == "a"))
    await becomes(call, a=(Ours.SYNCED, Theirs.ACKED), b=(Ours.STALE, Theirs.REQUESTED))
    assert (await configs(call))["a"].error_state is None


async def test_what_is_new_has_no_accepted_version_though_its_type_has_one(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("old"))
    await accepting(client := connect(Wire.SOTW), CLUSTER)
    await becomes(call, old=(Ours.SYNCED, Theirs.ACKED))
    version = subject.snapshot[CLUSTER].version
    subject.put(CLUSTER, resource("new"))
    await client.read()
    await becomes(call, old=(Ours.SYNCED, Theirs.ACKED), new=(Ours.STALE, Theirs.REQUESTED))
    assert {name: found.version_info for name, found in (await configs(call)).items()} == {"old": version, "new": ""}


async def test_once_a_rejected_resource_is_another_it_is_no_longer_the_one_in_error(
    subject: Scripted, call: Caller, connect: Connect
) -> None:
    subject.put(CLUSTER, resource("web", "bad"))
    client = connect(Wire.DELTA)
    await client.subscribe(CLUSTER)
    await client.answer(await client.read(), error="no such port")
    await becomes(call, web=(Ours.ERROR, Theirs.NACKED))
    subject.put(CLUSTER, resource("web", "good"))
    await client.answer(await client.read())
    await becomes(call, web=(Ours.SYNCED, Theirs.ACKED))
    assert (await configs(call))["web"].error_state is None


async def test_what_is_asked_for_and_does_not_exist_is_told(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(ENDPOINT, resource("web"))
    client = connect(Wire.DELTA)
    await client.subscribe(ENDPOINT, ["nobody"])
    await becomes(call, nobody=(Ours.NOT_SENT, Theirs.DOES_NOT_EXIST))


async def test_last_updated_is_when_it_was_published_as_far_as_that_is_remembered(
    subject: Scripted, call: Caller, connect: Connect
) -> None:
    subject.put(CLUSTER, resource("old"))
    subject.put(CLUSTER, resource("new"))
    await accepting(connect(), CLUSTER, "old", "new")
    await eventually(lambda: bool(subject.envoys()))
    newest, oldest = (change.at for change in subject.history())
    found = await configs(call)
    assert (found["old"].last_updated, found["new"].last_updated) == (oldest, newest)
    subject.times = lambda type_url: {}  # type: ignore[method-assign]
    assert (await configs(call))["new"].last_updated is None


async def test_contents_can_be_left_out(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    await accepting(connect(), CLUSTER)
    await becomes(call, web=(Ours.SYNCED, Theirs.ACKED))
    config = (await configs(call))["web"].xds_config
    assert (config.type_url, config.value) == (CLUSTER, b"web=")
    assert (await configs(call, exclude_resource_contents=True))["web"].xds_config is None


async def test_an_envoy_with_several_streams_is_one_client(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    subject.put(ENDPOINT, resource("web-endpoints"))
    await accepting(connect(only=CLUSTER), CLUSTER)
    await accepting(connect(only=ENDPOINT), ENDPOINT, "web-endpoints")
    await eventually(lambda: len(subject.envoys()) == 2)
    assert (await configs(call)).keys() == {"web", "web-endpoints"}


async def test_clients_are_chosen_by_node_matchers_one_of_which_must_match(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    clients = [connect(node=node) for node in ("a", "b", "c")]
    for client in clients:
        await accepting(client, CLUSTER)
    await eventually(lambda: len(subject.envoys()) == 3)
    matchers = [NodeMatcher(node_id=StringMatcher(exact=node)) for node in ("c", "a", "nobody")]

    async def chosen(*some: NodeMatcher) -> list[str]:
        return sorted(client.node.id for client in (await call(FETCH, ClientStatusRequest(node_matchers=list(some)))).config)

    assert await chosen() == ["a", "b", "c"]
    assert await chosen(*matchers) == ["a", "c"]
    assert await chosen(matchers[2]) == []


async def test_the_stream_answers_each_request(subject: Scripted, call: Caller, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    await accepting(connect(), CLUSTER)
    await becomes(call, web=(Ours.SYNCED, Theirs.ACKED))
    nobody = ClientStatusRequest(node_matchers=[NodeMatcher(node_id=StringMatcher(exact="nobody"))])
    answers = [ClientStatusResponse.parse(raw) async for raw in call.stream(STREAM, ClientStatusRequest(), nobody, ClientStatusRequest())]
    assert [[client.node and client.node.id for client in answer.config] for answer in answers] == [["envoy-1"], [], ["envoy-1"]]


async def test_a_matcher_that_is_not_understood_is_refused(call: Caller, subject: Scripted, connect: Connect) -> None:
    subject.put(CLUSTER, resource("web"))
    await accepting(connect(), CLUSTER)
    await eventually(lambda: bool(subject.envoys()))
    bad = ClientStatusRequest(node_matchers=[NodeMatcher(node_id=StringMatcher(safe_regex=RegexMatcher(regex="(")))])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(FETCH, bad)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'('" in str(refused.value.details())


async def test_an_answer_that_is_too_large_says_how_to_ask_for_less(subject: Scripted, connect: Connect) -> None:
    subject.put(CLUSTER, *(resource(f"{n}", "x" * 1000) for n in range(100)))
    await accepting(connect(), CLUSTER)
    await eventually(lambda: bool(subject.envoys()))
    status = ClientStatus(subject, most=100_000)
    with pytest.raises(TooLarge, match="node_matchers, or set exclude_resource_contents"):
        await status.answer(ClientStatusRequest())
    assert await status.answer(ClientStatusRequest(exclude_resource_contents=True))


async def test_a_large_answer_is_written_some_at_a_time(subject: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.put(CLUSTER, *(resource(f"{n}") for n in range(100)))
    await accepting(connect(), CLUSTER)
    await eventually(lambda: bool(subject.envoys()))
    monkeypatch.setattr(csds, "AT_ONCE", 0.0)
    status = ClientStatus(subject, slice_=0.0)
    rounds = 0

    def turn() -> None:
        nonlocal rounds
        rounds += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    await status.answer(ClientStatusRequest())
    assert rounds >= 100


def string(**how: Any) -> NodeMatcher:
    return NodeMatcher(node_id=StringMatcher(**how))


def metadata(key: str, **value: Any) -> NodeMatcher:
    return NodeMatcher(node_metadatas=[StructMatcher(path=[StructMatcherPathSegment(key=key)], value=ValueMatcher(**value))])


@pytest.mark.parametrize(
    ("matcher", "taken"),
    [
        (string(exact="edge-1"), True),
        (string(exact="Edge-1"), False),
        (string(exact="Edge-1", ignore_case=True), True),
        (string(prefix="edge"), True),
        (string(prefix="dge"), False),
        (string(suffix="-1"), True),
        (string(suffix="edge"), False),
        (string(contains="ge-"), True),
        (string(contains="x"), False),
        (string(safe_regex=RegexMatcher(regex="edge-[0-9]")), True),
        (string(safe_regex=RegexMatcher(regex="edge")), False),
        (metadata("zone", string_match=StringMatcher(exact="a")), True),
        (metadata("zone", string_match=StringMatcher(exact="b")), False),
        (metadata("rack", string_match=StringMatcher(exact="a")), False),
        (metadata("zone", present_match=True), True),
        (metadata("rack", present_match=True), False),
        (metadata("rack", present_match=False), True),
        (NodeMatcher(node_id=StringMatcher(exact="edge-1"), node_metadatas=metadata("rack", present_match=True).node_metadatas), False),
        (NodeMatcher(), True),
    ],
)
def test_a_node_matcher_takes_a_node_that_has_all_of_it(matcher: NodeMatcher, taken: bool) -> None:
    assert matches(EnvoyNode("edge-1", metadata={"zone": "a"}), [matcher]) is taken


@pytest.mark.parametrize("matcher", [metadata("zone", bool_match=True), string()])
def test_a_node_matcher_that_compares_with_nothing_that_is_known_is_no_match_and_no_mismatch(matcher: NodeMatcher) -> None:
    with pytest.raises(InvalidArgument):
        matches(EnvoyNode("edge-1"), [matcher])


def test_of_a_secret_nothing_is_shown_that_is_secret() -> None:
    hidden = DataSource(inline_bytes=b"hidden")
    secret = Secret(name="s", tls_certificate=TlsCertificate(certificate_chain=DataSource(inline_bytes=b"chain"), private_key=hidden))
    secret.tls_certificate.password = hidden  # type: ignore[union-attr]
    found = Secret.parse(shown(SECRET, Resource.of("s", bytes(secret))))
    assert found.tls_certificate is not None
    assert found.tls_certificate.certificate_chain == DataSource(inline_bytes=b"chain")
    assert found.tls_certificate.private_key == DataSource(inline_string="[redacted]")
    for other in (Secret(session_ticket_keys=TlsSessionTicketKeys(keys=[hidden])), Secret(generic_secret=GenericSecret(secret=hidden))):
        assert b"hidden" not in shown(SECRET, Resource.of("s", bytes(other)))
    assert b"hidden" not in shown(SECRET, Resource.of("s", bytes(secret)))
