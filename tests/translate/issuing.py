"""Certificates and keys of every shape, as PEM: those that Envoy takes, and those that it does not, down to single bytes of DER.

What does not belong here: what is expected of them.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from tests.envoy.harness import Certificate, make_ca
from tests.envoy.harness.tls import DAY, NOW

Extensions = Sequence[tuple[x509.ExtensionType, bool]]
Der = bytes

NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@cache
def authority() -> Certificate:
    """Who signs every certificate here."""
    return make_ca()


def _signer() -> ec.EllipticCurvePrivateKey:
    found = load_pem_private_key(authority().key_pem, None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """One EC key for each curve."""
    return ec.generate_private_key(curve())


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One RSA key for each length: making one takes long."""
    return rsa.generate_private_key(65537, bits)


@cache
def hasty_rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """An RSA key of any length and exponent at once: its p and q are odd, but not prime, which nobody sees before it is used."""
    numbers = random.Random(1)
    for _ in itertools.count():
        p, q = sorted((numbers.getrandbits(bits // 2) | 1 | 3 << bits // 2 - 2 for _ in range(2)), reverse=True)
        if math.gcd(exponent, p - 1) == math.gcd(exponent, q - 1) == math.gcd(p, q) == 1:
            break
    d = pow(exponent, -1, (p - 1) * (q - 1))
    made = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(exponent, p * q))
    return made.private_key(unsafe_skip_rsa_key_validation=True)


def damaged_rsa_key(field: str) -> rsa.RSAPrivateKey:
    """The RSA key of 2048 bits with one of its private numbers changed."""
    right = rsa_key(2048).private_numbers()
    numbers = {name: getattr(right, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    numbers[field] += 2
    return rsa.RSAPrivateNumbers(**numbers, public_numbers=right.public_numbers).private_key(unsafe_skip_rsa_key_validation=True)


def key_pem(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    """A key without encryption."""
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def certificate(
    host: str,
    key: CertificatePublicKeyTypes,
    *,
    subject: str | None = None,
    sans: Sequence[x509.GeneralName] | None = None,
    extensions: Extensions = (),
    not_before: datetime.datetime = NOW - DAY,
    not_after: datetime.datetime = NOW + 90 * DAY,
) -> bytes:
    """A certificate for a host; `subject` is its common name ("" for no subject), `sans` its alternative names (() for no extension)."""
    common = host if subject is None else subject
    builder = x509.CertificateBuilder(
        issuer_name=authority().x509.subject,
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []),
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=not_before,
        not_valid_after=not_after,
    )
    if sans is None:
        sans = [x509.DNSName(host)]
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(_signer(), hashes.SHA256()).public_bytes(Encoding.PEM)


def usage(*allowed: str) -> Extensions:
    """A critical KeyUsage that allows only so much."""
    return [(x509.KeyUsage(**NO_USAGE | dict.fromkeys(allowed, True)), True)]


def ip_name(address: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(address))


def pem(label: str, der: Der) -> bytes:
    """DER as PEM."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def tlv(tag: int, content: Der) -> Der:
    """One element of DER."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _elements(content: Der) -> Iterator[tuple[Der, Der]]:
    """Each element of DER, whole and its content."""
    while content:
        size, start = content[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[2:start])
        yield content[: start + size], content[start : start + size]
        content = content[start + size :]


def forged(original: bytes, change: Callable[[list[Der]], list[Der]]) -> bytes:
    """A certificate whose fields are what `change` makes of them, correctly signed.

    The fields are version, serial number, algorithm, issuer, validity, subject, public key, extensions.
    """
    der = x509.load_pem_x509_certificate(original).public_bytes(Encoding.DER)
    (_, content), *_ = _elements(der)
    (_, fields), (algorithm, _), _ = _elements(content)
    signed = tlv(0x30, b"".join(change([field for field, _ in _elements(fields)])))
    signature = _signer().sign(signed, ec.ECDSA(hashes.SHA256()))
    return pem("CERTIFICATE", tlv(0x30, signed + algorithm + tlv(3, b"\0" + signature)))


def name_of(kind: int, text: bytes) -> Der:
    """A distinguished name of one common name, which is of any ASN.1 type and bytes."""
    return tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + tlv(kind, text))))


def compressed_key() -> Der:
    """The public EC key with a compressed point."""
    whole = ec_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (_, content), *_ = _elements(whole)
    (algorithm, _), _ = _elements(content)
    point = ec_key().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return tlv(0x30, algorithm + tlv(3, b"\0" + point))


def pss_key() -> Der:
    """The public RSA key under the name of RSA-PSS."""
    whole = rsa_key(2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (_, content), *_ = _elements(whole)
    _, (bits, _) = _elements(content)
    return tlv(0x30, tlv(0x30, bytes.fromhex("06092a864886f70d01010a")) + bits)
