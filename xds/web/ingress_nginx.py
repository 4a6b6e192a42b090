"""What ingress-nginx' controller has as metrics about itself, its certificates and its Ingresses, under the same names.

Those about requests, and about the configuration that an Envoy runs, are beside each Envoy (`xds.metrics`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds import __version__
from xds.config import Flags
from xds.problem import Problem
from xds.request_metrics import NAMESPACE
from xds.translate.backends import NO_ENDPOINTS, NO_SERVICE
from xds.web.certificate_expiry import Certificates

MOST = 500
"""Hosts whose certificates are shown, those that end first; and Ingresses without backends. A page of more would hold the event loop up."""
_ALWAYS = ("controller_class", "controller_namespace", "controller_pod")
_INFO = ("issuer_common_name", "issuer_organization", "serial_number", "public_key_algorithm")
_ORPHANS = {NO_SERVICE: "no-service", NO_ENDPOINTS: "no-endpoint"}
_ALGORITHMS = (
    (rsa.RSAPublicKey, "RSA"),
    (ec.EllipticCurvePublicKey, "ECDSA"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (dsa.DSAPublicKey, "DSA"),
)
"""As Go calls them."""


class Issued(NamedTuple):
    """Who issued a certificate, and how: the labels of `_INFO`."""

    common_name: str
    organization: str
    serial: str
    algorithm: str


class IngressNginx(Collector):
    """`nginx_ingress_controller_…` of the control plane, counted at a scrape.

    `hosts` returns each host with a certificate of its own, and the Secret resource of that; `leads` whether this replica is elected.
    """

    def __init__(
        self,
        flags: Flags,
        hosts: Callable[[], Iterable[tuple[str, str]]],
        certificates: Certificates,
        problems: Iterable[Problem],
        leads: Callable[[], bool],
    ) -> None:
        self._flags = flags
        self._hosts = hosts
        self._certificates = certificates
        self._problems = problems
        self._leads = leads
        self._always = (flags.controller_class, flags.pod_namespace, flags.pod_name)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges only."""
        build = _gauge("build_info", "The version that runs; always 1.", (*_ALWAYS, "release", "build", "repository"))
        build.add_metric([*self._always, __version__, "", ""], 1)
        yield build
        leader = _gauge("leader_election_status", "1 for the replica that writes status and Events, 0 for others.", (*_ALWAYS, "name"))
        leader.add_metric([*self._always, self._flags.election_id], float(self._leads()))
        yield leader
        yield self._orphans()
        yield from self._served()

    def _orphans(self) -> GaugeMetricFamily:
        text = f"1 for an Ingress with a Service that does not exist (no-service) or is not ready (no-endpoint); at most {MOST}."
        made = _gauge("orphan_ingress", text, (*_ALWAYS, "namespace", "ingress", "type"))
        kinds = ((problem.about, _ORPHANS.get(problem.code.partition(":")[0])) for problem in self._problems)
        found = {(about.namespace, about.name, kind) for about, kind in kinds if kind and about.kind == "Ingress"}
        for namespace, name, kind in heapq.nsmallest(MOST, found):
            made.add_metric([*self._always, namespace, name, kind], 1)
        return made

    def _served(self) -> Iterator[GaugeMetricFamily]:
        """The certificates of hosts."""
        expiry = f"When the certificate of a host ends, in seconds since 1970; the {MOST} that end first."
        ends = _gauge("ssl_expire_time_seconds", expiry, ("class", "namespace", "host", "secret_name"))
        labels = ("class", "namespace", "host", "secret_name", "identifier", *_INFO)
        info = _gauge("ssl_certificate_info", "Who issued the certificate of such a host, and how; always 1.", labels)
        known = ((leaf, host) for host, secret in self._hosts() if host and (leaf := self._certificates.of(secret)))
        for leaf, host in heapq.nsmallest(MOST, known, key=lambda pair: (pair[0].not_after, pair[1])):
            namespace, _, name = leaf.secret.rpartition("/")
            ends.add_metric([self._flags.controller_class, self._flags.pod_namespace, host, name], leaf.not_after)
            issued = _issued(leaf.chain)
            identity = f"{namespace}/{name}-{issued.serial}"
            info.add_metric([self._flags.controller_class, namespace, host, name, identity, *issued], 1)
        yield ends
        yield info


def _gauge(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}{name}", text, labels=list(labels))


@lru_cache(maxsize=2 * MOST)
def _issued(chain: bytes) -> Issued:
    """Of a chain that is served, so that it can be parsed."""
    leaf = x509.load_pem_x509_certificate(chain)
    key = leaf.public_key()
    algorithm = next((name for kind, name in _ALGORITHMS if isinstance(key, kind)), "unknown")
    return Issued(_of(leaf.issuer, NameOID.COMMON_NAME), _of(leaf.issuer, NameOID.ORGANIZATION_NAME), str(leaf.serial_number), algorithm)


def _of(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return next((str(each.value) for each in islice(name.get_attributes_for_oid(oid), 1)), "")
