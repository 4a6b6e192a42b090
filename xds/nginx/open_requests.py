"""The filter that has the authorisation service count the requests that a client has open (limit-connections).

Envoy itself counts nothing by client. For each request of a route that wants this it opens a gRPC stream to the service (ext_proc), which
lasts as long as the request. So no count is left behind, however a request ends. The stream's metadata says what is counted; the service
gets the method of the request, and nothing else that a client sends.
"""

from __future__ import annotations

import datetime
from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    HeaderForwardingRules,
    ProcessingMode,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeHeaderSendMode as Send
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, StringMatcher

from xds.nginx.buckets import WHO
from xds.wire.encode import pack

FILTER = "connections"
"""The filter of both listeners. It is disabled until a route switches it on."""
CLUSTER = "xds_counts"
"""The static cluster of the same service, in the bootstrap: apart, so that open requests take no room from questions about passwords."""
ROUTE = "xds.limit.connections"
"""The namespace in the metadata of a route."""
MOST, STATUS = "most", "status"
"""Its keys: the requests that a client may have open, and the status for those beyond, as text."""
PATIENCE = datetime.timedelta(seconds=1)
"""How long a request waits for the service. Then it passes: a limit must not close what it protects."""


@cache
def counting() -> HttpFilter:
    """The filter. Its bytes never change: they are those of the listener.

    Envoy ends a stream that has nothing more to ask. So it is to send the trailers of the response, which come last, if at all.
    """
    config = ExternalProcessor(
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=CLUSTER),
            initial_metadata=[
                HeaderValue(key="xds-ingress", value=f"%DYNAMIC_METADATA({':'.join(WHO)})%"),
                HeaderValue(key="xds-client", value="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                HeaderValue(key="xds-most", value=f"%METADATA(ROUTE:{ROUTE}:{MOST})%"),
                HeaderValue(key="xds-status", value=f"%METADATA(ROUTE:{ROUTE}:{STATUS})%"),
            ],
        ),
        failure_mode_allow=True,
        message_timeout=PATIENCE,
        processing_mode=ProcessingMode(request_header_mode=Send.SEND, response_header_mode=Send.SKIP, response_trailer_mode=Send.SEND),
        forward_rules=HeaderForwardingRules(allowed_headers=ListStringMatcher(patterns=[StringMatcher(exact=":method")])),
        mutation_rules=HeaderMutationRules(disallow_all=True),
    )
    return HttpFilter(name=FILTER, typed_config=pack(config), disabled=True)
