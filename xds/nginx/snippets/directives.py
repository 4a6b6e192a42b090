"""The white list: every directive that a snippet may have, where it may stand, and what becomes of it; and what is known to be refused.

docs/snippets.md is written from it. What is in no row is refused as well. A directive of the kind CLOSES keeps somebody out in nginx: the
paths of a snippet that has one are closed, for without it they would be open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from xds.nginx.known import BUFFERS


class Outcome(Enum):
    """What becomes of a directive."""

    HEADERS = "headers"
    FLOW = "routes"
    ANSWER = "variables of an answer"
    ACCESS = "access rules"
    PLACE = "paths"
    BACKEND = "TLS to backends"
    IDLE = "no effect"
    """It is accepted: nothing that a user can see is lost, or nothing but speed."""
    REFUSED = "refused"
    CLOSES = "refused, and closes its paths"


class Block(Enum):
    """Where a directive can stand."""

    SERVER = "server"
    LOCATION = "location"
    IF = "if"


@dataclass(frozen=True, slots=True)
class Row:
    """One directive. `remark` ends the sentence about what differs, or why it is refused; "" where it is as in nginx.

    `idle`: blocks in which it has no effect in ingress-nginx either, for each location has its own. `elsewhere`: why it is refused in other
    blocks that nginx takes it in.
    """

    kind: Outcome
    remark: str = ""
    blocks: tuple[Block, ...] = (Block.SERVER, Block.LOCATION)
    idle: tuple[Block, ...] = ()
    elsewhere: str = ""

    @property
    def differs(self) -> bool:
        """Whether every use of it can meet the difference that the remark names; of others, what cannot be is refused."""
        return self.kind in (Outcome.IDLE, Outcome.PLACE) or self.remark == _STAYS


_ANY = (Block.SERVER, Block.LOCATION, Block.IF)
_STAYS = "the request stays with the backend of the path that it came by, and groups stand for the path as it was sent"
_LOGS = "Envoy logs each request in one format"
_CACHE = "there is no cache: each response comes from the backend"
_COMPRESSED = "responses are as the backend compressed them"
_ALONE = "it has an effect only beside another directive, which is refused"
_ANNOTATION = "it stands in each location already; use the annotation {}"
_ANSWERED = "of the answer's variables there is `$upstream_http_*`; cookies of the service reach the client anyway"
_LUA = "nothing that an annotation holds is executed"
_BODIES = "Envoy's own filters change no bodies; change the application"
_UPWARDS = "a header that the proxy sets itself can be set to what it is anyway; Host, and all others, replace instead of being sent twice"
_BACKENDS = "where requests go is what an Ingress is for: add a path with the Service"
_NAME = "it is a name without variables, which is sent where …_ssl_server_name is on"
_SUITES = "those that Envoy has"
_HERE = "it is taken in a configuration-snippet"
_LIMIT = "its zone is in a part of nginx's configuration that there is none of; use the annotation {}"


def _own(annotation: str) -> Row:
    return Row(Outcome.REFUSED, _ANNOTATION.format(annotation), idle=(Block.SERVER,))


ROWS: dict[str, Row] = {
    # headers
    "add_header": Row(Outcome.HEADERS, "Content-Type replaces that of the response", _ANY),
    "more_set_headers": Row(Outcome.HEADERS, "", _ANY),
    "more_clear_headers": Row(Outcome.HEADERS, "with -s or -t it is refused", _ANY),
    "more_set_input_headers": Row(Outcome.HEADERS, "of what the proxy sets itself, the backend gets the proxy's", _ANY),
    "more_clear_input_headers": Row(Outcome.HEADERS, "of what the proxy sets itself, the backend gets the proxy's", _ANY),
    **dict.fromkeys(("proxy_set_header", "grpc_set_header"), Row(Outcome.HEADERS, _UPWARDS, idle=(Block.SERVER,))),
    "proxy_hide_header": Row(Outcome.HEADERS),
    "expires": Row(Outcome.HEADERS, "`modified`, `@` and variables are refused", _ANY),
    "default_type": Row(Outcome.HEADERS, "it is the type of what `return` writes"),
    # routes
    "set": Row(Outcome.FLOW, "the value is put in wherever the snippet uses the variable", _ANY),
    "if": Row(Outcome.FLOW, "on headers, cookies, arguments, method, host, scheme, path and what `set` has set"),
    "return": Row(Outcome.FLOW, "444 is 403: Envoy closes no connection without an answer", _ANY),
    "rewrite": Row(Outcome.FLOW, _STAYS, _ANY),
    "break": Row(Outcome.FLOW, "", _ANY),
    # variables of an answer
    "auth_request_set": Row(Outcome.ANSWER, _ANSWERED, idle=(Block.SERVER,)),
    # access rules
    "allow": Row(Outcome.ACCESS),
    "deny": Row(Outcome.ACCESS),
    "satisfy": Row(Outcome.ACCESS, "", (Block.LOCATION,), elsewhere=_HERE),
    # paths
    "location": Row(Outcome.PLACE, "it answers by `return`, or with 404 as there are no files; `@names` are refused", (Block.SERVER,)),
    # TLS to backends
    **dict.fromkeys(("proxy_ssl_name", "grpc_ssl_name"), Row(Outcome.BACKEND, _NAME, (Block.LOCATION,), elsewhere=_HERE)),
    **dict.fromkeys(("proxy_ssl_server_name", "grpc_ssl_server_name"), Row(Outcome.BACKEND, "", (Block.LOCATION,), elsewhere=_HERE)),
    **dict.fromkeys(("proxy_ssl_ciphers", "grpc_ssl_ciphers"), Row(Outcome.BACKEND, _SUITES, (Block.LOCATION,), elsewhere=_HERE)),
    # no effect
    **dict.fromkeys(("access_log", "log_not_found", "log_subrequest", "error_log", "rewrite_log"), Row(Outcome.IDLE, _LOGS, _ANY)),
    "server_tokens": Row(Outcome.IDLE, "no response shows a version"),
    **dict.fromkeys(
        (
            "client_body_buffer_size",
            "client_header_buffer_size",
            "large_client_header_buffers",
            "http2_max_field_size",
            "http2_max_header_size",
            "proxy_buffer_size",
            "proxy_buffers",
            "proxy_buffering",
            "proxy_busy_buffers_size",
            "proxy_max_temp_file_size",
            "proxy_temp_file_write_size",
            "proxy_request_buffering",
            "chunked_transfer_encoding",
            "sendfile",
            "tcp_nodelay",
            "tcp_nopush",
            "output_buffers",
            "postpone_output",
            "reset_timedout_connection",
        ),
        Row(Outcome.IDLE, BUFFERS),
    ),
    **dict.fromkeys(
        (
            "proxy_cache",
            "proxy_cache_valid",
            "proxy_cache_key",
            "proxy_cache_bypass",
            "proxy_cache_lock",
            "proxy_cache_methods",
            "proxy_cache_min_uses",
            "proxy_cache_revalidate",
            "proxy_cache_use_stale",
            "proxy_cache_background_update",
            "proxy_no_cache",
        ),
        Row(Outcome.IDLE, _CACHE),
    ),
    **dict.fromkeys(
        ("gzip", "gzip_types", "gzip_vary", "gzip_proxied", "gzip_comp_level", "gzip_min_length", "gunzip", "brotli", "brotli_types"),
        Row(Outcome.IDLE, _COMPRESSED, _ANY),
    ),
    **dict.fromkeys(("keepalive_timeout", "keepalive_requests", "send_timeout"), Row(Outcome.IDLE, "connections have the limits of Envoy")),
    "etag": Row(Outcome.IDLE, "there are no files that it is about"),
    "proxy_ssl_session_reuse": Row(Outcome.IDLE, "Envoy resumes sessions by itself"),
    "proxy_intercept_errors": Row(Outcome.IDLE, "error_page, without which it does nothing, is refused"),
    "proxy_pass_header": Row(Outcome.IDLE, "nothing but what nginx itself reads is hidden"),
    "proxy_ignore_headers": Row(Outcome.IDLE, _CACHE),
    **dict.fromkeys(("limit_req_status", "limit_conn_status", "limit_req_log_level", "limit_conn_log_level"), Row(Outcome.IDLE, _ALONE)),
    **dict.fromkeys(("sub_filter_once", "sub_filter_types", "sub_filter_last_modified"), Row(Outcome.IDLE, _ALONE)),
    # refused
    "client_max_body_size": _own("proxy-body-size"),
    "proxy_connect_timeout": _own("proxy-connect-timeout"),
    "proxy_read_timeout": _own("proxy-read-timeout"),
    "proxy_send_timeout": _own("proxy-send-timeout"),
    "proxy_http_version": _own("proxy-http-version"),
    "proxy_next_upstream": _own("proxy-next-upstream"),
    "proxy_next_upstream_tries": _own("proxy-next-upstream-tries"),
    "proxy_redirect": _own("proxy-redirect-from"),
    "proxy_cookie_path": _own("proxy-cookie-path"),
    "proxy_cookie_domain": _own("proxy-cookie-domain"),
    "limit_rate": _own("limit-rate"),
    "proxy_ssl_verify": Row(Outcome.REFUSED, "use the annotation proxy-ssl-verify"),
    "proxy_ssl_trusted_certificate": Row(Outcome.REFUSED, "no file is read; use the annotation proxy-ssl-secret"),
    "proxy_pass": Row(Outcome.REFUSED, _BACKENDS, (Block.LOCATION, Block.IF)),
    "grpc_pass": Row(Outcome.REFUSED, _BACKENDS, (Block.LOCATION, Block.IF)),
    "error_page": Row(Outcome.REFUSED, "use the annotations custom-http-errors and default-backend", _ANY),
    "sub_filter": Row(Outcome.REFUSED, _BODIES),
    "include": Row(Outcome.REFUSED, "no file is read", _ANY),
    "real_ip_header": Row(
        Outcome.REFUSED, "who the client is, is decided for all; use the ConfigMap keys use-forwarded-headers or enable-real-ip"
    ),
    "set_real_ip_from": Row(Outcome.REFUSED, "who the client is, is decided for all; use the ConfigMap key proxy-real-ip-cidr"),
    "underscores_in_headers": Row(Outcome.REFUSED, "use the ConfigMap key enable-underscores-in-headers"),
    "ssl_protocols": Row(Outcome.REFUSED, "use the ConfigMap key ssl-protocols"),
    "ssl_ciphers": Row(Outcome.REFUSED, "use the annotation ssl-ciphers"),
    **dict.fromkeys(("root", "alias", "index", "try_files", "autoindex"), Row(Outcome.REFUSED, "there are no files", _ANY)),
    **dict.fromkeys(
        ("rewrite_by_lua_block", "content_by_lua_block", "header_filter_by_lua_block", "body_filter_by_lua_block", "log_by_lua_block"),
        Row(Outcome.REFUSED, _LUA),
    ),
    # refused, and closes
    "auth_basic": Row(Outcome.CLOSES, "use the annotations auth-type and auth-secret"),
    "auth_basic_user_file": Row(Outcome.CLOSES, "no file is read; use the annotation auth-secret"),
    "auth_request": Row(Outcome.CLOSES, "use the annotation auth-url"),
    "auth_jwt": Row(Outcome.CLOSES, "use the annotation auth-url"),
    "limit_except": Row(Outcome.CLOSES, "use `if ($request_method …) { return 403; }`"),
    "limit_req": Row(Outcome.REFUSED, _LIMIT.format("limit-rps")),
    "limit_conn": Row(Outcome.REFUSED, _LIMIT.format("limit-connections")),
    "ssl_verify_client": Row(Outcome.CLOSES, "use the annotation auth-tls-secret"),
    "ssl_client_certificate": Row(Outcome.CLOSES, "use the annotation auth-tls-secret"),
    "valid_referers": Row(Outcome.CLOSES, "use `if ($http_referer !~ …) { return 403; }`"),
    "secure_link": Row(Outcome.CLOSES, "use the annotation auth-url"),
    "internal": Row(Outcome.CLOSES, "no request is an internal one"),
    "modsecurity": Row(Outcome.REFUSED, "run a web application firewall in front of, or behind, Envoy"),
    "modsecurity_rules": Row(Outcome.REFUSED, "run a web application firewall in front of, or behind, Envoy"),
    **dict.fromkeys(("access_by_lua_block", "access_by_lua", "access_by_lua_file"), Row(Outcome.CLOSES, _LUA)),
}
UNKNOWN = Row(Outcome.REFUSED, "it is none that is translated", _ANY)
