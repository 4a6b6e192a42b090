"""canary: an Ingress that only offers another backend for the paths of a primary one.

Not supported yet, but known to be one: it must not claim paths of its own (`xds.translate.selection`).
"""

from __future__ import annotations

from xds.nginx.feature import Annotation, Feature, Fidelity, Scope
from xds.nginx.values import boolean

CANARY = Annotation(
    "canary",
    boolean,
    "Whether the Ingress is the canary of another one with the same host and path.",
    "false",
    default=False,
    fidelity=Fidelity.LATER,
    reason="all requests go to the primary Ingress, none to the canary",
    scope=Scope.UPSTREAM,
)


FEATURE = Feature(read=lambda notes: notes.get(CANARY) or None, annotations=(CANARY,))
