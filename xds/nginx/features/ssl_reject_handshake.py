"""ssl-reject-handshake: who names no host that is there gets no TLS."""

from __future__ import annotations

from xds.nginx.feature import Feature, Key
from xds.nginx.values import boolean

SSL_REJECT_HANDSHAKE = Key(
    "ssl-reject-handshake",
    boolean,
    "Whether TLS handshakes without a server name, or with one that no Ingress has, are rejected.",
    "true",
    default=False,
)
FEATURE = Feature(read=lambda notes: notes.key(SSL_REJECT_HANDSHAKE) or None, keys=(SSL_REJECT_HANDSHAKE,), rejects_unnamed=bool)
