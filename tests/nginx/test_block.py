"""block-cidrs, block-user-agents, block-referers: which values become which rules, and what of a list has no effect."""

from __future__ import annotations

import pytest
import re2
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from hypothesis import given
from hypothesis import strategies as st

from xds.nginx.feature import FilterPlace
from xds.nginx.features.block import BLOCK_USER_AGENTS, FEATURE
from xds.nginx.registry import read_keys
from xds.patterns import regex

from .drawing import complaints, filters, settings


def blocked(text: str, value: str) -> bool:
    """Whether a list has a value."""
    found = BLOCK_USER_AGENTS.parse(text)
    return value.lower() in found.exact or any(re2.fullmatch(pattern, value) for pattern in found.patterns)


@pytest.mark.parametrize(
    ("text", "value", "is_blocked"),
    [
        ("Exactly/1.0", "exactly/1.0", True),
        ("Exactly/1.0", "Exactly/1.0 x", False),
        ("Exactly/1.0", "Exactly/1x0", False),
        ("~*bad", "a BADbot", True),
        ("~bad", "a BADbot", False),
        ("~bad", "a badbot", True),
        ("~^bad", "a bad", False),
        ("~*a|^b", "xxA", True),
        ("good,~*bad", "bad", True),
        ('"~*bad bot"', "a bad bot 2", True),
        ("'two words'", "Two Words", True),
        (r"\default", "default", True),
        ("~^$", "", True),
        ("~*(a", "a", False),
        ("default", "default", False),
    ],
)
def test_values_mean_what_they_mean_in_a_map_of_nginx(text: str, value: str, *, is_blocked: bool) -> None:
    assert blocked(text, value) is is_blocked


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("~*(?!good)", 1),
        ("~*(a,b,~", 2),
        ("hostnames,x", 1),
        (",".join(f"a{n}" for n in range(300)), 1),
        ("~" + "a" * 1001, 1),
        (",".join(f"~*([a-z]{{400}}{n})" for n in range(150)), None),
        ("a,b", 0),
    ],
)
def test_what_of_a_list_has_no_effect_is_a_complaint_and_the_rest_counts(text: str, count: int | None) -> None:
    values, faults = read_keys({"block-user-agents": text})
    assert all(fault.name == "block-user-agents" for fault in faults)
    assert (len(faults) == count) if count is not None else faults
    assert len(values["block-user-agents"].exact) + len(values["block-user-agents"].patterns) <= 200
    assert sum(map(regex.cost, values["block-user-agents"].patterns)) <= 20_000


@given(st.text(max_size=60))
def test_any_text_is_a_rule_that_envoy_can_read(text: str) -> None:
    values, _ = read_keys({"block-referers": text})
    for pattern in values["block-referers"].patterns if "block-referers" in values else ():
        assert not regex.verdict(pattern).fault


def test_one_filter_in_the_table_refuses_all_of_them() -> None:
    keys = {"block-cidrs": "192.0.2.0/24, 2001:db8::1", "block-user-agents": "~*bad,x", "block-referers": '"",http://a.example/'}
    (filter_,) = (each for each in filters(settings(keys=keys)) if each.name == "block")
    assert FEATURE.place is FilterPlace.BLOCK
    assert filter_.typed_config
    rules = Rbac.parse(filter_.typed_config.value).rules
    assert rules
    assert rules.action is RbacAction.DENY
    assert {name: len(policy.permissions) for name, policy in rules.policies.items()} == {"addresses": 1, "user-agent": 1, "referer": 1}


def test_without_a_key_there_is_no_filter() -> None:
    assert [each for each in filters(settings()) if each.name == "block"] == []
    assert complaints(keys={"block-user-agents": " "}) == []


def test_addresses_that_cannot_be_read_close_the_paths() -> None:
    assert [name for name, _ in complaints(keys={"block-cidrs": "all"})] == ["block-cidrs"]
