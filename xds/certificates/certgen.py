"""The certificates of xDS inside a cluster: one authority, a certificate for the servers, one for the Envoys, and when each is renewed.

What belongs here: the new content of three Secrets, given their present content. What does not: building certificates
(`xds.certificates.issue`), reading and writing Secrets (`xds.cli.certgen`), and their use (`xds.server.tls`, `xds.render.bootstrap`).

No peer ever receives a certificate that it cannot verify, because the trusted authorities change before the certificates do:

1. A certificate is renewed by the same authority, `LEAF_RENEW` before it ends. Nothing else changes.
2. The authority is renewed `AUTHORITY_RENEW` before it ends, which is longer than any of its certificates lasts. The new one is trusted
   beside the old one (`ca.crt` holds both), and signs nothing yet.
3. The new one signs in a run at least `SETTLE` later, if both Secrets have it in their `ca.crt`.
4. An authority leaves `ca.crt` when it has ended.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from xds.certificates import issue

_DAY = datetime.timedelta(days=1)
AUTHORITY_LIFE, AUTHORITY_RENEW = 3650 * _DAY, 730 * _DAY
LEAF_LIFE, LEAF_RENEW = 365 * _DAY, 120 * _DAY
SETTLE = datetime.timedelta(hours=1)
"""The time for the kubelets to update a changed Secret in every pod. They check once a minute."""

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
"""Keys of each of the Secrets."""

Data = Mapping[str, bytes]
"""The content of a Secret, decoded."""


@dataclass(frozen=True, slots=True)
class StoredSecrets:
    """The content of the three Secrets, {} for a missing one. Keys are not in its repr."""

    authority: Data = field(default_factory=dict, repr=False)
    server: Data = field(default_factory=dict, repr=False)
    client: Data = field(default_factory=dict, repr=False)


class Due(NamedTuple):
    """The new content of a Secret, and the reason: the rest of a sentence that begins with the Secret."""

    data: Data
    why: str

    def __repr__(self) -> str:
        return f"Due(why={self.why!r})"


class _Pair(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"_Pair({self.certificate.subject.rfc4514_string()!r})"


class _Leaf(NamedTuple):
    """The DNS names of a certificate, and the side of a connection that it authenticates."""

    names: Sequence[str]
    usage: x509.ObjectIdentifier


def due(held: StoredSecrets, server_names: Sequence[str], client_names: Sequence[str], now: datetime.datetime) -> dict[str, Due]:
    """What must be written, by Secret ("authority", "server", "client"), in this order. {} where nothing is due.

    The names are DNS names, at least one each. Content that cannot be used counts as missing.
    """
    found: dict[str, Due] = {}
    authority, why = _authority(held.authority, now)
    trusted = _trusted(authority.certificate, held, now)
    bundle = b"".join(issue.pem(each) for each in trusted)
    if why or held.authority.get(AUTHORITIES) != bundle:
        found["authority"] = Due(_data(authority, bundle), why or "trusts other authorities")
    may_sign = not why and _settled(authority.certificate, held, now)
    leaves = {
        "server": (held.server, _Leaf(server_names, ExtendedKeyUsageOID.SERVER_AUTH)),
        "client": (held.client, _Leaf(client_names, ExtendedKeyUsageOID.CLIENT_AUTH)),
    }
    for name, (data, leaf) in leaves.items():
        pair = _pair(data)
        why = _unusable(pair, leaf, trusted, now) or (_old(pair, authority.certificate, now) if may_sign else "")
        if why or pair is None:
            pair = _make_leaf(authority, leaf, now)
        elif data.get(AUTHORITIES) != bundle:
            why = "trusts other authorities"
        if why:
            found[name] = Due(_data(pair, bundle), why)
    return found


def _authority(data: Data, now: datetime.datetime) -> tuple[_Pair, str]:
    """The authority that signs, and why it is new. "" for the existing one."""
    pair = _pair(data)
    if pair is None or not _is_authority(pair.certificate):
        return _make_authority(now), "has a new authority: there was none that can be used" if data else "is new"
    if pair.certificate.not_valid_after_utc - now < AUTHORITY_RENEW:
        return _make_authority(now), f"has a new authority: the old one ends on {_date(pair.certificate)}"
    return pair, ""


def _trusted(first: x509.Certificate, held: StoredSecrets, now: datetime.datetime) -> list[x509.Certificate]:
    """The authority that signs, then those before it that have not ended."""
    found = {issue.pem(first): first}
    for each in [*_certificates(held.authority.get(CERTIFICATE, b"")), *_certificates(held.authority.get(AUTHORITIES, b""))]:
        if _is_authority(each) and each.not_valid_after_utc > now:
            found.setdefault(issue.pem(each), each)
    return list(found.values())


def _settled(authority: x509.Certificate, held: StoredSecrets, now: datetime.datetime) -> bool:
    """Whether all peers trust an authority by now."""
    everywhere = all(authority in _certificates(data.get(AUTHORITIES, b"")) for data in (held.server, held.client))
    return everywhere and now - (authority.not_valid_before_utc + issue.SKEW) >= SETTLE


def _unusable(pair: _Pair | None, leaf: _Leaf, trusted: Iterable[x509.Certificate], now: datetime.datetime) -> str:
    """Why a certificate cannot be used now. "" where it can."""
    if pair is None:
        return "is new, or held nothing that can be used"
    made = pair.certificate
    if made.not_valid_after_utc <= now:
        return f"is renewed: it ended on {_date(made)}"
    if not any(_signed(made, by) for by in trusted):
        return "is renewed: its authority is not trusted any more"
    if _names(made) != tuple(leaf.names) or not _is_for(made, leaf.usage):
        return f"is renewed: it is for {', '.join(leaf.names)} now"
    return ""


def _old(pair: _Pair | None, authority: x509.Certificate, now: datetime.datetime) -> str:
    """Why a usable certificate is renewed. "" where it is not."""
    if pair is None:
        return ""
    if not _signed(pair.certificate, authority):
        return "is renewed by the new authority"
    if pair.certificate.not_valid_after_utc - now < LEAF_RENEW:
        return f"is renewed: it would have ended on {_date(pair.certificate)}"
    return ""


def _make_authority(now: datetime.datetime) -> _Pair:
    """Its name has the time in it: TLS libraries confuse two authorities of one name."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = issue.issue(
        issue.name(f"xds authority {now:%Y-%m-%dT%H:%M:%SZ}"),
        key,
        AUTHORITY_LIFE,
        now,
        (issue.key_usage("key_cert_sign", "crl_sign"), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.BasicConstraints(ca=True, path_length=0), True),
    )
    return _Pair(made, key)


def _make_leaf(authority: _Pair, leaf: _Leaf, now: datetime.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    made = issue.issue(
        issue.name(leaf.names[0][:64]),
        key,
        LEAF_LIFE,
        now,
        (issue.key_usage("digital_signature"), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in leaf.names]), False),
        (x509.ExtendedKeyUsage([leaf.usage]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False),
        issuer=issue.Issuer(authority.certificate.subject, authority.key),
    )
    return _Pair(made, key)


def _data(pair: _Pair, bundle: bytes) -> Data:
    return {CERTIFICATE: issue.pem(pair.certificate), KEY: issue.key_pem(pair.key), AUTHORITIES: bundle}


def _pair(data: Data) -> _Pair | None:
    """A certificate and its key. None where a Secret does not hold both."""
    chain = _certificates(data.get(CERTIFICATE, b""))
    try:
        key = load_pem_private_key(data.get(KEY, b""), None)
    except (ValueError, TypeError):  # TypeError: it has a password
        return None
    if not chain or not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != chain[0].public_key():
        return None
    return _Pair(chain[0], key)


def _certificates(text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        return []


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        return ()


def _is_for(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        return usage in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False


def _date(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
