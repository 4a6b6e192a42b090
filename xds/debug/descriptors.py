"""Descriptors of protobuf messages and services, as server reflection hands them out, made from betterproto2's field tables.

betterproto2 keeps what it needs for reading and writing, not the .proto files: those are made up here again. Names of files, and of nested
enums where they are spelled unusually, are ours; names of messages, fields and enum values, numbers and types are the original ones, so
that a client reads and writes the same bytes and the same JSON. What does not belong here: answering (`reflection`).
"""

from __future__ import annotations

import dataclasses
import keyword
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import betterproto2
from betterproto2 import FieldMetadata, ProtoClassMetadata
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

_GOOGLE = "google.protobuf"
_WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_URL = "type.googleapis.com/"
_ROOT = "envoy_data_plane."
_NAME = re.compile(r"([a-z0-9_.]+)\.([A-Z].*)")
"""Packages are written in small letters, messages begin with a capital one."""
Message = type[betterproto2.Message]
Class = Message | type[betterproto2.Enum]


class Method(NamedTuple):
    """A method of a service, and which sides stream."""

    request: Message
    response: Message
    client_streams: bool = False
    server_streams: bool = False


Services = Mapping[str, Mapping[str, Method]]
"""Full name of a service → name of a method → method."""


@dataclass(frozen=True)
class Files:
    """Files by name; each symbol stands in one of them."""

    by_name: Mapping[str, FileDescriptorProto]

    def containing(self, symbol: str) -> str | None:
        """The name of the file that declares a message, enum, service, method, field or enum value; None for what is not known."""
        while symbol:
            if found := self._declared.get(symbol):
                return found
            symbol = symbol.rpartition(".")[0]
        return None

    def pool(self) -> DescriptorPool:
        """All files in a pool, each after those that it depends on."""
        made = DescriptorPool()
        added: set[str] = set()
        todo = list(self.by_name)
        while todo:
            name = todo[-1]
            missing = [found for found in self.by_name[name].dependency if found not in added]
            if missing and name not in added:
                todo += missing  # no file depends on itself: `_made` joins messages that refer to each other
                continue
            if name not in added:
                made.AddSerializedFile(self.by_name[name].SerializeToString())
                added.add(name)
            todo.pop()
        return made

    @cached_property
    def _declared(self) -> Mapping[str, str]:
        """What stands at the top of a file, but for its package: no package is the name of something else."""
        declared = ((f, chain(f.message_type, f.enum_type, f.service)) for f in self.by_name.values())
        return {f"{file.package}.{one.name}": file.name for file, all_of_it in declared for one in all_of_it}  # type: ignore[attr-defined]


def files(services: Services, others: Iterable[FileDescriptorProto] = ()) -> Files:
    """Files of these services and of every message in the pool, and the `others` as they are. Takes half a second."""
    well_known = (of_module(module) for module in _WELL_KNOWN)
    made = {file.name: file for file in (*_made(_declarations()), *_services(services), *well_known, *others)}
    names = Files(made)
    for file in made.values():
        if not file.dependency:
            file.dependency.extend(sorted({_file_of(names, symbol) for symbol in _referred(file)} - {file.name}))
    return names


def of_module(module: Any) -> FileDescriptorProto:
    """The file that a module of google.protobuf's compiler was made from, such as `channelz_pb2`."""
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def full_name(cls: Class) -> str:
    """`envoy.config.core.v3.Node`"""
    return ".".join(_name(cls))


def _name(cls: Class) -> tuple[str, str]:
    """The package, and the name in it: `envoy.config.cluster.v3` and `Cluster.DiscoveryType`."""
    if issubclass(cls, betterproto2.Message):
        found = _NAME.fullmatch(default_message_pool.type_to_url[cls].removeprefix(_URL))
        assert found is not None
        return found[1], found[2]
    return cls.__module__.removeprefix(_ROOT), _nested_name(cls)


def _nested_name(cls: type[betterproto2.Enum]) -> str:
    """`Cluster.DiscoveryType` of ClusterDiscoveryType: an enum belongs to the message with whose name its own begins."""
    names = vars(sys.modules[cls.__module__])
    for end in range(len(cls.__name__) - 1, 0, -1):
        outer = names.get(cls.__name__[:end])
        inner = cls.__name__[end:]
        if inner[0].isupper() and isinstance(outer, type) and issubclass(outer, betterproto2.Message):
            return f"{_name(outer)[1]}.{inner}"
    return cls.__name__


# From classes to files


@dataclass
class _Declaration:
    """A message or enum that stands at the top of a file, with the messages and enums in it, by their names."""

    package: str
    name: str
    inner: dict[str, Class] = dataclasses.field(default_factory=dict)

    @property
    def refers(self) -> set[tuple[str, str]]:
        """Package and name of the declarations that fields refer to, this one among them where it does."""
        classes = (c for c in self.inner.values() if issubclass(c, betterproto2.Message))
        return {_top(found) for cls in classes for found in _field_classes(cls)}


def _top(cls: Class) -> tuple[str, str]:
    package, name = _name(cls)
    return package, name.split(".", 1)[0]


def _declarations() -> Mapping[tuple[str, str], _Declaration]:
    """Of all messages in the pool, and all enums that they use."""
    found: dict[tuple[str, str], _Declaration] = {}
    messages = [cls for cls in _messages() if _name(cls)[0] != _GOOGLE]
    enums = (c for m in messages for c in _field_classes(m) if issubclass(c, betterproto2.Enum) and _name(c)[0] != _GOOGLE)
    classes: tuple[Class, ...] = (*messages, *dict.fromkeys(enums))
    for cls in classes:
        top = _top(cls)
        declaration = found.setdefault(top, _Declaration(*top))
        declaration.inner[_name(cls)[1]] = cls
    return found


def _messages() -> list[Message]:
    """All messages in the pool, with those that they may have in them: the pool has these once the type of a field was asked for."""
    pool = default_message_pool.type_to_url
    done = 0
    while done < len(pool):
        messages = list(pool)
        for cls in messages[done:]:
            for _ in _field_classes(cls):
                pass
        done = len(messages)
    return list(pool)


def _field_classes(cls: Message) -> Iterator[Class]:
    for name in _table(cls).sorted_field_names:
        for _, found in _types(cls, name):
            if found is not None:
                yield found


def _table(cls: Message) -> ProtoClassMetadata:
    table: Any = cls._betterproto  # type: ignore[arg-type]
    assert isinstance(table, ProtoClassMetadata)
    return table


def _types(cls: Message, name: str) -> Iterator[tuple[FieldMetadata, Class | None]]:
    """The field's own type, or those of key and value of a map: what stands in the table, and the class of a message or an enum."""
    meta = _table(cls).meta_by_field_name[name]
    classes = _table(cls).cls_by_field
    if meta.map_meta is None:
        yield meta, _class(meta, classes[name])
    else:
        key, value = meta.map_meta
        yield key, None
        yield value, _class(value, classes[f"{name}.value"])


def _class(meta: FieldMetadata, hinted: type) -> Class | None:
    if meta.proto_type not in (betterproto2.TYPE_MESSAGE, betterproto2.TYPE_ENUM):
        return None
    return meta.unwrap() if meta.unwrap else hinted


def _made(declarations: Mapping[tuple[str, str], _Declaration]) -> Iterator[FileDescriptorProto]:
    """A file for each declaration, or for several that need each other: files must not depend on each other in a circle."""
    refers = {top: declaration.refers & declarations.keys() for top, declaration in declarations.items()}
    reach = {top: _reachable(top, refers) for top in declarations}
    done: set[tuple[str, str]] = set()
    for top in sorted(declarations):
        if top in done:
            continue
        together = sorted({top} | {other for other in reach[top] if top in reach[other]})
        done.update(together)
        file = FileDescriptorProto(name=f"{top[0].replace('.', '/')}/{top[1]}.proto", package=top[0], syntax="proto3")
        for member in together:
            _declare(file, declarations[member])
        yield file


def _reachable(start: tuple[str, str], refers: Mapping[tuple[str, str], set[tuple[str, str]]]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    todo = [start]
    while todo:
        new = refers[todo.pop()] - found
        found |= new
        todo += new
    return found


def _declare(file: FileDescriptorProto, declaration: _Declaration) -> None:
    """Writes a declaration with what stands in it, from the outside to the inside."""
    at: dict[str, Any] = {"": file}
    for name in sorted(declaration.inner):
        outer, _, own = name.rpartition(".")
        cls = declaration.inner[name]
        parent = at[outer]
        if issubclass(cls, betterproto2.Enum):
            parent.enum_type.append(_enum(own, cls))
        else:
            at[name] = (parent.message_type if parent is file else parent.nested_type).add(name=own)
            _add_fields(at[name], cls, f"{file.package}.{name}")


def _enum(name: str, cls: type[betterproto2.Enum]) -> EnumDescriptorProto:
    made = EnumDescriptorProto(name=name)
    originals = cls.betterproto_value_to_renamed_proto_names()
    members = [(own, int(member)) for own, member in cls.__members__.items()]
    for own, number in members:
        made.value.add(name=originals.get(number, own), number=number)
    made.options.allow_alias = len({number for _, number in members}) < len(members)
    if not made.options.allow_alias:
        made.ClearField("options")
    return made


# From fields to fields


def _add_fields(message: DescriptorProto, cls: Message, name: str) -> None:
    """Adds the fields of a class, those of a oneof one after the other; real oneofs come before those that stand for `optional`."""
    table = _table(cls)
    fields = table.meta_by_field_name
    oneofs = {group: n for n, group in enumerate(dict.fromkeys(m.group for m in fields.values() if m.group))}
    for group in oneofs:
        message.oneof_decl.add(name=group)
    for own in sorted(fields, key=lambda own: (oneofs.get(fields[own].group or "", -1), fields[own].number)):
        meta = fields[own]
        field = message.field.add(name=_original(own), json_name=_camel(_original(own)), number=meta.number)
        field.label = field.LABEL_REPEATED if meta.repeated or meta.map_meta else field.LABEL_OPTIONAL
        if meta.map_meta:
            _add_map(message, field, cls, own, name)
            continue
        ((_, found),) = _types(cls, own)
        _set_type(field, meta, found)
        if meta.group:
            field.oneof_index = oneofs[meta.group]
        elif meta.optional and meta.proto_type != betterproto2.TYPE_MESSAGE:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def _add_map(message: DescriptorProto, field: FieldDescriptorProto, cls: Message, own: str, name: str) -> None:
    """A map is what the protobuf compiler makes of one: a repeated entry with a key and a value."""
    entry = message.nested_type.add(name=field.name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    for what, (meta, found) in zip(("key", "value"), _types(cls, own), strict=True):
        _set_type(entry.field.add(name=what, json_name=what, number=meta.number, label=field.LABEL_OPTIONAL), meta, found)
    field.type = field.TYPE_MESSAGE
    field.type_name = f".{name}.{entry.name}"


def _set_type(field: FieldDescriptorProto, meta: FieldMetadata, cls: Class | None) -> None:
    field.type = FieldDescriptorProto.Type.Value(f"TYPE_{meta.proto_type.upper()}")
    if cls is not None:
        field.type_name = f".{full_name(cls)}"


def _camel(name: str) -> str:
    """The name in JSON, as the protobuf compiler makes it."""
    return re.sub(r"_+(.?)", lambda found: found[1].upper(), name)


def _original(name: str) -> str:
    """The name in the .proto: what is a word of Python got an underscore."""
    return name[:-1] if name.endswith("_") and keyword.iskeyword(name[:-1]) else name


# Services, and what files need


def _services(services: Services) -> Iterator[FileDescriptorProto]:
    for service, methods in services.items():
        package, _, name = service.rpartition(".")
        file = FileDescriptorProto(name=f"{service.replace('.', '/')}.proto", package=package, syntax="proto3")
        made = file.service.add(name=name)
        for method, (request, response, client_streams, server_streams) in methods.items():
            added = made.method.add(name=method, input_type=f".{full_name(request)}", output_type=f".{full_name(response)}")
            if client_streams:
                added.client_streaming = True
            if server_streams:
                added.server_streaming = True
        yield file


def _referred(file: FileDescriptorProto) -> Iterator[str]:
    """The types that fields and methods name, without the dot before them."""
    todo = list(file.message_type)
    while todo:
        message = todo.pop()
        todo += message.nested_type
        for field in message.field:
            if field.type_name:
                yield field.type_name[1:]
    for service in file.service:
        for method in service.method:
            yield method.input_type[1:]
            yield method.output_type[1:]


def _file_of(names: Files, symbol: str) -> str:
    found = names.containing(symbol)
    assert found is not None, symbol
    return found
