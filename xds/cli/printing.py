"""How commands print what people read: in colours on a terminal, as plain lines that never wrap everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from xds.kube.objects import Place, Ref
from xds.model import Problem, Severity

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def show(lines: Iterable[Text]) -> None:
    """Print lines to standard output."""
    if sys.stdout.isatty():
        console = Console(highlight=False)
        for line in lines:
            console.print(line, soft_wrap=True)
    else:
        for line in lines:
            print(line.plain)


def show_json(value: Mapping[str, Any]) -> None:
    """Print a JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def text(*parts: str | tuple[str, str]) -> Text:
    """A line from pieces of text, some with a style. What users wrote cannot steer the terminal: control characters are escaped."""
    pieces = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((_printable(piece), style) for piece, style in pieces))


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`, `2 Ingresses`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


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


def problem_line(problem: Problem) -> Text:
    """A Problem under the headline of its object."""
    field = f"{problem.field}: " if problem.field else ""
    return text("  ", (f"{problem.severity.value:8}", STYLES[problem.severity]), f" {field}{problem.sentence}")


def _printable(piece: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in piece)
