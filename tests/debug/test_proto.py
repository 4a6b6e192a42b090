"""The .proto, which is what people read, and the module that was made of it, which is what is served."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from tests.debug.test_descriptors import files
from xds.debug import v1

SOURCE = Path(__file__).parents[2] / "protos" / "xds" / "debug" / "v1" / "debug.proto"
_BLOCK = re.compile(r"^(message|enum|service) (\w+) \{(?:\}|\n(.*?)^\})", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (?:(repeated|optional) )?(map<string, \w+>|[\w.]+) (\w+) = (\d+);", re.MULTILINE)
_VALUE = re.compile(r"^  (\w+) = (\d+);", re.MULTILINE)
_METHOD = re.compile(r"^  rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\);", re.MULTILINE)
_PACKAGE = "xds.debug.v1"


def test_the_module_is_current() -> None:
    """If not: make protos."""
    first = Path(v1.__file__).read_text().splitlines()[0]
    assert first.endswith(f": {hashlib.sha256(SOURCE.read_bytes()).hexdigest()}")


def test_what_reflection_says_is_what_the_proto_says() -> None:
    declared: dict[str, object] = {}
    for kind, name, body in _BLOCK.findall(SOURCE.read_text()):
        pattern = {"message": _FIELD, "enum": _VALUE, "service": _METHOD}[kind]
        declared[name] = sorted(pattern.findall(body))
    reflected: dict[str, object] = {}
    for file in files().by_name.values():
        if file.package != _PACKAGE:
            continue
        for message in file.message_type:
            reflected[message.name] = sorted(_fields(message))
        for enum in file.enum_type:
            reflected[enum.name] = sorted((value.name, str(value.number)) for value in enum.value)
        for service in file.service:
            reflected[service.name] = sorted(
                (m.name, _short(m.input_type), "stream " if m.server_streaming else "", _short(m.output_type)) for m in service.method
            )
    assert len(declared) > 20
    assert reflected == declared


def _fields(message: DescriptorProto) -> list[tuple[str, str, str, str]]:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    found = []
    for field in message.field:
        label = "repeated" if field.label == field.LABEL_REPEATED else "optional" if field.proto3_optional else ""
        kind = _type(field)
        if (entry := maps.get(kind.rpartition(".")[2])) is not None:
            label, kind = "", f"map<{_type(entry.field[0])}, {_type(entry.field[1])}>"
        found.append((label, kind, field.name, str(field.number)))
    return found


def _type(field: FieldDescriptorProto) -> str:
    return _short(field.type_name) if field.type_name else FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _short(name: str) -> str:
    return name.removeprefix(".").removeprefix(f"{_PACKAGE}.")
