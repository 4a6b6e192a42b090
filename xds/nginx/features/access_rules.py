"""Access rules that no feature keeps yet: what they protect is closed, for served without them it would be open to everybody."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Forward, Location, Respond, Route
from xds.nginx.feature import Feature, Fidelity, Key, Notes, Phase

_REASON = "until it is, everything that it protects answers 503"
BLOCK_CIDRS = Key(
    "block-cidrs",
    str,
    "Client addresses that may not come, not even to the default backend.",
    "192.0.2.0/24",
    "",
    Fidelity.CLOSES,
    _REASON,
)


def _read(notes: Notes) -> bool | None:
    """Whether the paths are closed."""
    return True if notes.key(BLOCK_CIDRS) else None


def _routes(_closed: bool, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """As ingress-nginx does with a rule that it cannot read: 503. Redirects stay, for they come first there, too."""
    return tuple(replace(r, action=Respond(503)) if isinstance(r.action, Forward) else r for r in routes)


FEATURE = Feature(read=_read, keys=(BLOCK_CIDRS,), phase=Phase.ACCESS, routes=_routes)
