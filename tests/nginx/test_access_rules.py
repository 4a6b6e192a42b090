"""Access rules that nobody keeps yet close what they protect; a canary claims nothing."""

from __future__ import annotations

import pytest

from xds.model import Cluster, Forward, Location, PathKind, PathMatch, Redirect, RedirectTo, Respond, Route
from xds.nginx.registry import features, read_keys, read_settings

RULES = {
    "auth-url": "https://auth.example.com/check",
}
ROOT = PathMatch(PathKind.RAW_PREFIX, "/")
FORWARD = Route(ROOT, Forward(Cluster("a", "b", 80)))
REDIRECT = Route(ROOT, Redirect(308, RedirectTo.HTTPS))


@pytest.mark.parametrize("value", [None, "\x00", "x" * 9000], ids=["readable", "control character", "too long"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_closes_its_paths_whether_it_can_be_read_or_not(name: str, value: str | None) -> None:
    found, _ = read_settings({name: value or RULES[name]}, {})
    assert found["access_rules"] is True


@pytest.mark.parametrize("name", ["block-cidrs", "global-auth-url"])
@pytest.mark.parametrize("value", ["10.0.0.0/8", "\x00"])
def test_a_rule_of_the_config_map_closes_everything(name: str, value: str) -> None:
    keys, _ = read_keys({name: value})
    assert read_settings({}, keys)[0]["access_rules"] is True


def test_an_ingress_can_be_left_out_of_global_authentication() -> None:
    keys, _ = read_keys({"global-auth-url": "https://auth.example.com"})
    assert "access_rules" not in read_settings({"enable-global-auth": "false"}, keys)[0]


@pytest.mark.parametrize("name", ["auth-realm", "auth-secret", "auth-signin", "satisfy"])
def test_what_only_describes_a_rule_closes_nothing(name: str) -> None:
    assert "access_rules" not in read_settings({name: "any"}, {})[0]


def test_closed_paths_answer_503_and_redirects_stay() -> None:
    location = Location("a.example.com", "/", ROOT, tls=True, origin=None, rule="", settings=read_settings({}, {})[0])
    found, _ = read_settings({"auth-url": "https://auth.example.com/check"}, {})
    closed = features()["access_rules"].routes(found["access_rules"], location, (REDIRECT, FORWARD))
    assert [r.action for r in closed] == [REDIRECT.action, Respond(503)]


@pytest.mark.parametrize(("value", "is_canary"), [("true", True), ("false", False), ("maybe", False)])
def test_a_canary_is_known_as_one(value: str, *, is_canary: bool) -> None:
    assert ("canary" in read_settings({"canary": value}, {})[0]) is is_canary
