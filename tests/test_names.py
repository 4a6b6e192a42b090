"""One name, one thing: no two classes of the package have the same name. (Modules may: their room is part of the name.)"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import xds

ROOT = Path(xds.__file__).parent
GENERATED = ROOT / "debug" / "v1.py"
"""Messages of protos/xds/debug/v1, always written as `v1.Change`: clients see these names."""


def test_a_class_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        if path != GENERATED:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
