"""The Prometheus metrics of the server. Labels are the wire and the resource type, never a node or a stream: few series."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from xds.protocol.discovery import Wire
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, PASSWORDS, ROUTE, SECRET

SHORT: Mapping[str, str] = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds", SECRET: "sds", PASSWORDS: "passwords"}
"""A type url → what operators call its discovery service."""


class StreamMetrics:
    """The counters of one Fleet, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        streams = Gauge("xds_connected_streams", "xDS streams that are open.", ["wire"], registry=registry)
        self.connected = {wire: streams.labels(wire.name.lower()) for wire in Wire}
        self.responses = _by_type(registry, "xds_responses", "Discovery responses written.")
        self.response_bytes = _by_type(registry, "xds_response_bytes", "Bytes of the discovery responses written.")
        self.acks = _by_type(registry, "xds_acks", "Discovery responses that an Envoy accepted.")
        self.nacks = _by_type(registry, "xds_nacks", "Discovery responses that an Envoy rejected.")
        self.stale_nonces = _by_type(registry, "xds_stale_nonces", "Requests with a nonce other than that of the last response.")
        self.unknown_types = Counter("xds_unknown_type_requests", "Requests for a type that is not served.", registry=registry)
        self.write_timeouts = Counter("xds_write_timeouts", "Streams ended because their Envoy did not read.", registry=registry)
        self.refusals = Counter("xds_refused_streams", "Streams ended because of an error of their client.", ["code"], registry=registry)


def _by_type(registry: CollectorRegistry, name: str, documentation: str) -> Mapping[str, Counter]:
    counter = Counter(name, documentation, ["type"], registry=registry)
    return {type_url: counter.labels(short) for type_url, short in SHORT.items()}
