"""Endpoints of a cluster (EDS). They change most often, so they are encoded without a message object."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import Address, HealthStatus, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints

from xds.translate.backends import Address as BackendAddress
from xds.wire.encode import field, varint

_LB_ENDPOINT = 2
_ADDRESS = 2
_PORT = varint(3 << 3)
_DRAINING = varint(2 << 3) + varint(HealthStatus.DRAINING)


def load_assignment(name: str, addresses: Sequence[BackendAddress]) -> ClusterLoadAssignment:
    """All endpoints in one locality. A cluster without any has an empty assignment, so that Envoy drops the old ones (D14)."""
    endpoints = [LocalityLbEndpoints(lb_endpoints=[_endpoint(a) for a in addresses])] if addresses else []
    return ClusterLoadAssignment(cluster_name=name, endpoints=endpoints)


def load_assignment_bytes(name: str, addresses: Sequence[BackendAddress]) -> bytes:
    """`encode(load_assignment(…))`, encoded directly."""
    locality = b"".join(_endpoint_bytes(a) for a in addresses)
    return field(1, name.encode()) + (field(2, locality) if addresses else b"")


def _endpoint_bytes(address: BackendAddress) -> bytes:
    where = field(_ADDRESS, address.ip.encode()) + _PORT + varint(address.port)
    return field(_LB_ENDPOINT, field(1, field(1, field(1, where))) + (_DRAINING if address.draining else b""))


def _endpoint(address: BackendAddress) -> LbEndpoint:
    where = Address(socket_address=SocketAddress(address=address.ip, port_value=address.port))
    status = HealthStatus.DRAINING if address.draining else HealthStatus.UNKNOWN
    return LbEndpoint(endpoint=Endpoint(address=where), health_status=status)
