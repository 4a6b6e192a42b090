"""The names of Envoy resources. Operators see them in statistics, logs and dashboards, so they are an interface."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from xds.model import Cluster, HostTls, Terminate
from xds.nginx.registry import cluster_key
from xds.translate.certificates import DEFAULT

ROUTES = "ingress"
HTTP = "http"
HTTPS = "https"
_PASSTHROUGH = "passthrough:"
COUNT_FILTER = "forwarded-port"
"""The HTTP filter that writes what is known of a passage: the port by which it came, and that it is one more."""
LOOP_FILTER = "loop"
"""The HTTP filter that refuses a request which comes back again and again."""


def cluster(wanted: Cluster) -> str:
    """`<namespace>/<service>/<port>`, and `~` with 8 hex digits where the policy is not the one that everybody gets.

    Of an ExternalName `<namespace>/<service>/<port>@<namespace>/<ingress>`. Under a new name Envoy would answer 503 until the DNS has
    answered: so no annotation may change it. A dot would end the name in statistics, so it becomes "_", which no name of an Ingress has.
    """
    plain = f"{wanted.namespace}/{wanted.service}/{wanted.port}"
    if wanted.asked_by:
        plain += f"@{wanted.asked_by.namespace}/{wanted.asked_by.name.replace('.', '_')}"
    if not wanted.policy and wanted.protocol == "TCP" and not wanted.send_proxy and not wanted.by_address:
        return plain
    return f"{plain}~{_digits(wanted.policy, wanted.protocol, 'PROXY' if wanted.send_proxy else 'address' if wanted.by_address else '')}"


@lru_cache(maxsize=1024)
def _digits(policy: tuple[tuple[str, Any], ...], protocol: str, how: str) -> str:
    """A hash of the names of features, their keys, and words of the stream ConfigMaps: so no change of the code renames a cluster.

    Cached: thousands of clusters share a policy, and each name is needed many times.
    """
    keys = [(name, cluster_key(name, setting)) for name, setting in policy]
    differing = json.dumps([keys, protocol, how])
    return hashlib.blake2b(differing.encode(), digest_size=4).hexdigest()


def upstream(wanted: Cluster) -> str:
    """The name that ingress-nginx's access log has for it: `<namespace>-<service>-<port>`."""
    return f"{wanted.namespace}-{wanted.service}-{wanted.port}"


def chain(tls: HostTls) -> str:
    """A filter chain of the https listener, and the piece that it is: called as the Secret of its certificate, `<namespace>/<secret>`.

    One that passes TLS through is `passthrough:` and the name of its cluster. No Secret is called so.
    """
    if isinstance(tls, Terminate):
        return tls.certificate or DEFAULT
    return _PASSTHROUGH + (cluster(tls.cluster) if tls.cluster else "")


def passed_to(piece: str) -> str | None:
    """The name of the cluster to which this filter chain passes TLS through; None where TLS ends in it."""
    return piece.removeprefix(_PASSTHROUGH) if piece.startswith(_PASSTHROUGH) else None


def stream(protocol: str, port: int) -> str:
    """The listener of an entry of the tcp- or udp-services ConfigMap: `tcp/6379`."""
    return f"{protocol.lower()}/{port}"
