"""A canary claims nothing."""

from __future__ import annotations

import pytest

from xds.nginx.registry import read_settings


@pytest.mark.parametrize(("value", "is_canary"), [("true", True), ("false", False), ("maybe", False)])
def test_a_canary_is_known_as_one(value: str, *, is_canary: bool) -> None:
    assert ("canary" in read_settings({"canary": value}, {})[0]) is is_canary
