"""The manual is written from the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds.nginx.manual import PAGES
from xds.nginx.registry import known_annotations, known_keys

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    """If not: `python -m xds.nginx.manual <name> > docs/<name>.md`."""
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == PAGES[name]()


@pytest.mark.parametrize(("name", "declared"), [("annotations", known_annotations()), ("configmap", known_keys())])
def test_the_page_has_each_name_in_a_row_of_its_own(name: str, declared: dict[str, object]) -> None:
    rows = [line for line in PAGES[name]().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == sorted(declared)


@pytest.mark.parametrize("name", PAGES)
def test_all_rows_have_the_columns_of_the_head(name: str) -> None:
    rows = [line.replace(r"\|", "") for line in PAGES[name]().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {rows[0].count("|")}


def test_defaults_are_shown_as_a_user_would_write_them() -> None:
    page = PAGES["configmap"]()
    assert "| `proxy-next-upstream` | approximate | `error timeout` |" in page
    assert "| `hsts` | exact | `true` |" in page
