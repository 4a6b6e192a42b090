"""The rooms around the features know none of them: what they need of one is a hook."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xds
from xds.nginx.registry import features

ROOMS = ("translate", "render", "units")


def named() -> Iterator[tuple[str, str]]:
    """Each text in the code of these rooms that is the name of a feature, with its file."""
    root = Path(xds.__file__).parent
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in features():
                    yield str(path.relative_to(root)), node.value


def test_no_feature_is_known_by_the_name_of_its_setting() -> None:
    assert set(named()) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_there_is_something_to_look_through(room: str) -> None:
    assert list((Path(xds.__file__).parent / room).glob("*.py"))
