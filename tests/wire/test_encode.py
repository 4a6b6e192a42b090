"""What encode() writes, byte by byte, where it is easy to get wrong."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import CircuitBreakersThresholds, Cluster
from envoy_data_plane.envoy.config.core.v3 import AggregatedConfigSource, ConfigSource, HealthStatus, RoutingPriority, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration, VirtualHost
from envoy_data_plane.google.protobuf import Any, Duration, Int32Value, Struct, Value
from envoy_data_plane.validate import DoubleRules, SInt32Rules, SInt64Rules, TimestampRules

from xds.wire.encode import encode, field, pack, type_url, varint


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (2**64 - 1, "ffffffffffffffffff01"),
        (-1, "ffffffffffffffffff01"),
        (-(2**63), "80808080808080808001"),
    ],
)
def test_varints_have_seven_bits_a_byte_low_ones_first(number: int, written: str) -> None:
    assert varint(number).hex() == written


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_of_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} does not fit 64 bits"):
        varint(number)


@pytest.mark.parametrize("hosts", [1, 40])
def test_a_message_can_be_joined_from_the_bytes_of_its_parts(hosts: int) -> None:
    parts = [VirtualHost(name=f"host-{n}" * hosts, domains=["*"]) for n in range(hosts)]
    joined = encode(RouteConfiguration(name="ingress")) + b"".join(field(2, encode(part)) for part in parts)
    assert joined == encode(RouteConfiguration(name="ingress", virtual_hosts=parts))


def test_the_tag_of_a_field_above_15_has_two_bytes() -> None:
    assert field(16, b"x").hex() == "82010178"


def test_the_type_url_is_the_full_name() -> None:
    assert type_url(Cluster) == "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def test_a_class_that_is_not_registered_has_no_type_url() -> None:
    @dataclass(eq=False, repr=False)
    class Unregistered(betterproto2.Message):
        pass

    with pytest.raises(KeyError):
        type_url(Unregistered)


def test_packing_gives_the_any_of_betterproto2() -> None:
    cluster = Cluster(name="default/web/80")
    assert pack(cluster) == Any.pack(cluster)


def test_what_equals_the_default_is_not_written() -> None:
    message = Cluster(name="", type=None, connect_timeout=None, respect_dns_ttl=False, transport_socket_matches=[])
    assert encode(message) == b""


def test_a_default_that_was_set_in_a_oneof_is_written() -> None:
    assert encode(SocketAddress(port_value=0)).hex() == "1800"
    assert encode(SocketAddress(named_port="")).hex() == "2200"


def test_a_wrapped_default_is_an_empty_message() -> None:
    assert encode(CircuitBreakersThresholds(max_connections=0)).hex() == "1200"


def test_an_empty_message_is_present() -> None:
    assert encode(ConfigSource(ads=AggregatedConfigSource())).hex() == "1a00"


def test_empty_messages_in_a_list_are_counted() -> None:
    assert encode(LocalityLbEndpoints(lb_endpoints=[LbEndpoint(), LbEndpoint()])).hex() == "12001200"


def test_packed_numbers_share_one_tag() -> None:
    assert encode(SInt32Rules(in_=[0, -1, 1, -2])).hex() == "320400010203"


@pytest.mark.parametrize(("number", "written"), [(2**63 - 1, "feffffffffffffffff01"), (-(2**63), "ffffffffffffffffff01"), (-64, "7f")])
def test_sint_is_zigzag(number: int, written: str) -> None:
    assert encode(SInt64Rules(const=number)).hex() == f"08{written}"


def test_a_negative_int32_has_ten_bytes() -> None:
    assert encode(Int32Value(value=-2)).hex() == "08feffffffffffffffff01"


def test_an_enum_value_that_has_no_name_is_written_as_its_number() -> None:
    assert encode(CircuitBreakersThresholds(priority=RoutingPriority(77))).hex() == "084d"
    assert encode(LbEndpoint(health_status=HealthStatus(-1))).hex() == "10ffffffffffffffffff01"


@pytest.mark.parametrize("number", [-0.0, math.inf, -math.inf, math.nan])
def test_special_floats_are_written_where_presence_tells_them_from_nothing(number: float) -> None:
    assert encode(Value(number_value=number)) == b"\x11" + struct.pack("<d", number)
    assert encode(DoubleRules(in_=[number])) == b"\x32\x08" + struct.pack("<d", number)


def test_minus_zero_without_presence_is_nothing() -> None:
    assert encode(DoubleRules(const=-0.0)) == b""


def test_text_is_utf8_and_measured_in_bytes() -> None:
    assert encode(Cluster(name="ñ€😀")).hex() == "0a09" + "ñ€😀".encode().hex()


def test_the_entries_of_a_map_are_in_the_order_of_their_keys() -> None:
    entries = {"b": Value(bool_value=True), "": Value(), "a": Value(bool_value=False), "é": Value(), "B": Value()}
    assert list(Struct.parse(encode(Struct(fields=entries))).fields) == ["", "B", "a", "b", "é"]


def test_both_halves_of_a_map_entry_are_written() -> None:
    assert encode(Struct(fields={"": Value()})).hex() == "0a04" + "0a00" + "1200"


def test_a_message_may_contain_its_own_class() -> None:
    value = Value(string_value="x")
    for _ in range(20):
        value = Value(struct_value=Struct(fields={"deeper": value}))
    assert encode(value) == bytes(value)


def test_unknown_fields_are_kept_at_the_end() -> None:
    unknown = field(1999, b"from a newer Envoy")
    message = Cluster.parse(unknown + encode(Cluster(name="default/web/80")))
    assert encode(message) == encode(Cluster(name="default/web/80")) + unknown


@pytest.mark.parametrize(
    ("duration", "seconds", "nanos"),
    [
        (timedelta(seconds=-1.5), -1, -500_000_000),
        (timedelta(microseconds=-1), 0, -1000),
        (timedelta(seconds=-3), -3, 0),
        (timedelta(days=1_000_000, microseconds=1), 86_400_000_000, 1000),
    ],
)
def test_durations_are_exact_and_both_parts_have_one_sign(duration: timedelta, seconds: int, nanos: int) -> None:
    """betterproto2 would write -1.5 s as -1 s and +500 ms."""
    body = encode(Duration(seconds=seconds, nanos=nanos))
    assert encode(Cluster(connect_timeout=duration)) == field(4, body)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="2026-03-31 00:00:00 has no time zone"):
        encode(TimestampRules(const=datetime(2026, 3, 31)))  # noqa: DTZ001


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_wrapped_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} does not fit uint32"):
        encode(CircuitBreakersThresholds(max_connections=number))


def test_a_number_assigned_later_is_checked_as_well() -> None:
    message = SocketAddress(port_value=80)
    message.port_value = -1
    with pytest.raises(ValueError, match="-1 does not fit uint32"):
        encode(message)


def test_the_bytes_of_messages_as_they_are_sent_equal_those_of_betterproto2() -> None:
    route = Route(name="r", route=RouteAction(cluster="default/web/80", timeout=timedelta(seconds=60, milliseconds=250)))
    for message in (
        VirtualHost(name="h", domains=["h", "h:*"], routes=[route, Route()]),
        ClusterLoadAssignment(cluster_name="default/web/80", endpoints=[LocalityLbEndpoints(lb_endpoints=[LbEndpoint()])]),
    ):
        assert encode(message) == bytes(message)
