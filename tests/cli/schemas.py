"""The schemas in docs/schemas, and a validator for as much of JSON Schema as they use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {"$schema", "$defs", "$ref", "title", "description", "anyOf", "const", "enum", "type", "properties", "required"} | {
    "additionalProperties",
    "items",
}


def check(command: str, value: Any) -> None:
    """Raise AssertionError where the output of a command is not as its schema says."""
    schema = json.loads((FOLDER / f"{command}.schema.json").read_text())
    faults = list(_faults(schema, value, schema, "$"))
    assert not faults, faults


def _faults(schema: dict[str, Any], value: Any, root: dict[str, Any], where: str) -> list[str]:
    assert schema.keys() <= _KNOWN, f"{where}: the validator does not know {schema.keys() - _KNOWN}"
    if "$ref" in schema:
        return _faults(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root, where)
    if "anyOf" in schema:
        return [] if any(not _faults(one, value, root, where) for one in schema["anyOf"]) else [f"{where}: {value!r} is none of the kinds"]
    if "const" in schema and value != schema["const"]:
        return [f"{where}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if "type" in schema and (not isinstance(value, _TYPES[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean")):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if isinstance(value, list):
        return [f for n, one in enumerate(value) for f in _faults(schema.get("items", {}), one, root, f"{where}[{n}]")]
    if isinstance(value, dict):
        return _object_faults(schema, value, root, where)
    return []


def _object_faults(schema: dict[str, Any], value: dict[str, Any], root: dict[str, Any], where: str) -> list[str]:
    properties = schema.get("properties", {})
    found = [f"{where}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    if schema.get("additionalProperties") is False:
        found += [f"{where}: {name} is not in the schema" for name in value if name not in properties]
    for name, inner in properties.items():
        if name in value:
            found += _faults(inner, value[name], root, f"{where}.{name}")
    return found
