"""The further names of hosts: which Ingress gives one, who has a name that several give, and under which certificate it is served.

A name that a rule has is that rule's host, even if an annotation gives it to another one. Of further names those that redirect come first,
then the host that is first in the alphabet: so ingress-nginx writes its servers, and nginx takes the first. With `--host-ownership` it is
the oldest Ingress instead, so that nobody gets the names of others by a host that comes before theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, named_by, oldest_first, report_about, settings
from xds.model import Name
from xds.nginx.registry import with_hook
from xds.problem import Severity
from xds.translate.certificates import CertificateNames, covers, host_certificate, under_redirecting_wildcard, verdict
from xds.translate.claims import MOST_PATHS, claims_of, is_plain, serving, settings_of


@dataclass(frozen=True, slots=True)
class Given:
    """A further name, the host that has it, and the Ingress that gives it; `number` counts the names of that host with paths before it."""

    name: Name
    host: str
    item: Ingress
    number: int


def names_of(read: Reader, host: str) -> Mapping[str, Given]:
    """All that is given to a host, by name: of each feature what the first Ingress of the host says. A Unit."""
    found: dict[str, Given] = {}
    with_paths = 0
    for feature, hook in with_hook("names"):
        settings = ((item, settings_of(read, item).get(feature)) for item in serving(read, host))
        first = next(((item, names) for item, own in settings if own is not None and (names := hook(own, host))), None)
        for name in first[1] if first else ():
            if first and name.host != host and name.host not in found:
                found[name.host] = Given(name, host, first[0], with_paths)
                with_paths += name.redirect is None
    return found


def given(read: Reader, name: str) -> Given | None:
    """Who has a name that no rule has; None for nobody. A Unit."""
    hosts = sorted({host for _, host in named_by(read, name)})
    found = [one for host in hosts if (one := read.unit(names_of, host).get(name))]
    found.sort(key=lambda one: one.name.redirect is None)
    if len(found) > 1 and settings(read).host_ownership:
        oldest = oldest_first({ref(one.item): one.item for one in found}.values())[0]
        return next(one for one in found if one.item is oldest)
    return found[0] if found else None


def home(read: Reader, name: str) -> str:
    """The host by whose Ingresses a name is answered: itself, or the host that it is given to."""
    found = None if serving(read, name) else read.unit(given, name)
    return found.host if found else name


def is_affordable(read: Reader, found: Given) -> bool:
    """Whether the routes of the host may be repeated for this name: so many of its names as make no more paths than an Ingress may have."""
    paths = sum(1 for item in serving(read, found.host) for _ in claims_of(read, item, found.host))
    return found.number == 0 or (found.number + 1) * paths <= MOST_PATHS


def certificate_of(read: Reader, found: Given) -> str:
    """The Secret ("namespace/name") with the certificate of the host, if that is valid for the name too; "" for the default certificate."""
    secret = host_certificate(read, found.host)
    names = read.unit(verdict, *secret.split("/", 1)) if secret else None
    return secret if isinstance(names, CertificateNames) and covers(names.every, found.name.host) else ""


def redirects(read: Reader, found: Given, ours: Sequence[Ingress]) -> bool:
    """Whether plain http to a name with paths is redirected as its host is: where it, or a wildcard above, has a certificate."""
    return bool(certificate_of(read, found)) or under_redirecting_wildcard(read, found.name.host, ours)


def report(read: Reader, host: str) -> None:
    """Which of a host's further names have no effect, and which are served under another certificate than the host."""
    for name, one in (read.unit(names_of, host) if not is_plain(read, host) else {}).items():
        if others := serving(read, name):
            _report(read, one, f"has a rule of its own ({ref(others[0])})")
        elif (winner := read.unit(given, name)) and winner.host != host:
            _report(read, one, f'is already given to host "{winner.host}" ({ref(winner.item)})')
        elif one.name.redirect is None and not is_affordable(read, one):
            _report(read, one, f"would repeat the paths of the host once more, and all its names have {MOST_PATHS:,} at most")
        elif host_certificate(read, host) and not certificate_of(read, one):
            sentence = f'The certificate of host "{host}" is not valid for its further name "{name}", which is served with the default one.'
            report_about(read, one.item, "metadata.annotations", f"name-tls:{name}", sentence, Severity.WARNING)


def _report(read: Reader, one: Given, why: str) -> None:
    sentence = f'The further name "{one.name.host}" of host "{one.host}" {why}; it has no effect.'
    code = f"name:{one.name.host}"
    report_about(read, one.item, "metadata.annotations", code, sentence, Severity.WARNING)
