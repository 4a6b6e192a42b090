"""The names of Envoy resources: people see them in stats, logs and dashboards, so they must not change lightly."""

from __future__ import annotations

import hashlib

from xds.model import Cluster

ROUTES = "ingress"
HTTP = "http"
HTTPS = "https"
ROUTE_FILTERS = "route"
"""The HTTP filter whose place a route's own filters take."""
BODY_FILTERS = "body"
"""The same for filters of bodies, which websockets and their like pass by: what they carry is no body."""

COUNT_FILTER = "forwarded-port"
"""The HTTP filter that writes what is known of a passage: the port by which it came, and that it is one more."""
LOOP_FILTER = "loop"
"""The HTTP filter that refuses a request which comes back again and again."""


def cluster(wanted: Cluster) -> str:
    """`<namespace>/<service>/<port>`, and `~` with 8 hex digits where the policy is not the one that everybody gets.

    Of an ExternalName `<namespace>/<service>/<port>@<namespace>/<ingress>`. Envoy would answer 503 under a new name until the DNS has been
    asked, so what an Ingress says must not change it. A dot would end the name in statistics; it is written "_", which no Ingress has.
    """
    plain = f"{wanted.namespace}/{wanted.service}/{wanted.port}"
    if wanted.asked_by:
        plain += f"@{wanted.asked_by.namespace}/{wanted.asked_by.name.replace('.', '_')}"
    if not wanted.policy and wanted.protocol == "TCP" and not wanted.send_proxy:
        return plain
    differing = repr((wanted.policy, wanted.protocol, wanted.send_proxy))
    return f"{plain}~{hashlib.blake2b(differing.encode(), digest_size=4).hexdigest()}"


def upstream(wanted: Cluster) -> str:
    """What ingress-nginx calls it in its access log: `<namespace>-<service>-<port>`."""
    return f"{wanted.namespace}-{wanted.service}-{wanted.port}"


def stream(protocol: str, port: int) -> str:
    """The listener of an entry of the tcp- or udp-services ConfigMap: `tcp/6379`."""
    return f"{protocol.lower()}/{port}"
