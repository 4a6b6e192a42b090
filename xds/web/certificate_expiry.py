"""How long the served certificates are still valid, as metrics."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xds.certificates.pairs import Pair, parse
from xds.kube.objects import Meta, Secret
from xds.kube.world import Reader, default_certificate, settings
from xds.translate.certificates import DEFAULT, certificate

WORST = 20
SOON = 14
_DAY = 86_400


class Leaf(NamedTuple):
    """When a certificate ends (seconds since 1970), the resource that holds it, the first of its names, sorted, and its chain in PEM."""

    not_after: int
    secret: str
    host: str
    chain: bytes = b""


def leaf(read: Reader, secret: str) -> Leaf | None:
    """The certificate of a Secret resource ("namespace/name", or the default one). None where there is no usable one."""
    name = settings(read).default_ssl_certificate if secret == DEFAULT else secret
    found = read.unit(certificate, *name.split("/", 1)) if name else None
    if secret == DEFAULT and not isinstance(found, Pair):
        chain, key = default_certificate(read)
        found = parse(Secret(meta=Meta(namespace="", name=DEFAULT), data={"tls.crt": chain, "tls.key": key}))
    return Leaf(found.not_after, secret, next(iter(found.names), ""), found.chain) if isinstance(found, Pair) else None


class Certificates(Collector):
    """`xds_certificate_expiry_days{secret,host}` of those that end first, and how many end soon.

    `take` receives each changed certificate. The days are counted at a scrape. `now` returns the time in seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._leaves: dict[str, Leaf] = {}

    def take(self, secrets: Iterable[str], served: Container[str], read: Reader) -> None:
        """These Secret resources are new, changed or gone. `served` are the present ones."""
        for secret in secrets:
            found = leaf(read, secret) if secret in served else None
            if found is None:
                self._leaves.pop(secret, None)
            else:
                self._leaves[secret] = found

    def of(self, secret: str) -> Leaf | None:
        """The certificate of a Secret resource, if it is served."""
        return self._leaves.get(secret)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Two gauges. Of certificates that end at the same time, the first by name are shown."""
        now = self._now()
        text = f"Days until a certificate that is served ends, negative once it has; the {WORST} that end first."
        days = GaugeMetricFamily("xds_certificate_expiry_days", text, labels=["secret", "host"])
        for found in heapq.nsmallest(WORST, self._leaves.values()):
            days.add_metric([found.secret, found.host], (found.not_after - now) / _DAY)
        yield days
        soon = sum(found.not_after - now < SOON * _DAY for found in self._leaves.values())
        yield GaugeMetricFamily("xds_certificates_expiring", f"Certificates served that end within {SOON} days, or have ended.", soon)
