"""What manifests come to. Run as a module: the same with messages that pydantic validates.

The arguments of `xds translate` of each case come as JSON on standard input, and hashes for each case leave on standard output.
"""

from __future__ import annotations

import hashlib
import json
import sys

from xds.imports.hook import Finder

Hashes = dict[str, dict[str, str]]


def hashes(arguments: list[str]) -> Hashes:
    """Type → name → a hash of the bytes of the resource; and the internal errors, if there are any."""
    from xds.cli.arguments import parse
    from xds.offline import load
    from xds.snapshot import TYPES

    loaded = load(parse("translate", arguments, {}).settings, now=0)
    resources = {kind: {name: hashlib.sha256(one.body).hexdigest() for name, one in loaded.snapshot[kind].items()} for kind in TYPES}
    return resources | {"faults": dict.fromkeys(loaded.faults, "")}


if __name__ == "__main__":
    sys.meta_path.remove(Finder)  # before the first message is imported
    print(json.dumps({case: hashes(arguments) for case, arguments in json.load(sys.stdin).items()}))
    assert "pydantic" in sys.modules
