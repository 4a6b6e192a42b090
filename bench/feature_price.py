"""What a request costs Envoy more, in microseconds of its CPU, on a path that uses a feature of the dialect.

    python -m bench.feature_price            three minutes
    python -m bench.feature_price limit      the rows with this word only

Measured as `bench.request_price` does it, without an access log. Passwords and limit-connections, which the authorisation service judges,
are in `bench.passwords`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench import proxies
from bench.proxies import Json, without, without_fields
from bench.request_price import need_programs, prices_of_envoys, show
from bench.table import Table, number
from tests.envoy.harness.manifests import config_map

_HERE = "http://web.default.svc.cluster.local/"
"""The backend of the bench itself."""
_SNIPPETS = {"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"}
_ANSWERED = "auth_request_set $user $upstream_http_x_user; proxy_set_header X-User $user;"


@dataclass(frozen=True)
class Used:
    """A feature in use: annotations of the Ingress, keys of the ConfigMap."""

    notes: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)


_COLLECTOR = {"enable-opentelemetry": "true", "otlp-collector-host": "127.0.0.1", "otlp-collector-port": "9"}
NOTHING = "no feature"
FEATURES: Mapping[str, Used] = {
    NOTHING: Used(),
    "rewrite-target with a capture": Used({"rewrite-target": "/$1", "use-regex": "true"}),
    "upstream-vhost": Used({"upstream-vhost": "internal.example.com"}),
    "upstream-vhost with a variable": Used({"upstream-vhost": "$service_name.$host"}),
    "enable-cors": Used({"enable-cors": "true", "cors-allow-origin": "https://app.example.com, https://*.example.org"}),
    "allowlist-source-range": Used({"allowlist-source-range": "10.0.0.0/8, 127.0.0.0/8"}),
    "denylist-source-range": Used({"denylist-source-range": "203.0.113.0/24"}),
    "satisfy: any": Used({"satisfy": "any", "auth-url": _HERE, "allowlist-source-range": "127.0.0.0/8"}),
    "auth-url": Used({"auth-url": _HERE, "auth-response-headers": "X-User"}),
    "auth-url and auth_request_set": Used({"auth-url": _HERE, "configuration-snippet": _ANSWERED}, _SNIPPETS),
    "limit-rps": Used({"limit-rps": "1000000"}),
    "affinity: cookie": Used({"affinity": "cookie"}),
    "affinity-mode: persistent": Used({"affinity": "cookie", "affinity-mode": "persistent"}),
    "upstream-hash-by": Used({"upstream-hash-by": "$request_uri"}),
    "custom-headers": Used({"custom-headers": "default/headers"}, {"global-allowed-response-headers": "X-One, X-Two"}),
    "custom-http-errors": Used({"custom-http-errors": "404, 503", "default-backend": "web"}),
    "mirror-target": Used({"mirror-target": f"{_HERE}$request_uri"}),
    "configuration-snippet, a header": Used({"configuration-snippet": 'more_set_headers "X-Frame-Options: DENY";'}, _SNIPPETS),
    "configuration-snippet, a condition": Used({"configuration-snippet": "if ($http_user_agent ~* badbot) { return 403; }"}, _SNIPPETS),
    "proxy-redirect-from": Used({"proxy-redirect-from": "http://internal/", "proxy-redirect-to": "https://example.com/"}),
    "proxy-cookie-path": Used({"proxy-cookie-path": "/one/ /"}),
    "enable-opentelemetry, no trace sampled": Used({}, {**_COLLECTOR, "otel-sampler": "AlwaysOff"}),
    "enable-opentelemetry": Used({}, _COLLECTOR),
    "proxy-set-headers and add-headers": Used({}, {"proxy-set-headers": "default/headers", "add-headers": "default/headers"}),
    "add-headers with variables": Used({}, {"add-headers": "default/variables"}),
    "use-gzip, for clients without it": Used({}, {"use-gzip": "true"}),
    "enable-brotli, for clients without it": Used({}, {"enable-brotli": "true"}),
    "enable-real-ip": Used({}, {"enable-real-ip": "true"}),
}
"""What is measured: each beside what stands first."""
_NAMED = (
    config_map("headers", {"X-One": "1", "X-Two": "2"}),
    config_map("variables", {"X-Host": "$host", "X-Uri": "$request_uri", "X-Agent": "$http_user_agent"}),
)


def configuration(used: Used, port: int, https_port: int, backend: int) -> Json:
    """Our Envoy with this feature on its one path, as a file."""
    made = proxies.ours(port, https_port, backend, proxies.hosts(1), used.notes, used.keys, _NAMED)
    return without(made, without_fields("access_log"))


def measure(names: Sequence[str] = tuple(FEATURES), *, seconds: int = 2, rounds: int = 3) -> Table:
    """The price of each of these features beside none. Raises Missing."""
    need_programs()
    table = Table(
        "A feature in use, µs of Envoy's CPU a request",
        ("feature", "µs", "more"),
        note=f"The median of {rounds} rounds of {seconds} s; one host, one path, no access log.",
    )
    made = {name: partial(configuration, FEATURES[name]) for name in (NOTHING, *names)}
    found = prices_of_envoys(made, seconds=seconds, rounds=rounds)
    for name, cost in found.items():
        table.add(name, number(cost), "" if name == NOTHING else f"{cost - found[NOTHING]:+.1f}")
    return table


def main(word: str = "") -> int:
    """Print the table, or a sentence where something is missing."""
    return show("feature_price", lambda: measure([name for name in FEATURES if word in name]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
