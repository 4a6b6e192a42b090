"""Which certificate a host is served under (reference 4.5)."""

from __future__ import annotations

from collections.abc import Sequence

from xds.kube.objects import Ingress, Ref, Tls, ref
from xds.kube.world import KEPT, Reader, default_certificate, ingresses_of, now, secret, settings
from xds.model import Problem, Severity
from xds.translate.pairs import Pair, Unusable, parse
from xds.translate.selection import selected

DEFAULT = "default"
"""The name of the default certificate."""
_DAY = 86_400


def certificate(read: Reader, namespace: str, name: str) -> Pair | Unusable:
    """What a Secret of type kubernetes.io/tls holds; or held last, where a renewal has left it without anything of use (DESIGN 10.2)."""
    found = secret(read, namespace, name)
    if found is None:
        return Unusable("secret-missing", "does not exist")
    judged = parse(found)
    if isinstance(judged, Pair):
        return judged
    kept: Pair | None = read((KEPT, namespace, name))
    if kept is None:
        return judged
    sentence = f"It {judged.sentence}; the certificate that it held before stays in place until that is mended."
    read.report(Problem(Ref("Secret", namespace, name), "data", f"certificate-kept:{judged.code}", sentence, place=found.meta.place))
    return kept


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
