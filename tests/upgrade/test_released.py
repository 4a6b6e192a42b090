"""What Envoys will notice of the next release. changed.txt says it; a change of a listener drains connections, which users must know."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.golden.test_golden import CASES, LINE
from tests.upgrade.released import digests, released

CHANGED = Path(__file__).parent / "changed.txt"
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def changed(folder: Path) -> str:
    """A line for each resource whose bytes differ from the last release in some of the cases that it had as well."""
    before, seen = released(), Counter[str]()
    for case in CASES:
        if case.stem in before:
            (inner := folder / case.stem).mkdir()
            now = digests(case.read_text().partition(LINE)[0], inner)
            seen.update(name for name in before[case.stem].keys() | now.keys() if before[case.stem].get(name) != now.get(name))
    return "".join(f"{name}: in {count} of {len(before)} cases\n" for name, count in sorted(seen.items()))


def test_what_differs_from_the_last_release_is_written_down(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    now = changed(tmp_path)
    if pytestconfig.getoption("--update-golden"):
        CHANGED.write_text(now)
    assert now == CHANGED.read_text()


@pytest.mark.parametrize(("kind", "word"), [("Listener", "drains?"), ("Socket", "resets?")])
def test_users_are_told_what_an_upgrade_does_to_connections(kind: str, word: str) -> None:
    """A changed listener drains them. One with another socket resets those that wait on the old one."""
    if re.search(rf"^{kind} ", CHANGED.read_text(), re.MULTILINE):
        unreleased = CHANGELOG.read_text().split("\n## ")[1]
        assert re.search(rf"^### Upgrading\n(?:.*\n)*?.*\b{word}\b", unreleased, re.MULTILINE), "CHANGELOG.md has no word of it"
