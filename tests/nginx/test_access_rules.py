"""Access rules that nobody keeps yet close what they protect; a canary claims nothing."""

from __future__ import annotations

import pytest

from xds.model import Cluster, Forward, Location, PathKind, PathMatch, Redirect, RedirectTo, Respond, Route
from xds.nginx.registry import features, read_keys, read_settings

ROOT = PathMatch(PathKind.RAW_PREFIX, "/")
FORWARD = Route(ROOT, Forward(Cluster("a", "b", 80)))
REDIRECT = Route(ROOT, Redirect(308, RedirectTo.HTTPS))


@pytest.mark.parametrize("name", ["block-cidrs"])
@pytest.mark.parametrize("value", ["10.0.0.0/8", "\x00"])
def test_a_rule_of_the_config_map_closes_everything(name: str, value: str) -> None:
    keys, _ = read_keys({name: value})
    assert read_settings({}, keys)[0]["access_rules"] is True


@pytest.mark.parametrize("name", ["auth-realm", "auth-secret", "auth-signin", "satisfy"])
def test_what_only_describes_a_rule_closes_nothing(name: str) -> None:
    assert "access_rules" not in read_settings({name: "any"}, {})[0]


def test_closed_paths_answer_503_and_redirects_stay() -> None:
    location = Location("a.example.com", "/", ROOT, tls=True, origin=None, rule="", settings=read_settings({}, {})[0])
    found, _ = read_settings({}, {"block-cidrs": "192.0.2.0/24"})
    closed = features()["access_rules"].routes(found["access_rules"], location, (REDIRECT, FORWARD))
    assert [r.action for r in closed] == [REDIRECT.action, Respond(503)]


@pytest.mark.parametrize(("value", "is_canary"), [("true", True), ("false", False), ("maybe", False)])
def test_a_canary_is_known_as_one(value: str, *, is_canary: bool) -> None:
    assert ("canary" in read_settings({"canary": value}, {})[0]) is is_canary
