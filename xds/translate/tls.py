"""Where TLS of a host ends: at Envoy under a certificate, or in a backend that it goes to as it is.

An Envoy to which TLS passes by sees the name that a client asks for (SNI), and bytes. So one backend answers all of a host over https: the
one of the path "/", as in ingress-nginx. Whatever else Ingresses say of the host holds for plain http only. What is to pass through and has
nowhere to go is closed: it was not meant to be read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, report_about, settings
from xds.model import Cluster, HostTls, Passthrough, Terminate
from xds.nginx.registry import annotations_with_hook, asks, guarded, protects
from xds.problem import Severity
from xds.translate.backends import Reach, destination, leads_to_us
from xds.translate.certificates import host_certificate
from xds.translate.claims import ROOT, Claim, settings_of
from xds.translate.streams import asked_ports


def host_tls(read: Reader, host: str, ours: Sequence[Ingress], claims: Sequence[Claim]) -> HostTls:
    """Where TLS of a host ends. `ours` are its Ingresses, of which the first, the oldest, decides; `claims` are their paths in order."""
    asking = [item for item in ours if asks("passes_tls", settings_of(read, item))]
    if asking and _passes(read, host, ours[0], asking):
        return Passthrough(_backend(read, host, ours[0], claims))
    return Terminate(host_certificate(read, host) if host else "")


def _passes(read: Reader, host: str, first: Ingress, asking: Sequence[Ingress]) -> bool:
    """Whether it passes through, where some Ingresses ask for that."""
    if not host or host.startswith("*."):
        why = "TLS passes through only for a host that has a name and is no wildcard"
    elif first is not asking[0]:
        why = f"only {ref(first)}, the oldest Ingress of the host, can make it pass through"
    else:
        return True
    for item in asking:
        where = f'TLS of host "{host}"' if host else "TLS for no host"
        field = _field(read, item, lambda name: name in annotations_with_hook("passes_tls"))
        report_about(read, item, field, f"tls-passthrough:{host}", f"{where} ends here: {why}.", Severity.WARNING)
    return False


def _backend(read: Reader, host: str, first: Ingress, claims: Sequence[Claim]) -> Cluster | None:
    """What TLS of a host passes through to; None where that cannot be."""
    root = next((claim for claim in claims if claim.where == ROOT), None)
    found = _target(read, root) if root else 'no rule of the host has the path "/"'
    if isinstance(found, Cluster):
        _report_void(read, host, root, claims)
        return found
    item, field = (root.item, root.part("backend")) if root else (first, "spec.rules")
    sentence = f'TLS of host "{host}" is to pass through to the backend of "/", but {found}; its connections are closed.'
    report_about(read, item, field, f"tls-passthrough:{host}", sentence)
    return None


def _target(read: Reader, root: Claim) -> Cluster | str:
    """The cluster behind a path by its Service's own address, whether anybody answers there or not; or why there is none."""
    namespace, name = root.item.meta.namespace, root.backend.service
    if not name:
        return "that is no Service"
    by_address = True
    found = read.unit(destination, namespace, name, root.backend.port, by_address)
    if found.reach is Reach.EXTERNAL:
        return f"Service {namespace}/{name} is of type ExternalName, and TLS passes through only to a Service with endpoints of its own"
    if found.reach not in (Reach.LIVE, Reach.NO_ENDPOINTS):
        return f"Service {namespace}/{name} {found.reach.value}"
    ports = frozenset({settings(read).https_port, *read.unit(asked_ports, "TCP")})
    if read.unit(leads_to_us, namespace, name, found.port, ports):
        return f"Service {namespace}/{name} leads back to this Envoy, in a loop"
    return Cluster(namespace, name, found.port, by_address=True)


def _report_void(read: Reader, host: str, root: Claim | None, claims: Sequence[Claim]) -> None:
    """What has no effect on TLS that passes through: other paths, and access rules, which ingress-nginx does not apply to it either."""
    others = {ref(claim.item): claim.item for claim in claims if claim is not root}
    for item in others.values():
        sentence = (
            f'Over https, host "{host}" is answered by the backend of "/" alone, for its TLS passes through; other paths hold for http.'
        )
        report_about(read, item, "spec.rules", f"tls-passthrough-paths:{host}", sentence, Severity.WARNING)
    for item in _guarded(read, claims):
        sentence = f'The access rules of this Ingress hold for http alone: TLS of host "{host}" passes through to its backend.'
        report_about(read, item, _field(read, item, protects), f"tls-passthrough-access:{host}", sentence, Severity.WARNING)


def _guarded(read: Reader, claims: Sequence[Claim]) -> Iterator[Ingress]:
    items = {ref(claim.item): claim.item for claim in claims}
    return (item for item in items.values() if guarded(settings_of(read, item)))


def _field(read: Reader, item: Ingress, meant: Callable[[str], bool]) -> str:
    """The first annotation of an Ingress that is meant, as the field of a Problem. Rules that come from the ConfigMap have none."""
    prefix = f"{settings(read).annotations_prefix}/"
    written = sorted(key for key in item.meta.annotations if key.startswith(prefix) and meant(key.removeprefix(prefix)))
    return f"metadata.annotations[{written[0]}]" if written else "metadata.annotations"
