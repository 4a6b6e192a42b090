"""A small company's Ingresses, with most of what pages show: paths claimed twice, a canary, an approximation, certificates, Problems."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from tests.cli.site import write
from tests.envoy.harness.manifests import Manifest, endpoint_slice, ingress, service
from tests.envoy.harness.manifests import secret_tls as tls_secret
from tests.envoy.harness.tls import make_certificate

_DAY = datetime.timedelta(days=1)


def _app(name: str, namespace: str, *last: int, unready: int = 0) -> Iterator[Manifest]:
    yield service(name, namespace=namespace)
    yield endpoint_slice(name, [(f"10.42.{number}.17", 8080) for number in last], namespace=namespace)
    if unready:
        yield endpoint_slice(name, [(f"10.42.{unready}.31", 8080)], namespace=namespace, ready=False, name=f"{name}-2")


def company(now: datetime.datetime) -> list[Manifest]:
    """All objects. Certificates end 61 and 9 days after `now`."""
    shop = make_certificate(["shop.example", "*.shop.example"], not_before=now - _DAY, not_after=now + 61.5 * _DAY)
    blog = make_certificate(["blog.example"], not_before=now - _DAY, not_after=now + 9.5 * _DAY)
    own = {"ssl-redirect": "true", "proxy-body-size": "20m", "limit-rps": "50", "enable-cors": "true", "cors-allow-orign": "https://x"}
    return [
        ingress(
            "storefront",
            "shop.example",
            {"/": ("web", 80), "/cart": ("cart", 80), "/assets": ("static", 80)},
            own,
            tls={"shop-tls": ["shop.example", "api.shop.example"]},
            namespace="shop",
            created="2026-03-02T09:14:00Z",
        ),
        ingress(
            "checkout",
            "shop.example",
            {"/cart": ("checkout", 80), "/checkout": ("checkout", 80)},
            namespace="shop",
            created="2026-05-11T12:00:00Z",
        ),
        ingress(
            "web-canary",
            "shop.example",
            {"/": ("web-next", 80)},
            {"canary": "true", "canary-weight": "10"},
            namespace="shop",
            created="2026-11-20T08:00:00Z",
        ),
        ingress(
            "api",
            "api.shop.example",
            {"/v1": ("api", 80), "/v2": ("api", 80), "/healthz": ("api", 80)},
            {"proxy-read-timeout": "30", "upstream-hash-by": "$http_x_tenant", "auth-url": "http://auth.example/verify"},
            tls={"shop-tls": ["api.shop.example"]},
            namespace="shop",
            created="2026-03-02T09:15:00Z",
        ),
        ingress(
            "blog",
            "blog.example",
            {"/": ("blog", 80)},
            {"server-alias": "www.blog.example", "app-root": "/posts"},
            tls={"blog-tls": ["blog.example"]},
            namespace="press",
            created="2026-01-19T10:00:00Z",
        ),
        ingress("docs", "docs.example", {"/": ("docs", 80)}, namespace="press", created="2026-02-01T10:00:00Z"),
        ingress("grafana", "metrics.example", {"/": ("grafana", 3000)}, namespace="monitoring", created="2026-02-03T10:00:00Z"),
        ingress("wild", "*.apps.example", {"/": ("router", 80)}, namespace="platform", created="2026-02-09T10:00:00Z"),
        *_app("web", "shop", 1, 2, 3),
        *_app("web-next", "shop", 4),
        *_app("cart", "shop", 2, 5, unready=6),
        *_app("static", "shop", 1),
        *_app("checkout", "shop", 5),
        *_app("api", "shop", 2, 3, 6, 7),
        *_app("blog", "press", 4),
        *_app("router", "platform", 1, 7),
        service("docs", namespace="press"),
        tls_secret("shop-tls", shop, namespace="shop"),
        tls_secret("blog-tls", blog, namespace="press"),
    ]


def write_company(folder: Path, now: datetime.datetime) -> Path:
    """The objects as files."""
    folder.mkdir(exist_ok=True, parents=True)
    for item in company(now):
        write(folder / item["metadata"]["namespace"], item)
    return folder
