"""One set of each feature is answered as the real controller answered it; `make oracle` plays all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oracle.playing import one_a_feature, play, recorded, rules, stale, why_not

_SAMPLE = one_a_feature()


@pytest.mark.envoy
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
@pytest.mark.parametrize("played", _SAMPLE.values(), ids=_SAMPLE)
def test_a_recorded_set_is_answered_alike(played: Path) -> None:
    code, printed = play([played], timeout=280)
    assert code == 0, printed
    total = re.search(r"^1 sets, (\d+) exchanges, 0 differ", printed, re.MULTILINE)
    assert total, printed
    assert int(total[1]) > 0


_NAMED = {rule["set"] for rule in rules()}


@pytest.mark.envoy
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
@pytest.mark.parametrize("played", [file for file in _SAMPLE.values() if file.stem in _NAMED], ids=lambda file: file.stem)
def test_no_expected_difference_is_left_from_what_agrees_by_now(played: Path) -> None:
    assert stale(play([played], timeout=280, forgiving=False)[1]) == []


def test_a_rule_that_nothing_needs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [{"set": "a"}, {"set": "a", "exchange": 3}, {"set": "a", "field": "header *"}, {"set": "a", "exchange": 3, "field": "status"}]
    idle = [{"set": "a", "exchange": 4}, {"set": "a", "field": "body"}, {"set": "b"}, {"set": "a", "exchange": 7, "field": "body_bytes"}]
    unplayed = [
        {"set": "c", "exchange": 1},
        {"set": "*", "field": "body"},
        {"set": "b", "raced": True},
        {"set": "a", "exchange": 5, "alone": True},
    ]
    monkeypatch.setattr("tests.oracle.playing.rules", lambda: [*needed, *idle, *unplayed])
    printed = """
a #3 GET http://a.test/x: status: recorded 200, got 503; header vary: recorded a; b, got None
a #7 GET http://a.test/: header x: recorded [], got ['body: y']
a: 9 exchanges, 2 differ
b: 4 exchanges, 0 differ
"""
    assert stale(printed) == idle
    assert stale("\na: 9 exchanges, 0 differ\n")[-1] == unplayed[-1]


def test_every_expected_difference_has_a_reason_and_a_set() -> None:
    sets = {file.stem for file in recorded()}
    for rule in rules():
        assert rule.keys() <= {"set", "field", "exchange", "alone", "raced", "reason"}, rule
        assert rule["reason"].strip(), rule
        assert not sets or any(Path(name).match(rule["set"]) for name in sets), rule
