"""Certificates as SDS secrets."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret, TlsCertificate


def secret(name: str, chain: bytes, key: bytes) -> Secret:
    """A certificate chain and its key, both PEM. Never show the result: it holds the key."""
    certificate = TlsCertificate(certificate_chain=DataSource(inline_bytes=chain), private_key=DataSource(inline_bytes=key))
    return Secret(name=name, tls_certificate=certificate)
