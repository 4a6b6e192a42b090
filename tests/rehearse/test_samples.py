"""A sample of a regular expression is matched by it, is bounded, and comes at once."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.rehearse.samples import LONGEST, samples

_ATOMS = st.sampled_from(
    ("a", "/", "b-c", ".", "[a-z]", "[^/]", r"\d", r"\.", r"\x41", "[[:alpha:]_]", "é", "[é-ü]", "(?:x|y)", "(a|)", "(?P<n>z)")
)
_COUNTS = st.sampled_from(("", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"))
_SEQUENCE = st.lists(st.tuples(_ATOMS, _COUNTS).map("".join), min_size=1, max_size=6).map("".join)
_EXPRESSION = st.recursive(
    _SEQUENCE, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({'|'.join(each)})"), max_leaves=6
)


@given(_EXPRESSION)
@settings(max_examples=examples(100))
def test_a_sample_is_matched_by_its_expression(expression: str) -> None:
    found = samples(expression)
    assert found
    for each in found:
        assert re2.fullmatch(expression, each), (expression, each)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("/a(/|$)(.*)", ("/a/", "/a/a", "/aa")),  # who asks finds that the last is not matched
        ("/api/v[0-9]+/(?:a|b)", ("/api/v1/a", "/api/v11/a", "/api/v11/b")),
        ("(?i)/Foo", ("/Foo",)),
        (r"^/x\.php$", ("/x.php",)),
        (r"/[^/]+/[A-Z]{3}", ("/a/AAA",)),
    ],
)
def test_the_samples_of_what_people_write(expression: str, wanted: tuple[str, ...]) -> None:
    assert samples(expression)[: len(wanted)] == wanted


@pytest.mark.parametrize(
    "expression",
    [
        "x{1000}",
        "((a{1000}){1000}){1000}",
        "(" * 5_000,
        "(" * 60 + "a" + ")" * 60,
        "(?=x)a",
        "a)",
        "*",
        "\\",
        r"\Qx\E",
        r"(a)\1",
        "[",
        "[^\x00-\U0010ffff]",
        "a" * 5_001,
    ],
)
def test_what_has_no_sample_has_none(expression: str) -> None:
    assert samples(expression) == ()


@given(st.text(alphabet="()[]{}|*+?.\\^$ab/0123,:", max_size=300))
@settings(max_examples=examples(100))
def test_no_text_breaks_the_sampler_or_makes_a_long_sample(expression: str) -> None:
    assert all(len(each) <= LONGEST for each in samples(expression))
