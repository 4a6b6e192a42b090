"""What the last release sent to Envoy: a digest of each resource that the golden cases make, so that a review sees what an upgrade changes.

`python -m tests.upgrade.released` writes released.json from this tree, as the last step of a release. Certificates, which the cases make
anew each time, and what holds them have no digest.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from tests.golden.test_golden import CASES, LINE, written
from xds.cli.arguments import parse
from xds.offline import load
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE

FILE = Path(__file__).parent / "released.json"
KINDS = (LISTENER, ROUTE, CLUSTER, ENDPOINT)
_DIGITS = 16

Digests = dict[str, dict[str, str]]
"""Case → "Kind name" → the first digits of the SHA-256 of its bytes."""


def digests(manifests: str, folder: Path) -> dict[str, str]:
    """Those of one case."""
    snapshot = load(parse("translate", written(manifests, folder), {}).settings).snapshot
    return {
        f"{kind.rpartition('.')[2]} {name}": hashlib.sha256(resource.body).hexdigest()[:_DIGITS]
        for kind in KINDS
        for name, resource in sorted(snapshot[kind].items())
    }


def released() -> Digests:
    """Those of the last release."""
    found: Digests = json.loads(FILE.read_text())
    return found


def write() -> None:
    """Make this tree the last release."""
    made: Digests = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            made[case.stem] = digests(case.read_text().partition(LINE)[0], Path(folder))
    FILE.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(write())
