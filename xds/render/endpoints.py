"""Endpoints of a cluster (EDS). They change most often, so they are encoded without a message object."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import Address, HealthStatus, Metadata, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.google.protobuf import Struct, Value

from xds.nginx.messages import ENDPOINT_NAME, LB_METADATA
from xds.translate.backends import Address as BackendAddress
from xds.wire.encode import encode, field, varint

_LB_ENDPOINT = 2
_ADDRESS = 2
_METADATA = 3
_PORT = varint(3 << 3)
_DRAINING = varint(2 << 3) + varint(HealthStatus.DRAINING)


def load_assignment(name: str, addresses: Sequence[BackendAddress], secret: str = "") -> ClusterLoadAssignment:
    """All endpoints in one locality. A cluster without any has an empty assignment, so that Envoy drops the old ones (D14).

    With a `secret`, each endpoint has a name that does not reveal its address. One that drains has none: Envoy would go on sending it what
    asks for it, until and after it stops listening.
    """
    endpoints = [LocalityLbEndpoints(lb_endpoints=[_endpoint(a, secret) for a in addresses])] if addresses else []
    return ClusterLoadAssignment(cluster_name=name, endpoints=endpoints)


def load_assignment_bytes(name: str, addresses: Sequence[BackendAddress], secret: str = "") -> bytes:
    """`encode(load_assignment(…))`, encoded directly."""
    locality = b"".join(_endpoint_bytes(a, secret) for a in addresses)
    return field(1, name.encode()) + (field(2, locality) if addresses else b"")


def _endpoint_bytes(address: BackendAddress, secret: str) -> bytes:
    where = field(_ADDRESS, address.ip.encode()) + _PORT + varint(address.port)
    metadata = field(_METADATA, encode(_named(address, secret))) if secret and not address.draining else b""
    return field(_LB_ENDPOINT, field(1, field(1, field(1, where))) + (_DRAINING if address.draining else b"") + metadata)


def _named(address: BackendAddress, secret: str) -> Metadata:
    """32 hexadecimal digits by which a cookie may ask for an endpoint. They are the same on all Envoys of a fleet."""
    name = hmac.new(secret.encode(), f"{address.ip} {address.port}".encode(), "sha256").hexdigest()[:32]
    return Metadata(filter_metadata={LB_METADATA: Struct(fields={ENDPOINT_NAME: Value(string_value=name)})})


def _endpoint(address: BackendAddress, secret: str) -> LbEndpoint:
    where = Address(socket_address=SocketAddress(address=address.ip, port_value=address.port))
    status = HealthStatus.DRAINING if address.draining else HealthStatus.UNKNOWN
    metadata = _named(address, secret) if secret and not address.draining else None
    return LbEndpoint(endpoint=Endpoint(address=where), health_status=status, metadata=metadata)
