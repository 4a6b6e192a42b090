"""Envoy's question and the answer, as bytes; and the conversation with the control plane."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from xds import passwords
from xds.authz import verifier as verifying
from xds.authz.check import LONGEST, Checks, credentials
from xds.authz.messages import message
from xds.authz.subscription import PasswordSubscription
from xds.authz.verifier import Admission, Verifier
from xds.passwords import User


@pytest.fixture
async def verifier() -> AsyncIterator[Verifier]:
    found = Verifier(1)
    found.put("ns/users/auth-file", {b"ada": b"{PLAIN}p:q"})
    yield found
    found.close()


def question(*headers: str, raw: bool = True) -> bytes:
    made = message("CheckRequest")()
    made.attributes.context_extensions.update({"passwords": "ns/users/auth-file", "realm": "r"})
    http = made.attributes.request.http
    if raw:
        for header in headers:
            http.header_map.headers.add(key="authorization", raw_value=header.encode("latin-1"))
    elif headers:
        http.headers["authorization"] = ",".join(headers)
    found: bytes = made.SerializeToString()
    return found


def written(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


async def asked(verifier: Verifier, raw: bytes) -> tuple[int, dict[str, str]]:
    """The status for the client (200: let in), and the headers."""
    answer = message("CheckResponse").FromString(await Checks(verifier).check(raw))
    if answer.status.code == 0:
        assert not answer.HasField("denied_response")
        return 200, {}
    return answer.denied_response.status.code, {h.header.key: h.header.value for h in answer.denied_response.headers}


async def test_who_may_be_let_in_by_another_service_goes_on_with_a_note(verifier: Verifier) -> None:
    async def noted(*headers: str, file: str = "ns/users/auth-file") -> tuple[int, dict[str, str]]:
        asked = message("CheckRequest").FromString(question(*headers))
        asked.attributes.context_extensions.update({"else": "ask", "passwords": file})
        answer = message("CheckResponse").FromString(await Checks(verifier).check(asked.SerializeToString()))
        return answer.denied_response.status.code, {key: value.string_value for key, value in answer.dynamic_metadata.fields.items()}

    assert await noted(written("ada:p:q")) == (0, {"admitted": "yes", "user": "ada"})
    assert await noted(written("ada:x")) == (0, {"challenge": 'Basic realm="r"'})
    assert await noted() == (0, {"challenge": 'Basic realm="r"'})
    assert await noted("a", "b") == (400, {})
    assert await noted(written("ada:p:q"), file="ns/none/auth-file") == (503, {})


@pytest.mark.parametrize(
    ("user", "noted"), [("müller".encode(), "müller"), (b"a b", "a b"), (b"a\xff", ""), (b"a\tb", ""), (b"a\rb", ""), (b"a" * 257, "")]
)
async def test_a_name_is_noted_that_can_stand_in_a_header(verifier: Verifier, user: bytes, noted: str) -> None:
    verifier.put("ns/users/auth-file", {user: b"{PLAIN}p"})
    header = "Basic " + base64.b64encode(user + b":p").decode()
    answer = message("CheckResponse").FromString(await Checks(verifier).check(question(header)))
    assert answer.dynamic_metadata.fields["admitted"].string_value == "yes"
    assert answer.dynamic_metadata.fields["user"].string_value == noted


@pytest.mark.parametrize("raw", [True, False])
async def test_the_right_password_lets_in_and_all_else_is_refused(verifier: Verifier, raw: bool) -> None:
    right = written("ada:p:q")
    assert await asked(verifier, question(right, raw=raw)) == (200, {})
    for wrong in ([], [written("ada:p")], ["Bearer x"], ["Basic"], ["Basic !!!"], [right + "x" * LONGEST]):
        assert await asked(verifier, question(*wrong, raw=raw)) == (401, {"WWW-Authenticate": 'Basic realm="r"'})
    assert (await asked(verifier, question(right, right, raw=raw)))[0] == 400


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (written("a:b"), (b"a", b"b")),
        ("bAsIc   YTpi", (b"a", b"b")),
        ("Basic YTo", (b"a", b"")),
        ("Basic YTpi=ignored", (b"a", b"b")),
        ("Basic YTpiY", None),
        ("Basic " + base64.b64encode(b"a").decode(), None),
        ("Basic " + base64.b64encode(b":b").decode(), None),
        ("Basic Og==", None),
        ("BasicYTpi", None),
        ("Basic YT pi", None),
    ],
)
def test_credentials_are_read_as_nginx_reads_them(header: str, found: tuple[bytes, bytes] | None) -> None:
    assert credentials(header) == found


@given(st.text(max_size=60) | st.text(max_size=40).map("Basic {}".format))
def test_any_header_is_read(header: str) -> None:
    found = credentials(header)
    assert found is None or (found[0] and b":" not in found[0])


@given(st.binary(max_size=60))
async def test_a_question_that_is_none_lets_nobody_in(raw: bytes) -> None:
    verifier = Verifier(1)
    verifier.put("", {b"": b"{PLAIN}"})
    try:
        with contextlib.suppress(DecodeError):  # Envoy answers 503 to an error
            assert (await asked(verifier, raw))[0] != 200
    finally:
        verifier.close()


def response(nonce: str, *files: tuple[str, str, bytes], removed: tuple[str, ...] = ()) -> bytes:
    resources = [
        {"name": name, "version": version, "resource": {"type_url": passwords.TYPE, "value": body}} for name, version, body in files
    ]
    found: bytes = message("DeltaDiscoveryResponse")(nonce=nonce, resources=resources, removed_resources=removed).SerializeToString()
    return found


def read(raw: bytes) -> Any:
    return message("DeltaDiscoveryRequest").FromString(raw)


async def test_files_come_and_go_and_a_reconnecting_client_names_what_it_has(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "GRACE", 0)
    monkeypatch.setattr(verifying, "PATIENCE", 0.001)
    subscription = PasswordSubscription("envoy-1/authz", "ingress", "1", verifier)
    first = read(subscription.first())
    assert (first.node.id, list(first.resource_names_subscribe), dict(first.initial_resource_versions)) == ("envoy-1/authz", ["*"], {})
    one = passwords.encode([User(1, b"bob", b"{PLAIN}b")])
    ack = read(subscription.receive(response("n1", ("a", "v1", one), ("b", "v1", b""))))
    assert (ack.type_url, ack.response_nonce, ack.HasField("error_detail")) == (passwords.TYPE, "n1", False)
    assert await verifier.judge("a", (b"bob", b"b"), "") is Admission.ADMITTED
    assert await verifier.judge("b", (b"bob", b"b"), "") is Admission.REFUSED
    subscription.receive(response("n2", removed=("b",)))
    await asyncio.sleep(0.001)  # a timer without a grace is due before this one
    assert await verifier.judge("b", (b"bob", b"b"), "") is Admission.UNKNOWN
    assert dict(read(subscription.first()).initial_resource_versions) == {"a": "v1"}


async def test_a_response_with_a_bad_file_is_rejected_as_a_whole_and_quotes_nothing(verifier: Verifier) -> None:
    subscription = PasswordSubscription("envoy-1/authz", "ingress", "1", verifier)
    good = passwords.encode([User(1, b"bob", b"{PLAIN}b")])
    subscription.receive(response("n1", ("a", "v1", good)))
    nack = read(subscription.receive(response("n2", ("a", "v2", b""), ("bad", "v1", b"\xff secret"))))
    assert (nack.response_nonce, nack.error_detail.message) == ("n2", "it is no password file")
    assert await verifier.judge("a", (b"bob", b"b"), "") is Admission.ADMITTED
    assert dict(read(subscription.first()).initial_resource_versions) == {"a": "v1"}
