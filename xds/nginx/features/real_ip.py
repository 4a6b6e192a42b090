"""use-proxy-protocol, enable-real-ip, use-forwarded-headers and their siblings: who the client is, and what else a proxy may say of it.

`xds.nginx.trust` has what the keys mean together. Envoy decides it once for each request. So limits, lists, hashes, logs and the headers
for backends all see the same client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption, HeaderValueOptionHeaderAppendAction, TypedExtensionConfig
from envoy_data_plane.envoy.config.listener.v3 import Listener, ListenerFilter
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.listener.proxy_protocol.v3 import ProxyProtocol
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager, HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import HeaderMutation as EarlyHeaderMutation
from envoy_data_plane.envoy.extensions.http.original_ip_detection.custom_header.v3 import CustomHeaderConfig
from envoy_data_plane.envoy.extensions.http.original_ip_detection.xff.v3 import XffConfig, XffTrustedCidrs

from xds.model import Route, Via
from xds.nginx.feature import Feature, Fidelity, Key, Notes, Phase, Unreadable
from xds.nginx.messages import OWN_SCHEME, action_of, cidr_ranges, formatted
from xds.nginx.trust import EVERYBODY, NOBODY, X_FORWARDED_FOR, Trust, trust
from xds.nginx.values import boolean, go_duration, matching, ranges
from xds.nginx.variables import BEST_HOST, quoted
from xds.wire.encode import pack

_DRAINS = "a change of it changes the listeners, which drains their connections"
_NAME = "real-ip"
_KEPT, _PORT, _PROTO, _PEER = "x-xds-forwarded-for", "x-xds-forwarded-port", "x-xds-forwarded-proto", "x-xds-peer"
"""Headers between two steps of one Envoy; neither clients nor backends see them."""
_ADDRESS = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
_PEER_ADDRESS = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"
_LONGEST_TIMEOUT = 600_000

USE_PROXY_PROTOCOL = Key(
    "use-proxy-protocol",
    boolean,
    "Whether connections to the http and https listeners begin with a PROXY header (version 1 or 2), which names the client. Connections "
    "without one are closed.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason=f"where the header names no port X-Forwarded-Port is that of the listener; {_DRAINS}",
)
HEADER_TIMEOUT = Key(
    "proxy-protocol-header-timeout",
    go_duration(1, _LONGEST_TIMEOUT),
    "How long the PROXY header of a connection to the http and https listeners may take; the default is in milliseconds.",
    "10s",
    5_000,
    fidelity=Fidelity.APPROXIMATE,
    reason=f"it is also the time that the first message of TLS may take; {_DRAINS}",
    tuning=True,
)
ENABLE_REAL_IP = Key(
    "enable-real-ip",
    boolean,
    "Whether X-Forwarded-For, or the header of forwarded-for-header, says who the client is, where it comes from proxy-real-ip-cidr.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
)
USE_FORWARDED_HEADERS = Key(
    "use-forwarded-headers",
    boolean,
    "Whether X-Forwarded-For counts as with enable-real-ip, and X-Forwarded-Proto, -Host and -Port of everybody as well.",
    "true",
    default=False,
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
)
PROXY_REAL_IP_CIDR = Key[tuple[str, ...]](
    "proxy-real-ip-cidr",
    ranges,
    "The proxies whose X-Forwarded-For or PROXY header is believed, as IP addresses and CIDR ranges.",
    "10.0.0.0/8",
    EVERYBODY,
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
    unreadable=Unreadable.CLOSES,
)
FORWARDED_FOR_HEADER = Key(
    "forwarded-for-header",
    matching(r"[A-Za-z][A-Za-z0-9-]{0,99}", "name of a header"),
    "The header that names the client in place of X-Forwarded-For.",
    "CF-Connecting-IP",
    "X-Forwarded-For",
    fidelity=Fidelity.APPROXIMATE,
    reason=_DRAINS,
)
COMPUTE_FULL_FORWARDED_FOR = Key(
    "compute-full-forwarded-for",
    boolean,
    "Whether backends get the client's X-Forwarded-For with the address of the peer behind it; only with use-forwarded-headers.",
    "true",
    default=False,
)


def _read(notes: Notes) -> Trust | None:
    found = trust(
        use_proxy_protocol=notes.key(USE_PROXY_PROTOCOL),
        use_forwarded_headers=notes.key(USE_FORWARDED_HEADERS),
        enable_real_ip=notes.key(ENABLE_REAL_IP),
        compute_full_forwarded_for=notes.key(COMPUTE_FULL_FORWARDED_FOR),
        forwarded_for_header=notes.key(FORWARDED_FOR_HEADER),
        proxy_real_ip_cidr=notes.key(PROXY_REAL_IP_CIDR),
        proxy_protocol_header_timeout=notes.key(HEADER_TIMEOUT),
    )
    return found if found != NOBODY else None


def _on_connection(found: Trust, connection: HttpConnectionManager, via: Via) -> None:
    """What clients say is put where Envoy looks for it before it looks, and what backends are to see of it is put back before they get it.

    An Envoy that finds clients in headers believes X-Forwarded-Proto as well, so that one is removed where it is not to be believed.
    """
    early = [*_early_client(found), *_early_scheme(found, via)]
    if not early:
        return
    before = TypedExtensionConfig(name=_NAME, typed_config=pack(EarlyHeaderMutation(mutations=early)))
    connection.early_header_mutation_extensions.append(before)
    connection.use_remote_address = False
    connection.original_ip_detection_extensions = _detection(found)
    if found.header:
        put_back = [Mutation(remove=X_FORWARDED_FOR), _copied(X_FORWARDED_FOR, _KEPT), Mutation(remove=_KEPT)]
        connection.http_filters.insert(0, _mutations(_NAME, put_back))
    if found.by_forwarded:
        connection.http_filters.insert(-1, _mutations(f"{_NAME}-port", list(_port(found))))


def _early_client(found: Trust) -> Iterator[Mutation]:
    """The addresses that name the client stand in X-Forwarded-For while Envoy looks; the one that came is kept."""
    if found.proxy_protocol:
        yield Mutation(remove=_PEER)
        yield from _untrusted_peer(found.proxies) if found.proxies != EVERYBODY else ()
    if not found.header:
        return
    yield Mutation(append=_with_spaces())
    if found.header != X_FORWARDED_FOR:
        yield from (Mutation(remove=X_FORWARDED_FOR), _copied(X_FORWARDED_FOR, found.header))
    yield from (Mutation(append=_last_addresses()), Mutation(append=_only_addresses()))


def _early_scheme(found: Trust, via: Via) -> Iterator[Mutation]:
    """X-Forwarded-Proto is what a proxy says; a connection to its port 443 was https, whatever else it says, as in ingress-nginx."""
    if not found.by_forwarded:
        if found.header:
            yield Mutation(remove="x-forwarded-proto")
        return
    yield Mutation(append=formatted(OWN_SCHEME, via.value))
    if found.forwarded:
        yield from (Mutation(remove=_PORT), _copied(_PORT, "x-forwarded-port"))
        # An empty X-Forwarded-Proto, for which Envoy has no route, is not copied.
        yield from (Mutation(remove=_PROTO), _copied(_PROTO, "x-forwarded-proto"), Mutation(remove="x-forwarded-proto"))
        yield from (_copied("x-forwarded-proto", _PROTO), Mutation(remove=_PROTO))
    else:
        yield Mutation(remove="x-forwarded-proto")
    if found.proxy_protocol:
        otherwise = f"'x-forwarded-proto' in request.headers ? request.headers['x-forwarded-proto'] : '{via.value}'"
        yield Mutation(append=formatted("x-forwarded-proto", f"%CEL(destination.port == 443 ? 'https' : {otherwise})%"))


def _untrusted_peer(proxies: tuple[str, ...]) -> Iterator[Mutation]:
    """A header with the address of the peer, where that may not send a PROXY header which counts.

    Envoy can write the range around the address of a peer, for each length of a prefix. Expressions know no address of a peer.
    """
    networks = [ipaddress.ip_network(each) for each in proxies]
    lengths = sorted({network.prefixlen for network in networks})
    yield Mutation(append=formatted(f"{_PEER}-of", f"%{_PEER_ADDRESS}%"))
    conditions = []
    for length in lengths:
        header = f"{_PEER}-{length}"
        yield Mutation(append=formatted(header, f"%{_PEER_ADDRESS}({length})%"))
        conditions += [f"request.headers['{header}'] == '{each}'" for each in networks if each.prefixlen == length]
    yield Mutation(append=formatted(_PEER, f"%CEL({' || '.join(conditions)} ? '' : request.headers['{_PEER}-of'])%"))
    yield from (Mutation(remove=f"{_PEER}-{what}") for what in ("of", *lengths))


def _detection(found: Trust) -> list[TypedExtensionConfig]:
    """How Envoy finds the client; without any of it that is the peer, or whom the PROXY header names."""
    made = []
    if found.proxy_protocol:
        made.append(("custom_header", pack(CustomHeaderConfig(header_name=_PEER))))
    if found.header:
        trusted = XffTrustedCidrs(cidrs=cidr_ranges(found.proxies))
        made.append(("xff", pack(XffConfig(xff_trusted_cidrs=trusted, skip_xff_append=True))))
    return [TypedExtensionConfig(name=f"envoy.http.original_ip_detection.{kind}", typed_config=config) for kind, config in made]


def _port(found: Trust) -> Iterator[Mutation]:
    """X-Forwarded-Port is the port of the proxy, if that says it, and not the listener's."""
    if found.proxy_protocol:
        yield Mutation(append=formatted("X-Forwarded-Port", "%DOWNSTREAM_LOCAL_PORT%"))
    if found.forwarded:
        yield Mutation(append=formatted("X-Forwarded-Port", f"%REQ({_PORT}?x-forwarded-port)%"))
        yield Mutation(remove=_PORT)
    yield Mutation(remove=_PEER)


CLEAN = r"^(?:[0-9.]+|[0-9a-fA-F:]+)(?:, ?(?:[0-9.]+|[0-9a-fA-F:]+))*$"
"""Lists that Envoy reads as nginx does: IPv4 and IPv6 addresses with a comma between them."""
LAST_ADDRESSES = r"^(?:.*[^0-9a-fA-F:., ][^ ,]*[ ,]+)?([0-9a-fA-F:., ]*?)[ ,]*$"
"""What may be addresses at the end of a list. nginx reads no further than to what is none; Envoy would read nothing of the list then."""
WITHOUT_PORTS = r"^(?:([^:]*):[0-9]+([^:]*)(?::[0-9]+([^:]*))?(?::[0-9]+([^:]*))?|(.*))$"
"""A list of IPv4 addresses with up to three ports, or any other list. Envoy accepts no larger expression than about that."""


LAST = r"^(?:\C*?,)??((?:[\t -+\--~]*,){0,12}[\t -+\--~]*)$"
"""The last addresses of a list, before which there may be any bytes. Envoy accepts no larger expression."""
BARE = r"^(\C*[ ,])?(?:\[([0-9A-Fa-f:.]+)\]:[0-9]+|([0-9.]+):[0-9]+|([^ ,]+))[ ,]*$"
"""A list, and its last address without a port. Brackets without a port are no address for nginx, and stay."""
SHORT = 38
"""Characters in which there cannot be 20 addresses."""


MOST_SPACED = 5
"""Addresses of a list in which spaces are put. Each number of them is an expression in every listener's chain."""


@cache
def _with_spaces() -> HeaderValueOption:
    """What came in X-Forwarded-For, if anything did, as nginx joins several headers of one name; Envoy has joined them without a space.

    Who sent a list without spaces in one header gets them as well: nobody can tell the two apart any more, and they mean the same.
    """
    sent = f"request.headers['{X_FORWARDED_FOR}']"
    made = sent
    for number in range(2, MOST_SPACED + 1):
        groups = ", *".join(["([^,]*)"] * number)
        spaced = ", ".join(f"\\\\{group}" for group in range(1, number + 1))
        made = f"{sent}.matches('^{groups}$') ? re.extract({sent}, '^{groups}$', '{spaced}') : {made}"
    return formatted(_KEPT, f"%CEL({sent}.matches(',[^ ]') ? ({made}) : {sent})%")


@cache
def _last_addresses() -> HeaderValueOption:
    """X-Forwarded-For, if there is one, without the first addresses of many: of 20 Envoy reads none, and the proxy would be the client.

    A client may send as many as it likes. So its own would be let in where the proxy is, and those of all clients be one for a limit.
    """
    sent = f"request.headers['{X_FORWARDED_FOR}']"
    last = f"re.extract({sent}, '{quoted(LAST)}', '\\\\1')"
    bare = f"re.extract({last}, '{quoted(BARE)}', '\\\\1\\\\2\\\\3\\\\4')"
    made = formatted(X_FORWARDED_FOR, f"%CEL(size({sent}) <= {SHORT} && {sent}.matches('{CLEAN}') ? {sent} : {bare})%")
    made.append_action = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS
    return made


@cache
def _only_addresses() -> HeaderValueOption:
    """X-Forwarded-For, if there is one, as Envoy reads it: without what is no address, and without ports; empty where nothing is left."""
    sent = f"request.headers['{X_FORWARDED_FOR}']"
    last = f"re.extract({sent}, '{LAST_ADDRESSES}', '\\\\1')"
    bare = f"re.extract({last}, '{WITHOUT_PORTS}', '\\\\1\\\\2\\\\3\\\\4\\\\5')"
    made = formatted(X_FORWARDED_FOR, f"%CEL({sent}.matches('{CLEAN}') ? {sent} : {bare})%")
    made.append_action, made.keep_empty_value = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS, True
    return made


def _copied(to: str, header: str) -> Mutation:
    """A header that is not there is not copied."""
    return Mutation(append=formatted(to, f"%REQ({header})%"))


def _mutations(name: str, mutations: list[Mutation]) -> HttpFilter:
    return HttpFilter(name=name, typed_config=pack(HeaderMutation(mutations=Mutations(request_mutations=mutations))))


def _on_listener(found: Trust, listener: Listener) -> None:
    """The PROXY header comes before everything else, TLS included."""
    if found.proxy_protocol:
        first = ListenerFilter(name="envoy.filters.listener.proxy_protocol", typed_config=pack(ProxyProtocol()))
        listener.listener_filters = [first, *listener.listener_filters]
        listener.listener_filters_timeout = timedelta(milliseconds=found.patience)


def _on_table(found: Trust, table: RouteConfiguration) -> None:
    """What backends get, in headers that neither an Ingress nor proxy-set-headers sets."""
    instead = {}
    if found.original != X_FORWARDED_FOR:
        instead["X-Original-Forwarded-For", f"%REQ({X_FORWARDED_FOR})%"] = f"%REQ({found.original})%"
    if found.full:
        peer = _ADDRESS if found.proxy_protocol else f"%{_PEER_ADDRESS}%"
        sent = f"'{X_FORWARDED_FOR}' in request.headers && request.headers['{X_FORWARDED_FOR}'] != ''"
        instead["X-Forwarded-For", _ADDRESS] = f"%REQ({X_FORWARDED_FOR})%%CEL({sent} ? ', ' : '')%{peer}"
    if found.forwarded:
        instead["X-Forwarded-Host", "%REQ(:authority)%"] = BEST_HOST
    for option in table.request_headers_to_add:
        assert option.header is not None
        option.header.value = instead.get((option.header.key, option.header.value), option.header.value)
    if found.by_forwarded:
        table.request_headers_to_remove.append(OWN_SCHEME)


def _on_forward(found: Trust, _route: Route, envoy: EnvoyRoute) -> None:
    """The Host of the backend is what X-Forwarded-Host has become (`_on_table`), where nothing else asks for one."""
    action = action_of(envoy)
    if found.forwarded and action.host_rewrite_literal is None and action.host_rewrite is None:
        action.host_rewrite_header = "x-forwarded-host"


FEATURE = Feature(
    read=_read,
    keys=(
        USE_PROXY_PROTOCOL,
        HEADER_TIMEOUT,
        ENABLE_REAL_IP,
        USE_FORWARDED_HEADERS,
        PROXY_REAL_IP_CIDR,
        FORWARDED_FOR_HEADER,
        COMPUTE_FULL_FORWARDED_FOR,
    ),
    phase=Phase.BALANCER,
    on_connection=_on_connection,
    on_listener=_on_listener,
    on_table=_on_table,
    on_forward=_on_forward,
    by_forwarded=lambda found: found.by_forwarded,
)
