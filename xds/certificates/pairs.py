"""A certificate with its key: whether the content of a Secret is one that Envoy accepts.

Envoy rejects a certificate that its TLS library, BoringSSL, cannot use, and with it the other resources of the response. So this module
rejects everything that BoringSSL was seen to reject. What does not belong here: which host is served under which certificate
(`xds.translate.certificates`).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtensionOID, NameOID

from xds.kube.objects import Secret

_LONGEST = 1 << 20
_SHORTEST_RSA, _LONGEST_RSA, _LONGEST_EXPONENT = 2048, 16384, 33
"""Bits."""
_BMP_STRING = 0x1E
_TEXTS = (0x03, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, _BMP_STRING)
"""ASN.1 tags: BIT STRING, UTF8String, NumericString, PrintableString, T61String, IA5String, UniversalString, BMPString."""


class Pair(NamedTuple):
    """A certificate chain and its key as PEM, without any text around them, and the fields of the leaf. The key is not in its repr."""

    chain: bytes
    key: bytes
    names: tuple[str, ...]
    not_after: int

    def __repr__(self) -> str:
        return f"Pair(names={self.names!r}, not_after={self.not_after})"


class Unusable(NamedTuple):
    """Why a Secret holds no certificate, as the rest of a sentence that begins with the Secret."""

    code: str
    sentence: str


def parse(found: Secret) -> Pair | Unusable:
    """Check a Secret as Envoy's TLS library will: parse the chain and the key, and see that they belong together."""
    chain_pem, key_pem = found.data.get("tls.crt", b""), found.data.get("tls.key", b"")
    for key, value in (("tls.crt", chain_pem), ("tls.key", key_pem)):
        if not value.strip():
            return Unusable("secret-incomplete", f"has no {key}")
        if len(value) > _LONGEST:
            return Unusable("secret-too-large", f"has a {key} of more than {_LONGEST} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Envoy takes what the parser only frowns at, such as a common name of 65 characters
        return _paired(chain_pem, key_pem)


def _paired(chain_pem: bytes, key_pem: bytes) -> Pair | Unusable:
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except Exception:  # noqa: BLE001 - whatever the parser stumbles over, it is no certificate
        return Unusable("certificate-unreadable", "has a tls.crt that is no PEM certificate chain")
    try:
        key = load_pem_private_key(key_pem, password=None, unsafe_skip_rsa_key_validation=True)
        ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except TypeError:
        return Unusable("key-encrypted", "has a tls.key that is encrypted; Envoy cannot ask for a pass phrase")
    except Exception:  # noqa: BLE001 - as above; and the text of the error might quote the key
        return Unusable("key-unreadable", "has a tls.key that is no PEM private key")
    if fault := _key_fault(key):
        return fault
    try:
        if fault := _chain_fault(chain, ours):
            return fault
        names, until = _names(chain[0]), int(chain[0].not_valid_after_utc.timestamp())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except Exception:  # noqa: BLE001 - a certificate that parses, but not in every part
        return Unusable("certificate-unreadable", "has a tls.crt that is damaged or of an unknown kind")
    return Pair(b"".join(c.public_bytes(Encoding.PEM) for c in chain), private, names, until)


def _key_fault(key: PrivateKeyTypes) -> Unusable | None:
    """What Envoy's TLS library (BoringSSL) has against a private key."""
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _SHORTEST_RSA:
            return Unusable("key-short", f"has an RSA key of {key.key_size} bits; Envoy wants {_SHORTEST_RSA} at least")
        if key.key_size > _LONGEST_RSA:
            return Unusable("key-long", f"has an RSA key of {key.key_size} bits; Envoy takes {_LONGEST_RSA} at most")
        return None if _consistent(key.private_numbers()) else Unusable("key-damaged", "has an RSA key whose numbers contradict each other")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
            return None
        return Unusable("key-curve", f"has an EC key on the curve {key.curve.name}; Envoy takes P-256, P-384 and P-521")
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else Unusable("key-type", "has a tls.key that is neither RSA, EC nor Ed25519")


def _consistent(numbers: rsa.RSAPrivateNumbers) -> bool:
    """Whether BoringSSL takes these numbers for a key. It does not look whether p and q are prime, which would take long."""
    p, q, d, e = numbers.p, numbers.q, numbers.d, numbers.public_numbers.e
    if min(p, q) < 2 or p * q != numbers.public_numbers.n or e < 3 or e.bit_length() > _LONGEST_EXPONENT:
        return False
    exponents = d * e % (p - 1) == 1 == d * e % (q - 1) and numbers.dmp1 == d % (p - 1) and numbers.dmq1 == d % (q - 1)
    return exponents and numbers.iqmp * q % p == 1


def _chain_fault(chain: list[x509.Certificate], ours: bytes) -> Unusable | None:
    """What BoringSSL has against the certificates; `ours` is the public key of tls.key, in DER. Raises where they are damaged."""
    leaf = chain[0]
    if leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != ours:
        return Unusable("key-mismatch", "has a tls.key that does not belong to the first certificate of its tls.crt")
    if ours not in leaf.tbs_certificate_bytes:
        return Unusable("key-form", "has a certificate that writes its public key in a form that Envoy does not take")
    for found in chain:
        if not (_plain(found.subject) and _plain(found.issuer)):
            return Unusable("certificate-text", "has a certificate with a name that is no text as Envoy takes it")
        if found.version is x509.Version.v1 and len(found.extensions):
            return Unusable("certificate-version", "has a certificate with extensions, but of version 1, which knows none")
    return _extension_fault(leaf)


def _extension_fault(leaf: x509.Certificate) -> Unusable | None:
    found = {e.oid: e.value for e in leaf.extensions}
    usage, features = found.get(ExtensionOID.KEY_USAGE), found.get(ExtensionOID.TLS_FEATURE)
    if isinstance(usage, x509.KeyUsage) and not usage.digital_signature and not isinstance(leaf.public_key(), rsa.RSAPublicKey):
        return Unusable("certificate-usage", "has a certificate whose key usage is without digital signature")
    if isinstance(features, x509.TLSFeature) and x509.TLSFeatureType.status_request in features:
        return Unusable("certificate-must-staple", "has a certificate that must be served with an OCSP response (must-staple)")
    common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not all(name.value for name in common) or (not common and ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in found):
        return Unusable("certificate-nameless", "has a certificate without a name, or with an empty common name")
    return None


def _plain(name: x509.Name) -> bool:
    """Whether a distinguished name is all text of the types that BoringSSL knows. Raises ValueError where it cannot be decoded."""
    for attribute in name:
        alone = x509.Name([attribute]).public_bytes()
        pair = _content(_content(_content(alone)))  # a sequence of sets of pairs; here one pair of OID and value
        kind = pair[2 + pair[1]]
        if kind not in _TEXTS or (kind == _BMP_STRING and any(ord(c) > 0xFFFF for c in str(attribute.value))):
            return False
    return True


def _content(element: bytes) -> bytes:
    """What an element of DER holds."""
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0) :]


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate in lower case; its common name where it has none (as ingress-nginx does)."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        names = extension.get_values_for_type(x509.DNSName) if isinstance(extension, x509.SubjectAlternativeName) else []
    except x509.ExtensionNotFound:
        names = []
    names = names or [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(sorted({n.lower() for n in names}))
