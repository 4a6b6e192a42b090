"""What is read out of the messages in which a real Envoy 1.40 refused things; `tests/envoy/test_refusals.py` asks it again."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster import v3 as clusters
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoints
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matchers
from envoy_data_plane.google.protobuf import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from tests.envoy.harness.tls import make_certificate
from xds.nginx.messages import ads
from xds.quarantine.refusal import Accused, accused
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.wire.encode import encode, field, pack

M = TypeVar("M", bound=betterproto2.Message)
ADDRESS = "127.83.0.2"
"""Where the listeners listen, of which a real Envoy is told: an address of their own, so that the ports may be fixed."""
GARBAGE = b"\xff\xff\xff"
NOTHING = AnyMessage(type_url="type.googleapis.com/envoy.extensions.nothing.v3.Nothing", value=b"\x0a\x01x")
OK = routes.DirectResponseAction(status=200)
PAIR, OTHER_PAIR = make_certificate(["one.example"]), make_certificate(["two.example"])


@dataclass(frozen=True, slots=True)
class Case:
    """Parts of a response, what Envoy says of it, and whom that accuses.

    `innocent`: whether Envoy takes what is good of the same response; None where that depends on the order in which it looks at things.
    """

    name: str
    suspects: dict[Part, bytes]
    says: str
    certain: frozenset[Part] = frozenset()
    likely: frozenset[Part] = frozenset()
    innocent: bool | None = False

    @property
    def type_url(self) -> str:
        return next(iter(self.suspects)).type_url


def without_noise(message: str) -> str:
    """A message of Envoy without what differs from one process to the next: protobuf's mark of a dump."""
    return re.sub(r"goo\.gle/debug\w+ +\n", "goo.gle/debugstr \n", message)


def host(name: str, /, *made: routes.Route, **fields: Any) -> tuple[Part, bytes]:
    """A virtual host."""
    called = name or "*"
    found = routes.VirtualHost(name=called, domains=[called], routes=list(made) or [routes.Route(match=prefix("/"), direct_response=OK)])
    return Part(ROUTE, "ingress", name), encode(changed(found, fields))


def prefix(path: str, **fields: Any) -> routes.RouteMatch:
    return routes.RouteMatch(prefix=path, **fields)


def regex(pattern: str) -> matchers.RegexMatcher:
    return matchers.RegexMatcher(regex=pattern)


def by_regex(pattern: str) -> routes.Route:
    return routes.Route(match=routes.RouteMatch(safe_regex=regex(pattern)), direct_response=OK)


def with_header(value: str) -> routes.Route:
    """A route that adds a header."""
    added = core.HeaderValueOption(header=core.HeaderValue(key="x-added", value=value))
    return routes.Route(match=prefix("/"), direct_response=OK, response_headers_to_add=[added])


def frame(*header_names: str) -> tuple[Part, bytes]:
    """What stands in the route table beside the virtual hosts."""
    added = [core.HeaderValueOption(header=core.HeaderValue(key=name, value="x")) for name in header_names]
    return Part(ROUTE, "ingress"), encode(routes.RouteConfiguration(request_headers_to_add=added))


def cluster(name: str, /, **fields: Any) -> tuple[Part, bytes]:
    made = clusters.Cluster(
        name=name,
        type=clusters.ClusterDiscoveryType.EDS,
        eds_cluster_config=clusters.ClusterEdsClusterConfig(eds_config=ads()),
        connect_timeout=datetime.timedelta(seconds=5),
    )
    return Part(CLUSTER, name), encode(changed(made, fields))


def assignment(name: str, address: str = "10.0.0.1", port: int = 80, priority: int = 0) -> tuple[Part, bytes]:
    where = core.Address(socket_address=core.SocketAddress(address=address, port_value=port)) if address else None
    locality = endpoints.LocalityLbEndpoints(
        lb_endpoints=[endpoints.LbEndpoint(endpoint=endpoints.Endpoint(address=where))], priority=priority
    )
    return Part(ENDPOINT, name), encode(endpoints.ClusterLoadAssignment(cluster_name=name, endpoints=[locality]))


def secret(name: str, chain: bytes = PAIR.cert_pem, key: bytes = PAIR.key_pem) -> tuple[Part, bytes]:
    pair = tls.TlsCertificate(certificate_chain=core.DataSource(inline_bytes=chain), private_key=core.DataSource(inline_bytes=key))
    return Part(SECRET, name), encode(tls.Secret(name=name, tls_certificate=pair))


def listener(name: str, /, **fields: Any) -> tuple[Part, bytes]:
    """A listener `tcp/<port>` whose connections are closed at once."""
    made = listeners.Listener(name=name, address=at(int(name.partition("/")[2])), filter_chains=[listeners.FilterChain()])
    return Part(LISTENER, name), encode(changed(made, fields))


def at(port: int, address: str = ADDRESS) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address, port_value=port))


def unknown_filter() -> listeners.FilterChain:
    return listeners.FilterChain(filters=[listeners.Filter(name="envoy.filters.network.nothing", typed_config=NOTHING)])


def chain(certificate: str, server_name: str, *, secrets: int = 1, **fields: Any) -> tuple[Part, bytes]:
    """A filter chain of the https listener."""
    named = [tls.SdsSecretConfig(name=certificate, sds_config=ads())] * secrets
    context = tls.DownstreamTlsContext(common_tls_context=tls.CommonTlsContext(tls_certificate_sds_secret_configs=named))
    made = listeners.FilterChain(
        name=certificate,
        filter_chain_match=listeners.FilterChainMatch(server_names=[server_name]),
        transport_socket=core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)),
    )
    return Part(LISTENER, "https", certificate), encode(changed(made, fields))


def transport(name: str, config: AnyMessage) -> core.TransportSocket:
    return core.TransportSocket(name=name, typed_config=config)


def changed(message: M, fields: dict[str, Any]) -> M:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


A, AA, REST = Part(ROUTE, "ingress", "a.example"), Part(ROUTE, "ingress", "aa.example"), Part(ROUTE, "ingress", "")
APP, LONGER = "default/app/80", "default/app/8080"
FINE = [host("aa.example"), host("")]


def case(
    name: str,
    says: str,
    suspects: Iterable[tuple[Part, bytes]],
    *,
    certain: Iterable[Part] = (),
    likely: Iterable[Part] = (),
    innocent: bool | None = False,
) -> Case:
    return Case(name, dict(suspects), says, frozenset(certain), frozenset(likely), innocent)


def route_cases() -> list[Case]:
    by_header = prefix("/", headers=[routes.HeaderMatcher(name="x-h", string_match=matchers.StringMatcher(safe_regex=regex("(header")))])
    rewrite = matchers.RegexMatchAndSubstitute(pattern=regex("(rewrite"), substitution="/")
    rewriting = routes.Route(match=prefix("/"), route=routes.RouteAction(cluster=APP, regex_rewrite=rewrite))
    once = matchers.RegexMatchAndSubstitute(pattern=regex("rewrite"), substitution="/")
    rewriting_twice = routes.Route(match=prefix("/"), route=routes.RouteAction(cluster=APP, prefix_rewrite="/", regex_rewrite=once))
    weights = routes.WeightedCluster(clusters=[routes.WeightedClusterClusterWeight(name=APP)])
    weighing = routes.Route(match=prefix("/"), route=routes.RouteAction(weighted_clusters=weights))
    garbage = AnyMessage(type_url="type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy", value=GARBAGE)
    known = AnyMessage(type_url="type.googleapis.com/envoy.config.route.v3.FilterConfig", value=b"\x18\x01")
    return [
        case("the regex of a path", "missing ): (a", [host("a.example", by_regex("(a")), *FINE], certain=[A]),
        case(
            "a piece of a regex that another one has",
            "missing ]: [a-z",
            [host("a.example", by_regex("/[a-z")), host("aa.example", by_regex("/[a-z]"))],
            likely=[A, AA],
        ),
        case(
            "a regex that looks like more of the message",
            "missing ): x: y, ('z'",
            [host("a.example", by_regex("x: y, ('z'")), *FINE],
            certain=[A],
        ),
        case("a regex of other letters", "missing ): ÿé(", [host("a.example", by_regex("ÿé(")), *FINE], certain=[A]),
        case(
            "the regex of a header",
            "missing ): (header",
            [host("a.example", routes.Route(match=by_header, direct_response=OK)), *FINE],
            certain=[A],
        ),
        case("the regex of a rewrite", "missing ): (rewrite", [host("a.example", rewriting), *FINE], certain=[A]),
        case(
            "a domain twice",
            "Only unique values for domains are permitted. Duplicate entry of domain a.example in route ingress",
            [host("a.example"), host("aa.example", domains=["aa.example", "A.Example"]), host("")],
            likely=[A, AA],
        ),
        case(
            "a domain that a proven host has",
            "Only unique values for domains are permitted. Duplicate entry of domain a.example in route ingress",
            [host("aa.example", domains=["aa.example", "a.example"]), host("")],
            certain=[AA],
        ),
        case(
            "a host whose name is a list",
            "Only unique values for domains are permitted. Duplicate entry of domain a.example in route ingress",
            [host("x, y: z", domains=["x, y: z", "a.example"]), host("aa.example")],
            certain=[Part(ROUTE, "ingress", "x, y: z")],
        ),
        case(
            "two that take everything",
            "Only a single wildcard domain is permitted in route ingress",
            [host("a.example", domains=["a.example", "*"]), *FINE],
            likely=[A, REST],
        ),
        case(
            "a host without domains",
            (
                'goo.gle/debugstr \nname: "ingress"\nvirtual_hosts {\n  name: "a.example"\n  domains: "a.example"\n  routes '
                '{\n    match {\n      prefix: "/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\n'
                'virtual_hosts {\n  name: "aa.example"\n  routes {\n    match {\n      prefix: "/"\n    }\n    direct_response '
                '{\n      status: 200\n    }\n  }\n}\nvirtual_hosts {\n  name: "*"\n  domains: "*"\n  routes {\n    match '
                '{\n      prefix: "/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\nvirtual_hosts {\n  '
                'name: "innocent.example"\n  domains: "innocent.example"\n  routes {\n    match {\n      prefix: "/"\n    '
                "}\n    direct_response {\n      status: 200\n    }\n  }\n}\n: Proto constraint validation failed "
                "(RouteConfigurationValidationError.VirtualHosts[1]: embedded message failed validation | caused by "
                "VirtualHostValidationError.Domains: value must contain at least 1 item(s))"
            ),
            [host("a.example"), host("aa.example", domains=[]), host("")],
            certain=[AA],
        ),
        case(
            "a route without an action",
            (
                'goo.gle/debugstr \nname: "ingress"\nvirtual_hosts {\n  name: "a.example"\n  domains: "a.example"\n  routes '
                '{\n    match {\n      prefix: "/"\n    }\n  }\n}\nvirtual_hosts {\n  name: "aa.example"\n  domains: '
                '"aa.example"\n  routes {\n    match {\n      prefix: "/"\n    }\n    direct_response {\n      status: '
                '200\n    }\n  }\n}\nvirtual_hosts {\n  name: "*"\n  domains: "*"\n  routes {\n    match {\n      prefix: '
                '"/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\nvirtual_hosts {\n  name: '
                '"innocent.example"\n  domains: "innocent.example"\n  routes {\n    match {\n      prefix: "/"\n    }\n    '
                "direct_response {\n      status: 200\n    }\n  }\n}\n: Proto constraint validation failed "
                "(RouteConfigurationValidationError.VirtualHosts[0]: embedded message failed validation | caused by "
                'VirtualHostValidationError.Routes[0]: embedded message failed validation | caused by field: "action", reason: '
                "is required)"
            ),
            [host("a.example", routes.Route(match=prefix("/"))), *FINE],
            certain=[A],
        ),
        case(
            "a header without a name for all hosts",
            (
                'goo.gle/debugstr \nname: "ingress"\nvirtual_hosts {\n  name: "a.example"\n  domains: "a.example"\n  routes '
                '{\n    match {\n      prefix: "/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\n'
                'virtual_hosts {\n  name: "aa.example"\n  domains: "aa.example"\n  routes {\n    match {\n      prefix: '
                '"/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\nvirtual_hosts {\n  name: "*"\n  domains: '
                '"*"\n  routes {\n    match {\n      prefix: "/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n'
                '}\nvirtual_hosts {\n  name: "innocent.example"\n  domains: "innocent.example"\n  routes {\n    match {\n      '
                'prefix: "/"\n    }\n    direct_response {\n      status: 200\n    }\n  }\n}\nrequest_headers_to_add {\n  '
                'header {\n    value: "x"\n  }\n}\n: Proto constraint validation failed '
                "(RouteConfigurationValidationError.RequestHeadersToAdd[0]: embedded message failed validation | caused by "
                "HeaderValueOptionValidationError.Header: embedded message failed validation | caused by "
                "HeaderValueValidationError.Key: value length must be at least 1 characters)"
            ),
            [frame(""), *FINE],
            certain=[Part(ROUTE, "ingress")],
        ),
        case(
            "a filter that nobody knows",
            "Didn't find a registered implementation for 'cors' with type URL: 'envoy.extensions.nothing.v3.Nothing'",
            [host("a.example", typed_per_filter_config={"cors": NOTHING}), host("aa.example", typed_per_filter_config={"cors": known})],
            certain=[A],
        ),
        case(
            "a filter that cannot be parsed",
            (
                "Unable to unpack as envoy.extensions.filters.http.cors.v3.CorsPolicy: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"\nvalue: "\\377\\377\\377"\n'
            ),
            [host("a.example", typed_per_filter_config={"cors": garbage}), *FINE],
            certain=[A],
        ),
        case(
            "a command that nobody knows",
            "Not supported field in StreamInfo: NOTHING",
            [host("a.example", with_header("%NOTHING(x)%")), *FINE],
            certain=[A],
        ),
        case(
            "a command that does not end",
            "Incorrect configuration: 100%. Couldn't find valid command at position 3",
            [host("a.example", with_header("100%")), *FINE],
            certain=[A],
        ),
        case("two regexes", "missing ): (one", [host("a.example", by_regex("(one")), host("aa.example", by_regex("(two"))], certain=[A]),
        case(
            "no weight",
            "Field 'weight' is missing in: goo.gle/debugstr \nname: \"default/app/80\"\n",
            [host("a.example", weighing), *FINE],
            certain=[A],
        ),
        case(
            "two ways to rewrite",
            "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
            [host("a.example", rewriting_twice), *FINE],
        ),
        case(
            "a host that cannot be parsed",
            (
                "Unable to unpack as envoy.config.route.v3.RouteConfiguration: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.config.route.v3.RouteConfiguration"\nvalue: '
                '"\\n\\007ingress\\022\\003\\377\\377\\377\\022$\\n\\naa.example\\022\\naa.example\\032\\n\\n\\003\\n\\001/:\\003\\010\\310\\001\\022\\022\\n\\001*\\022\\001*\\032\\n\\n\\003\\n\\001/:\\003\\010\\310\\001\\0220\\n\\020innocent.example\\022\\020innocent.example\\032\\n\\n\\003\\n\\001/:\\003\\010\\310\\001"\n'
            ),
            [(A, GARBAGE), *FINE],
        ),
    ]


def cluster_cases() -> list[Case]:
    one, two = Part(CLUSTER, APP), Part(CLUSTER, LONGER)
    fine = cluster(APP)
    unknown_type = clusters.ClusterCustomClusterType(name="envoy.clusters.nothing", typed_config=NOTHING)
    static = tls.UpstreamTlsContext(
        common_tls_context=tls.CommonTlsContext(tls_certificate_sds_secret_configs=[tls.SdsSecretConfig(name="missing")])
    )
    no_ca = tls.CertificateValidationContext(trusted_ca=core.DataSource(inline_string="no PEM"))
    validating = tls.UpstreamTlsContext(common_tls_context=tls.CommonTlsContext(validation_context=no_ca))
    nothing = transport("envoy.transport_sockets.nothing", NOTHING)
    return [
        case(
            "a type of cluster that nobody knows",
            (
                "Error adding/updating cluster(s) default/app/8080: Didn't find a registered cluster factory implementation "
                "for type: 'envoy.extensions.nothing.v3.Nothing'"
            ),
            [cluster(LONGER, cluster_type=unknown_type, type=None), fine],
            certain=[two],
            innocent=True,
        ),
        case(
            "a transport socket that nobody knows",
            (
                "Error adding/updating cluster(s) default/app/80: Didn't find a registered implementation for "
                "'envoy.transport_sockets.nothing' with type URL: 'envoy.extensions.nothing.v3.Nothing'"
            ),
            [cluster(APP, transport_socket=nothing), cluster(LONGER)],
            certain=[one],
            innocent=True,
        ),
        case(
            "protocol options that nobody knows",
            (
                "Error adding/updating cluster(s) default/app/8080: Didn't find a registered network or http filter or "
                "protocol options implementation for name: 'envoy.nothing'"
            ),
            [cluster(LONGER, typed_extension_protocol_options={"envoy.nothing": NOTHING}), fine],
            certain=[two],
            innocent=True,
        ),
        case(
            "a secret that nobody sends",
            "Error adding/updating cluster(s) default/app/8080: Unknown static secret: missing",
            [cluster(LONGER, transport_socket=transport("envoy.transport_sockets.tls", pack(static))), fine],
            certain=[two],
            innocent=True,
        ),
        case(
            "a CA that is no PEM",
            "Error adding/updating cluster(s) default/app/8080: Failed to load trusted CA certificates from <inline>",
            [cluster(LONGER, transport_socket=transport("envoy.transport_sockets.tls", pack(validating))), fine],
            certain=[two],
            innocent=True,
        ),
        case(
            "a balancer that this type has not",
            (
                "Error adding/updating cluster(s) default/app/8080: cluster manager: cluster provided LB specified but cluster "
                "'default/app/8080' did not provide one. Check cluster documentation."
            ),
            [cluster(LONGER, lb_policy=clusters.ClusterLbPolicy.CLUSTER_PROVIDED), fine],
            certain=[two],
            innocent=True,
        ),
        case(
            "two clusters",
            (
                "Error adding/updating cluster(s) default/app/80: Didn't find a registered implementation for "
                "'envoy.transport_sockets.nothing' with type URL: 'envoy.extensions.nothing.v3.Nothing', default/app/8080: "
                "cannot create an EDS cluster without an EDS config"
            ),
            [cluster(APP, transport_socket=nothing), cluster(LONGER, eds_cluster_config=None), cluster("default/fine/80")],
            certain=[one, two],
            innocent=True,
        ),
        case(
            "a balancer that nobody knows",
            (
                'goo.gle/debugstr \nname: "default/app/8080"\ntype: EDS\neds_cluster_config {\n  eds_config {\n    ads {\n    '
                "}\n    resource_api_version: V3\n  }\n}\nconnect_timeout {\n  seconds: 5\n}\nlb_policy: 77\n: Proto "
                "constraint validation failed (ClusterValidationError.LbPolicy: value must be one of the defined enum values)"
            ),
            [cluster(LONGER, lb_policy=clusters.ClusterLbPolicy(77)), fine],
            certain=[two],
        ),
        case(
            "time that runs backwards",
            "Invalid duration: Expected positive duration: goo.gle/debugstr \nseconds: -1\n",
            [cluster(LONGER, connect_timeout=datetime.timedelta(seconds=-1)), fine],
        ),
        case(
            "a cluster without a name",
            (
                "goo.gle/debugstr \ntype: EDS\neds_cluster_config {\n  eds_config {\n    ads {\n    }\n    "
                "resource_api_version: V3\n  }\n}\nconnect_timeout {\n  seconds: 5\n}\n: Proto constraint validation failed "
                "(ClusterValidationError.Name: value length must be at least 1 characters)"
            ),
            [cluster(LONGER, name=""), fine],
        ),
        case(
            "a cluster that cannot be parsed",
            (
                "Unable to unpack as envoy.config.cluster.v3.Cluster: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.config.cluster.v3.Cluster"\nvalue: "\\n\\020default/app/8080\\377\\377\\377"\n'
            ),
            [(two, field(1, LONGER.encode()) + GARBAGE), fine],
            certain=[two],
        ),
    ]


def endpoint_cases() -> list[Case]:
    one, two = Part(ENDPOINT, APP), Part(ENDPOINT, LONGER)
    return [
        case(
            "an address that is none",
            "malformed IP address: no-address. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'",
            [assignment(LONGER, "no-address"), assignment(APP)],
            certain=[two],
            innocent=None,
        ),
        case(
            "no address",
            (
                "Address must be set: goo.gle/debugstr \n. Consider setting resolver_name or setting cluster type to "
                "'STRICT_DNS' or 'LOGICAL_DNS'"
            ),
            [assignment(LONGER, ""), assignment(APP)],
            innocent=None,
        ),
        case(
            "a port that is too large",
            (
                'goo.gle/debugstr \ncluster_name: "default/app/8080"\nendpoints {\n  lb_endpoints {\n    endpoint {\n      '
                'address {\n        socket_address {\n          address: "10.0.0.1"\n          port_value: 65536\n        '
                "}\n      }\n    }\n  }\n}\n: Proto constraint validation failed "
                "(ClusterLoadAssignmentValidationError.Endpoints[0]: embedded message failed validation | caused by "
                "LocalityLbEndpointsValidationError.LbEndpoints[0]: embedded message failed validation | caused by "
                "LbEndpointValidationError.Endpoint: embedded message failed validation | caused by "
                "EndpointValidationError.Address: embedded message failed validation | caused by "
                "AddressValidationError.SocketAddress: embedded message failed validation | caused by "
                "SocketAddressValidationError.PortValue: value must be less than or equal to 65535)"
            ),
            [assignment(LONGER, port=65536), assignment(APP)],
            certain=[two],
        ),
        case(
            "a priority that is too large",
            (
                'goo.gle/debugstr \ncluster_name: "default/app/8080"\nendpoints {\n  lb_endpoints {\n    endpoint {\n      '
                'address {\n        socket_address {\n          address: "10.0.0.1"\n          port_value: 80\n        '
                "}\n      }\n    }\n  }\n  priority: 129\n}\n: Proto constraint validation failed "
                "(ClusterLoadAssignmentValidationError.Endpoints[0]: embedded message failed validation | caused by "
                "LocalityLbEndpointsValidationError.Priority: value must be less than or equal to 128)"
            ),
            [assignment(LONGER, priority=129), assignment(APP)],
            certain=[two],
        ),
        case(
            "two assignments",
            "malformed IP address: no-address. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'",
            [assignment(APP, "no-address"), assignment(LONGER, "no-address")],
            likely=[one, two],
            innocent=None,
        ),
        case(
            "an assignment that cannot be parsed",
            (
                "Unable to unpack as envoy.config.endpoint.v3.ClusterLoadAssignment: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"\nvalue: '
                '"\\n\\020default/app/8080\\377\\377\\377"\n'
            ),
            [(two, field(1, LONGER.encode()) + GARBAGE), assignment(APP)],
            certain=[two],
        ),
    ]


def secret_cases() -> list[Case]:
    one = Part(SECRET, "default/one")
    return [
        case(
            "a certificate that is no PEM",
            "Failed to load certificate chain from <inline>",
            [secret("default/one", b"no PEM"), secret("default/two")],
            innocent=None,
        ),
        case(
            "a key that is no PEM",
            "Failed to load private key from <inline>, Cause: error:0900006e:PEM routines:OPENSSL_internal:NO_START_LINE",
            [secret("default/one", key=b"no PEM"), secret("default/two")],
            innocent=None,
        ),
        case(
            "the key of another certificate",
            (
                "Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate "
                "routines:OPENSSL_internal:KEY_VALUES_MISMATCH"
            ),
            [secret("default/one", key=OTHER_PAIR.key_pem), secret("default/two")],
            innocent=None,
        ),
        case(
            "a certificate without its key",
            "Failed to load incomplete private key from path: ",
            [secret("default/one", key=b""), secret("default/two")],
            innocent=None,
        ),
        case(
            "a key without its certificate",
            "Failed to load incomplete certificate from : certificate chain not set",
            [secret("default/one", chain=b""), secret("default/two")],
            innocent=None,
        ),
        case(
            "a secret with nothing in it",
            "Failed to load incomplete private key from path: ",
            [(one, encode(tls.Secret(name="default/one"))), secret("default/two")],
            innocent=None,
        ),
        case(
            "two secrets",
            "Failed to load certificate chain from <inline>",
            [secret("default/one", b"no PEM"), secret("default/two", b"no PEM")],
            innocent=None,
        ),
        case(
            "a secret that cannot be parsed",
            (
                "Unable to unpack as envoy.extensions.transport_sockets.tls.v3.Secret: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"\nvalue: '
                '"\\n\\013default/one\\377\\377\\377"\n'
            ),
            [(one, field(1, b"default/one") + GARBAGE), secret("default/two")],
            certain=[one],
        ),
    ]


def listener_cases() -> list[Case]:
    bad, worse, third = Part(LISTENER, "tcp/7002"), Part(LISTENER, "tcp/7003"), Part(LISTENER, "https", "default/three")
    first, second = chain("default/one", "one.example"), chain("default/two", "two.example")
    broken = AnyMessage(type_url="type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", value=GARBAGE)
    same = chain("default/three", "one.example")
    no_certificate = chain("default/three", "three.example", secrets=0)
    return [
        case(
            "a port that is taken",
            (
                "Error adding/updating listener(s) tcp/7002: error adding listener: 'tcp/7002' has duplicate address "
                "'127.83.0.2:7001' as existing listener, to check if the listener has duplicated addresses with other "
                "listeners or 'enable_reuse_port' is set to 'false' for the listener\n"
            ),
            [listener("tcp/7002", address=at(7001))],
            certain=[bad],
            innocent=True,
        ),
        case(
            "an address that no listener can have",
            "Error adding/updating listener(s) tcp/7002: malformed IP address: no-address\n",
            [listener("tcp/7002", address=at(7002, "no-address"))],
            certain=[bad],
            innocent=True,
        ),
        case(
            "an address of another machine",
            "Error adding/updating listener(s) tcp/7002: cannot bind '192.0.2.1:7002': Cannot assign requested address\n",
            [listener("tcp/7002", address=at(7002, "192.0.2.1"))],
            certain=[bad],
            innocent=True,
        ),
        case(
            "a network filter that nobody knows",
            (
                "Error adding/updating listener(s) tcp/7002: Didn't find a registered implementation for "
                "'envoy.filters.network.nothing' with type URL: 'envoy.extensions.nothing.v3.Nothing'\n"
            ),
            [listener("tcp/7002", filter_chains=[unknown_filter()]), listener("tcp/7003")],
            certain=[bad],
            innocent=True,
        ),
        case(
            "a listener without filter chains",
            "Error adding/updating listener(s) tcp/7002: error adding listener '127.83.0.2:7002': no filter chains specified\n",
            [listener("tcp/7002", filter_chains=[])],
            certain=[bad],
            innocent=True,
        ),
        case(
            "two listeners",
            (
                "Error adding/updating listener(s) tcp/7002: Didn't find a registered implementation for "
                "'envoy.filters.network.nothing' with type URL: 'envoy.extensions.nothing.v3.Nothing'\ntcp/7003: error adding "
                "listener '127.83.0.2:7003': no filter chains specified\n"
            ),
            [listener("tcp/7002", filter_chains=[unknown_filter()]), listener("tcp/7003", filter_chains=[])],
            certain=[bad, worse],
            innocent=True,
        ),
        case(
            "a port that no listener can have",
            (
                'goo.gle/debugstr \nname: "tcp/7002"\naddress {\n  socket_address {\n    address: "127.83.0.2"\n    '
                "port_value: 70002\n  }\n}\nfilter_chains {\n}\n: Proto constraint validation failed "
                "(ListenerValidationError.Address: embedded message failed validation | caused by "
                "AddressValidationError.SocketAddress: embedded message failed validation | caused by "
                "SocketAddressValidationError.PortValue: value must be less than or equal to 65535)"
            ),
            [listener("tcp/7002", address=at(70002)), listener("tcp/7003")],
            certain=[bad],
        ),
        case(
            "a listener that cannot be parsed",
            (
                "Unable to unpack as envoy.config.listener.v3.Listener: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.config.listener.v3.Listener"\nvalue: "\\n\\010tcp/7002\\377\\377\\377"\n'
            ),
            [(bad, field(1, b"tcp/7002") + GARBAGE), listener("tcp/7003")],
            certain=[bad],
        ),
        case(
            "a server name that two chains have",
            (
                "Error adding/updating listener(s) https: error adding listener '127.83.0.2:7443': filter chain "
                "'default/three' has the same matching rules defined as 'default/one'. duplicate matcher is: "
                '{"server_names":["one.example"]}\n'
            ),
            [first, second, same],
            likely=[first[0], third],
            innocent=True,
        ),
        case(
            "a server name that a proven chain has",
            (
                "Error adding/updating listener(s) https: error adding listener '127.83.0.2:7443': filter chain "
                "'default/three' has the same matching rules defined as 'default/one'. duplicate matcher is: "
                '{"server_names":["one.example"]}\n'
            ),
            [second, same],
            certain=[third],
            innocent=True,
        ),
        case(
            "a chain with a filter that nobody knows",
            (
                "Error adding/updating listener(s) https: Didn't find a registered implementation for "
                "'envoy.filters.network.nothing' with type URL: 'envoy.extensions.nothing.v3.Nothing'\n"
            ),
            [first, chain("default/three", "three.example", filters=unknown_filter().filters)],
            certain=[third],
            innocent=True,
        ),
        case(
            "a chain that cannot be parsed within",
            (
                "Error adding/updating listener(s) https: Unable to unpack as "
                "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext: goo.gle/debugstr \ntype_url: "
                '"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"\nvalue: '
                '"\\377\\377\\377"\n\n'
            ),
            [first, chain("default/three", "three.example", transport_socket=transport("envoy.transport_sockets.tls", broken))],
            certain=[third],
            innocent=True,
        ),
        case(
            "a chain with half a wildcard",
            (
                "Error adding/updating listener(s) https: error adding listener '127.83.0.2:7443': partial wildcards are not "
                'supported in "server_names"\n'
            ),
            [first, chain("default/three", "*three.example")],
            likely=[first[0], third],
            innocent=True,
        ),
        case(
            "a chain without a certificate",
            "Error adding/updating listener(s) https: No TLS certificates found for server context\n",
            [first, second, no_certificate],
            likely=[first[0], second[0], third],
            innocent=True,
        ),
        case(
            "a chain that breaks a rule",
            (
                'goo.gle/debugstr \nname: "https"\naddress {\n  socket_address {\n    address: "127.83.0.2"\n    port_value: '
                '7443\n  }\n}\nfilter_chains {\n  filter_chain_match {\n    server_names: "one.example"\n  }\n  '
                'transport_socket {\n    name: "envoy.transport_sockets.tls"\n    typed_config {\n      '
                "[type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext] {\n        "
                "common_tls_context {\n          tls_certificate_sds_secret_configs {\n            name: "
                '"default/one"\n            sds_config {\n              ads {\n              }\n              '
                'resource_api_version: V3\n            }\n          }\n        }\n      }\n    }\n  }\n  name: "default/one"\n'
                '}\nfilter_chains {\n  filter_chain_match {\n    server_names: "two.example"\n  }\n  transport_socket {\n    '
                'name: "envoy.transport_sockets.tls"\n    typed_config {\n      '
                "[type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext] {\n        "
                "common_tls_context {\n          tls_certificate_sds_secret_configs {\n            name: "
                '"default/two"\n            sds_config {\n              ads {\n              }\n              '
                'resource_api_version: V3\n            }\n          }\n        }\n      }\n    }\n  }\n  name: "default/two"\n'
                '}\nfilter_chains {\n  filter_chain_match {\n    server_names: "innocent.example"\n  }\n  transport_socket '
                '{\n    name: "envoy.transport_sockets.tls"\n    typed_config {\n      '
                "[type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext] {\n        "
                "common_tls_context {\n          tls_certificate_sds_secret_configs {\n            name: "
                '"default/innocent"\n            sds_config {\n              ads {\n              }\n              '
                "resource_api_version: V3\n            }\n          }\n        }\n      }\n    }\n  }\n  name: "
                '"default/innocent"\n}\nfilter_chains {\n  filter_chain_match {\n    server_names: "three.example"\n  }\n  '
                'filters {\n  }\n  transport_socket {\n    name: "envoy.transport_sockets.tls"\n    typed_config {\n      '
                "[type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext] {\n        "
                "common_tls_context {\n          tls_certificate_sds_secret_configs {\n            name: "
                '"default/three"\n            sds_config {\n              ads {\n              }\n              '
                "resource_api_version: V3\n            }\n          }\n        }\n      }\n    }\n  }\n  name: "
                '"default/three"\n}\nlistener_filters {\n  name: "envoy.filters.listener.tls_inspector"\n  typed_config {\n    '
                "[type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector] {\n    }\n  }\n}\n: "
                "Proto constraint validation failed (ListenerValidationError.FilterChains[3]: embedded message failed "
                "validation | caused by FilterChainValidationError.Filters[0]: embedded message failed validation | caused by "
                "FilterValidationError.Name: value length must be at least 1 characters)"
            ),
            [first, chain("default/three", "three.example", filters=[listeners.Filter()])],
            certain=[third],
        ),
        case(
            "a chain and a listener",
            (
                "Error adding/updating listener(s) https: error adding listener '127.83.0.2:7443': filter chain "
                "'default/three' has the same matching rules defined as 'default/one'. duplicate matcher is: "
                '{"server_names":["one.example"]}\ntcp/7003: error adding listener \'127.83.0.2:7003\': no filter chains '
                "specified\n"
            ),
            [first, same, listener("tcp/7003", filter_chains=[])],
            certain=[worse],
            likely=[first[0], third],
            innocent=True,
        ),
    ]


CASES = [*route_cases(), *cluster_cases(), *endpoint_cases(), *secret_cases(), *listener_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_of_envoy_accuses(case: Case) -> None:
    assert accused(case.says, case.suspects) == Accused(case.certain, case.likely)


@pytest.mark.parametrize("case", route_cases(), ids=lambda case: case.name)
def test_a_host_may_be_given_with_the_tag_of_its_field(case: Case) -> None:
    tagged = {part: body if part.piece is None else field(2, body) for part, body in case.suspects.items()}
    assert accused(case.says, tagged) == Accused(case.certain, case.likely)


def said_of(name: str) -> str:
    return next(case.says for case in CASES if case.name == name)


DUPLICATE = "Only unique values for domains are permitted. Duplicate entry of domain {} in route ingress"


LONG = "x" * 38 + ".example"
"""Its length is the number of the dot: behind a dot, it looks like a field."""


def test_a_domain_is_not_the_end_of_another_one() -> None:
    suspects = dict([host("a.example", domains=[f"www.{LONG}", LONG]), host("aa.example", domains=["aa.example", f"www.{LONG}"])])
    assert chr(len(LONG)) == "."
    assert accused(DUPLICATE.format(LONG), suspects) == Accused(frozenset([A]))


def test_a_domain_is_found_behind_numbers_of_every_kind() -> None:
    numbers = b"\x08\xff\xff\x01" + b"\x11" + b"\xff" * 8 + b"\x1d" + b"\xff" * 4
    assert accused(DUPLICATE.format("a.example"), {A: numbers + field(4, b"a.example"), AA: numbers}) == Accused(frozenset([A]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("before", [b"\xff" * 1_000_000, b"\x0b", b"\x0c"], ids=["no number", "a group", "the end of a group"])
def test_what_is_no_message_has_no_domain(before: bytes) -> None:
    assert accused(DUPLICATE.format("a.example"), {A: before + field(2, b"a.example")}) == Accused()


def test_a_domain_of_no_suspect_accuses_nobody() -> None:
    assert accused(DUPLICATE.format("example"), dict([host("a.example"), host("aa.example")])) == Accused()


def test_a_list_that_is_cut_accuses_those_whose_name_is_whole() -> None:
    said = f"Error adding/updating cluster(s) {LONGER}: no, {APP}"
    assert accused(said, dict([cluster(APP), cluster(LONGER)])) == Accused(frozenset([Part(CLUSTER, LONGER)]))


def test_a_list_of_others_accuses_nobody() -> None:
    said = f"Error adding/updating cluster(s) default/other/80: no route to '{APP}'"
    assert accused(said, dict([cluster(APP), cluster(LONGER)])) == Accused()


def test_the_dump_of_a_cluster_names_it_though_it_is_cut() -> None:
    said = f'goo.gle/debugstr  \nname: "{LONGER}"\ntype: EDS\nconnect_ti'
    assert accused(said, dict([cluster(APP), cluster(LONGER)])) == Accused(frozenset([Part(CLUSTER, LONGER)]))


def test_the_first_hosts_of_a_table_are_not_accused_because_the_dump_ends_there() -> None:
    said = 'goo.gle/debugstr  \nname: "ingress"\nvirtual_hosts {\n  name: "a.example"\n  domains: "a.exa'
    assert accused(said, dict([host("a.example"), host("aa.example")])) == Accused(likely=frozenset([A, AA]))


@pytest.mark.parametrize(("index", "certain"), [(0, [A]), (1, [AA]), (2, [REST]), (3, []), (4, []), (999_999, [])])
def test_hosts_are_counted_in_the_dump(index: int, certain: list[Part]) -> None:
    """The fourth one is no suspect, and there is no fifth one."""
    said = said_of("a host without domains").replace("VirtualHosts[1]", f"VirtualHosts[{index}]")
    assert accused(said, dict([host("a.example"), *FINE])) == Accused(frozenset(certain))


def test_names_are_read_as_a_dump_writes_them() -> None:
    odd = dict([host('a"\\\tü.example')])
    said = said_of("a host without domains").replace('"aa.example"', r'"a\"\\\t\303\274.example"')
    assert accused(said, {**odd, **dict(FINE)}) == Accused(frozenset(odd))


def test_a_name_of_wild_bytes_is_nobodys() -> None:
    said = said_of("a host without domains").replace('"aa.example"', r'"\377\777\8"')
    assert accused(said, dict(FINE)) == Accused()
    assert accused('goo.gle/debugstr \nname: "\\377"\n', dict(FINE)) == Accused()


@pytest.mark.parametrize("cut", range(6))
@pytest.mark.parametrize("name", ["a cluster that cannot be parsed", "a filter that cannot be parsed"])
def test_bytes_that_are_cut_are_the_beginning_of_something(name: str, cut: int) -> None:
    case = next(case for case in CASES if case.name == name)
    said = case.says.rstrip('"\n')
    assert accused(said[: len(said) - cut], case.suspects) == Accused(case.certain)


def test_no_bytes_accuse_nobody() -> None:
    said = said_of("a cluster that cannot be parsed").partition('value: "')
    assert accused(said[0] + said[1], dict([cluster(APP), cluster(LONGER)])) == Accused()


def test_bytes_are_those_of_the_whole_resource() -> None:
    body = field(1, LONGER.encode()) + GARBAGE
    suspects = {Part(CLUSTER, LONGER): body, Part(CLUSTER, APP): body + b"\x00", Part(CLUSTER, "default/x/80"): field(1, body)}
    assert accused(said_of("a cluster that cannot be parsed"), suspects) == Accused(frozenset([Part(CLUSTER, LONGER)]))


def test_bytes_in_an_extension_are_those_of_a_whole_field() -> None:
    """A large number has them, too."""
    case = next(case for case in CASES if case.name == "a filter that cannot be parsed")
    part, body = host("large.example", per_request_buffer_limit_bytes=2**32 - 1)
    assert GARBAGE in body
    assert accused(case.says, {**case.suspects, part: body}) == Accused(case.certain)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("regex '/'(x' RE2 program size of 5 > max program size of 4 set for the error level threshold.", "/'(x"),
        ("Incorrect configuration: 1. 2%. Couldn't find valid command at position 5", "1. 2%"),
    ],
)
def test_a_value_may_look_like_the_end_of_the_quote(said: str, value: str) -> None:
    assert accused(said, dict([host("a.example", with_header(value)), *FINE])) == Accused(frozenset([A]))


def test_a_chain_is_known_by_its_name_whatever_is_said_of_its_bytes() -> None:
    suspects = {Part(LISTENER, "https", f"default/{name}"): b"" for name in ("one", "two", "three")}
    one, _, three = suspects
    assert accused(said_of("a server name that two chains have"), suspects) == Accused(likely=frozenset([one, three]))


def test_the_line_break_after_an_entry_is_none_of_the_regex() -> None:
    first, second = chain("default/one", "one.example"), chain("default/two", "(x")
    said = "Error adding/updating listener(s) https: missing ): (x\n"
    assert accused(said, dict([first, second])) == Accused(frozenset([second[0]]))


def test_bytes_end_where_the_server_has_cut_something_out() -> None:
    case = next(case for case in CASES if case.name == "a cluster that cannot be parsed")
    assert accused(case.says.replace(r"\377\377", "[hidden]"), case.suspects) == Accused(case.certain)


def test_what_the_server_has_cut_out_of_a_regex_is_not_looked_for() -> None:
    suspects = dict([host("a.example", by_regex("/known" + "x" * 200 + "(")), *FINE])
    assert accused("missing ): /known[hidden](", suspects) == Accused(frozenset([A]))
    assert accused("missing ): [hidden]", suspects) == Accused()


def test_a_host_called_like_a_list_accuses_suspects_only() -> None:
    evil = f"x, {APP}: y"
    said = f"Error adding/updating cluster(s) {evil}: nothing is called '{evil}'"
    found = accused(said, {Part(CLUSTER, evil): b"", Part(CLUSTER, APP): b"", Part(CLUSTER, LONGER): b""})
    assert Part(CLUSTER, evil) in found.certain
    assert Part(CLUSTER, LONGER) not in found.certain | found.likely


WORDS = st.sampled_from(
    [
        *(
            "Error adding/updating cluster(s) ",
            "Error adding/updating listener(s) ",
            "goo.gle/debugstr  \n",
            'name: "',
            '"\n',
            ": ",
            ", ",
            "\n",
        ),
        *("virtual_hosts {\n", "  name: ", "filter_chains {\n", "}\n", ": Proto constraint validation failed (XValidationError."),
        *(
            "VirtualHosts[",
            "FilterChains[0]",
            "999999999",
            "]",
            "Unable to unpack as x.Y: ",
            'type_url: "x"\nvalue: "',
            "\\377",
            "\\8",
            "\\",
        ),
        *(
            "missing ): ",
            "Duplicate entry of domain ",
            " in route ",
            "'",
            '"',
            "(expecting ",
            "): ",
            "regex '",
            "' RE2 program size",
            "\ud800",
        ),
        *("x, y: z", "ingress", "https", "a.example", APP, "default/one", "Only a single wildcard domain is permitted", "[hidden]", "*"),
    ]
)
MESSAGES = st.lists(WORDS | st.text(max_size=5), max_size=30).map("".join)
PARTS = st.builds(
    Part, st.sampled_from([ROUTE, LISTENER, CLUSTER]), st.sampled_from(["ingress", "https", "", "x, y: z", APP]), st.none() | st.text()
)


@given(MESSAGES, st.dictionaries(PARTS, st.binary() | MESSAGES.map(lambda text: text.encode(errors="replace")), max_size=6))
def test_no_message_makes_it_raise_or_accuse_another(message: str, suspects: dict[Part, bytes]) -> None:
    found = accused(message, suspects)
    assert found.certain | found.likely <= suspects.keys()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "unit",
    [
        "Error adding/updating cluster(s) ",
        "x: ",
        ", ",
        "'",
        '"',
        "\\",
        "(expecting ",
        "Duplicate entry of domain ",
        'name: "',
        "\n: ",
        "regex '",
        ". ",
    ],
)
def test_no_long_message_takes_long(unit: str) -> None:
    suspects = {Part(CLUSTER, f"default/{n}: , '/80"): unit.encode() * 100 for n in range(1000)}
    for start in (
        "",
        "Error adding/updating cluster(s) ",
        "goo.gle/debugstr  \n",
        "missing ): ",
        "regex '",
        'Unable to unpack as x: goo.gle/debugstr  \ntype_url: ""\nvalue: "',
    ):
        accused(start + unit * (1_000_000 // len(unit)), suspects)
