"""The certificate for hosts without one: self-signed, made at the start, or stored in the folder of `--state-dir`.

Replicas in a cluster share one through a Secret (`xds.replicas.shared_certificate`).
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from xds.certificates import issue
from xds.certificates.pairs import Pair, parse
from xds.config import Failure
from xds.kube.objects import Meta, Secret
from xds.machine.state_dir import write

_YEAR = datetime.timedelta(days=365)
_RENEW = datetime.timedelta(days=30)


def make() -> tuple[bytes, bytes]:
    """A certificate like ingress-nginx's own, valid for a year: PEM chain and PEM key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = issue.issue(
        issue.name("Kubernetes Ingress Controller Fake Certificate", "Acme Co"),
        key,
        _YEAR,
        datetime.datetime.now(datetime.UTC),
        (x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (issue.key_usage("digital_signature", "key_encipherment"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    )
    return issue.pem(made), issue.key_pem(key)


def keep(folder: Path) -> tuple[bytes, bytes]:
    """The certificate of a state folder. It is made there if the folder has none that lasts another month (decision 1).

    The folder is created with mode 0700. Raises Failure where it cannot be read or written.
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
    """Whether Envoy accepts the two, and they last another month."""
    found = parse(Secret(meta=Meta(namespace="", name="default"), data={"tls.crt": chain, "tls.key": key}))
    soon = datetime.datetime.now(datetime.UTC) + _RENEW
    return isinstance(found, Pair) and found.not_after > soon.timestamp()
