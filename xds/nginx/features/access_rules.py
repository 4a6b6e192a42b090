"""Access rules that no feature keeps yet: what they protect is closed, for served without them it would be open to everybody."""

from __future__ import annotations

from dataclasses import replace

from xds.model import Forward, Location, Respond, Route
from xds.nginx.feature import Annotation, Feature, Fidelity, Key, Notes, Phase
from xds.nginx.known import ANNOTATIONS
from xds.nginx.values import boolean

_REASON = "until it is, everything that it protects answers 503"
_RULES = tuple(a for a in ANNOTATIONS if a.fidelity is Fidelity.CLOSES)
BLOCK_CIDRS = Key(
    "block-cidrs",
    str,
    "Client addresses that may not come, not even to the default backend.",
    "192.0.2.0/24",
    "",
    Fidelity.CLOSES,
    _REASON,
)
GLOBAL_AUTH_URL = Key(
    "global-auth-url", str, "The service that is asked about all requests.", "https://auth.example.com/check", "", Fidelity.CLOSES, _REASON
)
ENABLE_GLOBAL_AUTH = Annotation("enable-global-auth", boolean, "Whether the ConfigMap's global-auth-url holds here.", "false", default=True)


def _read(notes: Notes) -> bool | None:
    """Whether the paths are closed."""
    asked = notes.get(ENABLE_GLOBAL_AUTH) and bool(notes.key(GLOBAL_AUTH_URL))
    rules = any(notes.says(rule) for rule in _RULES) or bool(notes.key(BLOCK_CIDRS))
    return True if asked or rules else None


def _routes(_closed: bool, _location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """As ingress-nginx does with a rule that it cannot read: 503. Redirects stay, for they come first there, too."""
    return tuple(replace(r, action=Respond(503)) if isinstance(r.action, Forward) else r for r in routes)


FEATURE = Feature(read=_read, annotations=(ENABLE_GLOBAL_AUTH,), keys=(BLOCK_CIDRS, GLOBAL_AUTH_URL), phase=Phase.ACCESS, routes=_routes)
