"""Generates the Python messages of our own protos: `make protos`.

betterproto2's compiler makes a tree with a message pool and Google's messages of its own; ours is one module that shares both with
envoy-data-plane, so that a message of one can stand in a message of the other. Its first lines have the hash of the .proto that it was
made from, which the tests compare.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
COMPILED = {"xds/debug/v1/debug.proto": "xds/debug/v1.py"}
"""Source, below this folder → module, below the project's."""
_SHARED = {
    "from ....message_pool import": "from envoy_data_plane.message_pool import",
    "from ....google import": "from envoy_data_plane.google import",
}


def compiled(source: str) -> str:
    """The module of one source."""
    with tempfile.TemporaryDirectory() as out:
        options = [f"--proto_path={PROTOS}", f"--python_betterproto2_out={out}"]
        options += [f"--python_betterproto2_opt={kind}_generation=none" for kind in ("client", "server")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, source], check=True)  # noqa: S603 - the arguments are our own
        (module,) = (path for path in Path(out).glob("xds/**/__init__.py") if path.stat().st_size)
        text = module.read_text()
    for theirs, ours in _SHARED.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    return f"# sha256 of protos/{source}: {hashlib.sha256((PROTOS / source).read_bytes()).hexdigest()}\n{text}"


if __name__ == "__main__":
    for source, module in COMPILED.items():
        PROTOS.parent.joinpath(module).write_text(compiled(source))
