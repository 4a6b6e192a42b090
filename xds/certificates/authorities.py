"""Who signs certificates: whether the `ca.crt` and `ca.crl` of a Secret are ones that Envoy accepts.

Envoy rejects what its TLS library, BoringSSL, cannot read. A chain of such a Secret would be left out, and its hosts with it.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from xds.certificates.pairs import Unusable
from xds.kube.objects import Secret

CERTIFICATES, REVOKED = "ca.crt", "ca.crl"
_LONGEST = 1 << 20
_BEGIN_LIST = b"-----BEGIN X509 CRL-----"


class Trusted(NamedTuple):
    """Certificates of who signs, and lists of what they have revoked, as PEM without any text around them."""

    certificates: bytes
    revoked: bytes


def parse(found: Secret) -> Trusted | Unusable:
    """Check the authority in a Secret. Lists of revoked certificates are optional; those that cannot be read leave nothing to trust."""
    certificates, lists = found.data.get(CERTIFICATES, b""), found.data.get(REVOKED, b"")
    if not certificates.strip():
        return Unusable("authority-missing", f"has no {CERTIFICATES}")
    if max(len(certificates), len(lists)) > _LONGEST:
        return Unusable("authority-too-large", f"has a {CERTIFICATES} or {REVOKED} of more than {_LONGEST} bytes")
    try:
        authorities = b"".join(dict.fromkeys(c.public_bytes(Encoding.PEM) for c in x509.load_pem_x509_certificates(certificates)))
    except Exception:  # noqa: BLE001 - whatever the parser stumbles over, it is no certificate
        return Unusable("authority-unreadable", f"has a {CERTIFICATES} that holds no PEM certificates")
    try:
        revoked = b"".join(x509.load_pem_x509_crl(_BEGIN_LIST + part).public_bytes(Encoding.PEM) for part in lists.split(_BEGIN_LIST)[1:])
    except Exception:  # noqa: BLE001 - as above
        revoked = b""
    if lists.strip() and not revoked:
        return Unusable("revoked-unreadable", f"has a {REVOKED} that holds no PEM list of revoked certificates")
    return Trusted(authorities, revoked)
