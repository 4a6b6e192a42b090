"""The messages are plain dataclasses: equal to those of pydantic in what is served, and complete from their first use."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec
from pathlib import Path
from threading import Barrier
from typing import Any

import envoy_data_plane
import pytest
from envoy_data_plane.message_pool import default_message_pool

from tests.golden.test_golden import CASES, LINE, written
from xds.imports.hook import Finder

from .validated import hashes

DECLARED = """
import betterproto2
from pydantic.dataclasses import dataclass

@dataclass(eq=False, repr=False, config={"extra": "forbid"})
class Pair(betterproto2.Message):
    key: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)
    values: "list[str]" = betterproto2.field(2, betterproto2.TYPE_STRING, repeated=True)
"""
"""A module as betterproto2's compiler writes it."""


def test_every_golden_case_has_the_bytes_of_validated_messages(tmp_path: Path) -> None:
    arguments = {}
    for case in CASES:
        folder = tmp_path / case.stem
        folder.mkdir()
        arguments[case.stem] = written(case.read_text().partition(LINE)[0], folder)
    child = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.imports.validated"]
    validated = subprocess.run(child, input=json.dumps(arguments), capture_output=True, text=True, check=True)
    assert json.loads(validated.stdout) == {case: hashes(given) for case, given in arguments.items()}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A message class that nobody has used yet."""
    name = "envoy_data_plane.fresh"
    (tmp_path / "fresh.py").write_text(DECLARED)
    spec = Finder.find_spec(name, [str(tmp_path)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module.Pair


FIRST_USES: list[Callable[[Any], Any]] = [
    lambda cls: cls(key="a", values=["b"]) == cls("a", ["b"]),
    lambda cls: [entry.name for entry in dataclasses.fields(cls)] == ["key", "values"],
    dataclasses.is_dataclass,
    lambda cls: cls.parse(b"\n\x01a\x12\x01b").to_dict() == {"key": "a", "values": ["b"]},
    lambda cls: cls().values == [] and cls().values is not cls().values,
]


@pytest.mark.parametrize("use", FIRST_USES)
def test_any_first_use_completes_a_class(pair: Any, use: Callable[[Any], bool]) -> None:
    assert use(pair)
    assert bytes(pair(key="a", values=["b"])) == b"\n\x01a\x12\x01b"
    with pytest.raises(TypeError, match="unexpected keyword argument 'value'"):
        pair(value="b")


@pytest.mark.parametrize(
    ("positional", "named", "error"),
    [
        ((), {"value": "b"}, "unexpected keyword argument 'value'"),
        (("a",), {"key": "b"}, "unexpected keyword argument 'key'"),
        (("a", ["b"], "c"), {}, "unexpected positional argument 'c'"),
    ],
)
def test_what_is_no_field_is_a_type_error(pair: Any, positional: tuple[Any, ...], named: dict[str, Any], error: str) -> None:
    for _ in range(2):  # the first message, and any other
        with pytest.raises(TypeError, match=error):
            pair(*positional, **named)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_message_is_made_with_the_defaults_of_its_fields() -> None:
    root = Path(envoy_data_plane.__file__).parent
    for path in sorted(root.rglob("__init__.py")):
        getattr(importlib.import_module(".".join(path.parent.relative_to(root.parent).parts)), "__all__", ())
    messages = list(default_message_pool.type_to_url)
    assert len(messages) > 1_000
    for cls in messages:
        made, fields = cls(), dataclasses.fields(cls)
        assert vars(made) == {entry.name: entry.default_factory() for entry in fields} | {"_unknown_fields": b""}  # type: ignore[misc]


def test_threads_may_use_a_class_for_the_first_time_at_once(pair: Any) -> None:
    threads = 8
    together = Barrier(threads)

    def use(number: int) -> Any:
        together.wait(30)
        return FIRST_USES[number % len(FIRST_USES)](pair)

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(use, range(threads)))


def test_modules_of_others_are_imported_as_always() -> None:
    assert Finder.find_spec("envoy_data_planes") is None
    assert Finder.find_spec("pydantic") is None
