"""Nobody reaches into a private member of somebody else: where ruff's SLF cannot see it, because the name is a string or is imported.

A test may replace a private constant of a module (`_UPPER_CASE`), such as a time-out: a bound is not worth a parameter for its test alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [path for folder in ("tests", "bench", "xds", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
THEIRS = frozenset({"_labelnames", "_register_atexit"})
"""Names of libraries that have no public one."""


def private(name: str) -> bool:
    own = name.rpartition(".")[2]
    return own.startswith("_") and not own.endswith("__") and not own.isupper() and own not in THEIRS


def reaches(tree: ast.AST) -> Iterator[str]:
    """The private names that a module reaches: imported from elsewhere, or named in getattr, setattr, delattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if private(alias.name) and not alias.name.isupper())
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("getattr", "setattr", "delattr"):
            yield from (each.value for each in node.args[:2] if isinstance(each, ast.Constant) and private(str(each.value)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from xds.app import _logged, ControlPlane", ["_logged"]),
        ("from xds.server.stream import _BASE", []),
        ("monkeypatch.setattr(fleet, '_compaction', None)", ["_compaction"]),
        ("monkeypatch.setattr('xds.server.fleet._wake', None)", ["xds.server.fleet._wake"]),
        ("monkeypatch.setattr('xds.server.fleet._COMPACT_AFTER', 0)", []),
        ("getattr(plane, '_publisher').lock", ["_publisher"]),
        ("getattr(plane, '__class__')", []),
    ],
)
def test_what_reaches_is_noticed(text: str, found: list[str]) -> None:
    assert list(reaches(ast.parse(text))) == found


def test_nobody_reaches_into_private_members() -> None:
    found = {str(path.relative_to(ROOT)): names for path in FILES if (names := list(reaches(ast.parse(path.read_bytes()))))}
    assert found == {}
