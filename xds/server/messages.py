"""(Delta)DiscoveryRequests from bytes, and (Delta)DiscoveryResponses to bytes.

Requests are read by the C implementation of protobuf, from descriptors made at run time: a reconnecting Envoy lists every name it holds
with its version. Responses are joined from bytes that exist already, once for all streams. Nothing here knows a stream.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, ClassVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from xds.passwords import AUTHZ_NODE
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.snapshot import Resource

_LONGEST_ERROR = 4096
_QUICK = 128 * 2**10
"""Bytes of a request below which it is parsed and read in one step."""
SLICE = 5_000
"""Names that are processed in one step, which takes a few hundredths of a second."""


class MalformedRequest(ValueError):
    """The bytes of a request are not the message that they should be."""


class RequestTooLarge(ValueError):
    """A request exceeds a limit: of names, or of the size of its node."""


@dataclass(frozen=True, slots=True)
class EnvoyNode:
    """The node of an Envoy (`envoy.config.core.v3.Node`).

    `agent` is its kind and version, such as "envoy 1.40.0"; `metadata` has only the top-level strings.
    """

    MOST: ClassVar[int] = 2**20
    """Bytes of the message; an Envoy lists its extensions there, which takes a tenth of that."""

    id: str
    cluster: str = ""
    agent: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def envoy(self) -> str:
        """The node.id of the Envoy: that of the authorisation service beside one is the same with an ending."""
        return self.id.removesuffix(AUTHZ_NODE)

    @property
    def is_authz(self) -> bool:
        """Whether it is that of an authorisation service."""
        return self.id.endswith(AUTHZ_NODE)

    @property
    def size(self) -> int:
        """Bytes of it that are kept."""
        kept = (self.id, self.cluster, self.agent, *self.metadata, *self.metadata.values())
        return sum(map(len, kept)) + 100 * len(kept)


def decode(wire: Wire, raw: bytes, *, most_names: int) -> tuple[EnvoyNode, list[DiscoveryRequest]]:
    """Runs all steps of `decoding` and returns its result."""
    work = decoding(wire, raw, most_names=most_names)
    while True:
        try:
            next(work)
        except StopIteration as end:
            node, requests = end.value
            return node, requests


def decoding(wire: Wire, raw: bytes, *, most_names: int) -> Generator[None, None, tuple[EnvoyNode, list[DiscoveryRequest]]]:
    """A request, and the node that it names (with id "" where it names none), in steps. Fields that are not known are ignored (T9).

    A long delta request becomes several, each with SLICE names at most, so that none takes long to answer: first the names that are
    subscribed, then those that are unsubscribed. `initial_resource_versions` stay in one request, because they count in the first only.
    Raises MalformedRequest, and RequestTooLarge where the lists of names have more than `most_names` entries together (B9), or the node is
    too big.
    """
    message = _requests()[wire]()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise MalformedRequest(f"the request is not a {message.DESCRIPTOR.full_name}") from None
    node = _node(message.node) if message.HasField("node") else _NO_NODE  # most requests are ACKs, which name none
    if len(raw) > _QUICK:
        yield
    error = _error(message.error_detail) if message.HasField("error_detail") else None
    if wire is Wire.SOTW:
        _limit(most_names, message.resource_names)
        names = tuple(message.resource_names)
        return node, [DiscoveryRequest(message.type_url, message.response_nonce, error, names=names, version=message.version_info)]
    added, removed, held = message.resource_names_subscribe, message.resource_names_unsubscribe, message.initial_resource_versions
    if not (added or removed or held):  # a mere answer, as most requests are
        return node, [DiscoveryRequest(message.type_url, message.response_nonce, error)]
    _limit(most_names, added, removed, held)
    entries = iter(held.items())
    versions: dict[str, str] = dict(islice(entries, SLICE))
    while part := tuple(islice(entries, SLICE)):
        yield
        versions.update(part)
    most = max(SLICE, len(added)) if versions else SLICE
    early = SLICE if len(added) <= most else 0
    asked = DiscoveryRequest(
        message.type_url,
        message.response_nonce,
        error,
        subscribe=tuple(added[:most]),
        unsubscribe=tuple(removed[:early]),
        initial_versions=versions,
    )
    more = [DiscoveryRequest(asked.type_url, subscribe=tuple(added[at : at + SLICE])) for at in range(most, len(added), SLICE)]
    more += [DiscoveryRequest(asked.type_url, unsubscribe=tuple(removed[at : at + SLICE])) for at in range(early, len(removed), SLICE)]
    return node, [asked, *more]


def _limit(most: int, *lists: Any) -> None:
    if (names := sum(len(names) for names in lists)) > most:
        raise RequestTooLarge(f"the request names {names} resources; at most {most} are allowed")


_NO_NODE = EnvoyNode("")


def _node(message: Any) -> EnvoyNode:
    if (size := message.ByteSize()) > EnvoyNode.MOST:
        raise RequestTooLarge(f"the node of the request has {size} bytes; at most {EnvoyNode.MOST} are allowed")
    number = message.user_agent_build_version.version
    version = message.user_agent_version or f"{number.major_number}.{number.minor_number}.{number.patch}"
    return EnvoyNode(
        id=message.id,
        cluster=message.cluster,
        agent=f"{message.user_agent_name} {version}" if message.user_agent_name else "",
        metadata={key: value.string_value for key, value in message.metadata.fields.items() if value.string_value},
    )


def _error(status: Any) -> str:
    return without_secrets(status.message[: 4 * _LONGEST_ERROR])[:_LONGEST_ERROR] or f"status code {status.code}"


_SECRETS = re.compile(
    r"""
    (inline_?(?:string|bytes)"?\s*:\s*") (?:[^"\\]|\\.)+                         # a DataSource, as text or as JSON
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)  # PEM, cut off or not
    | [A-Za-z0-9+/]{128,}={0,2}                                                  # base64
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text of an Envoy's error, without what could be a key: Envoy may print the message that it rejects (I6)."""
    return _SECRETS.sub(r"\1[hidden]", text)


# What is read of a request: message → field → (number, type). Names and numbers are those of envoy/service/discovery/v3/discovery.proto,
# envoy/config/core/v3/base.proto, google/rpc/status.proto and google/protobuf/struct.proto; what is left out is ignored when it comes.
_FIELDS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Value": {"string_value": (3, "string")},
    "Struct": {"fields": (1, "map Value")},
    "SemanticVersion": {"major_number": (1, "uint32"), "minor_number": (2, "uint32"), "patch": (3, "uint32")},
    "BuildVersion": {"version": (1, "SemanticVersion")},
    "Node": {
        "id": (1, "string"),
        "cluster": (2, "string"),
        "metadata": (3, "Struct"),
        "user_agent_name": (6, "string"),
        "user_agent_version": (7, "string"),
        "user_agent_build_version": (8, "BuildVersion"),
    },
    "Status": {"code": (1, "int32"), "message": (2, "string")},
    "DiscoveryRequest": {
        "version_info": (1, "string"),
        "node": (2, "Node"),
        "resource_names": (3, "repeated string"),
        "type_url": (4, "string"),
        "response_nonce": (5, "string"),
        "error_detail": (6, "Status"),
    },
    "DeltaDiscoveryRequest": {
        "node": (1, "Node"),
        "type_url": (2, "string"),
        "resource_names_subscribe": (3, "repeated string"),
        "resource_names_unsubscribe": (4, "repeated string"),
        "initial_resource_versions": (5, "map string"),
        "response_nonce": (6, "string"),
        "error_detail": (7, "Status"),
    },
}
_PACKAGE = "xds.server"


@cache
def _requests() -> Mapping[Wire, Any]:
    """The class of each wire's request, in a descriptor pool of its own: the default one may hold the real protos."""
    file = descriptor_pb2.FileDescriptorProto(name="xds/server/requests.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            _add_field(message, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = {Wire.SOTW: "DiscoveryRequest", Wire.DELTA: "DeltaDiscoveryRequest"}
    return {wire: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for wire, name in names.items()}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    """Adds a field to a message; a map becomes what the protobuf compiler makes of one: a repeated entry with a key and a value."""
    many, _, kind = kind.rpartition(" ")
    if many == "map":
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry", options={"map_entry": True})
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind)
        kind = f"{message.name}.{entry.name}"
    it = descriptor_pb2.FieldDescriptorProto
    scalar = {"string": it.TYPE_STRING, "int32": it.TYPE_INT32, "uint32": it.TYPE_UINT32}.get(kind)
    label = it.LABEL_REPEATED if many else it.LABEL_OPTIONAL
    added = message.field.add(name=name, number=number, label=label, type=scalar or it.TYPE_MESSAGE)
    if scalar is None:
        added.type_name = f".{_PACKAGE}.{kind}"


class Encoder:
    """Responses as bytes.

    Streams with the same response share its bytes: they are joined once. Only the nonce differs between streams, so it comes last. Up to
    `keep` bytes of joined responses and their resources are cached, the latest used; a response larger than half of that is joined each
    time. `identifier` is what Envoy shows as the `control_plane.identifier` it is connected to (V7).
    """

    def __init__(self, identifier: str, *, keep: int = 4 * 2**20) -> None:
        self._control_plane = _text(1, identifier)
        self._keep = keep
        self._kept = 0
        self._joined: OrderedDict[_Key, tuple[tuple[Resource, ...], bytes]] = OrderedDict()

    def encode(self, wire: Wire, response: DiscoveryResponse) -> bytes:
        """A DiscoveryResponse or DeltaDiscoveryResponse."""
        return self._without_nonce(wire, response) + _text(5, response.nonce)

    def _without_nonce(self, wire: Wire, response: DiscoveryResponse) -> bytes:
        key = (wire, response.type_url, response.version, tuple(map(id, response.resources)), response.removed)
        if (known := self._joined.get(key)) is not None:
            self._joined.move_to_end(key)
            return known[1]
        write = _sotw if wire is Wire.SOTW else _delta
        joined = b"".join(write(response, self._control_plane))
        if len(joined) <= self._keep // 2:
            self._joined[key] = response.resources, joined  # the resources stay alive with their ids
            self._kept += 2 * len(joined)  # itself, and the resources
            while self._kept > self._keep:
                self._kept -= 2 * len(self._joined.popitem(last=False)[1][1])
        return joined


_Key = tuple[Wire, str, str, tuple[int, ...], tuple[str, ...]]


def _sotw(response: DiscoveryResponse, control_plane: bytes) -> Iterator[bytes]:
    """The pieces of `envoy.service.discovery.v3.DiscoveryResponse`, but the nonce."""
    type_url = _text(1, response.type_url)
    yield _text(1, response.version)
    for resource in response.resources:
        body = resource.body
        prefix = type_url + _head(2, len(body))
        yield _head(2, len(prefix) + len(body))
        yield prefix
        yield body
    yield _text(4, response.type_url)
    yield _head(6, len(control_plane)) + control_plane


def _delta(response: DiscoveryResponse, control_plane: bytes) -> Iterator[bytes]:
    """The pieces of `envoy.service.discovery.v3.DeltaDiscoveryResponse`, but the nonce."""
    type_url = _text(1, response.type_url)
    yield _text(1, response.version)  # system_version_info (D19)
    for resource in response.resources:
        body = resource.body
        any_prefix = type_url + _head(2, len(body))
        prefix = _text(1, resource.version) + _text(3, resource.name) + _head(2, len(any_prefix) + len(body)) + any_prefix
        yield _head(2, len(prefix) + len(body))
        yield prefix
        yield body
    yield _text(4, response.type_url)
    for name in response.removed:
        yield _text(6, name)
    yield _head(7, len(control_plane)) + control_plane


def _text(number: int, text: str) -> bytes:
    """A string field, empty or not."""
    raw = text.encode()
    return _head(number, len(raw)) + raw


def _head(number: int, length: int) -> bytes:
    """The tag and the length before a field of `length` bytes; field numbers up to 15."""
    head = bytearray((number << 3 | 2,))
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head)
