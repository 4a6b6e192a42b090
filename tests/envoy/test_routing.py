"""Which application answers which request: hosts, paths, who wins, Services and their ports (nginx 4.1, 4.4, 4.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Response, Site, backend, endpoint_slice, endpoint_slices, ingress, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("steady")]

APPS = (
    *("exact", "prefix", "longer", "slash", "implementation", "root", "accent", "one", "two", "three", "wild", "host", "hostless"),
    *("default", "admin", "ready", "leaving", "pod-4", "external"),
)
OLD, NEW = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    """Every object of this module at once: what one does must not show in another."""
    apps = {name: await shared_site.run(HttpApp(name)) for name in APPS}
    pod_6 = await shared_site.run(HttpApp("pod-6"), "::1")
    write = shared_site.folder.write
    write("paths.yaml", *path_types())
    write("conflicts.yaml", *conflicts())
    write("hosts.yaml", *hosts())
    write("regex.yaml", *regular_expressions())
    for name, address in apps.items():
        write(f"app-{name}.yaml", *backend(name, address))
    for namespace in ("a", "b"):
        write(f"namespace-{namespace}.yaml", *backend("app", apps["one" if namespace == "a" else "two"], namespace=namespace))
    write("services.yaml", *services(apps, pod_6))
    await shared_site.start()
    return shared_site


def path_types() -> list[dict[str, Any]]:
    """One host whose paths come from Ingresses of every type."""
    exact = {"/exact": ("exact", 80), "/both": ("exact", 80), "/prefix/exact": ("exact", 80), "/bare": ("exact", 80)}
    prefix = {
        "/prefix": ("prefix", 80),
        "/prefix/longer": ("longer", 80),
        "/both": ("prefix", 80),
        "/slash/": ("slash", 80),
        "/bare/": ("slash", 80),
        "/café": ("accent", 80),
    }
    return [
        ingress("exact", "paths.test", exact, path_type="Exact"),
        ingress("prefix", "paths.test", prefix),
        ingress("implementation", "paths.test", {"/impl": ("implementation", 80)}, path_type="ImplementationSpecific"),
        ingress("root", "root.test", {"/": ("root", 80), "/exact": ("exact", 80)}),
    ]


def conflicts() -> list[dict[str, Any]]:
    """Ingresses that claim the same path of the same host: the older one wins, of two equally old ones the larger namespace/name."""
    claims = {"/": ("app", 80), "/b": ("app", 80)}
    return [
        ingress("young", "older.test", {"/": ("app", 80)}, namespace="a", created=NEW),
        ingress("old", "older.test", claims, namespace="b", created=OLD),
        ingress("third", "older.test", {"/a": ("app", 80), "/b": ("app", 80)}, namespace="a", created=NEW),
        ingress("same", "tie.test", {"/": ("app", 80)}, namespace="a", created=OLD),
        ingress("same", "tie.test", {"/": ("app", 80)}, namespace="b", created=OLD),
    ]


def hosts() -> list[dict[str, Any]]:
    """Wildcards, rules without a host, default backends."""
    only_default = ingress("only-default", "only-default.test", {"/": ("default", 80)}, default=("default", 80))
    del only_default["spec"]["rules"][0]["http"]
    return [
        ingress("wildcard", "*.wild.test", {"/": ("wild", 80)}),
        ingress("below-wildcard", "host.wild.test", {"/host": ("host", 80)}),
        ingress("hostless", "", {"/hostless": ("hostless", 80)}),
        ingress("with-default", "with-default.test", {"/one": ("one", 80)}, default=("default", 80)),
        only_default,
        ingress("upper", "UPPER.test", {"/": ("host", 80)}),
    ]


def regular_expressions() -> list[dict[str, Any]]:
    """One Ingress with use-regex makes expressions of all paths of the host, also of another's."""
    asks = {"/v[0-9]+/items": ("one", 80), "/v1/items/[a-z]{3}": ("two", 80)}
    return [
        ingress("regex", "regex.test", asks, {"use-regex": "true"}, path_type="ImplementationSpecific"),
        ingress("plain", "regex.test", {"/plain.txt": ("three", 80)}, path_type="Exact"),
    ]


def services(apps: dict[str, Address], pod_6: Address) -> list[dict[str, Any]]:
    """Services with several ports, with endpoints in every condition, with both families, and without any of it."""
    dual = service("dual", {"http": 80, "admin": 8081})
    dual["spec"]["ports"][0]["targetPort"] = 9376
    dual["spec"]["ports"][1]["targetPort"] = "admin-port"
    paths: dict[str, tuple[str, int | str]] = {
        "/number": ("dual", 80),
        "/name": ("dual", "http"),
        "/target-number": ("dual", 9376),
        "/admin/number": ("dual", 8081),
        "/admin/name": ("dual", "admin"),
        "/admin/target-name": ("dual", "admin-port"),
        "/missing-service": ("nobody", 80),
        "/missing-port": ("dual", 81),
        "/missing-port-name": ("dual", "nothing"),
        "/no-slice": ("no-slice", 80),
        "/not-ready": ("not-ready", 80),
        "/only-terminating": ("only-terminating", 80),
        "/udp": ("udp", 80),
        "/ready": ("mixed", 80),
        "/families": ("families", 80),
        "/headless": ("headless", 80),
        "/external": ("external-name", apps["external"][1]),
    }
    return [
        ingress("services", "services.test", paths),
        dual,
        endpoint_slice("dual", [apps["one"]], port_name="http", name="dual-http"),
        endpoint_slice("dual", [apps["admin"]], port_name="admin", name="dual-admin"),
        service("no-slice"),
        service("not-ready"),
        endpoint_slice("not-ready", [apps["leaving"]], ready=False),
        service("only-terminating"),
        endpoint_slice("only-terminating", [apps["leaving"]], terminating=True),
        service("udp", protocol="UDP"),
        endpoint_slice("udp", [apps["one"]], protocol="UDP"),
        service("mixed"),
        endpoint_slice("mixed", [apps["ready"]], name="mixed-ready"),
        endpoint_slice("mixed", [apps["leaving"]], name="mixed-terminating", terminating=True),
        endpoint_slice("mixed", [apps["admin"]], name="mixed-not-ready", ready=False),
        service("families"),
        *endpoint_slices("families", [apps["pod-4"], pod_6]),
        service("headless", cluster_ip="None"),
        endpoint_slice("headless", [apps["two"]]),
        service("external-name", external_name="localhost."),
    ]


async def answer(site: Site, host: str, target: str) -> str | int:
    """The name of the application that answers, or the status where none does."""
    response = await site.get(target, host=host)
    return response.app or response.status


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/exact", "exact"),
        ("/exact?a=/b&c", "exact"),
        ("/exact/", 404),
        ("/exact/more", 404),
        ("/exacT", 404),
        ("/prefix", "prefix"),
        ("/prefix/", "prefix"),
        ("/prefix/some/more", "prefix"),
        ("/prefixed", 404),
        ("/PREFIX", 404),
        ("/prefix/longer", "longer"),
        ("/prefix/longer/more", "longer"),
        ("/prefix/longest", "prefix"),
        ("/prefix/exact", "exact"),
        ("/prefix/exact/more", "prefix"),
        ("/both", "exact"),
        ("/both/more", "prefix"),
        ("/impl", "implementation"),
        ("/impl/more", "implementation"),
        ("/implementation", 404),
        ("/slash/", "slash"),
        ("/slash/more", "slash"),
        ("/slashed", 404),
        ("/bare", "exact"),
        ("/bare/", "slash"),
        ("/caf%C3%A9", "accent"),
        ("/caf%C3%A9/au/lait", "accent"),
        ("/cafe", 404),
        ("/", 404),
        ("/other", 404),
    ],
)
async def test_a_path_is_answered_by_type_then_by_length(site: Site, target: str, expected: str | int) -> None:
    assert await answer(site, "paths.test", target) == expected


async def test_a_prefix_that_ends_in_a_slash_sends_those_who_forgot_it_there(site: Site) -> None:
    response = await site.get("/slash?a=b", host="paths.test:8080")
    assert (response.status, response.header("location")) == (301, "http://paths.test:8080/slash/?a=b")


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("root.test", "/", "root"),
        ("root.test", "/anything", "root"),
        ("root.test", "/exact", "exact"),
        ("older.test", "/", "two"),
        ("older.test", "/other", "two"),
        ("older.test", "/a", "one"),
        ("older.test", "/b", "two"),
        ("tie.test", "/", "two"),
        ("one.wild.test", "/", "wild"),
        ("with_underscore-and-hyphen.wild.test", "/", "wild"),
        ("host.wild.test", "/host", "host"),
        ("host.wild.test", "/", 404),
        ("wild.test", "/", 404),
        ("two.labels.wild.test", "/", 404),
        ("two.labels.wild.test", "/hostless", "hostless"),
        (".wild.test", "/", 404),
        ("paths.test:8080", "/exact", "exact"),
        ("PATHS.Test", "/exact", "exact"),
        ("paths.test.", "/exact", "exact"),
        ("ONE.wild.test.:80", "/", "wild"),
        ("upper.test", "/", "host"),
        ("unknown.test", "/", 404),
        ("unknown.test", "/hostless", "hostless"),
        ("192.0.2.1", "/hostless/more", "hostless"),
        ("[2001:db8::1]:80", "/hostless", "hostless"),
        ("paths.test", "/hostless", 404),
        ("unknown.test", "/healthz", 200),
        ("paths.test", "/healthz", 404),
        ("with-default.test", "/one", "one"),
        ("with-default.test", "/other", "default"),
        ("only-default.test", "/", "default"),
        ("only-default.test", "/hostless", "default"),
    ],
)
async def test_a_host_is_answered_by_its_own_rules_and_by_nobody_elses(site: Site, host: str, target: str, expected: str | int) -> None:
    assert await answer(site, host, target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/items", "one"),
        ("/V22/Items", "one"),
        ("/v1/items/ab", "one"),
        ("/v1/items/abc", "two"),
        ("/v/items", 404),
        ("/plain.txt", "three"),
        ("/plain-txt", "three"),
        ("/PLAIN.TXT.old", "three"),
        ("/also/plain.txt", 404),
        ("/", 404),
    ],
)
async def test_a_host_with_one_expression_has_expressions_only_and_the_longest_text_is_tried_first(
    site: Site, target: str, expected: str | int
) -> None:
    assert await answer(site, "regex.test", target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/number", "one"),
        ("/name", "one"),
        ("/target-number", "one"),
        ("/admin/number", "admin"),
        ("/admin/name", "admin"),
        ("/admin/target-name", "admin"),
        ("/headless", "two"),
        ("/external", "external"),
        ("/missing-service", 503),
        ("/missing-port", 503),
        ("/missing-port-name", 503),
        ("/no-slice", 503),
        ("/not-ready", 503),
        ("/only-terminating", "leaving"),
        ("/udp", 503),
        ("/other", 404),
    ],
)
async def test_a_backend_is_found_by_every_name_of_its_port_and_one_that_is_not_there_concerns_its_path_only(
    site: Site, target: str, expected: str | int
) -> None:
    assert await answer(site, "services.test", target) == expected


async def test_only_ready_endpoints_are_given_requests_and_those_that_terminate_are_known_as_draining(site: Site) -> None:
    assert {(await site.get("/ready", host="services.test")).app for _ in range(12)} == {"ready"}
    statuses = json.loads(await site.envoy.ask("/clusters?format=json"))["cluster_statuses"]
    mixed = next(found for found in statuses if found["name"] == "default/mixed/80")
    assert sorted(host["health_status"]["eds_health_status"] for host in mixed["host_statuses"]) == ["DRAINING", "HEALTHY"]


async def test_endpoints_of_both_families_answer_in_turn(site: Site) -> None:
    found = [(await site.get("/families", host="services.test")).app for _ in range(12)]
    assert {app: found.count(app) for app in found} == {"pod-4": 6, "pod-6": 6}


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("//prefix///x", "/prefix/x"),
        ("/prefix/./x/../y", "/prefix/y"),
        ("/other/../prefix", "/prefix"),
        ("/prefix/%2e%2E/prefix/z", "/prefix/z"),
        ("/%70refix/%7Euser", "/prefix/~user"),
        ("/prefix\\x", "/prefix/x"),
        ("/prefix/a%2Fb%2f..%2Fc", "/prefix/a%2Fb%2f..%2Fc"),
        ("/prefix/%C3%A9%20+;v=1,2", "/prefix/%C3%A9%20+;v=1,2"),
        ("/prefix?q=/../%2e%2e//x", "/prefix?q=/../%2e%2e//x"),
        ("/../../prefix", "/prefix"),
    ],
)
async def test_a_path_is_normalised_before_it_is_matched_and_goes_on_normalised(site: Site, sent: str, received: str) -> None:
    response = await site.get(sent, host="paths.test")
    assert (response.status, response.json().get("path")) == (200, received)


@pytest.mark.parametrize("sent", ["/prefix/../exact", "/prefix/%2e%2e/exact", "/prefix//..//exact", "/prefix/..\\exact"])
async def test_dots_lead_out_of_a_path_before_it_is_chosen(site: Site, sent: str) -> None:
    assert await answer(site, "paths.test", sent) == "exact"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_what_nobody_claimed_is_404_with_nginxs_page_whatever_the_method(site: Site, method: str) -> None:
    response: Response = await site.get("/other", host="paths.test", method=method, body=b"x" if method == "POST" else b"")
    assert (response.status, response.header("content-type")) == (404, "text/html")
    assert (method == "HEAD") or ("<h1>404 Not Found</h1>" in response.text and "<center>nginx</center>" in response.text)
