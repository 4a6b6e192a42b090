"""ssl-passthrough: TLS of a host goes to its backend as it is, which has the certificate."""

from __future__ import annotations

from xds.nginx.feature import Annotation, Feature, Scope, Unreadable
from xds.nginx.values import boolean

SSL_PASSTHROUGH = Annotation(
    "ssl-passthrough",
    boolean,
    'Whether TLS of the host is passed through to the Service of its path "/". No other annotation applies to that traffic.',
    "true",
    default=False,
    unreadable=Unreadable.LEAVES_OUT,
    scope=Scope.FIRST,
    flag="enable_ssl_passthrough",
)
FEATURE = Feature(read=lambda notes: notes.get(SSL_PASSTHROUGH) or None, annotations=(SSL_PASSTHROUGH,), passes_tls=bool)
