"""Requests from bytes and responses to bytes, compared with what envoy-data-plane makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.discovery import v3 as discovery
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value
from envoy_data_plane.google.rpc import Status
from google.protobuf.internal import api_implementation
from hypothesis import given
from hypothesis import strategies as st

from tests.server.client import resource
from xds.problem import printable
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.server import messages
from xds.server.messages import SLICE, Encoder, EnvoyNode, MalformedRequest, RequestTooLarge, decode, decoding, without_secrets
from xds.snapshot import CLUSTER, Snapshot

BOTH = pytest.mark.parametrize("wire", Wire)
NODE = core.Node(
    id="envoy-1",
    cluster="edge",
    user_agent_name="envoy",
    user_agent_build_version=core.BuildVersion(version=envoy_type.SemanticVersion(major_number=1, minor_number=40, patch=2)),
    metadata=Struct(fields={"zone": Value(string_value="a"), "weight": Value(number_value=1.0)}),
    locality=core.Locality(region="not read"),
)
READ = EnvoyNode("envoy-1", "edge", "envoy 1.40.2", {"zone": "a"})


def _decode(wire: Wire, message: Any) -> tuple[EnvoyNode, DiscoveryRequest]:
    node, (request,) = decode(wire, bytes(message), most_names=100)
    return node, request


NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=3), max_size=12)


@given(NAMES, NAMES, st.dictionaries(st.text("ab", max_size=2), st.just("1"), max_size=5))
def test_a_long_delta_request_is_several_that_say_the_same_and_none_of_them_is_long(
    added: list[str], removed: list[str], held: dict[str, str]
) -> None:
    message = discovery.DeltaDiscoveryRequest(
        type_url=CLUSTER,
        resource_names_subscribe=added,
        resource_names_unsubscribe=removed,
        initial_resource_versions=held,
        response_nonce="n",
        error_detail=Status(message="no"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "SLICE", 3)
        _, requests = decode(Wire.DELTA, bytes(message), most_names=100)
    first, *more = requests
    assert (first.nonce, first.error, first.initial_versions) == ("n", "no", held)
    assert all((each.type_url, each.nonce, each.error, each.initial_versions) == (CLUSTER, "", None, {}) for each in more)
    assert [name for each in requests for name in each.subscribe] == added
    assert [name for each in requests for name in each.unsubscribe] == removed
    assert all(len(each.unsubscribe) <= 3 and (len(each.subscribe) <= 3 or held) for each in requests)
    assert all(each.subscribe or each.unsubscribe for each in more)
    assert bool(first.subscribe or first.unsubscribe) == bool(added or removed), "a first request without names asks for everything"


SOME = st.lists(st.sampled_from([*"abcdxyz", "*"]), max_size=8)


@given(SOME, SOME, st.dictionaries(st.sampled_from("abcx"), st.sampled_from(["old", "now"])))
def test_whoever_answers_the_pieces_of_a_request_comes_to_the_same(added: list[str], removed: list[str], held: dict[str, str]) -> None:
    snapshot = Snapshot()
    snapshot[CLUSTER].update([resource(name) for name in "abcd"])
    snapshot.ready = True
    held = {name: snapshot[CLUSTER][name].version if version == "now" and name != "x" else version for name, version in held.items()}
    message = discovery.DeltaDiscoveryRequest(
        type_url=CLUSTER, resource_names_subscribe=added, resource_names_unsubscribe=removed, initial_resource_versions=held
    )
    standings = []
    for slice_ in (2, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(messages, "SLICE", slice_)
            _, requests = decode(Wire.DELTA, bytes(message), most_names=100)
        session = Session(Wire.DELTA, snapshot, ordered=False)
        said = [response for request in requests for response in session.receive(request, 0.0)]
        while said:
            said += session.receive(DiscoveryRequest(CLUSTER, said.pop(0).nonce), 1.0)
        found = session.status(CLUSTER)
        standings.append((found.wildcard, found.names, found.held, found.current, found.in_flight, session.accepted_all(CLUSTER)))
    assert standings[0] == standings[1]


def test_a_request_is_read_in_steps() -> None:
    message = discovery.DeltaDiscoveryRequest(initial_resource_versions={str(n): "1" for n in range(4 * SLICE)})
    steps = list(decoding(Wire.DELTA, bytes(message), most_names=10 * SLICE))
    assert len(steps) >= 4


@BOTH
def test_a_node_that_is_too_big_is_refused(wire: Wire) -> None:
    node = core.Node(id="n", metadata=Struct(fields={"k": Value(string_value="x" * EnvoyNode.MOST)}))
    kind = discovery.DiscoveryRequest if wire is Wire.SOTW else discovery.DeltaDiscoveryRequest
    with pytest.raises(RequestTooLarge, match=r"the node of the request has \d+ bytes; at most 1048576 are allowed"):
        decode(wire, bytes(kind(node=node)), most_names=100)


def test_requests_are_read_by_the_c_implementation_of_protobuf() -> None:
    assert api_implementation.Type() == "upb"


def test_a_sotw_request_is_read_whole() -> None:
    message = discovery.DiscoveryRequest(
        version_info="7", node=NODE, resource_names=["a", "b"], type_url=CLUSTER, response_nonce="n", error_detail=Status(message="no")
    )
    assert _decode(Wire.SOTW, message) == (READ, DiscoveryRequest(CLUSTER, "n", "no", names=("a", "b"), version="7"))


def test_a_delta_request_is_read_whole() -> None:
    message = discovery.DeltaDiscoveryRequest(
        node=NODE,
        type_url=CLUSTER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "1"},
        response_nonce="n",
        error_detail=Status(message="no"),
    )
    request = DiscoveryRequest(CLUSTER, "n", "no", subscribe=("a",), unsubscribe=("b",), initial_versions={"c": "1"})
    assert _decode(Wire.DELTA, message) == (READ, request)


@BOTH
def test_a_request_may_be_empty(wire: Wire) -> None:
    assert decode(wire, b"", most_names=0) == (EnvoyNode(id="", agent=""), [DiscoveryRequest("")])


def test_a_rejection_without_a_message_is_still_one() -> None:
    _, request = _decode(Wire.SOTW, discovery.DiscoveryRequest(error_detail=Status(code=13)))
    assert request.error == "status code 13"


@BOTH
def test_unknown_fields_are_ignored(wire: Wire) -> None:
    unknown = b"\xfa\x3f\x03abc" + b"\xf0\x3f\x01"  # fields 1023 and 1022
    assert decode(wire, unknown, most_names=0)[1] == [DiscoveryRequest("")]


@BOTH
@pytest.mark.parametrize("raw", [b"\x0a", b"\x22\xff\xff", b"\x12\x01\xff", b"\x22\x01\xff\x12\x01\xff", b"\xff" * 20])
def test_bytes_that_are_no_request_are_malformed(wire: Wire, raw: bytes) -> None:
    with pytest.raises(MalformedRequest, match=r"^the request is not a .*DiscoveryRequest$"):
        decode(wire, raw, most_names=100)


def test_the_lists_of_names_are_limited_together() -> None:
    message = discovery.DeltaDiscoveryRequest(
        resource_names_subscribe=["a"], resource_names_unsubscribe=["b"], initial_resource_versions={"c": "1"}
    )
    assert decode(Wire.DELTA, bytes(message), most_names=3)
    with pytest.raises(RequestTooLarge, match="names 3 resources; at most 2 are allowed"):
        decode(Wire.DELTA, bytes(message), most_names=2)


_TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
_RESOURCES = st.lists(
    st.builds(lambda name, size: resource(name, "x" * size), _TEXT, st.sampled_from((0, 1, 127, 128, 20_000))), max_size=4
)


@given(version=_TEXT, nonce=_TEXT, resources=_RESOURCES, identifier=_TEXT)
def test_a_sotw_response_is_what_envoy_reads(version: str, nonce: str, resources: list[Any], identifier: str) -> None:
    raw = Encoder(identifier).encode(Wire.SOTW, DiscoveryResponse(CLUSTER, nonce, version, tuple(resources)))
    assert discovery.DiscoveryResponse.parse(raw) == discovery.DiscoveryResponse(
        version_info=version,
        resources=[AnyMessage(type_url=CLUSTER, value=r.body) for r in resources],
        type_url=CLUSTER,
        nonce=nonce,
        control_plane=core.ControlPlane(identifier=identifier),
    )


@given(version=_TEXT, nonce=_TEXT, resources=_RESOURCES, removed=st.lists(_TEXT, max_size=3), identifier=_TEXT)
def test_a_delta_response_is_what_envoy_reads(version: str, nonce: str, resources: list[Any], removed: list[str], identifier: str) -> None:
    raw = Encoder(identifier).encode(Wire.DELTA, DiscoveryResponse(CLUSTER, nonce, version, tuple(resources), tuple(removed)))
    assert discovery.DeltaDiscoveryResponse.parse(raw) == discovery.DeltaDiscoveryResponse(
        system_version_info=version,
        resources=[
            discovery.Resource(name=r.name, version=r.version, resource=AnyMessage(type_url=CLUSTER, value=r.body)) for r in resources
        ],
        type_url=CLUSTER,
        removed_resources=removed,
        nonce=nonce,
        control_plane=core.ControlPlane(identifier=identifier),
    )


@dataclass(frozen=True)
class Counted:
    """A resource that says how often its body was asked for."""

    name: str
    version: str = "1"
    asked: list[str] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        self.asked.append(self.name)
        return b"x" * 100


@BOTH
def test_a_thousand_streams_cost_one_join(wire: Wire) -> None:
    it: Any = Counted("a")
    encoder = Encoder("xds-0")
    messages = {encoder.encode(wire, DiscoveryResponse(CLUSTER, str(i), "1", (it,))) for i in range(1000)}
    assert len(messages) == 1000
    assert it.asked == ["a"]


@BOTH
def test_responses_that_differ_do_not_share_bytes(wire: Wire) -> None:
    encoder = Encoder("xds-0")
    a, b = resource("a"), resource("b")
    responses = [
        DiscoveryResponse(CLUSTER, "n", "1", (a,)),
        DiscoveryResponse(CLUSTER, "n", "2", (a,)),
        DiscoveryResponse(CLUSTER, "n", "1", (b,)),
        DiscoveryResponse(CLUSTER, "n", "1", (a, b)),
        DiscoveryResponse(CLUSTER + "2", "n", "1", (a,)),
    ]
    assert len({encoder.encode(wire, r) for r in responses}) == len(responses)
    if wire is Wire.DELTA:
        assert encoder.encode(wire, DiscoveryResponse(CLUSTER, "n", "1", (a,), ("gone",))) != encoder.encode(wire, responses[0])
        assert encoder.encode(Wire.SOTW, responses[0]) != encoder.encode(wire, responses[0])


def test_what_is_kept_for_other_streams_is_limited() -> None:
    encoder = Encoder("xds-0", keep=1000)
    resources: list[Any] = [Counted(str(i)) for i in range(100)]
    for it in resources:
        encoder.encode(Wire.DELTA, DiscoveryResponse(CLUSTER, "n", "1", (it,)))
    for it in reversed(resources):
        encoder.encode(Wire.DELTA, DiscoveryResponse(CLUSTER, "n", "1", (it,)))
    kept = [it for it in resources if len(it.asked) == 1]
    assert kept == resources[-len(kept) :]
    assert 2 <= len(kept) <= 10


def test_a_large_response_is_not_kept() -> None:
    it: Any = Counted("a")
    encoder = Encoder("xds-0", keep=300)
    for _ in range(2):
        encoder.encode(Wire.DELTA, DiscoveryResponse(CLUSTER, "n", "1", (it,)))
    assert len(it.asked) == 2


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b", "a [hidden] b"),
        ("a -----BEGIN PRIVATE KEY-----\nMII, cut off", "a [hidden]"),
        (r'private_key { inline_string: "-----BEGIN\nq\"uoted" } b', 'private_key { inline_string: "[hidden]" } b'),
        ('"inlineBytes":"QUJD","b":1', '"inlineBytes":"[hidden]","b":1'),
        ("a " + "QUJD" * 40 + "== b", "a [hidden] b"),
        ("Error adding listener https: bad\n", "Error adding listener https: bad\n"),
    ],
)
def test_what_could_be_a_key_is_not_repeated(said: str, kept: str) -> None:
    assert without_secrets(said) == kept
    assert _decode(Wire.SOTW, discovery.DiscoveryRequest(error_detail=Status(message=said)))[1].error == kept


def test_a_strangers_text_is_one_short_line_in_a_log() -> None:
    assert printable("a\nb\x1b[31m\u202e", 500) == r"a\nb\x1b[31m\u202e"
    assert printable("x" * 501, 500) == "x" * 499 + "…"
    assert printable("x" * 500, 500) == "x" * 500
