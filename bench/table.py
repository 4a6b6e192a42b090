"""Results as a table: text that reads well on a terminal and is a table in Markdown as it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

NO_MARK = "–"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a result is held against: `limit` in the result's unit, at most, or with `at_least` at least."""

    limit: float
    unit: str
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)} {self.unit}"

    def verdict(self, value: float) -> str:
        """Whether a result reaches it, and by which factor it does not; a result that is not a number reaches none."""
        if math.isnan(value):
            return "not measured"
        if (value >= self.limit) if self.at_least else (value <= self.limit):
            return "reached"
        missed_by = self.limit / value if self.at_least and value else value / self.limit
        return f"MISSED ({missed_by:.2f} ×)"


@dataclass(slots=True)
class Table:
    """`note` stands below: how it was measured."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: str) -> None:
        """One more row."""
        assert len(cells) == len(self.columns), (self.columns, cells)
        self.rows.append(cells)

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [_line(self.columns, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
        lines += [_line(row, widths) for row in self.rows]
        return "\n".join([f"### {self.title}", "", *lines, *(("", self.note) if self.note else ())])


def marked(value: float, unit: str, mark: Mark | None) -> tuple[str, str, str]:
    """Three cells: the result, the mark, and whether it is reached."""
    shown = f"{number(value)} {unit}".strip()
    return (shown, NO_MARK, NO_MARK) if mark is None else (shown, str(mark), mark.verdict(value))


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    if math.isnan(value):
        return "?"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 and value != int(value) else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
