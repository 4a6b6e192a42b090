"""One set of each feature is answered as the real controller answered it; `make oracle` plays all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.oracle.playing import EXPECTED, one_a_feature, play, recorded, why_not

_SAMPLE = one_a_feature()


@pytest.mark.envoy
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("played", _SAMPLE.values(), ids=_SAMPLE)
def test_a_recorded_set_is_answered_alike(played: Path) -> None:
    code, printed = play([played], timeout=280)
    assert code == 0, printed
    total = re.search(r"^1 sets, (\d+) exchanges, 0 differ", printed, re.MULTILINE)
    assert total, printed
    assert int(total[1]) > 0


def test_every_expected_difference_has_a_reason_and_a_set() -> None:
    rules = yaml.safe_load(EXPECTED.read_text()) or []
    sets = {file.stem for file in recorded()}
    for rule in rules:
        assert rule.keys() <= {"set", "field", "exchange", "reason"}, rule
        assert rule["reason"].strip(), rule
        assert not sets or any(Path(name).match(rule["set"]) for name in sets), rule
