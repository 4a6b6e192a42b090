"""Certificates made on the spot, and how a client or a backend speaks TLS with them."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyKind = Literal["ec", "rsa"]

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, in PEM; with `ca` one that may sign others."""

    cert_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return f"<Certificate {self.x509.subject.rfc4514_string()}>"

    @property
    def x509(self) -> x509.Certificate:
        """The certificate as `cryptography` has it."""
        return x509.load_pem_x509_certificate(self.cert_pem)


@functools.cache
def _rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for all: making one takes long."""
    return rsa.generate_private_key(65537, 2048)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_certificate(
    hosts: Sequence[str],
    *,
    ca: Certificate | None = None,
    key: KeyKind = "ec",
    not_before: datetime.datetime = NOW - DAY,
    not_after: datetime.datetime = NOW + 30 * DAY,
    is_ca: bool = False,
) -> Certificate:
    """Make a certificate for the hosts (names or addresses; the first is the CN), signed by `ca` or by itself."""
    private: Key = _rsa_key() if key == "rsa" else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    builder = x509.CertificateBuilder(
        issuer_name=ca.x509.subject if ca else subject,
        subject_name=subject,
        public_key=private.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=not_before,
        not_valid_after=not_after,
    ).add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
    signer = serialization.load_pem_private_key(ca.key_pem, None) if ca else private
    assert isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    signed = builder.sign(signer, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return Certificate(
        signed.public_bytes(pem),
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def make_ca(name: str = "Test CA") -> Certificate:
    """Make a certificate that signs others."""
    return make_certificate([name], is_ca=True)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a client speaks TLS.

    `sni` is the server name (None: none is sent), `alpn` what it offers; `roots` (PEM) what it trusts: without, it accepts every
    certificate; `client` is its own certificate.
    """

    sni: str | None = None
    alpn: tuple[str, ...] = ()
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    roots: bytes | None = None
    client: Certificate | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context for `asyncio.open_connection`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.roots is not None and self.sni is not None
        context.verify_mode = ssl.CERT_REQUIRED if self.roots is not None else ssl.CERT_NONE
        if self.roots is not None:
            context.load_verify_locations(cadata=self.roots.decode())
        if self.minimum < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = self.minimum, self.maximum
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.client is not None:
            _load(context, self.client)
        return context


def server_context(certificate: Certificate, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return the context of a backend with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Give a context a certificate and its key; the standard library takes them from a file only."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.cert_pem + certificate.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
