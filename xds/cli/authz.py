"""`xds authz`: the authorisation service beside an Envoy, until a signal ends it."""

from __future__ import annotations

import asyncio

from xds.authz.service import run as serve
from xds.cli.arguments import Parsed
from xds.cli.signals import until_signal


def run(parsed: Parsed) -> int:
    """Serve until a signal ends it. Raises Failure where it cannot start."""
    asyncio.run(until_signal(lambda: serve(parsed.settings)))
    return 0
