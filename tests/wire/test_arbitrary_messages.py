"""The encoders against betterproto2's own: every field of every class, and arbitrary messages."""

from __future__ import annotations

from typing import Any

import betterproto2
import pytest
from envoy_data_plane.message_pool import default_message_pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xds.wire.encode import encode

from .arbitrary import CLASSES, MessageClass, messages, sample

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # deprecated fields are fields as well

each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def reordered(value: Any, order: Any) -> Any:
    """A deep copy in which `order` has reordered the items of each map."""
    if isinstance(value, list):
        return [reordered(item, order) for item in value]
    if isinstance(value, dict):
        return {key: reordered(item, order) for key, item in order(value.items())}
    if isinstance(value, betterproto2.Message):
        copied = type(value)()
        for name, item in vars(value).items():
            setattr(copied, name, reordered(item, order))
        return copied
    return value


def test_each_field_of_each_class_is_written_as_betterproto2_writes_it() -> None:
    classes: list[MessageClass] = list(default_message_pool.type_to_url)
    wrong = []
    for cls in classes:
        for name in cls._betterproto.sorted_field_names:
            message = cls()
            setattr(message, name, sample(cls, name))
            if encode(message) != bytes(message) or not bytes(message):
                wrong.append(f"{cls.__module__}.{cls.__name__}.{name}")
    assert wrong == []


@each_class
@given(data=st.data())
@relaxed
def test_bytes_equal_those_of_betterproto2_with_sorted_maps(cls: MessageClass, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert encode(message) == bytes(reordered(message, sorted))


@each_class
@given(data=st.data())
@relaxed
def test_what_is_encoded_parses_to_an_equal_message(cls: MessageClass, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert cls.parse(encode(message)) == message


@each_class
@given(data=st.data())
@relaxed
def test_the_order_in_which_maps_were_filled_does_not_show(cls: MessageClass, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    shuffled = reordered(message, lambda items: data.draw(st.permutations(list(items))))
    assert encode(shuffled) == encode(message)
