"""`xds metrics`: the metrics of requests beside an Envoy, until a signal ends it."""

from __future__ import annotations

import asyncio

from xds.cli.arguments import Parsed
from xds.cli.signals import until_signal
from xds.metrics.service import run as serve


def run(parsed: Parsed) -> int:
    """Serve until a signal ends it. Raises Failure where it cannot start."""
    asyncio.run(until_signal(lambda: serve(parsed.settings)))
    return 0
