"""Features that draw on clusters, and on how a route finds its endpoint."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.config.route.v3 import RouteActionHashPolicy
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3 import Config as SetFilterState
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import TlsParametersTlsProtocol, UpstreamTlsContext

from xds.model import Forward, Via
from xds.nginx.feature import Complaint, Unreadable
from xds.nginx.features.backend_protocol import FEATURE as BACKEND_PROTOCOL
from xds.nginx.features.backend_protocol import Protocol
from xds.nginx.features.load_balance import FEATURE as LOAD_BALANCE
from xds.nginx.registry import cluster_features, read_settings
from xds.wire.encode import encode

from .drawing import CLUSTER, action, cluster, complaints, filters, location, routes, settings, upstream


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("round_robin", ClusterLbPolicy.ROUND_ROBIN),
        ("ewma", ClusterLbPolicy.LEAST_REQUEST),
        ("least_conn", ClusterLbPolicy.LEAST_REQUEST),
        ("ip_hash", ClusterLbPolicy.RING_HASH),
    ],
)
def test_load_balance_chooses_the_policy(text: str, policy: ClusterLbPolicy) -> None:
    assert cluster(settings({"load-balance": text})).lb_policy is policy
    assert cluster(settings(keys={"load-balance": text})).lb_policy is policy


def test_round_robin_leaves_a_cluster_alone_that_goes_by_client() -> None:
    by_client = cluster(settings({"load-balance": "ip_hash"}))
    LOAD_BALANCE.on_cluster("round_robin", by_client)
    assert by_client.lb_policy is ClusterLbPolicy.RING_HASH


def test_ip_hash_goes_by_the_address_of_the_client() -> None:
    assert hashes(action({"load-balance": "ip_hash"}).hash_policy) == ["source_ip"]
    assert action({"load-balance": "ewma"}).hash_policy == []


def hashes(policies: list[RouteActionHashPolicy]) -> list[str]:
    return [describe(p) for p in policies]


def describe(policy: RouteActionHashPolicy) -> str:
    if policy.connection_properties:
        assert policy.connection_properties.source_ip
        return "source_ip"
    if policy.query_parameter:
        return f"?{policy.query_parameter.name}"
    if policy.cookie:
        assert policy.cookie.ttl is None, "Envoy would set a cookie"
        return f"cookie {policy.cookie.name}"
    if policy.filter_state:
        return policy.filter_state.key
    assert policy.header
    rewrite = policy.header.regex_rewrite
    return policy.header.header_name + (f" {rewrite.pattern.regex}" if rewrite and rewrite.pattern else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$request_uri", [":path"]),
        ("$uri", [r":path ^([^?]*)(?:\?.*)?$"]),
        ("$args", [r":path ^[^?]*\??(.*)$"]),
        ("$remote_addr", ["source_ip"]),
        ("$binary_remote_addr", ["source_ip"]),
        ("$host", [":authority"]),
        ("$http_host", [":authority"]),
        ("$http_x_user_id", ["x-user-id"]),
        ("$http_X_User", ["x-user"]),
        ("$arg_id", ["?id"]),
        ("$cookie_sid", ["cookie sid"]),
        ("${request_uri}-text-$arg_a${cookie_b}", [":path", "?a", "cookie b"]),
        ("$host$host", [":authority"]),
        ("$request_uri $host", [":path", ":authority"]),
        ("$content_type$host", ["xds.hash.content_type", ":authority"]),
        ("$service_name-$namespace", []),
        ("text", []),
    ],
)
def test_upstream_hash_by_goes_by_each_variable(text: str, expected: list[str]) -> None:
    same_for_all = ":authority .*"
    assert hashes(action({"upstream-hash-by": text}).hash_policy) == [*expected, same_for_all]
    assert hashes(action(keys={"upstream-hash-by": text}).hash_policy) == [*expected, same_for_all]
    assert cluster(settings({"upstream-hash-by": text})).lb_policy is ClusterLbPolicy.RING_HASH


def test_a_variable_that_no_policy_of_envoy_goes_by_is_worked_out_before() -> None:
    found = settings({"upstream-hash-by": "$server_port$host${content_type}"})
    (kept,) = (each for each in filters(found) if each.name == "upstream_hash_by")
    assert kept.typed_config
    values = [
        (each.object_key, each.format_string.text_format_source.inline_string)
        for each in SetFilterState.parse(kept.typed_config.value).on_request_headers
        if each.format_string and each.format_string.text_format_source
    ]
    assert values == [("xds.hash.server_port", "%DOWNSTREAM_LOCAL_PORT%"), ("xds.hash.content_type", "%REQ(content-type)%")]
    assert not [each for each in filters(settings({"upstream-hash-by": "$host"})) if each.name == "upstream_hash_by"]


NINE = "$arg_a$arg_b$arg_c$arg_d$arg_e$arg_f$arg_g$arg_h$uri"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("$upstream_addr", "is '$upstream_addr', but $upstream_addr is no variable that Envoy could hash by"),
        ("$http_", "is '$http_', but $http_ is no variable that Envoy could hash by"),
        ("$host$", "is '$host$', where a \"$\" or a brace belongs to no variable"),
        ("${host", "is '${host', where a \"$\" or a brace belongs to no variable"),
        ("$host;", "is '$host;', which is no text with nginx variables such as $request_uri"),
        (NINE, f"is {NINE!r}, which has 9 variables, more than 8"),
    ],
)
def test_upstream_hash_by_says_what_it_cannot_go_by(text: str, sentence: str) -> None:
    assert complaints({"upstream-hash-by": text}) == [("upstream-hash-by", sentence)]


@pytest.mark.parametrize("policy", ["ewma", "ip_hash"])
def test_upstream_hash_by_wins_over_load_balance(policy: str) -> None:
    annotations = {"load-balance": policy, "upstream-hash-by": "$host"}
    assert cluster(settings(annotations)).lb_policy is ClusterLbPolicy.RING_HASH
    assert hashes(action(annotations).hash_policy) == [":authority", ":authority .*"]


def test_a_connection_has_five_seconds_to_come_about_unless_told_otherwise() -> None:
    assert cluster(settings()).connect_timeout == timedelta(seconds=5)
    assert cluster(settings({"proxy-connect-timeout": "10"}, {"proxy-connect-timeout": "20"})).connect_timeout == timedelta(seconds=10)
    assert cluster(settings(keys={"proxy-connect-timeout": "20"})).connect_timeout == timedelta(seconds=20)


def test_a_connection_cannot_come_about_in_no_time() -> None:
    assert complaints({"proxy-connect-timeout": "0"}) == [("proxy-connect-timeout", "is 0, which is not between 1 and 2147483")]


@pytest.mark.parametrize(
    ("text", "http2", "tls"), [("HTTP", False, False), ("https", False, True), ("GRPC", True, False), ("grpcs", True, True)]
)
def test_backend_protocol_chooses_the_version_of_http_and_tls(text: str, http2: bool, tls: bool) -> None:
    made = cluster(settings({"backend-protocol": text}))
    options = upstream({"backend-protocol": text})
    assert options.explicit_http_config is not None
    assert (options.explicit_http_config.http2_protocol_options is not None) is http2
    assert (options.explicit_http_config.http_protocol_options is not None) is not http2
    assert options.common_http_protocol_options is not None
    assert options.common_http_protocol_options.idle_timeout == timedelta(seconds=60)
    assert (made.transport_socket is not None) is tls


def test_header_names_reach_an_http1_backend_as_they_were_written() -> None:
    options = upstream()
    assert options.explicit_http_config
    http1 = options.explicit_http_config.http_protocol_options
    assert http1
    assert http1.header_key_format
    assert http1.header_key_format.stateful_formatter
    assert http1.header_key_format.stateful_formatter.typed_config
    assert http1.header_key_format.stateful_formatter.typed_config.type_url.endswith("PreserveCaseFormatterConfig")
    assert isinstance(options.common_http_protocol_options, CommonOptions)


@pytest.mark.parametrize(("text", "alpn"), [("HTTPS", []), ("GRPCS", ["h2"])])
def test_tls_to_a_backend_is_not_verified_and_has_no_server_name(text: str, alpn: list[str]) -> None:
    made = cluster(settings({"backend-protocol": text})).transport_socket
    assert made
    assert made.typed_config
    context = UpstreamTlsContext.parse(made.typed_config.value)
    assert (context.sni, context.auto_host_sni) == ("", False)
    assert context.common_tls_context
    assert context.common_tls_context.validation_context is None
    assert context.common_tls_context.alpn_protocols == alpn
    assert context.common_tls_context.tls_params
    assert context.common_tls_context.tls_params.tls_maximum_protocol_version is TlsParametersTlsProtocol.TLSv1_3


def test_auto_http_speaks_to_the_backend_as_the_client_spoke() -> None:
    made = routes(settings({"backend-protocol": "auto_http"}))
    assert [(r.via, r.settings["backend_protocol"]) for r in made] == [(Via.HTTP, Protocol.HTTP), (Via.HTTPS, Protocol.HTTPS)]
    assert [r.action for r in made] == [Forward(CLUSTER)] * 2


def test_auto_http_takes_a_route_of_one_scheme_for_what_it_is() -> None:
    found = settings({"backend-protocol": "AUTO_HTTP"})
    (only,) = (replace(r, via=Via.HTTPS) for r in routes(settings()))
    made = BACKEND_PROTOCOL.routes(found["backend_protocol"], location(found), (only,))
    assert [(r.via, r.settings["backend_protocol"]) for r in made] == [(Via.HTTPS, Protocol.HTTPS)]


def test_auto_http_comes_behind_the_redirect_to_https() -> None:
    made = routes(settings({"backend-protocol": "AUTO_HTTP"}), tls=True)
    assert [(r.via, isinstance(r.action, Forward)) for r in made] == [(Via.HTTP, False), (Via.HTTP, True), (Via.HTTPS, True)]


def test_fastcgi_is_refused_with_what_to_do_instead() -> None:
    ((name, sentence),) = complaints({"backend-protocol": "fcgi"})
    assert name == "backend-protocol"
    assert sentence == "is FCGI, which Envoy does not speak; put a web server that does in front of the application"


def test_service_upstream_is_false_unless_told_otherwise() -> None:
    assert settings()["service_upstream"] is False
    assert settings({"service-upstream": "true"})["service_upstream"] is True
    assert settings({"service-upstream": "false"}, {"service-upstream": "true"})["service_upstream"] is False


def test_the_features_that_make_clusters_differ() -> None:
    assert cluster_features() == {
        "affinity",
        "backend_protocol",
        "load_balance",
        "next_upstream",
        "proxy_buffer_size",
        "proxy_connect_timeout",
        "proxy_rewrites",
        "proxy_ssl",
        "service_upstream",
        "snippet_tls",
        "upstream_hash_by",
    }


def test_equal_settings_are_drawn_as_one_message() -> None:
    one, other = (cluster(settings({"backend-protocol": "GRPCS"})) for _ in range(2))
    assert one.transport_socket
    assert other.transport_socket
    assert one.transport_socket.typed_config is other.transport_socket.typed_config
    assert encode(one) == encode(other)


@pytest.mark.parametrize(
    ("text", "sentence", "then"),
    [
        ("chash", "is 'chash', which upstream-hash-by asks for by itself", Unreadable.IDLE),
        ("sticky_persistent", "is 'sticky_persistent', which affinity asks for by itself", Unreadable.IDLE),
        ("EWMA", "is 'EWMA', which is none of round_robin, ewma, least_conn, ip_hash", Unreadable.LEAVES_OUT),
    ],
)
def test_only_words_that_ingress_nginx_does_not_take_leave_an_ingress_out(text: str, sentence: str, then: Unreadable) -> None:
    assert read_settings({"load-balance": text}, {})[1] == [Complaint("load-balance", sentence, then)]
