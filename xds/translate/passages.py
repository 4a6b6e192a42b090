"""By what name Envoys know a request that has passed one of them before: the same at all Envoys of a fleet, and nowhere else.

What does not belong here: counting (`xds.render.passages`).
"""

from __future__ import annotations

import hmac

from xds.kube.world import Reader, default_certificate


def marker(read: Reader) -> str:
    """16 hexadecimal digits that nobody outside can guess.

    They are derived, one way, from the key of the generated default certificate: replicas share it through their Secret, a folder of
    `--state-dir` keeps it over restarts, and elsewhere it is made at the start.
    """
    _, key = default_certificate(read)
    return hmac.new(key, b"the marker of requests that have passed this fleet", "sha256").hexdigest()[:16]
