"""Which certificate a host is served under, and whether a Secret holds one that Envoy will take (reference 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtensionOID, NameOID

from xds.kube.objects import Ingress, Ref, Secret, Tls, ref
from xds.kube.world import Reader, default_certificate, ingresses_of, now, secret, settings
from xds.model import Problem, Severity
from xds.translate.selection import selected

DEFAULT = "default"
"""The name of the default certificate."""
_LONGEST = 1 << 20
_DAY = 86_400


class Pair(NamedTuple):
    """A certificate chain and its key as PEM, cleaned of what stands around them, and what the leaf says. The key never shows."""

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


def certificate(read: Reader, namespace: str, name: str) -> Pair | Unusable:
    """What a Secret of type kubernetes.io/tls holds."""
    found = secret(read, namespace, name)
    return Unusable("secret-missing", "does not exist") if found is None else parse(found)


def verdict(read: Reader, namespace: str, name: str) -> tuple[str, ...] | Unusable:
    """The names of a usable certificate. A renewal mostly leaves them as they are, and then no host needs to be looked at again."""
    found = read.unit(certificate, namespace, name)
    if isinstance(found, Unusable):
        return found
    _report_expiry(read, namespace, name, found)
    return found.names


def host_certificate(read: Reader, host: str) -> str:
    """The Secret ("namespace/name") whose certificate a host is served under; "" for the default certificate."""
    for item in (i for i in ingresses_of(read, host) if i.tls):
        if read.unit(selected, item.meta.namespace, item.meta.name):
            return _of_ingress(read, item, host)
    return ""


def has_tls(read: Reader, host: str) -> bool:
    """Whether some Ingress of the host has a tls section, whatever is in it."""
    with_tls = (i for i in ingresses_of(read, host) if i.tls)
    return any(read.unit(selected, i.meta.namespace, i.meta.name) for i in with_tls)


def default_pair(read: Reader) -> tuple[bytes, bytes]:
    """The default certificate, PEM chain and key: the Secret of --default-ssl-certificate, else the one made at the start."""
    name = settings(read).default_ssl_certificate
    if name:
        found = read.unit(certificate, *name.split("/", 1))
        if isinstance(found, Pair):
            return found.chain, found.key
        sentence = f"--default-ssl-certificate: the Secret {found.sentence}; a self-signed certificate is served instead."
        read.report(Problem(Ref("Secret", *name.split("/", 1)), "", found.code, sentence))
    return default_certificate(read)


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate of these names (in lower case) is one for a host; a wildcard stands for one label."""
    parent = "*." + host.split(".", 1)[1] if "." in host else ""
    return host in names or (bool(parent) and parent in names)


def parse(found: Secret) -> Pair | Unusable:
    """Check a Secret as Envoy's TLS library will: parse the chain and the key, and see that they belong together."""
    chain_pem, key_pem = found.data.get("tls.crt", b""), found.data.get("tls.key", b"")
    for key, value in (("tls.crt", chain_pem), ("tls.key", key_pem)):
        if not value.strip():
            return Unusable("secret-incomplete", f"has no {key}")
        if len(value) > _LONGEST:
            return Unusable("secret-too-large", f"has a {key} of more than {_LONGEST} bytes")
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except Exception:  # noqa: BLE001 - whatever the parser stumbles over, it is no certificate
        return Unusable("certificate-unreadable", "has a tls.crt that is no PEM certificate chain")
    return _paired(chain, key_pem)


def _paired(chain: list[x509.Certificate], key_pem: bytes) -> Pair | Unusable:
    try:
        key = load_pem_private_key(key_pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return Unusable("key-encrypted", "has a tls.key that is encrypted; Envoy cannot ask for a pass phrase")
    except Exception:  # noqa: BLE001 - as above; and the text of the error might quote the key
        return Unusable("key-unreadable", "has a tls.key that is no PEM private key")
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return Unusable("key-type", "has a tls.key that is neither an RSA nor an EC key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        return Unusable("key-short", f"has an RSA key of {key.key_size} bits; Envoy wants 2048 at least")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        return Unusable("key-curve", f"has an EC key on the curve {key.curve.name}; Envoy takes P-256, P-384 and P-521")
    try:
        leaf = chain[0]
        theirs = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names, until = _names(leaf), int(leaf.not_valid_after_utc.timestamp())
    except Exception:  # noqa: BLE001 - a certificate that parses, but not in every part
        return Unusable("certificate-unreadable", "has a tls.crt that is damaged or of an unknown kind")
    if theirs != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        return Unusable("key-mismatch", "has a tls.key that does not belong to the first certificate of its tls.crt")
    return Pair(b"".join(c.public_bytes(Encoding.PEM) for c in chain), key_pem.strip() + b"\n", names, until)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate in lower case; its common name where it has none (as ingress-nginx does)."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        names = extension.get_values_for_type(x509.DNSName) if isinstance(extension, x509.SubjectAlternativeName) else []
    except x509.ExtensionNotFound:
        names = []
    names = names or [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(sorted({n.lower() for n in names}))


def _of_ingress(read: Reader, item: Ingress, host: str) -> str:
    """The tls entry that lists the host, else the first whose certificate covers it."""
    namespace = item.meta.namespace
    for number, entry in enumerate(item.tls):
        if host in (h.lower() for h in entry.hosts):
            return _if_usable(read, item, number, entry, host)
    for entry in item.tls:
        names = read.unit(verdict, namespace, entry.secret) if entry.secret else ()
        if not isinstance(names, Unusable) and covers(names, host):
            return f"{namespace}/{entry.secret}"
    if host and any(entry.secret for entry in item.tls):
        sentence = f'No entry of spec.tls lists "{host}" or has a certificate for it; it is served under the default certificate.'
        read.report(Problem(ref(item), "spec.tls", f"tls-host:{host}", sentence, Severity.WARNING, item.meta.place))
    return ""


def _if_usable(read: Reader, item: Ingress, number: int, entry: Tls, host: str) -> str:
    if not entry.secret:
        return ""  # tls without a Secret asks for the default certificate
    names = read.unit(verdict, item.meta.namespace, entry.secret)
    field = f"spec.tls[{number}].secretName"
    name = f"{item.meta.namespace}/{entry.secret}"
    if isinstance(names, Unusable):
        sentence = f'Secret {name} {names.sentence}; "{host}" is served under the default certificate.'
        read.report(Problem(ref(item), field, f"{names.code}:{host}", sentence, place=item.meta.place))
        return ""
    if host and not covers(names, host):
        shown = ", ".join(names[:5]) or "no name at all"
        sentence = f'The certificate of Secret {name} is for {shown}, not for "{host}", which is served under the default certificate.'
        read.report(Problem(ref(item), field, f"certificate-name:{host}", sentence, place=item.meta.place))
        return ""
    return name


def _report_expiry(read: Reader, namespace: str, name: str, pair: Pair) -> None:
    left = pair.not_after - now(read)
    if now(read) and left < 10 * _DAY:
        when = "has expired" if left < 0 else f"expires in {left // _DAY} days"
        sentence = f"The certificate {when}; it is served all the same."
        read.report(Problem(Ref("Secret", namespace, name), "data[tls.crt]", "certificate-expiry", sentence, Severity.WARNING))
