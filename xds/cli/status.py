"""`xds status`: the fleet, asked of a running management server."""

from __future__ import annotations

from xds.cli.arguments import Parsed
from xds.config import Failure


def run(parsed: Parsed) -> int:
    """Raises Failure: a management server has no debug service to ask yet."""
    raise Failure(
        f"there is nothing to ask at {parsed.settings.debug_address}: the debug service is not yet there. "
        "What is connected and what was rejected stands in the log of `xds serve` and on its /metrics."
    )
