"""ssl-ciphers: the suites of TLS 1.2 that clients may use, of a host or of all. Those of a host are part of its filter chain alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import DownstreamTlsContext

from xds.model import Terminate, VirtualHost
from xds.nginx.feature import Annotation, Feature, Fidelity, Notes, Scope, Unreadable, same_key
from xds.nginx.tls import USUAL, ciphers, no_ciphers, suites


def _of_all(text: str) -> str:
    """A list for everybody has a cipher at least; one without leaves the default, and is a fault."""
    found, unknown = suites(ciphers(text))
    if not found:
        raise ValueError(no_ciphers(unknown) if unknown else "has no cipher at all")
    return text


_OF_HOST = Annotation(
    "ssl-ciphers",
    ciphers,
    "The ciphers with which clients may speak TLS 1.2, in their order; the first Ingress of a host that has them decides.",
    "ECDHE-RSA-AES128-GCM-SHA256",
    ":".join(USUAL),
    Fidelity.APPROXIMATE,
    "Envoy has fewer ciphers, and none that DHE needs; words such as HIGH stand for those that hold by default",
    scope=Scope.HOST,
    unreadable=Unreadable.LEAVES_OUT,
)
_OF_ALL = replace(same_key(_OF_HOST), parse=_of_all)
SSL_CIPHERS = replace(_OF_HOST, key=_OF_ALL)


@dataclass(frozen=True)
class Offered:
    """The suites of an Ingress, and those of all; where there are none, what holds otherwise holds."""

    own: tuple[str, ...]
    shared: tuple[str, ...]


def _read(notes: Notes) -> Offered | None:
    """A list of which Envoy has nothing is none: what holds otherwise is never weaker than what was meant."""
    own, unknown = suites(notes.own(SSL_CIPHERS) or "")
    if unknown:
        notes.complain(SSL_CIPHERS, no_ciphers(unknown), Unreadable.PARTLY if own else Unreadable.IDLE)
    found = Offered(own, suites(notes.key(_OF_ALL))[0])
    return found if own or found.shared != USUAL else None


def _on_host(all_of: Sequence[Offered], host: VirtualHost) -> VirtualHost:
    own = next((offered.own for offered in all_of if offered.own), ())
    return replace(host, tls=replace(host.tls, ciphers=own)) if own and isinstance(host.tls, Terminate) else host


def _on_tls(offered: Offered, context: DownstreamTlsContext) -> None:
    assert context.common_tls_context is not None
    assert context.common_tls_context.tls_params is not None
    if offered.shared:
        context.common_tls_context.tls_params.cipher_suites = list(offered.shared)


FEATURE = Feature(read=_read, annotations=(SSL_CIPHERS,), on_host=_on_host, on_tls=_on_tls)
