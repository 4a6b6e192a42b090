"""The JSON forms of objects, places and Problems, which all commands and the debug service share.

What does not belong here: documents as a whole; each has a schema in docs/schemas.
"""

from __future__ import annotations

from typing import Any

from xds.problem import Place, Problem, Ref

Json = dict[str, Any]


def object_json(about: Ref) -> dict[str, str]:
    """Which object, as JSON."""
    return about._asdict()


def place_json(place: Place | None) -> dict[str, Any] | None:
    """A line in a file, as JSON."""
    return {"file": place.file, "line": place.line} if place else None


def problem_json(problem: Problem) -> dict[str, Any]:
    """A Problem as JSON; the same in the output of all commands."""
    return {
        "object": object_json(problem.about),
        "field": problem.field,
        "code": problem.code,
        "severity": problem.severity.value,
        "sentence": problem.sentence,
        "place": place_json(problem.place),
    }
