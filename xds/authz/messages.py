"""The few protobuf messages that the service reads and writes, from descriptors made at run time. What is left out is ignored.

Names and numbers are those of envoy/service/auth/v3, envoy/service/ext_proc/v3, envoy/service/discovery/v3, google/rpc/status.proto,
envoy/config/core/v3/base.proto and google/protobuf/any.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "xds.authz"
_FIELDS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    # a question
    "SocketAddress": {"address": (2, "string")},
    "Address": {"socket_address": (1, "SocketAddress")},
    "Peer": {"address": (1, "Address")},
    "HeaderValue": {"key": (1, "string"), "value": (2, "string"), "raw_value": (3, "bytes")},
    "HeaderMap": {"headers": (1, "repeated HeaderValue")},
    "HttpRequest": {"headers": (3, "map string"), "header_map": (13, "HeaderMap")},
    "Request": {"http": (2, "HttpRequest")},
    "AttributeContext": {"source": (1, "Peer"), "request": (4, "Request"), "context_extensions": (10, "map string")},
    "CheckRequest": {"attributes": (1, "AttributeContext")},
    # an answer
    "Status": {"code": (1, "int32"), "message": (2, "string")},
    "HeaderValueOption": {"header": (1, "HeaderValue")},
    "HttpStatus": {"code": (1, "int32")},
    "DeniedHttpResponse": {"status": (1, "HttpStatus"), "headers": (2, "repeated HeaderValueOption"), "body": (3, "string")},
    "OkHttpResponse": {"headers_to_remove": (5, "repeated string")},
    "Value": {"string_value": (3, "string")},
    "Struct": {"fields": (1, "map Value")},
    "CheckResponse": {
        "status": (1, "Status"),
        "denied_response": (2, "DeniedHttpResponse"),
        "ok_response": (3, "OkHttpResponse"),
        "dynamic_metadata": (4, "Struct"),
    },
    # a conversation about one request
    "Empty": {},
    "ImmediateResponse": {"status": (1, "HttpStatus")},
    "ProcessingResponse": {
        "request_headers": (1, "Empty"),
        "response_trailers": (6, "Empty"),
        "immediate_response": (7, "ImmediateResponse"),
    },
    # a conversation with the control plane
    "Node": {"id": (1, "string"), "cluster": (2, "string"), "user_agent_name": (6, "string"), "user_agent_version": (7, "string")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Resource": {"version": (1, "string"), "resource": (2, "Any"), "name": (3, "string")},
    "DeltaDiscoveryRequest": {
        "node": (1, "Node"),
        "type_url": (2, "string"),
        "resource_names_subscribe": (3, "repeated string"),
        "initial_resource_versions": (5, "map string"),
        "response_nonce": (6, "string"),
        "error_detail": (7, "Status"),
    },
    "DeltaDiscoveryResponse": {"resources": (2, "repeated Resource"), "nonce": (5, "string"), "removed_resources": (6, "repeated string")},
}


@cache
def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    """A pool of its own: the default one may hold the real messages."""
    file = descriptor_pb2.FileDescriptorProto(name="xds/authz/messages.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        made = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            _add_field(made, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(made: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    """Add a field; a map becomes what the protobuf compiler makes of one: a repeated entry with a key and a value."""
    many, _, kind = kind.rpartition(" ")
    if many == "map":
        entry = made.nested_type.add(name=name.title().replace("_", "") + "Entry", options={"map_entry": True})
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind)
        kind = f"{made.name}.{entry.name}"
    it = descriptor_pb2.FieldDescriptorProto
    scalar = {"string": it.TYPE_STRING, "int32": it.TYPE_INT32, "bytes": it.TYPE_BYTES}.get(kind)
    added = made.field.add(name=name, number=number, label=it.LABEL_REPEATED if many else it.LABEL_OPTIONAL, type=scalar or it.TYPE_MESSAGE)
    if scalar is None:
        added.type_name = f".{_PACKAGE}.{kind}"
