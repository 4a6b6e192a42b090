"""Headers of all requests and responses, from ConfigMaps that keys name."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from hypothesis import given
from hypothesis import strategies as st

from xds.nginx.features.headers_for_all import ADD_HEADERS, FEATURE, HIDE_HEADERS, PROXY_SET_HEADERS
from xds.nginx.registry import read_settings


def table(**keys: object) -> RouteConfiguration:
    found, _ = read_settings({}, {name.replace("_", "-"): value for name, value in keys.items()})
    made = RouteConfiguration(
        request_headers_to_add=[HeaderValueOption(header=HeaderValue(key="X-Real-IP", value="%client%"))],
        response_headers_to_remove=["server"],
    )
    if "headers_for_all" in found:
        assert FEATURE.on_table
        FEATURE.on_table(found["headers_for_all"], made)
    return made


def written(options: list[HeaderValueOption]) -> dict[str, str]:
    return {option.header.key: option.header.value for option in options if option.header}


def made(data: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    assert ADD_HEADERS.of_config_map
    pairs, faults = ADD_HEADERS.of_config_map(data)
    return dict(pairs), list(faults)


def test_headers_become_formats() -> None:
    formats, faults = made({"X-A": "yes", "X-B": "$http_host 100%", "X-C": " "})
    assert formats == {"X-A": "yes", "X-B": "%REQ(:authority)% 100%%", "X-C": ""}
    assert not faults


def test_what_is_known_of_responses_only_is_nothing_for_backends() -> None:
    formats, faults = made({"X-Status": "$upstream_status"})
    assert formats == {"X-Status": "%CEL(upstream.address == '' ? '' : response.code)%"}
    assert not faults
    assert PROXY_SET_HEADERS.of_config_map
    pairs, faults = PROXY_SET_HEADERS.of_config_map({"X-Status": "$upstream_status"})
    assert not pairs
    assert len(faults) == 1


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("Host", "a", "belongs to the connection"),
        ("a b", "a", "is no name of a header"),
        ("X-A", "$nothing", "is no variable that Envoy knows"),
        ("X-A", "$uri$nothing", "is no variable that Envoy knows"),
        ("X-A", "a\nX-B: b", "has several lines"),
        ("X-A", "a\x00", "control character"),
        ("X-A", "100 $", 'a "$" or a brace belongs to no variable'),
    ],
)
def test_what_cannot_be_set_is_left_out_and_the_rest_holds(name: str, value: str, fault: str) -> None:
    formats, faults = made({name: value, "X-Z": "z"})
    assert formats == {"X-Z": "z"}
    assert [fault in said for said in faults] == [True]


def test_headers_have_a_bound() -> None:
    formats, faults = made({f"X-{number}": "a" for number in range(200)})
    assert len(formats) == 100
    assert len(faults) == 1


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(["X-A", "Host"]), st.text(max_size=20), max_size=4))
def test_whatever_stands_in_the_config_map_one_line_is_set_or_said_to_be_left_out(data: dict[str, str]) -> None:
    formats, faults = made(data)
    assert len(formats) + len(faults) == len(data)
    assert not any(character in name + value for name, value in formats.items() for character in "\r\n\0")


def test_a_header_for_backends_takes_the_place_of_our_own() -> None:
    got = table(proxy_set_headers=(("X-A", "a"), ("x-real-ip", "6.6.6.6"), ("X-Gone", "")))
    assert written(got.request_headers_to_add) == {"X-A": "a", "x-real-ip": "6.6.6.6"}
    assert got.request_headers_to_remove == ["x-gone"]


def test_what_is_hidden_and_what_is_added() -> None:
    got = table(hide_headers=("x-powered-by",), add_headers=(("X-A", "a"), ("X-Gone", "")))
    assert got.response_headers_to_remove == ["server", "x-powered-by", "x-gone"]
    assert written(got.response_headers_to_add) == {"X-A": "a"}
    assert got.most_specific_header_mutations_wins, "what a route says of the same header, such as a custom header, is not replaced"


def test_names_to_hide_are_read_in_any_case_and_odd_ones_hide_nothing() -> None:
    assert HIDE_HEADERS.parse("X-Powered-By, server,x-powered-by, a b") == ("server", "x-powered-by")


def test_without_keys_the_table_is_as_it_was() -> None:
    assert table() == table()
    assert not table().response_headers_to_add
