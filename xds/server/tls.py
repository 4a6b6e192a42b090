"""Mutual TLS of the xDS port, with certificates that are reloaded when their files change."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

_log = logging.getLogger("xds.server")
_SANS = "x509_subject_alternative_name"
_CLUSTER = "xds-cluster:"
_NO_PASSWORDS = "xds-passwords:none"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of PEM files: the server's certificate (with its intermediates), its private key, and the CAs of its clients."""

    certificate: str
    key: str
    ca: str


def credentials(files: CertificateFiles) -> Any:
    """`grpc.ServerCredentials` that require a client certificate (I4), and take new files for new connections.

    The files are checked whenever a client connects, because a mounted Secret is replaced without a signal. Unusable files are logged, and
    the last usable certificate stays. Raises ValueError with a sentence where the files cannot be used now.
    """
    reloader = _Reloader(files)
    return grpc.dynamic_ssl_server_credentials(reloader.configuration, reloader.changed, require_client_authentication=True)


class _Reloader:
    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._paths = files.certificate, files.key, files.ca
        self._seen = stamp(*self._paths)
        self.configuration = _read(files)

    def changed(self) -> Any:
        """The new configuration; None if the files are unchanged or unusable. gRPC calls this in a thread of its own."""
        now = stamp(*self._paths)
        if now == self._seen:
            return None
        self._seen = now
        try:
            configuration = _read(self._files)
        except ValueError as error:
            _log.error("%s; new connections get the previous certificate", error)
            return None
        _log.info("the xDS server has a new certificate from %s", self._files.certificate)
        return configuration


def stamp(*paths: str | Path) -> tuple[tuple[int, int, int] | None, ...]:
    """A value that changes when one of the files does, or is missing."""

    def one(path: str | Path) -> tuple[int, int, int] | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    return tuple(one(path) for path in paths)


def _read(files: CertificateFiles) -> Any:
    """A `grpc.ServerCertificateConfiguration`. Raises ValueError with a sentence that never quotes a file."""
    certificate, key, ca = _bytes(files.certificate), _bytes(files.key), _bytes(files.ca)
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError:
        raise ValueError(f"the certificate file {files.certificate} holds no PEM certificate") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise ValueError(f"the key file {files.key} holds no PEM private key without a password") from None
    if private.public_key() != leaf.public_key():
        raise ValueError(f"the key file {files.key} does not belong to the certificate in {files.certificate}")
    try:
        x509.load_pem_x509_certificates(ca)
    except ValueError:
        raise ValueError(f"the CA file {files.ca} holds no PEM certificate") from None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None


def names(context: Any) -> frozenset[str]:
    """The DNS and URI names (SANs) in the client's certificate, as they are; none in plaintext. `context`: of a call."""
    return frozenset(name.decode(errors="replace") for name in context.auth_context().get(_SANS, ()))


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the certificate of a client allows: `clusters` as node.cluster, where there are any (I5), and password files."""

    clusters: frozenset[str] = frozenset()
    passwords: bool = True


EVERYTHING = Allowed()
"""What a client in plaintext may have."""


def allowed(names: Collection[str]) -> Allowed:
    """What these names allow. Each `xds-cluster:NAME` allows NAME, percent-encoded; `xds-passwords:none` takes password files away."""
    clusters = frozenset(unquote(name.removeprefix(_CLUSTER)) for name in names if name.startswith(_CLUSTER))
    return Allowed(clusters, passwords=_NO_PASSWORDS not in names)
