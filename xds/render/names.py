"""The names of Envoy resources. Operators see them in statistics, logs and dashboards, so they are an interface."""

from __future__ import annotations

from xds.model import Cluster, HostTls, Terminate
from xds.nginx.registry import cluster_name
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
    """The name of a cluster (`xds.nginx.registry.cluster_name`): features, whose keys are part of it, may have to write it as well."""
    return cluster_name(wanted)


def upstream(wanted: Cluster) -> str:
    """The name that ingress-nginx's access log has for it: `<namespace>-<service>-<port>`."""
    return f"{wanted.namespace}-{wanted.service or wanted.host}-{wanted.port}"


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
