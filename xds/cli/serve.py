"""`xds serve`: the management server, until a signal ends it."""

from __future__ import annotations

import asyncio

from xds.app import ControlPlane
from xds.cli.arguments import Parsed
from xds.cli.signals import until_signal, work
from xds.config import Flags


def run(parsed: Parsed) -> int:
    """Serve until a signal ends it. Raises Failure where it cannot start."""
    asyncio.run(until_signal(lambda: _serve(parsed.settings)))
    return 0


async def _serve(settings: Flags) -> None:
    control_plane = ControlPlane(settings)
    try:
        await control_plane.start()
        serving = asyncio.ensure_future(control_plane.run())
        await work({serving}, settings.shutdown_grace_period)
        serving.result()
    finally:
        await control_plane.stop()
