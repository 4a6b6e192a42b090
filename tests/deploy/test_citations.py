"""Every rule that the code or a test cites by its id is defined in docs/protocol-rules.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "protocol-rules.md"
_SCHEMES = "SWADOVBLITM"
"""The letters of docs/protocol-rules.md."""
_ID = rf"[{_SCHEMES}][0-9]{{1,2}}"
_TESTED = re.compile(rf"def test_([{_SCHEMES.lower()}][0-9]{{1,2}})_")
_CITATION = re.compile(rf"(?:[Rr]ules? |[(])(?:xDS )?(?:rules? )?({_ID}(?:(?:, | and | to ){_ID})*)")


def defined() -> set[str]:
    return set(re.findall(r"^\| ([A-Z][0-9]+) \|", RULES.read_text(), re.MULTILINE))


def cited() -> Iterator[tuple[str, str]]:
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
    known, found = defined(), list(cited())
    assert len(found) > 100, "the pattern finds what is there"
    assert [(where, rule) for where, rule in found if rule not in known] == []


def test_every_rule_that_is_defined_is_cited() -> None:
    assert defined() - {rule for _, rule in cited()} == set()
