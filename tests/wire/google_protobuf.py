"""What google.protobuf makes of messages: run by a Python of its own, which has xds-protos and nothing of ours.

Reads lines of JSON `{"type", "body", "json"}` (full name, hexadecimal bytes, the message in protobuf's JSON format) and answers each with
- `same`: whether the bytes and the JSON are the same message,
- `misread`: fields that exist, and whose bytes were not understood,
- `newer`: fields and enum values that are not in xds-protos,
- `again`: the bytes that google.protobuf writes for the message that it read.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def load(name: str) -> type[Message]:
    """The class of a message, after everything in its package has been imported."""
    package = importlib.import_module(name.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def walk(message: Message) -> Iterator[Message]:
    """A message and those within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            yield from walk(value)
        elif not field.message_type.GetOptions().map_entry:
            for item in value:
                yield from walk(item)
        elif field.message_type.fields_by_name["value"].message_type is not None:
            for item in value.values():
                yield from walk(item)


def unknown_numbers(message: Message) -> Iterator[str]:
    """The enum values of a message that have no name."""
    for field, value in message.ListFields():
        if field.enum_type is not None:
            numbers = set(value) if field.is_repeated else {value}
            yield from (f"{field.full_name}={number}" for number in numbers - set(field.enum_type.values_by_number))


def answer(question: dict[str, str]) -> dict[str, object]:
    """The answer to one line."""
    cls = load(question["type"])
    for name in re.findall(r'"@type": "type.googleapis.com/([^"]+)"', question["json"]):
        load(name)
    read = cls.FromString(bytes.fromhex(question["body"]))
    misread: list[str] = []
    newer: list[str] = []
    for message in walk(read):
        newer += unknown_numbers(message)
        unknown_fields: Any = UnknownFieldSet(message)
        for unknown in unknown_fields:
            name = f"{message.DESCRIPTOR.full_name}:{unknown.field_number}"
            (misread if unknown.field_number in message.DESCRIPTOR.fields_by_number else newer).append(name)
    written = json_format.Parse(question["json"], cls(), ignore_unknown_fields=bool(newer))
    return {"same": read == written, "misread": misread, "newer": newer, "again": read.SerializeToString().hex()}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
