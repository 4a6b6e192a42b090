"""The name by which the Envoys of a fleet recognise a request that has passed one of them before. No other fleet has the same.

What does not belong here: counting (`xds.render.passages`).
"""

from __future__ import annotations

import hmac

from xds.kube.world import Reader, default_certificate


def marker(read: Reader) -> str:
    """16 hexadecimal digits that clients cannot guess.

    They are an HMAC with the key of the generated default certificate. Replicas share that key through their Secret, `--state-dir` keeps it
    over restarts, and otherwise it is generated at the start.
    """
    _, key = default_certificate(read)
    return hmac.new(key, b"the marker of requests that have passed this fleet", "sha256").hexdigest()[:16]
