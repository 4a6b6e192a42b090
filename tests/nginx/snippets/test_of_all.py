"""The snippets of the ConfigMap: what is read of them, alone and behind those of an Ingress."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from xds.model import CLOSED, Settings
from xds.nginx import registry
from xds.nginx.feature import Complaint, Unreadable

ALLOWED = {"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"}


def read(data: Mapping[str, str], **own: str) -> tuple[Settings, list[Complaint], list[Complaint]]:
    """The settings of an Ingress, what is wrong with the keys, and what with its annotations."""
    values, of_keys = registry.read_keys(ALLOWED | data)
    found, complaints = registry.read_settings({name.replace("_", "-"): text for name, text in own.items()}, values)
    return found, of_keys, complaints


@pytest.mark.parametrize("key", ["location-snippet", "server-snippet"])
@pytest.mark.parametrize("text", ["auth_basic on;", "deny nobody;", "add_header A", "if ($geoip = X) { return 403; }"])
def test_one_that_may_protect_and_is_not_translated_closes_all_paths(key: str, text: str) -> None:
    found, (fault,), _ = read({key: text})
    assert (fault.name, fault.then) == (key, Unreadable.CLOSES_ALL)
    assert CLOSED in found
    assert CLOSED in read({key: text}, configuration_snippet="add_header A b;", server_snippet="add_header A b;")[0]


def test_a_directive_without_effect_is_reported_once_and_the_rest_counts() -> None:
    found, of_keys, of_ingress = read({"location-snippet": "sub_filter a b;\nadd_header A b;"}, configuration_snippet="sub_filter c d;")
    assert [fault.sentence.split(",")[0] for fault in of_keys] == ["has `sub_filter` in line 1"]
    assert [fault.sentence.split(",")[0] for fault in of_ingress] == ["has `sub_filter` in line 1"]
    assert [each.name for each in found["configuration_snippet"].ways[0].headers.added] == ["A"]


def test_that_of_the_ingress_stands_first() -> None:
    found, *_ = read({"location-snippet": "deny all; return 418;"}, configuration_snippet="allow 10.0.0.0/8; if ($http_x) { return 410; }")
    snippet = found["configuration_snippet"]
    assert [(rule.allows, rule.network) for rule in snippet.rules] == [(True, "10.0.0.0/8"), (False, "")]
    assert [way.end.status for way in snippet.ways] == [410, 418]


def test_variables_of_the_ingress_are_those_of_all() -> None:
    found, _, complaints = read({"location-snippet": "set $team $own; add_header X-Team $team;"}, configuration_snippet="set $own red;")
    assert [(each.name, each.value) for each in found["configuration_snippet"].ways[0].headers.added] == [("X-Team", "red")]
    assert complaints == []


def test_that_of_a_younger_ingress_takes_the_place_of_what_only_the_config_map_has() -> None:
    data = {"server-snippet": "deny all;"}
    of_all, own = read(data)[0], read(data, server_snippet="allow 10.0.0.0/8;")[0]
    assert registry.before_younger(registry.for_host(of_all), registry.for_host(own)) == {}
    assert registry.before_younger(registry.for_host(own), registry.for_host(of_all)) == registry.for_host(own)
    assert registry.before_younger(registry.for_host(of_all), {}) == registry.for_host(of_all)
