"""enable-real-ip and use-forwarded-headers: who the client is, where a proxy in front says so in X-Forwarded-For.

Envoy decides it once for each request, and limits, lists, hashes, logs and the headers for backends all see the same client.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation as EarlyHeaderMutation
from envoy_data_plane.envoy.extensions.http.original_ip_detection.xff.v3 import XffConfig, XffTrustedCidrs

from xds.model import Via
from xds.nginx.feature import Feature, Fidelity, Key, Notes, Unreadable
from xds.nginx.messages import cidr_ranges, formatted
from xds.nginx.values import boolean, ranges
from xds.wire.encode import pack

_DRAINS = "a change of it changes the listeners, which drains their connections"
_NAME = "real-ip"
_SENT, _KEPT = "x-forwarded-for", "x-xds-forwarded-for"
_EVERYBODY = ("0.0.0.0/0",)
ENABLE_REAL_IP = Key(
    "enable-real-ip",
    boolean,
    "Whether X-Forwarded-For says who the client is, where it comes from proxy-real-ip-cidr.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
)
USE_FORWARDED_HEADERS = Key(
    "use-forwarded-headers",
    boolean,
    "Whether X-Forwarded-For, as with enable-real-ip, and X-Forwarded-Proto of clients are believed.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason=f"X-Forwarded-Host and X-Forwarded-Port are not believed; {_DRAINS}",
)
PROXY_REAL_IP_CIDR = Key[tuple[str, ...]](
    "proxy-real-ip-cidr",
    ranges,
    "The proxies whose X-Forwarded-For is believed, as IP addresses and CIDR ranges.",
    "10.0.0.0/8",
    _EVERYBODY,
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
    unreadable=Unreadable.CLOSES,
)


@dataclass(frozen=True, slots=True)
class RealIp:
    """The ranges of proxies that are believed, and whether every client is believed about its scheme."""

    trusted: tuple[str, ...]
    scheme: bool


def _read(notes: Notes) -> RealIp | None:
    forwarded = notes.key(USE_FORWARDED_HEADERS)
    return RealIp(notes.key(PROXY_REAL_IP_CIDR), forwarded) if forwarded or notes.key(ENABLE_REAL_IP) else None


def _on_connection(found: RealIp, connection: HttpConnectionManager, _via: Via) -> None:
    """The client is the last address of X-Forwarded-For that is no trusted proxy, if the peer is one (nginx: real_ip_recursive).

    An Envoy that believes this header believes X-Forwarded-Proto as well, so that is removed before, unless it is to be believed. It also
    adds the address of a peer that is not trusted. So what the client sent is kept aside, and put back, for X-Original-Forwarded-For.
    """
    detection = XffConfig(xff_trusted_cidrs=XffTrustedCidrs(cidrs=cidr_ranges(found.trusted)), skip_xff_append=True)
    connection.use_remote_address = False
    connection.original_ip_detection_extensions = [
        TypedExtensionConfig(name="envoy.http.original_ip_detection.xff", typed_config=pack(detection))
    ]
    early = [Mutation(remove=_KEPT), Mutation(append=formatted(_KEPT, f"%REQ({_SENT})%"))]
    early += [] if found.scheme else [Mutation(remove="x-forwarded-proto")]
    before = TypedExtensionConfig(name=_NAME, typed_config=pack(EarlyHeaderMutation(mutations=early)))
    connection.early_header_mutation_extensions.append(before)
    late = [Mutation(remove=_SENT), Mutation(append=formatted(_SENT, f"%REQ({_KEPT})%")), Mutation(remove=_KEPT)]
    after = HttpFilter(name=_NAME, typed_config=pack(HeaderMutation(mutations=Mutations(request_mutations=late))))
    connection.http_filters.insert(0, after)


FEATURE = Feature(read=_read, keys=(ENABLE_REAL_IP, USE_FORWARDED_HEADERS, PROXY_REAL_IP_CIDR), on_connection=_on_connection)
