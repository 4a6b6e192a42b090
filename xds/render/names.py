"""The names of Envoy resources. Operators see them in statistics, logs and dashboards, so they are an interface."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from xds.model import Cluster, HostTls, Passwords, Terminate
from xds.nginx.access import file_name
from xds.nginx.messages import AUTHORITY
from xds.nginx.registry import cluster_name
from xds.translate.certificates import DEFAULT

ROUTES = "ingress"
HTTP = "http"
HTTPS = "https"
_PASSTHROUGH = "passthrough:"
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

    Where it differs from others with that certificate, `~` and 8 hex digits follow. One that passes TLS through is `passthrough:` and the
    name of its cluster. No Secret is called so.
    """
    if isinstance(tls, Terminate):
        certificate = tls.certificate or DEFAULT
        return certificate if tls == Terminate(tls.certificate) else f"{certificate}~{_digits(tls)}"
    return _PASSTHROUGH + (cluster(tls.cluster) if tls.cluster else "")


@lru_cache(maxsize=1 << 14)
def _digits(tls: Terminate) -> str:
    """What, beside the certificate, makes a chain. It never changes for the same, since a renamed chain drains its connections."""
    authority = [tls.authority.secret, tls.authority.depth] if tls.authority else []
    return hashlib.blake2b(json.dumps([authority, tls.ciphers]).encode(), digest_size=4).hexdigest()


def certificate_of(piece: str) -> str:
    """The certificate of a filter chain in which TLS ends: `<namespace>/<secret>`, or that of nobody."""
    return piece.partition("~")[0]


def secret_of(name: str) -> str:
    """The Kubernetes Secret, `<namespace>/<secret>`, that an SDS secret is made from."""
    return name.removeprefix(AUTHORITY)


def is_authority(name: str) -> bool:
    """Whether an SDS secret has the certificates of who signs, and no certificate of our own."""
    return name.startswith(AUTHORITY)


def passed_to(piece: str) -> str | None:
    """The name of the cluster to which this filter chain passes TLS through; None where TLS ends in it."""
    return piece.removeprefix(_PASSTHROUGH) if piece.startswith(_PASSTHROUGH) else None


def stream(protocol: str, port: int) -> str:
    """The listener of an entry of the tcp- or udp-services ConfigMap: `tcp/6379`."""
    return f"{protocol.lower()}/{port}"


def passwords(wanted: Passwords) -> str:
    """A password file (`xds.nginx.access.file_name`)."""
    return file_name(wanted)
