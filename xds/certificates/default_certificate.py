"""The certificate for hosts that have none: self-signed, made at the start, or kept in the folder of `--state-dir`.

Replicas in a cluster share one through a Secret (`xds.replicas.shared_certificate`).
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from xds.certificates.pairs import Pair, parse
from xds.config import Failure
from xds.kube.objects import Meta, Secret
from xds.machine.state_dir import write

_YEAR = datetime.timedelta(days=365)
_RENEW = datetime.timedelta(days=30)


def make() -> tuple[bytes, bytes]:
    """A certificate like ingress-nginx's own, valid for a year: PEM chain and PEM key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Kubernetes Ingress Controller Fake Certificate"),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _YEAR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), private


def keep(folder: Path) -> tuple[bytes, bytes]:
    """The certificate of a state folder, made there if it has none that can be used for another month (decision 1).

    The folder is made with mode 0700. Raises Failure where it cannot be read or written.
    """
    chain_file, key_file = folder / "default.crt", folder / "default.key"
    try:
        if chain_file.exists() and key_file.exists():
            chain, key = chain_file.read_bytes(), key_file.read_bytes()
            if usable(chain, key):
                return chain, key
        chain, key = make()
        write(key_file, key)
        write(chain_file, chain)
    except OSError as error:
        raise Failure(f"--state-dir: {folder} cannot be used: {error.strerror}.") from None
    return chain, key


def usable(chain: bytes, key: bytes) -> bool:
    """Whether Envoy will take the two, and they last another month."""
    found = parse(Secret(meta=Meta(namespace="", name="default"), data={"tls.crt": chain, "tls.key": key}))
    soon = datetime.datetime.now(datetime.UTC) + _RENEW
    return isinstance(found, Pair) and found.not_after > soon.timestamp()
