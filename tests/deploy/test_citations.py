"""What the code or a test cites by an id is defined: rules of xDS, decisions, and sections about ingress-nginx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "protocol-rules.md"
_SCHEMES = "SWADOVBLITM"
"""The letters of docs/protocol-rules.md."""
_ID = rf"[{_SCHEMES}][0-9]{{1,2}}"
_TESTED = re.compile(rf"def test_([{_SCHEMES.lower()}][0-9]{{1,2}})_")
_CITATION = re.compile(rf"(?:[Rr]ules? |[(])(?:xDS )?(?:rules? )?({_ID}(?:(?:, | and | to ){_ID})*)")


def defined() -> set[str]:
    return set(re.findall(r"^\| ([A-Z][0-9]+) \|", RULES.read_text(), re.MULTILINE))


@cache
def cited() -> list[tuple[str, str]]:
    return list(_cited())


def _cited() -> Iterator[tuple[str, str]]:
    """Where, and which rule: in parentheses or after the word rule, and in the names of tests."""
    for path in sorted((*(ROOT / "xds").rglob("*.py"), *(ROOT / "tests").rglob("*.py"))):
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            for citation in _CITATION.finditer(line):
                yield from ((where, rule) for rule in re.findall(_ID, citation[1]))
            yield from ((where, rule.upper()) for rule in _TESTED.findall(line))


def test_every_rule_that_is_cited_is_defined() -> None:
    known, found = defined(), cited()
    assert len(found) > 100, "the pattern finds what is there"
    assert [(where, rule) for where, rule in found if rule not in known] == []


def test_every_rule_that_is_defined_is_cited() -> None:
    assert defined() - {rule for _, rule in cited()} == set()


@pytest.mark.parametrize(
    ("page", "citation", "heading"),
    [
        ("design.md", r"\bdecision ([0-9]+)", r"^([0-9]+)\. \*\*"),
        ("nginx.md", r"\bnginx (4\.[0-9]+)", r"^## (4\.[0-9]+) "),
    ],
)
def test_every_decision_and_section_that_is_cited_is_there(page: str, citation: str, heading: str) -> None:
    known = set(re.findall(heading, (ROOT / "docs" / page).read_text(), re.MULTILINE))
    texts = {path: path.read_text() for path in (ROOT / "xds").rglob("*.py")}
    cited = {(number, str(path.relative_to(ROOT))) for path, text in texts.items() for number in re.findall(citation, text)}
    assert len(cited) > 10, "the pattern finds what is there"
    assert sorted((number, path) for number, path in cited if number not in known) == []


def test_nothing_is_cited_that_is_not_here() -> None:
    gone = re.compile(r"\bDESIGN\b|\b[Rr]eference [0-9]|\b[Rr]ecipes? R[0-9]")
    pages = (path for folder in ("xds", "tests", "bench", "examples", "docs", "deploy") for path in (ROOT / folder).rglob("*"))
    texts = (path for path in pages if path.suffix in (".py", ".md", ".yaml") and path != Path(__file__))
    assert [str(path.relative_to(ROOT)) for path in texts if gone.search(path.read_text())] == []
