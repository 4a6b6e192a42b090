"""What the tests through a real Envoy are made with: processes, clients, backends, certificates, manifests.

Everything is on loopback, on ports that nobody else takes, and is ended by its own process id. `Site` ties it together; the modules can be
used one by one. What does not belong here: what a test expects.
"""

from tests.envoy.harness.backends import Gate, Obeying, ProxyProtocol, RawHttp, RawHttp2, Resetting, Silent, asking
from tests.envoy.harness.balancer import Balancer
from tests.envoy.harness.control_plane import ControlPlane
from tests.envoy.harness.dns import NameServer, resolving
from tests.envoy.harness.envoy import Envoy
from tests.envoy.harness.http1 import Http1, Response, WebSocket, fetch, request_bytes
from tests.envoy.harness.http2 import Http2
from tests.envoy.harness.l4 import Tcp, Udp
from tests.envoy.harness.load import load
from tests.envoy.harness.manifests import (
    Folder,
    backend,
    config_map,
    endpoint_slice,
    endpoint_slices,
    ingress,
    ingress_class,
    secret,
    secret_tls,
    service,
)
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process, run
from tests.envoy.harness.rpc import CHAT, Collector, GrpcEcho, grpc_call, grpc_channel
from tests.envoy.harness.site import Site
from tests.envoy.harness.tls import Certificate, Tls, make_ca, make_certificate, server_context
from tests.envoy.harness.traffic import Traffic, disturbances
from tests.envoy.harness.waiting import PATIENCE, wait_until

__all__ = [
    "CHAT",
    "PATIENCE",
    "Balancer",
    "Certificate",
    "Collector",
    "ControlPlane",
    "Envoy",
    "Folder",
    "Gate",
    "GrpcEcho",
    "Http1",
    "Http2",
    "NameServer",
    "Obeying",
    "Ports",
    "Process",
    "ProxyProtocol",
    "RawHttp",
    "RawHttp2",
    "Resetting",
    "Response",
    "Silent",
    "Site",
    "Tcp",
    "Tls",
    "Traffic",
    "Udp",
    "WebSocket",
    "asking",
    "backend",
    "config_map",
    "disturbances",
    "endpoint_slice",
    "endpoint_slices",
    "fetch",
    "grpc_call",
    "grpc_channel",
    "ingress",
    "ingress_class",
    "load",
    "make_ca",
    "make_certificate",
    "request_bytes",
    "resolving",
    "run",
    "secret",
    "secret_tls",
    "server_context",
    "service",
    "wait_until",
]
