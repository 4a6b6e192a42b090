"""proxy_ssl_name and its siblings in a configuration-snippet: what backends that speak TLS are sent. It verifies nobody, as in nginx."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import Cluster as EnvoyCluster
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext

from xds.nginx.feature import Feature, Notes, Unreadable
from xds.nginx.features.backend_protocol import BACKEND_PROTOCOL, Protocol
from xds.nginx.features.configuration_snippet import CONFIGURATION_SNIPPET
from xds.nginx.features.proxy_ssl import PROXY_SSL_SECRET
from xds.nginx.snippets.gate import read_snippet
from xds.wire.encode import pack

_KINDS = {Protocol.HTTPS: "proxy", Protocol.GRPCS: "grpc", Protocol.AUTO_HTTP: "proxy"}


def _read(notes: Notes) -> str | None:
    """The name that is sent and the ciphers, with a space between them, and `-` where nothing is said.

    None where backends speak no TLS, and beside proxy-ssl-secret, with which these directives stand in each location already.
    """
    program = read_snippet(notes, CONFIGURATION_SNIPPET)
    found = dict(program.tls).get(_KINDS.get(notes.get(BACKEND_PROTOCOL), "")) if program else None
    if found is None or not (found.sni or found.suites):
        return None
    if notes.own(PROXY_SSL_SECRET) is not None:
        what = "has directives about TLS to backends, which have no effect: they stand in each location already because of proxy-ssl-secret"
        notes.complain(CONFIGURATION_SNIPPET, what, Unreadable.PARTLY)
        return None
    return f"{found.sni or '-'} {':'.join(found.suites) or '-'}"


def _on_cluster(found: str, cluster: EnvoyCluster) -> None:
    socket = cluster.transport_socket
    if socket is None or socket.typed_config is None or socket.name != "envoy.transport_sockets.tls":
        return
    context = UpstreamTlsContext.parse(socket.typed_config.value)
    assert context.common_tls_context
    assert context.common_tls_context.tls_params
    name, _, suites = found.partition(" ")
    if name != "-":
        context.sni = name
    if suites != "-":
        context.common_tls_context.tls_params.cipher_suites = suites.split(":")
    socket.typed_config = pack(context)


FEATURE = Feature(read=_read, cluster=True, on_cluster=_on_cluster)
