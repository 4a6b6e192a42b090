"""ssl-protocols and its siblings: TLS with clients, for all hosts. A change drains the connections of the listener."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext

from xds.nginx.feature import Feature, Fidelity, Key, Notes
from xds.nginx.tls import bound, curves, versions
from xds.nginx.values import boolean, duration

_AUTO: tuple[str, ...] = ()
SSL_PROTOCOLS = Key(
    "ssl-protocols",
    versions,
    "The TLS versions that clients may use, and those between the oldest and the newest; a change drains the connections of TLS.",
    "TLSv1.2",
    versions("TLSv1.2 TLSv1.3"),
)
SSL_ECDH_CURVE = Key(
    "ssl-ecdh-curve",
    curves,
    "The curves of the key exchange, with colons between them; a change drains the connections of TLS.",
    "X25519:prime256v1",
    _AUTO,
    Fidelity.APPROXIMATE,
    "of those named Envoy has X25519, P-256, P-384 and P-521",
)
SSL_SESSION_TIMEOUT = Key(
    "ssl-session-timeout",
    duration,
    "How long a TLS session can be resumed; a change drains the connections of TLS.",
    "1h",
    600,
    tuning=True,
)
USE_HTTP2 = Key(
    "use-http2",
    boolean,
    "Whether clients may use HTTP/2 over TLS; a change drains the connections of TLS.",
    "false",
    default=True,
    tuning=True,
)


@dataclass(frozen=True)
class Spoken:
    """How TLS is spoken with clients; without curves the library chooses."""

    versions: tuple[str, ...]
    curves: tuple[str, ...]
    resumable: int
    http2: bool


def _read(notes: Notes) -> Spoken:
    return Spoken(
        notes.key(SSL_PROTOCOLS),
        notes.key(SSL_ECDH_CURVE),
        notes.key(SSL_SESSION_TIMEOUT),
        notes.key(USE_HTTP2),
    )


def _on_tls(spoken: Spoken, context: DownstreamTlsContext) -> None:
    assert context.common_tls_context is not None
    assert context.common_tls_context.tls_params is not None
    bound(context.common_tls_context.tls_params, spoken.versions)
    context.common_tls_context.tls_params.ecdh_curves = list(spoken.curves)
    context.session_timeout = timedelta(seconds=spoken.resumable)
    if not spoken.http2:
        context.common_tls_context.alpn_protocols = ["http/1.1"]


FEATURE = Feature(
    read=_read,
    keys=(SSL_PROTOCOLS, SSL_ECDH_CURVE, SSL_SESSION_TIMEOUT, USE_HTTP2),
    on_tls=_on_tls,
)
