"""Descriptors made from field tables: google.protobuf takes all of them, and reads and writes the same bytes as we do."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Any

import pytest
from envoy_data_plane.envoy.service.status import v3 as csds
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.arbitrary import CLASSES, messages
from xds.debug import v1
from xds.debug.descriptors import Message, full_name
from xds.debug.server import SERVICES, all_files
from xds.nginx.messages import BodySizeLimit
from xds.wire.encode import encode

files = cache(all_files)


@cache
def pool() -> DescriptorPool:
    """Adding a file checks it: names, numbers, types, and that what it depends on is there."""
    return files().pool()


def message(cls: Message) -> Any:
    """google.protobuf's class of the same name."""
    return GetMessageClass(pool().FindMessageTypeByName(full_name(cls)))


SENT = tuple(cls for cls in CLASSES if full_name(cls).startswith("envoy."))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # arbitrary messages have deprecated fields, too
@given(st.data(), st.sampled_from((*SENT, BodySizeLimit)))
def test_google_protobuf_reads_and_writes_what_we_write(data: st.DataObject, cls: Message) -> None:
    raw = encode(data.draw(messages(cls)))
    found = message(cls).FromString(raw)
    assert not len(UnknownFieldSet(found))
    assert cls.parse(found.SerializeToString()) == cls.parse(raw)


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_of_our_services_can_be_found(service: str) -> None:
    found = pool().FindServiceByName(service)
    assert {m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming) for m in found.methods} == {
        name: (full_name(m.request), full_name(m.response), m.client_streams, m.server_streams) for name, m in SERVICES[service].items()
    }


def _file(symbol: str) -> FileDescriptorProto:
    name = files().containing(symbol)
    assert name is not None
    return files().by_name[name]


@pytest.mark.parametrize(
    "symbol",
    [
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.cluster.v3.Cluster.DiscoveryType",
        "envoy.config.cluster.v3.Cluster.EdsClusterConfig.service_name",
    ],
)
def test_what_stands_in_a_message_is_in_its_file(symbol: str) -> None:
    assert _file(symbol).message_type[0].name == "Cluster"


@pytest.mark.parametrize("symbol", ["envoy.config.cluster.v3", "nothing", "", "envoy.config.cluster.v3.Nothing"])
def test_what_is_not_known_is_in_no_file(symbol: str) -> None:
    assert files().containing(symbol) is None


def test_the_members_of_a_oneof_are_declared_one_after_the_other() -> None:
    """Go's implementation refuses files in which they are not."""
    for file in files().by_name.values():
        todo = list(file.message_type)
        while todo:
            found = todo.pop()
            todo += found.nested_type
            runs = [group for group, _ in groupby(f.oneof_index if f.HasField("oneof_index") else None for f in found.field)]
            oneofs = [group for group in runs if group is not None]
            assert len(oneofs) == len(set(oneofs)), found.name


def test_json_has_the_names_that_the_protobuf_compiler_would_give() -> None:
    config = csds.ClientConfigGenericXdsConfig(type_url="t", config_status=csds.ConfigStatus.SYNCED)
    found = message(csds.ClientConfig).FromString(encode(csds.ClientConfig(generic_xds_configs=[config])))
    as_json = json_format.MessageToDict(found, descriptor_pool=pool())
    assert as_json == {"genericXdsConfigs": [{"typeUrl": "t", "configStatus": "SYNCED"}]}


def test_every_field_has_its_name_in_json() -> None:
    """Go's implementation makes none up."""
    (client,) = (m for m in _file("envoy.service.status.v3.ClientConfig").message_type if m.name == "ClientConfig")
    assert [field.json_name for field in client.field] == ["node", "xdsConfig", "genericXdsConfigs", "clientScope"]


def test_a_field_that_is_a_word_of_python_has_its_own_name_again() -> None:
    (rules,) = (m for m in _file("validate.StringRules").message_type if m.name == "StringRules")
    assert "in" in [field.name for field in rules.field]


def test_absence_of_an_optional_number_is_told_from_zero() -> None:
    change = message(v1.Change)
    assert not change.FromString(encode(v1.Change())).HasField("accepted_milliseconds")
    assert change.FromString(encode(v1.Change(accepted_milliseconds=0.0))).HasField("accepted_milliseconds")
