"""service-session-affinity: whether a Service's own sessionAffinity counts."""

from __future__ import annotations

from xds.nginx.feature import Feature, Key
from xds.nginx.values import boolean

SERVICE_SESSION_AFFINITY = Key(
    "service-session-affinity",
    boolean,
    "No key of ingress-nginx: whether `sessionAffinity: ClientIP` of a Service keeps a client address with one endpoint.",
    "true",
    default=False,
)
FEATURE = Feature(read=lambda notes: notes.key(SERVICE_SESSION_AFFINITY), keys=(SERVICE_SESSION_AFFINITY,), by_affinity=bool)
