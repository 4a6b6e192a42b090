"""What ingress-nginx knows and no feature here has: every other annotation and ConfigMap key, by name, with its verdict.

A name leaves this file on the day a feature declares it. The rows of a table are what differs: name, default, example, what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from xds.nginx.feature import Annotation, Fidelity, Key, Risk, Scope, Unreadable, always, same_key
from xds.nginx.values import boolean, matching

_Row = tuple[str, str, str, str]
_REFUSED, _IGNORED = Fidelity.REFUSED, Fidelity.IGNORED

BUFFERS = "Envoy streams and buffers by itself, within fixed limits"
_SNIPPETS = (
    "Envoy has no nginx configuration to insert text into; use the annotation that does the same, such as permanent-redirect, "
    "rewrite-target or backend-protocol, or change the application"
)
_NO_FASTCGI = "Envoy does not speak FastCGI; put a web server that does in front of the application"
_WAF = "Envoy has no ModSecurity; run a web application firewall in front of, or behind, Envoy"

_ANNOTATIONS: tuple[tuple[Fidelity, str, tuple[_Row, ...]], ...] = (
    (
        _REFUSED,
        "Envoy speaks HTTP/1.1 to backends, or HTTP/2 where backend-protocol is GRPC",
        (("proxy-http-version", "1.1", "1.0", "The HTTP version of connections to backends."),),
    ),
    (
        _IGNORED,
        BUFFERS,
        (
            ("client-body-buffer-size", "8k", "16k", "The memory for the body of a request."),
            ("proxy-buffers-number", "4", "8", "The number of buffers for a response."),
            ("proxy-busy-buffers-size", "", "16k", "The memory that may be on its way to the client."),
            ("proxy-max-temp-file-size", "1024m", "0", "The size of a file that takes what does not fit the buffers."),
        ),
    ),
    (
        _IGNORED,
        "it has no effect on requests",
        (
            ("enable-rewrite-log", "false", "true", "Whether nginx logs its rewrites."),
            ("http2-push-preload", "false", "true", "Whether Link headers become HTTP/2 pushes, which browsers no longer take."),
        ),
    ),
    (
        _IGNORED,
        "our order of ciphers counts for all hosts, and each cipher on offer is secure",
        (("ssl-prefer-server-ciphers", "", "true", "Whether the order of the server's ciphers counts."),),
    ),
    (
        _REFUSED,
        "Envoy begins a span before it knows the path; use the ConfigMap key of this name, which holds for all",
        (("opentelemetry-trust-incoming-span", "true", "false", "Whether the client's trace is continued."),),
    ),
    (
        _REFUSED,
        _WAF,
        (
            ("enable-modsecurity", "false", "true", "Whether ModSecurity inspects requests."),
            ("enable-owasp-core-rules", "false", "true", "Whether ModSecurity inspects requests by the OWASP rules."),
            ("modsecurity-transaction-id", "", "$request_id", "The name of a request in ModSecurity's log."),
            ("modsecurity-snippet", "", "SecRuleEngine On", "Rules for ModSecurity."),
        ),
    ),
    (
        _REFUSED,
        _NO_FASTCGI,
        (
            ("fastcgi-index", "", "index.php", "The script for a path that ends in a slash."),
            ("fastcgi-params-configmap", "", "fastcgi", "The ConfigMap with FastCGI parameters."),
        ),
    ),
    (
        _REFUSED,
        "the authentication request is Envoy's own; use the annotation auth-proxy-set-headers",
        (("auth-snippet", "", "proxy_set_header X-A b;", "nginx configuration for the authentication request."),),
    ),
    (
        _REFUSED,
        _SNIPPETS,
        (("stream-snippet", "", "server { listen 1; }", "nginx configuration for TCP and UDP."),),
    ),
)

_ALSO_KEYS = """
proxy-buffers-number proxy-busy-buffers-size proxy-max-temp-file-size proxy-http-version
client-body-buffer-size
enable-modsecurity modsecurity-snippet stream-snippet
"""
"""Annotations whose default for the whole cluster is a key of the same name."""

_GONE_TRACERS = """
zipkin-collector-host zipkin-collector-port zipkin-service-name zipkin-sample-rate jaeger-collector-host jaeger-collector-port
jaeger-endpoint jaeger-service-name jaeger-propagation-format jaeger-sampler-type jaeger-sampler-param jaeger-sampler-host
jaeger-sampler-port jaeger-trace-context-header-name jaeger-debug-header jaeger-baggage-header jaeger-trace-baggage-header-prefix
datadog-collector-host datadog-collector-port datadog-service-name datadog-environment datadog-operation-name-override
datadog-priority-sampling datadog-sample-rate
"""

_KeyRow = tuple[str, str, str]
_KEYS: tuple[tuple[Fidelity, str, tuple[_KeyRow, ...]], ...] = (
    (
        _REFUSED,
        "a hash chooses one endpoint, as if each set had one; use the annotation upstream-hash-by-subset",
        (
            ("upstream-hash-by-subset", "false", "Whether a hash chooses a set of endpoints instead of one."),
            ("upstream-hash-by-subset-size", "3", "The number of endpoints that a hash chooses together."),
        ),
    ),
    (
        _IGNORED,
        "paths are judged where they are served, whatever their characters",
        (("strict-validate-path-type", "true", "Whether odd characters in a path are refused at admission."),),
    ),
    (
        _REFUSED,
        _SNIPPETS,
        (
            ("main-snippet", "", "nginx configuration for all of it."),
            ("http-snippet", "", "nginx configuration for all hosts."),
            ("global-auth-snippet", "", "nginx configuration for all authentication requests."),
            ("plugins", "", "Lua programs that nginx runs."),
        ),
    ),
    (
        _IGNORED,
        "Envoy keeps a connection to a backend until it has been idle for upstream-keepalive-timeout",
        (("upstream-keepalive-connections", "320", "Idle connections to backends."),),
    ),
    (
        _IGNORED,
        "a request whose body pauses ends by the time-outs for backends, proxy-read-timeout and proxy-send-timeout",
        (("client-body-timeout", "60", "Seconds between two pieces of a request's body."),),
    ),
    (
        _IGNORED,
        "no response and no page names a version",
        (("server-tokens", "false", "Whether the Server header shows a version."),),
    ),
    (
        _IGNORED,
        "it names a header within nginx",
        (
            (
                "forwarded-for-proxy-protocol-header",
                "X-Forwarded-For-Proxy-Protocol",
                "The header in which nginx keeps the client's address, with both the PROXY protocol and use-forwarded-headers.",
            ),
        ),
    ),
    (
        _IGNORED,
        "ingress-nginx has it, and reads X-Forwarded-Host whatever it says",
        (("forwarded-host-header", "X-Forwarded-Host", "The header with the client's host."),),
    ),
    (
        _REFUSED,
        "limits identify clients by their addresses; use the keys for forwarded headers where a proxy hides these",
        (("limit-conn-zone-variable", "$binary_remote_addr", "The variable that identifies a client."),),
    ),
    (
        _REFUSED,
        "ingress-nginx itself no longer has a limit over all replicas; use limit-rps",
        (
            ("global-rate-limit-memcached-host", "", "The store of the limit over all replicas."),
            ("global-rate-limit-memcached-port", "11211", "The port of the store of the limit over all replicas."),
            ("global-rate-limit-memcached-connect-timeout", "50", "Milliseconds to connect to that store."),
            ("global-rate-limit-memcached-max-idle-timeout", "10000", "Milliseconds that connections to the store may be idle."),
            ("global-rate-limit-memcached-pool-size", "50", "The number of connections to the store."),
            ("global-rate-limit-status-code", "429", "The status over the limit of all replicas."),
        ),
    ),
    (
        _IGNORED,
        "sessions are resumed in either case: Envoy does it by tickets, where nginx without them has a cache",
        (("ssl-session-tickets", "false", "Whether clients resume sessions by tickets."),),
    ),
    (
        _REFUSED,
        "each Envoy generates its own keys and shares them with no other, so a session cannot be resumed at another Envoy",
        (("ssl-session-ticket-key", "", "The key of session tickets."),),
    ),
    (
        _REFUSED,
        "Envoy fetches no OCSP responses; clients can ask the authority themselves",
        (("enable-ocsp", "false", "Whether OCSP responses are stapled to certificates."),),
    ),
    (
        _REFUSED,
        "Envoy takes early data over QUIC only",
        (("ssl-early-data", "false", "Whether clients may send early data (0-RTT), before the handshake is complete."),),
    ),
    (
        _IGNORED,
        "Envoy reads headers into memory that grows up to the limit of large-client-header-buffers",
        (("client-header-buffer-size", "1k", "The memory for a request's header."),),
    ),
    (
        _REFUSED,
        "Envoy has no limit for the time in which tries may begin; use proxy-stream-next-upstream-tries",
        (("proxy-stream-next-upstream-timeout", "600s", "How long a TCP connection is tried."),),
    ),
    (
        _REFUSED,
        "there are no files, and backends set the types of their responses; in a snippet use default_type",
        (("default-type", "text/html", "The Content-Type of nginx's own responses, where nothing else sets it."),),
    ),
    (
        _IGNORED,
        "use-gzip holds for all browsers; none that is in use is known to fail with it",
        (("gzip-disable", "", "User agents that get responses without gzip."),),
    ),
    (
        _REFUSED,
        "its values are for nginx configuration, which does not exist here",
        (
            ("use-geoip", "false", "Whether nginx looks up the countries of clients in a GeoIP database (legacy)."),
            ("use-geoip2", "false", "Whether nginx looks up the countries of clients in a GeoIP2 database."),
            ("geoip2-autoreload-in-minutes", "0", "How often the GeoIP2 database is read again."),
        ),
    ),
    (
        _REFUSED,
        "listeners are made from the flags; use --listen-address (0.0.0.0 leaves out IPv6)",
        (
            ("bind-address", "", "The addresses that listeners bind."),
            ("bind-address-ipv4", "", "The IPv4 addresses that listeners bind."),
            ("bind-address-ipv6", "", "The IPv6 addresses that listeners bind."),
            ("disable-ipv6", "false", "Whether listeners leave out IPv6."),
        ),
    ),
    (
        _IGNORED,
        "Envoy takes whichever address of a name answers, of either family",
        (("disable-ipv6-dns", "false", "Whether names of backends are resolved to IPv4 only."),),
    ),
    (
        _IGNORED,
        "it is a file of nginx; what it holds is in the keys otlp-* and otel-*",
        (("opentelemetry-config", "/etc/nginx/opentelemetry.toml", "The file with settings for traces."),),
    ),
    (
        _IGNORED,
        "Envoy sends spans once there are five, or after five seconds",
        (
            ("otel-schedule-delay-millis", "5000", "Milliseconds between two exports."),
            ("otel-max-export-batch-size", "512", "The most spans in one export."),
        ),
    ),
    (
        _REFUSED,
        "ingress-nginx itself no longer has these tracers; use OpenTelemetry (otlp-collector-host)",
        (
            ("enable-opentracing", "false", "Whether requests are traced by OpenTracing."),
            ("opentracing-operation-name", "", "The name of a span."),
            ("opentracing-location-operation-name", "", "The name of a path's span."),
            ("opentracing-trust-incoming-span", "true", "Whether the client's trace is continued."),
            *((name, "", "A setting of a tracer that is gone.") for name in _GONE_TRACERS.split()),
        ),
    ),
    (
        _IGNORED,
        "requests that no Ingress answers are always logged",
        (("enable-access-log-for-default-backend", "false", "Whether requests without a host are logged."),),
    ),
    (
        _REFUSED,
        "requests to an authentication service are not logged; let the service log them",
        (("enable-auth-access-log", "false", "Whether authentication requests are logged."),),
    ),
    (
        _REFUSED,
        "Envoy has no syslog; let what collects the standard output of its container pass it on",
        (
            ("enable-syslog", "false", "Whether the log goes to a syslog server."),
            ("syslog-host", "", "The syslog server."),
            ("syslog-port", "514", "The port of the syslog server."),
        ),
    ),
    (_REFUSED, _WAF, (("enable-owasp-modsecurity-crs", "false", "Whether ModSecurity inspects requests by the OWASP rules."),)),
    (
        _IGNORED,
        "ingress-nginx never reads it: only the annotation has an effect",
        (("app-root", "", "The path to which a request for / is redirected."),),
    ),
    (
        _IGNORED,
        "Envoy drains connections for the time of its flag --drain-time-s",
        (("worker-shutdown-timeout", "240s", "How long old connections may go on after a change."),),
    ),
    (
        _IGNORED,
        "Envoy writes each line at once; a condition (if=…) has no effect, for which there are skip-access-log-urls and enable-access-log",
        (("access-log-params", "", "How nginx writes its log."),),
    ),
    (
        _IGNORED,
        "it tunes the inside of nginx",
        (
            ("debug-connections", "", "Clients for which nginx logs more."),
            ("enable-aio-write", "true", "How nginx writes files."),
            ("enable-multi-accept", "true", "How nginx takes connections."),
            ("enable-serial-reloads", "false", "How nginx reloads."),
            ("error-log-level", "notice", "What nginx logs of itself."),
            ("error-log-path", "/var/log/nginx/error.log", "The path of the error log of nginx."),
            ("grpc-buffer-size-kb", "0", "nginx's buffer for gRPC."),
            ("http2-max-field-size", "", "nginx's buffer for an HTTP/2 header."),
            ("http2-max-header-size", "", "nginx's buffer for all HTTP/2 headers."),
            ("http2-max-requests", "0", "Requests on one HTTP/2 connection."),
            ("lua-shared-dicts", "", "The memory of nginx's Lua programs."),
            ("map-hash-bucket-size", "64", "nginx's hash tables."),
            ("max-worker-connections", "16384", "Connections of an nginx process."),
            ("max-worker-open-files", "0", "Files of an nginx process."),
            ("nginx-status-ipv4-whitelist", "127.0.0.1", "Who may see nginx's status page."),
            ("nginx-status-ipv6-whitelist", "::1", "Who may see nginx's status page."),
            ("proxy-headers-hash-bucket-size", "64", "nginx's hash tables."),
            ("proxy-headers-hash-max-size", "512", "nginx's hash tables."),
            ("reuse-port", "true", "How nginx's processes share a port."),
            ("server-name-hash-bucket-size", "", "nginx's hash tables."),
            ("server-name-hash-max-size", "1024", "nginx's hash tables."),
            ("ssl-buffer-size", "4k", "nginx's buffer for TLS."),
            ("ssl-dh-param", "", "The Secret for Diffie-Hellman without curves, which Envoy does not use."),
            ("ssl-session-cache", "true", "Whether nginx's processes share TLS sessions."),
            ("ssl-session-cache-size", "10m", "The memory for shared TLS sessions."),
            ("variables-hash-bucket-size", "256", "nginx's hash tables."),
            ("variables-hash-max-size", "2048", "nginx's hash tables."),
            ("worker-cpu-affinity", "", "Where nginx's processes run."),
            ("worker-processes", "", "The number of nginx's processes."),
        ),
    ),
)

_CRITICAL = "auth-snippet stream-snippet modsecurity-snippet"
_HIGH = "modsecurity-transaction-id"
_MEDIUM = "fastcgi-index fastcgi-params-configmap "
_DIFFERS: dict[str, Callable[[str, Collection[str]], bool]] = {
    "proxy-request-buffering": lambda value, _paths: value != "off",
}
_TUNING = """
client-body-timeout client-header-buffer-size upstream-keepalive-connections
proxy-stream-next-upstream-timeout
gzip-disable
enable-ocsp disable-ipv6 disable-ipv6-dns server-tokens
otel-max-export-batch-size otel-schedule-delay-millis
"""
"""Names without which requests are answered all the same, only sooner, later, or in other bytes on the wire."""
_OF_HOST = "ssl-prefer-server-ciphers"


def _word(text: str) -> str:
    return "true" if boolean(text) else "false"


_CHECKED: Mapping[str, tuple[Callable[[str], str], Unreadable]] = {
    "client-body-buffer-size": (matching("[0-9 ]*[0-9] *[bkmgBKMG]?", "size such as 16k"), Unreadable.LEAVES_OUT),
    "http2-push-preload": (_word, Unreadable.LEAVES_OUT),
    "fastcgi-index": (matching("[-A-Za-z0-9._]+", "name of a file such as index.php"), Unreadable.LEAVES_OUT),
    "fastcgi-params-configmap": (matching("[-A-Za-z0-9._/]+", "name of a ConfigMap"), Unreadable.CLOSES),
}
"""Those that ingress-nginx refuses with a bad value, though nothing here comes of a good one."""


def _risk(name: str) -> Risk:
    classes = {Risk.CRITICAL: _CRITICAL, Risk.HIGH: _HIGH, Risk.MEDIUM: _MEDIUM}
    return next((risk for risk, names in classes.items() if name in names.split()), Risk.LOW)


def _scope(name: str) -> Scope:
    return Scope.HOST if name in _OF_HOST.split() else Scope.LOCATION


def _annotations() -> Iterator[Annotation[Any]]:
    for fidelity, reason, rows in _ANNOTATIONS:
        for name, default, example, doc in rows:
            differs = _DIFFERS.get(name, always)
            parse, then = _CHECKED.get(name, (str, Unreadable.IDLE))
            scope, risk = _scope(name), _risk(name)
            yield Annotation(name, parse, doc, example, default, fidelity, reason, differs, unreadable=then, scope=scope, risk=risk)


def _keys() -> Iterator[Key[Any]]:
    also, tuning = _ALSO_KEYS.split(), _TUNING.split()
    yield from (same_key(a) for a in ANNOTATIONS if a.name in also)
    for fidelity, reason, rows in _KEYS:
        for name, default, doc in rows:
            yield Key(name, str, doc, default, default, fidelity, reason, tuning=name in tuning)


ANNOTATIONS: tuple[Annotation[Any], ...] = tuple(_annotations())
KEYS: tuple[Key[Any], ...] = tuple(_keys())
