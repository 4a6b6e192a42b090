"""How commands print what people read: in colours on a terminal, as plain lines that never wrap everywhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from xds.problem import Problem, Severity

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
    """Print a JSON document. Characters that could steer a terminal, or that UTF-8 has not, are escaped."""
    for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
        print(line if line.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in line))


def text(*parts: str | tuple[str, str]) -> Text:
    """A line from pieces of text, some with a style. What users wrote cannot steer the terminal: control characters are escaped."""
    pieces = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((_printable(piece), style) for piece, style in pieces))


Cell = str | tuple[str, str]


def columns(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterator[Text]:
    """A table: each column as wide as its longest cell, the last one as it comes. A cell may have a style."""
    plain = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in (titles, *rows)]
    widths = [max(cell_len(_printable(row[n])) for row in plain) for n in range(len(titles) - 1)]
    for style, row in (("bold", titles), *(("", row) for row in rows)):
        line = Text()
        for n, cell in enumerate(row):
            words, own = (cell, style) if isinstance(cell, str) else cell
            shown = _printable(words)
            line.append(shown, own)
            if n < len(widths):
                line.append(" " * (widths[n] - cell_len(shown) + 2))
        yield line


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`, `2 Ingresses`, `2 patches`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"


def problem_line(problem: Problem) -> Text:
    """A Problem under the headline of its object."""
    field = f"{problem.field}: " if problem.field else ""
    return text("  ", (f"{problem.severity.value:8}", STYLES[problem.severity]), f" {field}{problem.sentence}")


def _escape(character: str) -> str:
    """A character in a string of JSON, by the numbers of its UTF-16."""
    code = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))


def _printable(piece: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in piece)
