"""Every name that ingress-nginx knows is declared once, and every declaration is complete."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from xds.nginx.feature import Annotation, Declared, Fidelity, Notes, Risk, Unreadable
from xds.nginx.known import ANNOTATIONS, KEYS
from xds.nginx.registry import features, known_annotations, known_keys, read_keys, read_settings
from xds.nginx.values import boolean

from .drawing import complaints, settings

ANNOTATION_NAMES = """
affinity affinity-canary-behavior affinity-mode allowlist-source-range app-root auth-always-set-cookie auth-cache-duration
auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars auth-keepalive-timeout auth-method
auth-proxy-set-headers auth-realm auth-request-redirect auth-response-headers auth-secret auth-secret-type auth-signin
auth-signin-redirect-param auth-snippet auth-tls-error-page auth-tls-match-cn auth-tls-pass-certificate-to-upstream
auth-tls-secret auth-tls-verify-client auth-tls-verify-depth auth-type auth-url backend-protocol canary canary-by-cookie
canary-by-header canary-by-header-pattern canary-by-header-value canary-weight canary-weight-total client-body-buffer-size
configuration-snippet connection-proxy-header cors-allow-credentials cors-allow-headers cors-allow-methods cors-allow-origin
cors-expose-headers cors-max-age custom-headers custom-http-errors default-backend denylist-source-range
disable-proxy-intercept-errors enable-access-log enable-cors enable-global-auth enable-modsecurity enable-opentelemetry
enable-owasp-core-rules enable-rewrite-log fastcgi-index fastcgi-params-configmap force-ssl-redirect from-to-www-redirect
http2-push-preload limit-allowlist limit-burst-multiplier limit-connections limit-rate limit-rate-after limit-rpm limit-rps
limit-whitelist load-balance mirror-host mirror-request-body mirror-target modsecurity-snippet modsecurity-transaction-id
opentelemetry-operation-name opentelemetry-trust-incoming-span permanent-redirect permanent-redirect-code preserve-trailing-slash
proxy-body-size proxy-buffer-size proxy-buffering proxy-buffers-number proxy-busy-buffers-size proxy-connect-timeout
proxy-cookie-domain proxy-cookie-path proxy-http-version proxy-max-temp-file-size proxy-next-upstream proxy-next-upstream-timeout
proxy-next-upstream-tries proxy-read-timeout proxy-redirect-from proxy-redirect-to proxy-request-buffering proxy-send-timeout
proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols proxy-ssl-secret proxy-ssl-server-name proxy-ssl-verify
proxy-ssl-verify-depth relative-redirects rewrite-target satisfy server-alias server-snippet service-upstream
session-cookie-change-on-failure session-cookie-conditional-samesite-none session-cookie-domain session-cookie-expires
session-cookie-max-age session-cookie-name session-cookie-path session-cookie-samesite session-cookie-secure ssl-ciphers
ssl-passthrough ssl-prefer-server-ciphers ssl-redirect stream-snippet temporal-redirect temporal-redirect-code upstream-hash-by
upstream-hash-by-subset upstream-hash-by-subset-size upstream-vhost use-port-in-redirects use-regex whitelist-source-range
x-forwarded-prefix
"""
KEY_NAMES = """
access-log-params access-log-path add-headers allow-backend-server-header allow-cross-namespace-resources
allow-snippet-annotations annotation-value-word-blocklist annotations-risk-level app-root bind-address bind-address-ipv4
bind-address-ipv6 block-cidrs block-referers block-user-agents brotli-level brotli-min-length brotli-types client-body-buffer-size
client-body-timeout client-header-buffer-size client-header-timeout compute-full-forwarded-for custom-http-errors
datadog-collector-host datadog-collector-port datadog-environment datadog-operation-name-override datadog-priority-sampling
datadog-sample-rate datadog-service-name debug-connections default-type denylist-source-range disable-access-log
disable-http-access-log disable-ipv6 disable-ipv6-dns disable-proxy-intercept-errors disable-stream-access-log
enable-access-log-for-default-backend enable-aio-write enable-auth-access-log enable-brotli enable-modsecurity enable-multi-accept
enable-ocsp enable-opentelemetry enable-opentracing enable-owasp-modsecurity-crs enable-real-ip enable-serial-reloads
enable-syslog enable-underscores-in-headers error-log-level error-log-path force-ssl-redirect forwarded-for-header
forwarded-for-proxy-protocol-header forwarded-host-header generate-request-id geoip2-autoreload-in-minutes
global-allowed-response-headers global-auth-always-set-cookie global-auth-cache-duration global-auth-cache-key global-auth-method
global-auth-request-redirect global-auth-response-headers global-auth-signin global-auth-signin-redirect-param global-auth-snippet
global-auth-url global-rate-limit-memcached-connect-timeout global-rate-limit-memcached-host
global-rate-limit-memcached-max-idle-timeout global-rate-limit-memcached-pool-size global-rate-limit-memcached-port
global-rate-limit-status-code grpc-buffer-size-kb gzip-disable gzip-level gzip-min-length gzip-types hide-headers hsts
hsts-include-subdomains hsts-max-age hsts-preload http-access-log-path http-redirect-code http-snippet
http2-max-concurrent-streams http2-max-field-size http2-max-header-size http2-max-requests ignore-invalid-headers
jaeger-baggage-header jaeger-collector-host jaeger-collector-port jaeger-debug-header jaeger-endpoint jaeger-propagation-format
jaeger-sampler-host jaeger-sampler-param jaeger-sampler-port jaeger-sampler-type jaeger-service-name
jaeger-trace-baggage-header-prefix jaeger-trace-context-header-name keep-alive keep-alive-requests large-client-header-buffers
limit-conn-status-code limit-conn-zone-variable limit-rate limit-rate-after limit-req-status-code load-balance location-snippet
log-format-escape-json log-format-escape-none log-format-stream log-format-upstream lua-shared-dicts main-snippet
map-hash-bucket-size max-worker-connections max-worker-open-files modsecurity-snippet nginx-status-ipv4-whitelist
nginx-status-ipv6-whitelist no-auth-locations no-tls-redirect-locations opentelemetry-config opentelemetry-operation-name
opentelemetry-trust-incoming-span opentracing-location-operation-name opentracing-operation-name opentracing-trust-incoming-span
otel-max-export-batch-size otel-max-queuesize otel-sampler otel-sampler-parent-based otel-sampler-ratio otel-schedule-delay-millis
otel-service-name otlp-collector-host otlp-collector-port plugins preserve-trailing-slash proxy-add-original-uri-header
proxy-body-size proxy-buffer-size proxy-buffering proxy-buffers-number proxy-busy-buffers-size proxy-connect-timeout
proxy-cookie-domain proxy-cookie-path proxy-headers-hash-bucket-size proxy-headers-hash-max-size proxy-http-version
proxy-max-temp-file-size proxy-next-upstream proxy-next-upstream-timeout proxy-next-upstream-tries proxy-protocol-header-timeout
proxy-read-timeout proxy-real-ip-cidr proxy-redirect-from proxy-redirect-to proxy-request-buffering proxy-send-timeout
proxy-set-headers proxy-ssl-location-only proxy-stream-next-upstream proxy-stream-next-upstream-timeout
proxy-stream-next-upstream-tries proxy-stream-responses proxy-stream-timeout relative-redirects retry-non-idempotent reuse-port
server-name-hash-bucket-size server-name-hash-max-size server-snippet server-tokens service-upstream skip-access-log-urls
ssl-buffer-size ssl-ciphers ssl-dh-param ssl-early-data ssl-ecdh-curve ssl-protocols ssl-redirect ssl-reject-handshake
ssl-session-cache ssl-session-cache-size ssl-session-ticket-key ssl-session-tickets ssl-session-timeout stream-access-log-path
stream-snippet strict-validate-path-type syslog-host syslog-port upstream-hash-by upstream-hash-by-subset
upstream-hash-by-subset-size upstream-keepalive-connections upstream-keepalive-requests upstream-keepalive-time
upstream-keepalive-timeout use-forwarded-headers use-geoip use-geoip2 use-gzip use-http2 use-port-in-redirects use-proxy-protocol
variables-hash-bucket-size variables-hash-max-size whitelist-source-range worker-cpu-affinity worker-processes
worker-shutdown-timeout zipkin-collector-host zipkin-collector-port zipkin-sample-rate zipkin-service-name
"""
OUR_KEYS = {"service-session-affinity"}
DECLARED: list[Declared[Any]] = [*known_annotations().values(), *known_keys().values()]
OF_FEATURES = [(name, a) for name, feature in features().items() for a in feature.annotations]


def test_every_annotation_of_ingress_nginx_is_known_and_no_other() -> None:
    assert set(known_annotations()) == set(ANNOTATION_NAMES.split())
    assert len(ANNOTATION_NAMES.split()) == 138


def test_every_key_of_ingress_nginx_is_known_and_no_other() -> None:
    assert set(known_keys()) == set(KEY_NAMES.split()) | OUR_KEYS


def test_no_name_is_declared_twice() -> None:
    names = Counter([a.name for _, a in OF_FEATURES] + [a.name for a in ANNOTATIONS])
    own = {k.name for feature in features().values() for k in feature.keys} | {a.key.name for _, a in OF_FEATURES if a.key}
    keys = Counter([*own, *(k.name for k in KEYS)])
    assert [name for name, count in (names + keys).items() if max(names[name], keys[name]) > 1] == []


def test_each_declaration_has_an_example_that_its_parser_takes() -> None:
    for declared in DECLARED:
        assert declared.parse(declared.example) is not None, declared.name


def test_each_declaration_is_explained_in_one_sentence() -> None:
    for declared in DECLARED:
        assert declared.doc.endswith("."), declared.name
        assert declared.doc[0].isupper() or declared.doc.startswith("nginx"), declared.name
        assert len(declared.doc) < 160, declared.name


def test_each_declaration_gives_a_reason_exactly_where_it_is_not_as_in_ingress_nginx() -> None:
    for declared in DECLARED:
        assert bool(declared.reason) is (declared.fidelity is not Fidelity.EXACT), declared.name
        assert not declared.reason.endswith("."), declared.name


@pytest.mark.parametrize(("feature", "annotation"), OF_FEATURES, ids=lambda value: getattr(value, "name", value))
def test_a_feature_reads_its_example_without_complaint(feature: str, annotation: Annotation[Any]) -> None:
    found = settings({annotation.name: annotation.example})
    assert all(isinstance(hash(setting), int) for setting in found.values())


@pytest.mark.parametrize("key", [k for k in known_keys().values() if k not in KEYS], ids=lambda k: k.name)
def test_the_example_of_a_key_changes_what_everybody_gets(key: Declared[Any]) -> None:
    dependent = {
        "proxy-real-ip-cidr",
        "proxy-protocol-header-timeout",
        "compute-full-forwarded-for",
        "hsts-preload",
        "http-redirect-code",
        "global-allowed-response-headers",
        "limit-conn-status-code",
        "limit-rate",
        "limit-rate-after",
        "proxy-buffering",
        "no-auth-locations",
        "allow-snippet-annotations",
        "proxy-redirect-from",
        "proxy-redirect-to",
    }
    dependent |= {"proxy-ssl-location-only", "disable-proxy-intercept-errors"}
    switches = {"gzip": {"use-gzip": "true"}, "brotli": {"enable-brotli": "true"}}
    collector = {"otlp-collector-host": "collector.test"}
    switches |= dict.fromkeys(("otlp", "opentelemetry"), collector) | {"otel": collector | {"otel-sampler": "AlwaysOff"}}
    if key.name == "otel-sampler-ratio":
        switches["otel"] = collector | {"otel-sampler": "TraceIdRatioBased"}
    if key.name == "enable-opentelemetry":
        switches["enable"] = collector
    beside = switches.get(key.name.partition("-")[0], {})
    companion = key.name.startswith("global-auth-") and key.name != "global-auth-url"
    assert companion or key.name in dependent or settings(keys=beside | {key.name: key.example}) != settings(keys=beside)


@pytest.mark.parametrize("annotation", [a for _, a in OF_FEATURES if a.key], ids=lambda a: a.name)
def test_an_annotation_wins_over_its_key(annotation: Annotation[Any]) -> None:
    assert annotation.key
    values, _ = read_keys({annotation.key.name: annotation.example})
    assert Notes({}, values).get(annotation) == annotation.parse(annotation.example)
    unreadable = Notes({annotation.name: "\tnonsense %\t"}, values)
    closes = annotation.unreadable is Unreadable.CLOSES
    assert unreadable.get(annotation) == (annotation.default if closes else annotation.parse(annotation.example))
    assert bool(unreadable.closed) is closes


def test_what_everybody_gets_is_what_ingress_nginx_does_by_default() -> None:
    found = {name: str(setting) for name, setting in settings().items()}
    assert found.pop("access_log").startswith("Log(line='$remote_addr - $remote_user [$time_local]")
    assert found == {
        "annotations_risk_level": "Risk.HIGH",
        "backend_protocol": "Protocol.HTTP",
        "client_connections": (
            "ClientConnections(idle=75, requests=0, header_timeout=60, streams=128, underscores=False, any_name=False, request_id=True)"
        ),
        "upstream_keepalive": "Keepalive(idle=60, requests=0, time=0)",
        "hsts": "max-age=31536000; includeSubDomains",
        "large_client_header_buffers": "32",
        "limit_req_status_code": "503",
        "load_balance": "round_robin",
        "next_upstream": "Tries(conditions=('error', 'timeout'), tries=3, unbuffered=False)",
        "proxy_buffer_size": "256",
        "proxy_timeouts": "Timeouts(silent=60, idle=195)",
        "proxy_body_size": "1048576",
        "proxy_connect_timeout": "5",
        "proxy_stream_timeout": "StreamTimeouts(tcp=600, udp=10)",
        "service_session_affinity": "False",
        "service_upstream": "False",
        "stream_log": "StreamLog(line='[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time', "
        "to_stderr=False)",
        "ssl_protocols": "Spoken(versions=('TLSv1.2', 'TLSv1.3'), curves=(), resumable=600, http2=True)",
        "ssl_redirect": "SslRedirect(with_tls=True, force=False, code=308, exempt=('/.well-known/acme-challenge',), "
        "keep_slash=False, port='')",
    }


def test_the_first_to_act_on_a_request_is_the_first_feature() -> None:
    names = list(features())
    assert names.index("app_root") < names.index("redirects") < names.index("ssl_redirect") < names.index("proxy_body_size")


def test_snippets_are_critical() -> None:
    critical = {a.name for a in known_annotations().values() if a.risk is Risk.CRITICAL}
    assert critical == {"auth-snippet", "configuration-snippet", "server-snippet", "stream-snippet", "modsecurity-snippet"}
    translated = {name for name in critical if known_annotations()[name].fidelity is not Fidelity.REFUSED}
    assert translated == {"configuration-snippet", "server-snippet"}


def test_what_only_says_what_holds_anyway_is_told_apart() -> None:
    assert not known_keys()["allow-snippet-annotations"].needs_verdict(" false\n")
    assert not known_keys()["proxy-body-size"].needs_verdict("1M")
    assert known_keys()["allow-snippet-annotations"].needs_verdict("true")
    assert known_keys()["proxy-body-size"].needs_verdict("nonsense")
    assert not known_keys()["ssl-protocols"].needs_verdict("TLSv1.3 TLSv1.2")
    assert known_keys()["ssl-protocols"].needs_verdict("TLSv1.2")


@pytest.mark.parametrize(
    ("name", "value", "paths", "meets"),
    [
        ("load-balance", "ewma", (), True),
        ("load-balance", "ip_hash", (), False),
        ("proxy-next-upstream", "error", (), True),
        ("proxy-next-upstream", "invalid_header http_502", (), True),
        ("proxy-next-upstream", "error timeout http_502", (), False),
        ("proxy-next-upstream", "off", (), False),
        ("proxy-request-buffering", "off", (), False),
        ("rewrite-target", "/", ("/a/(.*)",), False),
        ("rewrite-target", "/$1", ("/a/(.*)",), True),
        ("rewrite-target", "https://example.com/", ("/",), True),
        ("use-regex", "true", ("/a", "/b/c"), False),
        ("use-regex", "true", ("/a", r"/b/\d+"), True),
    ],
)
def test_a_difference_is_told_where_the_value_or_a_path_can_meet_it(name: str, value: str, paths: tuple[str, ...], meets: bool) -> None:
    assert known_annotations()[name].needs_verdict(value, paths) is meets


def test_an_empty_value_counts_as_not_written() -> None:
    assert read_settings({"proxy-body-size": "", "rewrite-target": " \n "}, {}) == (settings(), [])
    assert read_keys({"proxy-body-size": " "}) == ({}, [])


def test_an_annotation_without_a_name_is_nobodys_alias() -> None:
    assert settings({"": "nonsense"}) == settings()


def test_a_bad_value_of_an_annotation_that_two_features_read_is_one_complaint() -> None:
    assert [name for name, _ in complaints({"proxy-read-timeout": "soon"})] == ["proxy-read-timeout"]


def test_an_alias_counts_where_the_name_says_nothing_and_is_blamed_under_its_own_name() -> None:
    annotation = Annotation("new", int, "A number.", "1", 0, alias="old")
    assert Notes({"old": "2"}, {}).get(annotation) == 2
    assert Notes({"old": "2", "new": "3"}, {}).get(annotation) == 3
    notes = Notes({"old": "many"}, {})
    assert notes.get(annotation) == 0
    assert [c.name for c in notes.complaints] == ["old"]


@pytest.mark.parametrize("name", [name for name, key in known_keys().items() if key.parse is boolean])
def test_a_switch_that_is_empty_is_off_and_one_of_blanks_is_not_read(name: str) -> None:
    """ingress-nginx reads its ConfigMap by mapstructure, for which an empty text is false, and blanks are no boolean."""
    default = known_keys()[name].default
    values, complaints = read_keys({name: ""})
    assert (values, [each.name for each in complaints]) == (({name: False}, [name]) if default else ({}, []))
    assert read_keys({name: " "})[0] == {}


def test_some_switches_are_on_by_default() -> None:
    assert {"ssl-redirect", "hsts", "use-http2"} <= {name for name, key in known_keys().items() if key.parse is boolean and key.default}
