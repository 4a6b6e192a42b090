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

from envoy_data_plane.envoy.config.listener.v3 import Listener

from tests.golden.test_golden import CASES, LINE, written
from xds.cli.arguments import parse
from xds.offline import load
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE

FILE = Path(__file__).parent / "released.json"
KINDS = (LISTENER, ROUTE, CLUSTER, ENDPOINT)
_DIGITS = 16

Digests = dict[str, dict[str, str]]
"""Case → "Kind name" → the first digits of the SHA-256 of its bytes. The kind Socket is a part of a Listener."""


def digests(manifests: str, folder: Path) -> dict[str, str]:
    """Those of one case."""
    snapshot = load(parse("translate", written(manifests, folder), {}).settings).snapshot
    bodies = {f"{kind.rpartition('.')[2]} {name}": body.body for kind in KINDS for name, body in sorted(snapshot[kind].items())}
    bodies |= {f"Socket {name}": _socket(body.body) for name, body in sorted(snapshot[LISTENER].items())}
    return {name: hashlib.sha256(body).hexdigest()[:_DIGITS] for name, body in bodies.items()}


def _socket(body: bytes) -> bytes:
    """What Envoy opens a listener's socket with.

    Where it differs Envoy opens a new one, and connections that wait on the old one are reset. All other changes take the socket over.
    Source: Envoy, source/common/listener_manager (ListenerImpl::socketOptionsEqual).
    """
    made = Listener.parse(body)
    kept = Listener(address=made.address, socket_options=made.socket_options, enable_reuse_port=made.enable_reuse_port)
    kept.transparent, kept.freebind, kept.tcp_fast_open_queue_length = made.transparent, made.freebind, made.tcp_fast_open_queue_length
    return bytes(kept)


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
