"""Which certificate a host is served with (nginx 4.5).

What does not belong here: whether a Secret holds one (`xds.certificates.pairs`), and whether TLS ends here at all (`xds.translate.tls`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from xds.certificates import authorities
from xds.certificates.authorities import Trusted
from xds.certificates.pairs import Pair, Unusable, parse
from xds.kube.objects import Ingress, Tls
from xds.kube.world import Reader, default_certificate, ingress, last_valid_key, now, report_about, secret, settings
from xds.problem import Problem, Ref, Severity
from xds.translate.claims import serving

DEFAULT = "default"
"""The name of the default certificate."""
MOST_TLS = 2_000
"""Entries of a tls section that have an effect: each may be another certificate, which is one more filter chain in every Envoy."""
_DAY = 86_400


def certificate(read: Reader, namespace: str, name: str) -> Pair | Unusable:
    """The certificate in a Secret of type kubernetes.io/tls; the last valid one where the Secret is invalid now (decision 2)."""
    found = secret(read, namespace, name)
    if found is None:
        return Unusable("secret-missing", "does not exist")
    judged = parse(found)
    if isinstance(judged, Pair):
        return judged
    kept: Pair | None = read(last_valid_key(namespace, name))
    if kept is None:
        return judged
    sentence = f"It {judged.sentence}; the certificate that it held before stays in place until that is fixed."
    report_about(read, found, "data", f"certificate-kept:{judged.code}", sentence)
    return kept


def authority(read: Reader, namespace: str, name: str) -> Trusted | Unusable:
    """Who signs certificates, as a Secret of any type has it. A Unit."""
    found = secret(read, namespace, name)
    return authorities.parse(found) if found else Unusable("secret-missing", "does not exist")


class CertificateNames(NamedTuple):
    """The names of a certificate in lower case, and the first of them as text for users."""

    every: frozenset[str]
    shown: str


def verdict(read: Reader, namespace: str, name: str) -> CertificateNames | Unusable:
    """The names of a valid certificate. A Unit: most renewals leave them as they are, and then no host is translated again."""
    found = read.unit(certificate, namespace, name)
    if isinstance(found, Unusable):
        return found
    _report_expiry(read, namespace, name, found)
    return CertificateNames(frozenset(found.names), ", ".join(found.names[:5]) or "no name at all")


def host_certificate(read: Reader, host: str) -> str:
    """The Secret ("namespace/name") with the certificate of a named host; "" for the default certificate."""
    item = next((i for i in serving(read, host) if i.tls), None)
    return _of_ingress(read, item, host) if item else ""


def has_tls(read: Reader, host: str, namespace: str) -> bool:
    """Whether an Ingress of the host has a tls section with any content; only those of a namespace, if one is given. A Unit."""
    return any(i.tls for i in serving(read, host) if namespace in ("", i.meta.namespace))


def redirects_to_https(read: Reader, host: str, ours: Sequence[Ingress]) -> bool:
    """Whether plain http to the host is redirected: it, or the wildcard one level above it, has a tls section.

    With `--host-ownership` the wildcard counts only if it belongs to the host's namespace.
    """
    if not host or any(item.tls for item in ours):
        return bool(host)
    return under_redirecting_wildcard(read, host, ours)


def under_redirecting_wildcard(read: Reader, host: str, ours: Sequence[Ingress]) -> bool:
    """The same for the wildcard alone."""
    if "." not in host or host.startswith("*."):
        return False
    owner = ours[0].meta.namespace if ours and settings(read).host_ownership else ""
    return read.unit(has_tls, "*." + host.split(".", 1)[1], owner)


def default_pair(read: Reader) -> tuple[bytes, bytes]:
    """The default certificate, PEM chain and key: that of --default-ssl-certificate, else the generated one."""
    name = settings(read).default_ssl_certificate
    if name:
        found = read.unit(certificate, *name.split("/", 1))
        if isinstance(found, Pair):
            return found.chain, found.key
        sentence = f"--default-ssl-certificate: the Secret {found.sentence}; a self-signed certificate is served instead."
        read.report(Problem(Ref("Secret", *name.split("/", 1)), "", found.code, sentence))
    return default_certificate(read)


def covers(names: Container[str], host: str) -> bool:
    """Whether a certificate with these names (in lower case) is valid for a host; a wildcard stands for one label."""
    return any(name in names for name in _names_for(host))


def _names_for(host: str) -> tuple[str, ...]:
    """The names of which a certificate for the host has one."""
    return (host, "*." + host.split(".", 1)[1]) if "." in host else (host,)


class _TlsIndex(NamedTuple):
    """Indexes of a tls section: host → the first entry that lists it, name → the first entry whose certificate has it."""

    listed: Mapping[str, int]
    covering: Mapping[str, int]


def tls_index(read: Reader, namespace: str, name: str) -> _TlsIndex:
    """The tls section of an Ingress, read once for all of its hosts. A Unit."""
    listed: dict[str, int] = {}
    covering: dict[str, int] = {}
    item = ingress(read, namespace, name)
    for number, entry in enumerate(item.tls[:MOST_TLS] if item else ()):
        for host in entry.hosts:
            listed.setdefault(host.lower(), number)
        names = read.unit(verdict, namespace, entry.secret) if entry.secret else None
        if isinstance(names, CertificateNames):
            for each in names.every:
                covering.setdefault(each, number)
    if item and len(item.tls) > MOST_TLS:
        sentence = f"spec.tls has {len(item.tls):,} entries; those after the first {MOST_TLS:,} have no effect: split the Ingress."
        report_about(read, item, "spec.tls", "too-many-tls", sentence)
    return _TlsIndex(listed, covering)


def _of_ingress(read: Reader, item: Ingress, host: str) -> str:
    """The tls entry that lists the host, else the first whose certificate covers it."""
    index = read.unit(tls_index, item.meta.namespace, item.meta.name)
    if (listed := index.listed.get(host)) is not None:
        return _if_usable(read, item, listed, item.tls[listed], host)
    covering = [index.covering[name] for name in _names_for(host) if name in index.covering]
    if covering:
        return f"{item.meta.namespace}/{item.tls[min(covering)].secret}"
    if any(entry.secret for entry in item.tls):
        sentence = f'No entry of spec.tls lists "{host}" or has a certificate for it; it is served with the default certificate.'
        report_about(read, item, "spec.tls", f"tls-host:{host}", sentence, Severity.WARNING)
    return ""


def _if_usable(read: Reader, item: Ingress, number: int, entry: Tls, host: str) -> str:
    if not entry.secret:
        return ""  # tls without a Secret asks for the default certificate
    names = read.unit(verdict, item.meta.namespace, entry.secret)
    field = f"spec.tls[{number}].secretName"
    name = f"{item.meta.namespace}/{entry.secret}"
    if isinstance(names, Unusable):
        sentence = f'Secret {name} {names.sentence}; "{host}" is served with the default certificate.'
        report_about(read, item, field, f"{names.code}:{host}", sentence)
        return ""
    if not covers(names.every, host):
        sentence = f'The certificate of Secret {name} is for {names.shown}, not for "{host}", which is served with the default certificate.'
        report_about(read, item, field, f"certificate-name:{host}", sentence)
        return ""
    return name


def _report_expiry(read: Reader, namespace: str, name: str, pair: Pair) -> None:
    left = pair.not_after - now(read)
    if now(read) and left < 10 * _DAY:
        when = "has expired" if left < 0 else f"expires in {left // _DAY} days"
        sentence = f"The certificate {when}; it is still served."
        read.report(Problem(Ref("Secret", namespace, name), "data[tls.crt]", "certificate-expiry", sentence, Severity.WARNING))
