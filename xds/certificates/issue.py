"""Builds and signs X.509 certificates (RFC 5280): the one builder of the default certificate and of the certificates of xDS.

What belongs here: the form of a certificate and a key. What does not: which certificates there are, and when they are renewed
(`xds.certificates.certgen`, `xds.certificates.default_certificate`).
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SKEW = datetime.timedelta(hours=1)
"""A certificate is valid from so long before it was made, because the clocks of two machines differ."""
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issuer(NamedTuple):
    """Who signs: the subject of the authority, and its key."""

    subject: x509.Name
    key: PrivateKey

    def __repr__(self) -> str:
        return f"Issuer({self.subject.rfc4514_string()!r})"


def issue(
    subject: x509.Name,
    key: PrivateKey,
    life: datetime.timedelta,
    now: datetime.datetime,
    *extensions: tuple[x509.ExtensionType, bool],
    issuer: Issuer | None = None,
) -> x509.Certificate:
    """A certificate for `key` that ends after `life`. `extensions` are those of RFC 5280, each with whether it is critical.

    Without an issuer it is self-signed.
    """
    by = issuer or Issuer(subject, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(by.key, SHA256())


def name(common: str, organization: str = "") -> x509.Name:
    """A distinguished name of a common name and, before it, an organization."""
    given = ((NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in given if text])


def key_usage(*allowed: str) -> x509.KeyUsage:
    """The extension with these uses, such as "digital_signature", and no others."""
    uses = dict.fromkeys(_USES, False)
    return x509.KeyUsage(**uses | dict.fromkeys(allowed, True))


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    """A private key as PEM (PKCS 8), not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
