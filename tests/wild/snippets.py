"""How many of the collected snippets are translated whole: `make wild` prints it. Of each only the names of its directives are known."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from tests.wild.running import WILD
from xds.nginx.snippets.directives import ROWS, UNKNOWN, Block, Outcome

FILE = WILD / "snippets.json"
TRANSLATED = ("configuration-snippet", "server-snippet")


def _taken(name: str, annotation: str) -> bool:
    row = ROWS.get(name, UNKNOWN)
    idle = annotation == "server-snippet" and Block.SERVER in row.idle
    return idle or row.kind not in (Outcome.REFUSED, Outcome.CLOSES)


def shares() -> dict[str, tuple[int, int]]:
    """By annotation: how many snippets have no directive that is refused, and how many there are."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for each in _read():
        whole, all_ = found[each["annotation"]]
        found[each["annotation"]] = (whole + all(_taken(name, each["annotation"]) for name in each["directives"]), all_ + 1)
    return dict(found)


def missing() -> Counter[str]:
    """The refused directives by the snippets of translated annotations that have them."""
    mine = [each for each in _read() if each["annotation"] in TRANSLATED]
    return Counter(name for each in mine for name in set(each["directives"]) if not _taken(name, each["annotation"]))


def _read() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text())
    return found


def report() -> str:
    """Both, for people."""
    lines = [
        f"{name}: {whole} of {all_} have no refused directive" for name, (whole, all_) in sorted(shares().items()) if name in TRANSLATED
    ]
    return "\n".join(("Snippets", *lines, f"refused most often: {', '.join(f'{name} ({n})' for name, n in missing().most_common(8))}"))
