"""canary-by-cookie: of several cookies of its name the first one counts, whatever stands before it."""

from __future__ import annotations

import pytest
import re2

from .drawing import settings


@pytest.mark.parametrize(
    ("sent", "leads"),
    [
        ("can=always", True),
        ("x=1; can=always", True),
        ("x=1;can=always", True),
        ("ca=1; cans=2; CAN=always; can=never", True),
        ("can=never; can=always", False),
        ("x=1; can=never; can=always", False),
        ("x=1;  can=never;  can=always", False),
        ("x=1", False),
    ],
)
def test_the_first_cookie_of_the_name_counts(sent: str, leads: bool) -> None:
    rules = settings({"canary": "true", "canary-by-cookie": "can"})["canary"].rules
    always = next(match for match, to_canary in rules if to_canary)
    assert bool(re2.fullmatch(always.value, sent)) is leads
