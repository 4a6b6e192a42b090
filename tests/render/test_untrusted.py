"""The expression for headers that clients may not send says what its list says, shorter."""

from __future__ import annotations

import pytest
import re2
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.render.untrusted import OF_ENVOY, OF_PROXIES, removed

_WORDS = sorted({word for name in OF_ENVOY for word in name.split("-")})


def expression(*, any_name: bool) -> str:
    typed = removed(any_name=any_name).typed_config
    assert typed
    (mutation,) = HeaderMutation.parse(typed.value).mutations
    assert mutation.remove_on_match
    matcher = mutation.remove_on_match.key_matcher
    assert matcher
    assert matcher.safe_regex
    return matcher.safe_regex.regex


def matches(name: str) -> bool:
    return re2.fullmatch(expression(any_name=True), name) is not None


@pytest.mark.parametrize("name", [*OF_ENVOY, *OF_PROXIES])
def test_each_name_of_the_list_is_removed(name: str) -> None:
    assert matches(name)
    assert not matches(f"{name}-")
    assert not matches(f"a{name}")


@settings(max_examples=examples(300))
@given(
    st.lists(st.sampled_from(_WORDS), min_size=1, max_size=6).map("-".join)
    | st.sampled_from(OF_ENVOY).map(lambda name: name.rpartition("-")[0])
)
def test_no_other_name_of_the_same_words_is(name: str) -> None:
    assert matches(name) == (name in OF_ENVOY)


def test_it_is_shorter_than_the_list() -> None:
    assert len(expression(any_name=False)) <= 0.65 * len("|".join(OF_ENVOY))
