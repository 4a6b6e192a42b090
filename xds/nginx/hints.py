"""What to write in place of names that ingress-nginx never had, has no more, or has elsewhere.

What belongs here: annotations that public manifests carry under the right prefix and that no version 1.15 reads, and other prefixes.
What does not: names with a verdict (`xds.nginx.known`, the features), and typing errors, which the nearest name explains.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

_HINTS: tuple[tuple[str, str], ...] = (
    (r"(global-)?rate-?limit(-.*)?|ratelimit.*|limit-req.*", "limit-rps, limit-rpm and limit-connections are its limits"),
    (r"websocket-services|enable-websockets?|websockets?|proxy-set-headers-upgrade", "websockets pass without any annotation"),
    (r"client-max-body-size|max-body-size|body-size", "proxy-body-size is its limit"),
    (r"(read|send|connect)-timeout", "proxy-connect-timeout, proxy-read-timeout and proxy-send-timeout are its time-outs"),
    (r"(proxy-|request-|client-)?timeout", "proxy-connect-timeout, proxy-read-timeout and proxy-send-timeout are its time-outs"),
    (r"secure-backends", 'backend-protocol: "HTTPS" took its place'),
    (r"grpc-backend", 'backend-protocol: "GRPC" took its place'),
    (r"add-base-url|base-url-scheme", "it was removed, and changed pages on their way; the application has to know its own base"),
    (r"session-cookie-hash", "it was removed, and the cookie is hashed without it"),
    (r"(enable-)?opentracing(-.*)?", "it was removed with OpenTracing, and enable-opentelemetry took its place"),
    (r"influxdb-.*|enable-influxdb|lua-resty-waf.*|http2-push-preload|use-geoip2?|mirror-uri", "it was removed from ingress-nginx"),
    (r"health-?checks?(-.*)?", "it checks no endpoint by itself: readiness probes of the pods decide who is asked"),
    (r"rewrite(-rule|-path|-url)?|url-rewrite", "rewrite-target is its annotation"),
    (r"(force-)?https(-redirect)?|redirect-(to-)?https?|ssl-force-redirect", "ssl-redirect and force-ssl-redirect are its annotations"),
    (r"basic-auth(-.*)?", "auth-type, auth-secret and auth-realm are its annotations"),
    (r"cors-enabled?|enable-cors-.*", "enable-cors is its annotation"),
    (r"sticky-session.*|session-affinity", 'affinity: "cookie" is its annotation'),
    (r"allow-list|ip-?(white|allow)list|whitelist", "allowlist-source-range is its annotation"),
)
_COMPILED = tuple((re.compile(pattern), hint) for pattern, hint in _HINTS)

_PROTECTS = re.compile(
    r"(basic-)?auth|jwt|oauth|oidc|(white|allow|deny|black)list|ip-|limit|rate|polic|waf|app-?protect|modsecurity|mtls|acl", re.ASCII
)
_ELSEWHERE = {
    "ingress.kubernetes.io": "a prefix that ingress-nginx gave up in 2017",
    "nginx.org": "a prefix of NGINX's own controller, which is another one",
    "nginx.com": "a prefix of NGINX's own controller, which is another one",
}
_LONGEST = 60


@lru_cache(maxsize=4096)
def hint(name: str) -> str:
    """What to do instead of an annotation of this name (without prefix), as a clause; "" where nothing is known."""
    if len(name) > _LONGEST:
        return ""
    return next((text for pattern, text in _COMPILED if pattern.fullmatch(name)), "")


@lru_cache(maxsize=1024)
@lru_cache(maxsize=256)
def prefix(found: str, ours: str) -> str:
    """What an annotation's prefix is, as a clause, where people mistake it for `ours`; "" for the prefixes of others."""
    if found == ours or len(found) > _LONGEST:
        return ""
    if found in _ELSEWHERE:
        return _ELSEWHERE[found]
    words = set(re.split(r"[.\-_]", found)) == set(ours.split("."))
    near = difflib.SequenceMatcher(None, found, ours, autojunk=False).ratio() >= 0.9
    return f"a misspelt {ours}" if words or near else ""


def protects(name: str) -> bool:
    """Whether an annotation of this name, by what it is called, keeps somebody out."""
    return _PROTECTS.match(name) is not None
