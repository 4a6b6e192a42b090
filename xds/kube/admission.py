"""What an API server would refuse of an Ingress that a folder may hold (Kubernetes 1.36, validation of networking.k8s.io/v1).

Such an Ingress is served all the same, since it worked with whatever read the folder before. What does not belong here: what we cannot
serve ourselves (`xds.kube.shapes`, `xds.translate`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from xds.kube.objects import Ingress, Path

_DOTS = re.compile(r"//|/\./|/\.\./|%2f|/\.\.?$", re.IGNORECASE)


class Refusal(NamedTuple):
    """The field, and the sentence of the API server."""

    field: str
    sentence: str


def refusals(item: Ingress) -> Iterator[Refusal]:
    """Everything for which an API server would refuse an Ingress of networking.k8s.io/v1."""
    if not item.rules and item.default_backend is None:
        yield Refusal("spec", "An API server rejects an Ingress with neither rules nor a defaultBackend.")
    for at, rule in enumerate(item.rules):
        if fault := _host_fault(rule.host):
            yield Refusal(f"spec.rules[{at}].host", f"An API server rejects a host that {fault}.")
        for number, path in enumerate(rule.paths):
            yield from _of_path(f"spec.rules[{at}].http.paths[{number}]", path)
    for at, entry in enumerate(item.tls):
        for number, host in enumerate(entry.hosts):
            if fault := _host_fault(host):
                yield Refusal(f"spec.tls[{at}].hosts[{number}]", f"An API server rejects a host that {fault}.")


def _host_fault(host: str) -> str:
    """Why a host that is served here is refused, as the end of a sentence; "" where it is taken."""
    if _is_address(host):
        return "is an IP address"
    if host != host.lower():
        return "has upper-case letters; write it in lower case"
    return "has an underscore" if "_" in host else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _of_path(field: str, path: Path) -> Iterator[Refusal]:
    if not path.type:
        yield Refusal(
            f"{field}.pathType", "An API server rejects a path without a pathType: write Prefix, Exact or ImplementationSpecific."
        )
    if path.type in ("Exact", "Prefix") and path.path.startswith("/") and _DOTS.search(path.path):
        yield Refusal(f"{field}.path", f"An API server rejects a path of type {path.type} with //, /./, /../ or %2F in it.")
