"""The mark by which a fleet knows its own requests."""

from __future__ import annotations

import re

from xds.config import Flags
from xds.kube.world import DEFAULT_CERTIFICATE, World
from xds.offline import MADE_AT_START
from xds.translate.passages import marker
from xds.units.memo import Build, Unit

KEY = b"-----BEGIN PRIVATE KEY-----\nsomething\n-----END PRIVATE KEY-----\n"


def of(chain: bytes, key: bytes) -> str:
    build = Build(World(Flags(), {DEFAULT_CERTIFICATE: (chain, key)}).get)
    found = build.value(Unit(marker, ()))
    assert isinstance(found, str)
    return found


def test_who_shares_the_key_of_the_default_certificate_shares_the_mark_and_nobody_else() -> None:
    assert of(b"chain", KEY) == of(b"renewed chain", KEY)
    assert len({of(b"chain", key) for key in (KEY, KEY + b"\n", MADE_AT_START, b"")}) == 4


def test_the_mark_says_nothing_of_the_key_and_may_stand_in_the_name_of_a_header() -> None:
    assert re.fullmatch("[0-9a-f]{16}", of(b"chain", KEY))
