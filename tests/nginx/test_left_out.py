"""Which annotations leave their Ingress out: by the class of their names, and by words in their values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.nginx.registry import forbidden, known_annotations

from .drawing import settings

LEVEL, WORDS = "annotations-risk-level", "annotation-value-word-blocklist"
ONE_A_CLASS = {"Low": "enable-cors", "Medium": "rewrite-target", "High": "server-alias", "Critical": "configuration-snippet"}


def left_out(annotations: dict[str, str], keys: dict[str, str]) -> list[str]:
    return [each.name for each in forbidden(annotations, settings(keys=keys))]


@pytest.mark.parametrize(
    ("level", "allowed"),
    [("", 3), ("Low", 1), ("medium", 2), ("HIGH", 3), ("Critical", 4), ("kritical", 1), ("High Critical", 1)],
)
def test_what_is_above_the_class_leaves_its_ingress_out(level: str, allowed: int) -> None:
    names = list(ONE_A_CLASS.values())
    assert left_out(dict.fromkeys(names, ""), {LEVEL: level}) == sorted(names[allowed:])


def test_a_class_is_of_the_name_and_an_unknown_name_has_none() -> None:
    assert left_out({"whitelist-source-range": "10.0.0.0/8", "nobody-knows": "x"}, {LEVEL: "Low"}) == ["whitelist-source-range"]


@pytest.mark.parametrize(
    ("words", "value", "found"),
    [
        ("evil", "https://evil.test", True),
        ("evil", "https://EVIL.test", False),
        ("a, b ,", "xbx", True),
        (",", "anything", False),
        ("x", "", False),
    ],
)
def test_a_word_of_the_list_is_found_anywhere_in_a_value(words: str, value: str, found: bool) -> None:
    assert bool(left_out({"app-root": value}, {WORDS: words})) is found
    assert bool(left_out({"nobody-knows": value}, {WORDS: words})) is found


@given(st.dictionaries(st.sampled_from(sorted(known_annotations())), st.text(max_size=20)), st.text(max_size=20), st.text(max_size=20))
def test_the_level_critical_and_no_words_leave_nobody_out(annotations: dict[str, str], before: str, after: str) -> None:
    assert left_out(annotations, {LEVEL: "Critical", WORDS: ""}) == []
    word = f"{before}!word!{after}"
    assert left_out({**annotations, "app-root": word}, {LEVEL: "Critical", WORDS: "!word!"})[:1] == ["app-root"]
