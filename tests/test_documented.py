"""What the manuals name is read somewhere, or they say that it has no effect: flags, environment variables, annotations, ConfigMap keys."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from xds.config import Flag, flags
from xds.nginx.feature import Annotation, Fidelity, Notes
from xds.nginx.registry import features, known_annotations, known_keys

ROOT = Path(__file__).parents[1]
SETTINGS = re.compile(r"(?:.*[._])?settings(?:\(read\))?|flags|s|.*\(SETTINGS\)")
"""How code calls a Settings."""
ABOUT_THE_TABLE = {"xds/config.py", "xds/cli/arguments.py", "xds/cli/manual.py"}
"""They know every flag, and do nothing with its value but look whether it can be."""
FOR_TESTS = {"XDS_RAW_PARTS"}


@functools.cache
def trees() -> dict[str, ast.Module]:
    paths = sorted((ROOT / "xds").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


@functools.cache
def read_fields() -> frozenset[str]:
    """The fields of Settings that some code reads."""
    found = set()
    for name, tree in trees().items():
        if name not in ABOUT_THE_TABLE:
            attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
            found.update(node.attr for node in attributes if SETTINGS.fullmatch(ast.unparse(node.value)))
    return frozenset(found)


@functools.cache
def constants() -> frozenset[str]:
    """All texts in the code but docstrings."""
    found = set()
    for tree in trees().values():
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found.update(
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
        )
    return frozenset(found)


@pytest.mark.parametrize("flag", [flag for flag in flags() if not flag.no_effect], ids=lambda flag: flag.name)
def test_a_flag_is_read_or_its_text_says_that_nothing_is_done(flag: Flag) -> None:
    """A reserved port is read by its mark in the table (`reserved_ports`), and what an annotation needs by its declaration."""
    needed = {declared.flag for declared in known_annotations().values()}
    assert flag.field in read_fields() | needed or (flag.reserves and flag.does.endswith("; nothing listens."))


@pytest.mark.parametrize("flag", [flag for flag in flags() if flag.no_effect], ids=lambda flag: flag.name)
def test_a_flag_that_is_said_to_have_no_effect_has_none(flag: Flag) -> None:
    assert flag.field not in read_fields()


def test_the_page_of_flags_has_one_row_for_each_of_them() -> None:
    rows = re.findall(r"^\| `(--[a-z0-9-]+)", (ROOT / "docs" / "flags.md").read_text(), re.MULTILINE)
    assert rows == [flag.name for flag in flags()]


def documents() -> Iterator[Path]:
    for folder in ("docs", "deploy", "envoy", "examples"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".yaml", ".yml", ".sh", ".tpl", ".txt"))
    yield ROOT / "README.md"


def test_an_environment_variable_that_is_named_is_read() -> None:
    pattern = re.compile(r"\b(?:XDS|POD|XDG|KUBERNETES|ADMIN)_[A-Z][A-Z_]*[A-Z]\b")
    named = {name: path.name for path in documents() for name in pattern.findall(path.read_text())}
    ours = {flag.variable for flag in flags()} | {variable for flag in flags() for variable in flag.fallbacks}
    script = (ROOT / "envoy" / "drain.sh").read_text()
    assert {
        name: path for name, path in named.items() if name not in ours and name not in constants() and f"${{{name}:-" not in script
    } == {}


def test_an_environment_variable_of_ours_that_is_read_is_named() -> None:
    read = {text for text in constants() if re.fullmatch(r"XDS_[A-Z_]+", text)} - FOR_TESTS
    page = (ROOT / "docs" / "flags.md").read_text()
    assert {name for name in read if name not in page} == set()


class Spy(Notes):
    """Notes that keep the names that were asked for."""

    def __init__(self, written: Mapping[str, str]) -> None:
        super().__init__(written, {})
        self.asked: set[str] = set()

    def own(self, annotation: Annotation[Any]) -> Any:
        self.asked.add(annotation.name)
        return super().own(annotation)

    def has(self, annotation: Annotation[Any]) -> bool:
        self.asked.add(annotation.name)
        return super().has(annotation)

    def key(self, key: Any) -> Any:
        self.asked.add(f"key {key.name}")
        return super().key(key)


SWITCHES = {annotation.switch for annotation in known_annotations().values()}
"""Keys that are read with the annotations that they allow."""
JUDGED = {"auth-keepalive", "auth-keepalive-requests", "auth-keepalive-share-vars", "auth-keepalive-timeout"}
"""What is read, although it has no effect, so that a bad value is seen."""
WORKS = (Fidelity.EXACT, Fidelity.APPROXIMATE)


@functools.cache
def asked() -> frozenset[str]:
    found: set[str] = set()
    for feature in features().values():
        for written in ({}, {a.name: a.example for a in feature.annotations}):  # some are read beside another one only
            spy = Spy(written)
            feature.read(spy)
            found |= spy.asked
    return frozenset(found)


@pytest.mark.parametrize("name", [name for name, declared in known_annotations().items() if declared.fidelity in WORKS])
def test_an_annotation_that_is_said_to_work_is_read(name: str) -> None:
    assert known_annotations()[name].name in asked()


@pytest.mark.parametrize(
    "name", [name for name, k in known_keys().items() if k.fidelity in WORKS and name not in SWITCHES | {"proxy-real-ip-cidr"}]
)
def test_a_key_that_is_said_to_work_is_read(name: str) -> None:
    assert f"key {name}" in asked()


def test_nothing_else_is_read() -> None:
    """What has an effect is in the manual as something that has one."""
    works = {name for name, declared in known_annotations().items() if declared.fidelity in WORKS}
    works |= {f"key {name}" for name, declared in known_keys().items() if declared.fidelity in WORKS}
    assert asked() - works - JUDGED - {f"key global-{name}" for name in JUDGED} == set()


def test_a_read_is_told_from_what_only_has_the_name() -> None:
    """Else nothing here would be shown: `wait` is a method of many things, and nobody reads `profiling`."""
    assert {"http_port", "configmap", "node_id", "wait"} <= read_fields()
    assert "profiling" not in read_fields()
