"""Certificates as SDS secrets: with a key, those that are shown; without, those of who signs them."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import CertificateValidationContext, Secret, TlsCertificate


def secret(name: str, chain: bytes, key: bytes) -> Secret:
    """A certificate chain and its key, both PEM. Never show the result: it holds the key."""
    certificate = TlsCertificate(certificate_chain=DataSource(inline_bytes=chain), private_key=DataSource(inline_bytes=key))
    return Secret(name=name, tls_certificate=certificate)


def authority(name: str, certificates: bytes, revoked: bytes) -> Secret:
    """The certificates of who signs others, and the lists of what they have revoked, both PEM; without lists nothing is revoked."""
    trust = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=certificates))
    if revoked:
        trust.crl = DataSource(inline_bytes=revoked)
    return Secret(name=name, validation_context=trust)
