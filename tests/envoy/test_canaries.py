"""Canaries: which requests they are given, and that nothing else of a path depends on who answers (nginx 4.12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Site, Tls, Traffic, backend, endpoint_slice, ingress, make_certificate, secret_tls, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

WEB = {"/": ("web", 80)}
NEXT = {"/": ("next", 80)}
ALL = {"canary-weight": 100}
HEADER = {"canary-by-header": "X-Canary"}
COOKIE = {"canary-by-cookie": "next"}
CERTIFICATE = make_certificate(["tls.test"])

RULES: Mapping[str, Mapping[str, object]] = {
    "header": HEADER,
    "underscore": {"canary-by-header": "x_canary"},
    "value": HEADER | {"canary-by-header-value": "beta 1"},
    "pattern": HEADER | {"canary-by-header-pattern": "^(de|fr)$"},
    "part": HEADER | {"canary-by-header-pattern": "e[0-9]"},
    "no-pattern": HEADER | {"canary-by-header-pattern": "(?=x)[[["} | ALL,
    "host": {"canary-by-header": "Host", "canary-by-header-value": "host.test"},
    "agent": {"canary-by-header": "User-Agent", "canary-by-header-pattern": "Mobile|iPhone"},
    "cookie": COOKIE,
    "both": HEADER | COOKIE,
    "all-rules": HEADER | COOKIE | ALL,
    "none": {"canary-weight": 0},
    "all": ALL,
    "more": {"canary-weight": 101},
    "third": {"canary-weight": 30},
    "fifth": {"canary-weight": 200, "canary-weight-total": 1000},
}
"""Each is the canary of a host of the same name."""


def canary(name: str, host: str, paths: Mapping[str, tuple[str, int]], rules: Mapping[str, object], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = ingress(f"{name}-canary", host, paths, {"canary": "true"} | dict(rules), **more)
    return found


def shapes() -> list[dict[str, Any]]:
    """Hosts whose canaries meet something else: redirects, expressions, access rules, other namespaces."""
    return [
        ingress("tls", "tls.test", WEB | {"/main": ("web", 80)}, tls={"cert": ["tls.test"]}),
        canary("tls", "tls.test", NEXT, ALL),
        ingress("regex", "regex.test", {"/app(/|$)(.*)": ("web", 80)}, {"rewrite-target": "/$2"}),
        canary("regex", "regex.test", {"/app(/|$)(.*)": ("next", 80)}, COOKIE),
        ingress("closed", "closed.test", WEB, {"auth-type": "basic"}),
        canary("closed", "closed.test", NEXT, HEADER | COOKIE | ALL),
        ingress("half", "half.test", {"/admin": ("web", 80)}, {"auth-type": "basic"}),
        ingress("half-open", "half.test", {"/": ("web", 80), "/open": ("web", 80)}),
        canary("half", "half.test", {"/admin": ("next", 80), "/open": ("next", 80)}, ALL),
        ingress("shared", "shared.test", WEB),
        canary("shared", "shared.test", {"/": ("abroad", 80)}, ALL, namespace="abroad"),
        ingress("wild", "*.wild.test", WEB),
        canary("wild", "*.wild.test", NEXT, HEADER),
        ingress("dead", "dead.test", WEB),
        canary("dead", "dead.test", {"/": ("empty", 80)}, ALL),
        ingress("down", "down.test", {"/": ("empty", 80)}),
        canary("down", "down.test", NEXT, ALL),
        ingress("settings", "settings.test", WEB, {"proxy-body-size": "10"}),
        canary("settings", "settings.test", NEXT, ALL | {"proxy-body-size": "0", "permanent-redirect": "https://e.test"}),
        canary("alone", "alone.test", NEXT, ALL),
        ingress("bare", "", {}, default=("web", 80)),
        canary("bare", "", {}, HEADER, default=("next", 80)),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    write = shared_site.folder.write
    for name in ("web", "next", "later"):
        write(f"app-{name}.yaml", *backend(name, await shared_site.run(HttpApp(name))))
    abroad = await shared_site.run(HttpApp("abroad"))
    write("abroad.yaml", service("abroad", namespace="abroad"), endpoint_slice("abroad", [abroad], namespace="abroad"))
    write("empty.yaml", service("empty"), endpoint_slice("empty", []), secret_tls("cert", CERTIFICATE))
    write("rules.yaml", *(i for name, rules in RULES.items() for i in pair(name, rules)))
    write("shapes.yaml", *shapes())
    await shared_site.start()
    return shared_site


def pair(name: str, rules: Mapping[str, object]) -> list[dict[str, Any]]:
    return [ingress(name, f"{name}.test", WEB), canary(name, f"{name}.test", NEXT, rules)]


async def whoever(site: Site, host: str, target: str = "/", **more: Any) -> str | int:
    """The name of the application that answers, or the status where none does."""
    response = await site.get(target, host=f"{host}.test", **more)
    return response.app or response.status


@pytest.mark.parametrize(
    ("host", "headers", "who"),
    [
        ("header", [], "web"),
        ("header", [("X-Canary", "always")], "next"),
        ("header", [("x-canary", "always")], "next"),
        ("header", [("X-Canary", "never")], "web"),
        ("header", [("X-Canary", "Always")], "web"),
        ("header", [("X-Canary", "")], "web"),
        ("underscore", [("X-Canary", "always")], "next"),
        ("value", [("X-Canary", "beta 1")], "next"),
        ("value", [("X-Canary", "always")], "web"),
        ("value", [("X-Canary", "beta 12")], "web"),
        ("pattern", [("X-Canary", "de")], "next"),
        ("pattern", [("X-Canary", "DE")], "web"),
        ("pattern", [("X-Canary", "ade")], "web"),
        ("pattern", [("X-Canary", "always")], "web"),
        ("part", [("X-Canary", "see7.")], "next"),
        ("part", [("X-Canary", "see")], "web"),
        ("no-pattern", [], "next"),
        ("no-pattern", [("X-Canary", "x")], "web"),
        ("no-pattern", [("X-Canary", "")], "web"),
        ("host", [], "next"),
        ("agent", [("User-Agent", "Mozilla/5.0 (iPhone; CPU)")], "next"),
        ("agent", [("User-Agent", "curl")], "web"),
        ("cookie", [("Cookie", "next=always")], "next"),
        ("cookie", [("Cookie", "a=b; Next = always; c=d")], "next"),
        ("cookie", [("Cookie", "nextnext=always; anext=always; nex=always; next=always")], "next"),
        ("cookie", [("Cookie", "nextnext=always; anext=always; nex=always")], "web"),
        ("cookie", [("Cookie", "next=never; next=always")], "web"),
        ("cookie", [("Cookie", "next=always; next=never")], "next"),
        ("cookie", [("Cookie", "a=next=always")], "web"),
        ("cookie", [("Cookie", "next=ALWAYS")], "web"),
        ("cookie", [("Cookie", "a=b"), ("Cookie", "next=always")], "next"),
        ("both", [("X-Canary", "never"), ("Cookie", "next=always")], "web"),
        ("both", [("X-Canary", "other"), ("Cookie", "next=always")], "next"),
        ("both", [("X-Canary", "always"), ("Cookie", "next=never")], "next"),
        ("all-rules", [], "next"),
        ("all-rules", [("X-Canary", "never")], "web"),
        ("all-rules", [("Cookie", "next=never")], "web"),
        ("all-rules", [("X-Canary", "always"), ("Cookie", "next=never")], "next"),
    ],
)
async def test_a_header_decides_then_a_cookie_then_the_weight(site: Site, host: str, headers: Sequence[tuple[str, str]], who: str) -> None:
    assert await whoever(site, host, headers=headers) == who


@pytest.mark.parametrize(
    ("host", "least", "most"), [("none", 0, 0), ("all", 400, 400), ("more", 400, 400), ("third", 75, 165), ("fifth", 40, 120)]
)
async def test_the_weight_is_the_share_of_requests(site: Site, host: str, least: int, most: int) -> None:
    """Of 400; the bounds are five standard deviations from what is meant."""
    found = Counter([await whoever(site, host, f"/{n}") for n in range(400)])
    assert found["web"] + found["next"] == 400
    assert least <= found["next"] <= most


async def test_the_redirect_to_https_comes_first_and_the_canary_answers_over_tls(site: Site) -> None:
    assert (await site.get("/x", host="tls.test")).header("location") == "https://tls.test/x"
    assert await whoever(site, "tls", "/x", tls=Tls("tls.test")) == "next"
    assert await whoever(site, "tls", "/main", tls=Tls("tls.test")) == "web"


async def test_an_expression_is_rewritten_for_both(site: Site) -> None:
    for headers, who in (([], "web"), ([("Cookie", "next=always")], "next")):
        response = await site.get("/app/x", host="regex.test", headers=headers)
        assert (response.app, response.json()["path"]) == (who, "/x")


@pytest.mark.parametrize("headers", [[], [("X-Canary", "always")], [("Cookie", "next=always")], [("X-Canary", "x")]])
async def test_what_the_primary_denies_the_canary_does_not_answer(site: Site, headers: Sequence[tuple[str, str]]) -> None:
    assert await whoever(site, "closed", headers=headers) == 503
    for target in ("/admin", "/admin/x", "/admin%2fx", "/%2fadmin", "/%61dmin", "/open/..%2fadmin"):
        assert await whoever(site, "half", target, headers=headers) in (503, 400), target
    assert await whoever(site, "half", "/open", headers=headers) == "next"


@pytest.mark.parametrize(
    ("host", "target", "who"),
    [
        ("shared", "/", "abroad"),
        ("a.wild", "/", "web"),
        ("dead", "/", "web"),
        ("down", "/", 503),
        ("alone", "/", "web"),  # what no host takes
        ("unknown", "/", "web"),
    ],
)
async def test_where_a_canary_joins_and_where_not(site: Site, host: str, target: str, who: str | int) -> None:
    assert await whoever(site, host, target) == who


async def test_a_wildcard_host_and_the_catch_all_have_canaries(site: Site) -> None:
    for host in ("a.wild", "unknown"):
        assert await whoever(site, host, headers=[("X-Canary", "always")]) == "next"
    assert await whoever(site, "a.b.wild", headers=[("X-Canary", "always")]) == "next"  # the catch-all's


async def test_the_settings_are_those_of_the_primary(site: Site) -> None:
    assert await whoever(site, "settings", method="POST", body=b"x" * 10) == "next"
    assert await whoever(site, "settings", method="POST", body=b"x" * 11) == 413


async def test_a_canary_comes_grows_changes_and_goes_without_a_lost_request(site: Site) -> None:
    """The cluster of a canary is there before the first request, and until after the last."""
    write = site.folder.write
    write("release.yaml", ingress("release", "release.test", WEB))
    await site.until_answered("/", "web", host="release.test")
    async with Traffic(site.http, host="release.test") as traffic:
        for weight, to in ((1, "later"), (50, "later"), (100, "later"), (50, "next"), (100, "next"), (0, "next")):
            write("release-canary.yaml", canary("release", "release.test", {"/": (to, 80)}, {"canary-weight": weight}))
            if weight:
                await site.until_answered("/", to if weight > 1 else "web", host="release.test")
            await traffic.flows()
        site.folder.remove("release-canary.yaml")
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "web"), (200, "later"), (200, "next")}
