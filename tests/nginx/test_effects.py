"""Each annotation and each ConfigMap key changes what Envoy gets, unless its verdict says that it has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from tests.envoy.harness.tls import make_ca, make_certificate
from tests.units.test_any_order import Life, State
from xds.config import Flags
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Object,
    Path,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
)
from xds.nginx.feature import Fidelity
from xds.nginx.registry import known_annotations, known_keys
from xds.snapshot import LISTENER

Texts = Mapping[str, str]

PREFIX = "nginx.ingress.kubernetes.io/"
FLAGS = Flags(
    watch_ingress_without_class=True,
    configmap="ingress/controller",
    tcp_services_configmap="ingress/tcp",
    udp_services_configmap="ingress/udp",
    enable_ssl_passthrough=True,
    enable_annotation_validation=True,
)
IDLE = (Fidelity.IGNORED, Fidelity.REFUSED)
SNIPPETS = {"annotations-risk-level": "Critical", "allow-snippet-annotations": "true"}
BESIDE: Mapping[str, Texts] = {
    "affinity-canary-behavior": {"affinity": "cookie", "canary-weight": "10"},
    "auth-realm": {"auth-secret": "passwords"},
    "auth-secret-type": {"auth-secret": "passwords"},
    "auth-signin-redirect-param": {"auth-signin": "https://auth.example.com/start"},
    "canary": {"canary-weight": "50"},
    "default-backend": {"custom-http-errors": "404"},
    "disable-proxy-intercept-errors": {"default-backend": "fallback"},
    "force-ssl-redirect": {"ssl-redirect": "false"},
    "limit-allowlist": {"limit-rps": "5"},
    "limit-burst-multiplier": {"limit-rps": "5"},
    "limit-rate": {"proxy-buffering": "on"},
    "limit-whitelist": {"limit-rps": "5"},
    "mirror-host": {"mirror-target": "https://copy.example.com$request_uri"},
    "mirror-request-body": {"mirror-target": "https://copy.example.com$request_uri"},
    "permanent-redirect-code": {"permanent-redirect": "https://example.com"},
    "proxy-buffering": {"limit-rate": "100"},
    "proxy-redirect-from": {"proxy-redirect-to": "http://example.com/"},
    "proxy-redirect-to": {"proxy-redirect-from": "http://internal/"},
    "proxy-ssl-name": {"proxy-ssl-verify": "on"},
    "proxy-ssl-verify-depth": {"proxy-ssl-verify": "on"},
    "relative-redirects": {"permanent-redirect": "/here"},
    "satisfy": {"auth-type": "basic", "auth-secret": "passwords", "allowlist-source-range": "10.0.0.0/8"},
    "session-cookie-conditional-samesite-none": {"session-cookie-samesite": "None"},
    "session-cookie-secure": {"ssl-redirect": "false"},
    "temporal-redirect-code": {"temporal-redirect": "https://example.com"},
    "x-forwarded-prefix": {"rewrite-target": "/"},
    **{name: {"enable-cors": "true"} for name in known_annotations() if name.startswith("cors-")},
}
"""What an annotation needs to have an effect, where its declaration has no `beside`."""
COLLECTOR = {"otlp-collector-host": "collector.example.com"}
KEYS: Mapping[str, Texts] = {
    "enable-opentelemetry": COLLECTOR,
    "opentelemetry-operation-name": COLLECTOR,
    "enable-global-auth": {"global-auth-url": "https://auth.example.com/check"},
}
"""ConfigMap keys that an annotation needs."""
FOR_KEYS: Mapping[str, tuple[Texts, Texts]] = {
    "enable-opentelemetry": ({}, COLLECTOR),
    "opentelemetry-operation-name": ({}, COLLECTOR),
    "opentelemetry-trust-incoming-span": ({}, COLLECTOR),
    "otel-max-queuesize": ({}, COLLECTOR),
    "otel-sampler": ({}, COLLECTOR),
    "otel-sampler-parent-based": ({}, COLLECTOR),
    "otel-sampler-ratio": ({}, COLLECTOR | {"otel-sampler": "TraceIdRatioBased"}),
    "otel-service-name": ({}, COLLECTOR),
    "otlp-collector-port": ({}, COLLECTOR),
    "allow-cross-namespace-resources": ({"custom-headers": "ingress/added"}, {"global-allowed-response-headers": "X-Team"}),
    "allow-snippet-annotations": ({"configuration-snippet": "return 403;"}, {"annotations-risk-level": "Critical"}),
    "annotation-value-word-blocklist": ({"custom-headers": "default/location"}, {}),
    "annotations-risk-level": ({"configuration-snippet": "return 403;"}, {"allow-snippet-annotations": "true"}),
    "compute-full-forwarded-for": ({}, {"use-forwarded-headers": "true"}),
    "disable-proxy-intercept-errors": ({}, {"custom-http-errors": "404"}),
    "force-ssl-redirect": ({}, {"ssl-redirect": "false"}),
    "global-allowed-response-headers": ({"custom-headers": "default/headers"}, {}),
    "limit-conn-status-code": ({"limit-connections": "5"}, {}),
    "limit-rate": ({}, {"proxy-buffering": "on"}),
    "limit-req-status-code": ({"limit-rps": "5"}, {}),
    "no-auth-locations": ({"auth-url": "https://auth.example.com"}, {}),
    "no-tls-redirect-locations": ({"force-ssl-redirect": "true"}, {}),
    "proxy-buffering": ({}, {"limit-rate": "100"}),
    "proxy-protocol-header-timeout": ({}, {"use-proxy-protocol": "true"}),
    "proxy-real-ip-cidr": ({}, {"enable-real-ip": "true"}),
    "proxy-redirect-from": ({}, {"proxy-redirect-to": "http://example.com/"}),
    "proxy-redirect-to": ({}, {"proxy-redirect-from": "http://internal/"}),
    "proxy-ssl-location-only": ({"proxy-ssl-secret": "default/client", "backend-protocol": "HTTPS"}, {}),
    "relative-redirects": ({"permanent-redirect": "/here"}, {}),
    **{name: ({}, {"enable-brotli": "true"}) for name in known_keys() if name.startswith("brotli-")},
    **{name: ({}, {"use-gzip": "true"}) for name in known_keys() if name.startswith("gzip-")},
    **{
        name: ({}, {"global-auth-url": "https://auth.example.com/check", "global-auth-signin": "https://auth.example.com/"})
        for name in known_keys()
        if name.startswith("global-auth-") and name not in ("global-auth-url", "global-auth-signin")
    },
    "global-auth-cache-duration": ({}, {"global-auth-url": "https://auth.example.com/check", "global-auth-cache-key": "$cookie_s"}),
    "global-auth-signin": ({}, {"global-auth-url": "https://auth.example.com/check"}),
}
"""The annotations and the other keys that a key needs."""
ELSEWHERE = {
    "limit-rate-after": "limit-rate holds from the beginning",
    "session-cookie-change-on-failure": "a request goes to another endpoint in any case",
    "upstream-hash-by-subset": "a hash chooses one endpoint",
    "upstream-hash-by-subset-size": "a hash chooses one endpoint",
}
"""Approximate, and Envoy has nothing for it: why."""
OWN_CHAIN = ("auth-tls-", "ssl-passthrough", "ssl-ciphers", "server-alias", "from-to-www-redirect")
"""Annotations that concern the TLS or the names of a host, and so its own part of the https listener."""


def needed(name: str) -> dict[str, str]:
    """The annotations beside which one has an effect."""
    declared = known_annotations()[name]
    found = dict(BESIDE.get(declared.name, {}))
    if declared.beside:
        found |= needed(declared.beside) | {declared.beside: known_annotations()[declared.beside].example}
    if name.startswith("proxy-ssl-"):
        found["backend-protocol"] = "HTTPS"
    found.pop(name, None)
    return found


@cache
def around() -> tuple[Object, ...]:
    """What annotations and keys name."""
    certificate, authority = make_certificate(["a.example.com"]), make_ca()
    pair = {"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem, "ca.crt": authority.cert_pem}
    objects: list[Object] = [
        ConfigMap(meta=Meta(namespace="ingress", name="added"), data={"X-Team": "a"}),
        ConfigMap(meta=Meta(namespace="ingress", name="set"), data={"X-Set": "a"}),
        ConfigMap(meta=Meta(namespace="ingress", name="tcp"), data={"9000": "default/web:80"}),
        ConfigMap(meta=Meta(namespace="ingress", name="udp"), data={"9000": "default/web:53"}),
        ConfigMap(meta=Meta(namespace="default", name="headers"), data={"X-Team": "a"}),
        Secret(meta=Meta(namespace="default", name="authority"), data={"ca.crt": authority.cert_pem}),
        Secret(meta=Meta(namespace="default", name="client"), data=pair),
        Secret(meta=Meta(namespace="default", name="passwords"), data={"auth": b"ann:{PLAIN}secret\n"}),
    ]
    for name in ("web", "other", "fallback"):
        meta = Meta(namespace="default", name=name)
        ports = ServicePort(80, "http", 8080), ServicePort(53, "dns", 5353, "UDP")
        objects.append(Service(meta=meta, ports=ports, cluster_ips=("10.96.0.1",), affinity="ClientIP"))
        ready = (Endpoint(("10.0.0.1",)), Endpoint(("10.0.0.2",)))
        objects.append(
            EndpointSlice(meta=meta, service=name, ports=(EndpointPort("http", 8080), EndpointPort("dns", 5353, "UDP")), endpoints=ready)
        )
    return tuple(objects)


def state(notes: Texts, keys: Texts) -> State:
    return _state(frozenset(notes.items()), frozenset(keys.items()))


@cache
def _state(all_notes: frozenset[tuple[str, str]], keys: frozenset[tuple[str, str]]) -> State:
    """What Envoy gets for an Ingress with these annotations, and one without; those of canaries are of a third, which joins the first."""
    notes = dict(all_notes)
    joining = {name: text for name, text in notes.items() if name.startswith("canary") or name == "affinity-canary-behavior"}
    own = {name: text for name, text in notes.items() if name not in joining}
    objects: list[Object] = [*around(), ConfigMap(meta=Meta(namespace="ingress", name="controller"), data=dict(keys))]
    objects += [ingress("a", "web", own, "/a/", "/healthz", "/plain"), ingress("b", "web", {}, "/b/")]
    objects += [ingress("c", "other", joining, "/a/")] if joining else []
    return Life(objects, FLAGS).state()


def ingress(name: str, to: str, notes: Texts, *paths: str) -> Ingress:
    own = {PREFIX + key: text for key, text in notes.items()}
    rule = Rule("a.example.com", tuple(Path(path, "Prefix", Backend(to, 80)) for path in paths))
    meta = Meta(namespace="default", name=name, annotations=own, created=f"2026-01-01T00:00:0{'abc'.index(name)}Z")
    return Ingress(meta=meta, rules=(rule,), tls=(Tls(("a.example.com",), "client"),))


@pytest.mark.parametrize("name", sorted(known_annotations()))
def test_an_annotation_changes_what_envoy_gets_unless_its_verdict_denies_it(name: str) -> None:
    declared = known_annotations()[name]
    beside, keys = needed(name), SNIPPETS | dict(KEYS.get(name, {}))
    example = "false" if name == "enable-global-auth" else declared.example
    before, after = state(beside, keys), state({**beside, name: example}, keys)
    idle = declared.fidelity in IDLE or name in ELSEWHERE
    assert (before == after) is idle, f"it is {declared.fidelity.value}; BESIDE has what it needs"
    if not name.startswith(OWN_CHAIN):
        assert before[LISTENER] == after[LISTENER], "no annotation drains a listener"


@pytest.mark.parametrize("name", sorted(known_keys()))
def test_a_key_changes_what_envoy_gets_unless_its_verdict_denies_it(name: str) -> None:
    declared = known_keys()[name]
    notes, keys = FOR_KEYS.get(name, ({}, {}))
    before, after = state(notes, keys), state(notes, {**keys, name: declared.example})
    assert (before == after) is (declared.fidelity in IDLE or name in ELSEWHERE), (
        f"it is {declared.fidelity.value}; FOR_KEYS has what it needs"
    )
