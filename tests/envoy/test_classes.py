"""Which Ingresses are served at all, by class, namespace and flags (nginx 4.8), and the default backend of everybody (nginx 4.4)."""

from __future__ import annotations

from typing import Any

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, endpoint_slice, ingress, ingress_class, service

pytestmark = pytest.mark.envoy

ANNOTATION = "kubernetes.io/ingress.class"
CONTROLLER = "example.test/controller"


def of_class(host: str, named: str | None, annotation: str = "", *, namespace: str = "default") -> dict[str, Any]:
    """An Ingress of its own host, with a class in the field, in the annotation, in both or in neither."""
    annotations = {ANNOTATION: annotation} if annotation else {}
    return ingress(host, f"{host}.test", {"/": ("app", 80)}, annotations, ingress_class=named, namespace=namespace)


def in_namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


async def served(site: Site, *hosts: str) -> set[str]:
    """Those of the hosts that the application answers; the others are nobody's."""
    answers = {host: await site.get("/", host=f"{host}.test") for host in hosts}
    assert {answer.status for answer in answers.values()} <= {200, 404}
    return {host for host, answer in answers.items() if answer.app == "app"}


CLASSES = (
    of_class("nginx-by-name", "nginx"),
    of_class("ours-by-class", "ours"),
    of_class("foreign-class", "foreign"),
    of_class("no-such-class", "missing"),
    of_class("nginx-annotation", None, "nginx"),
    of_class("other-annotation", None, "other"),
    of_class("field-before-annotation", "ours", "other"),
    of_class("foreign-field-before-annotation", "foreign", "nginx"),
    of_class("neither", None),
)
HOSTS = [found["metadata"]["name"] for found in CLASSES]


async def test_a_folder_is_served_where_its_class_is_ours_or_nobodys(steady_site: Site) -> None:
    site = steady_site
    site.folder.write("classes.yaml", ingress_class("ours"), ingress_class("foreign", "example.test/other"), *CLASSES)
    site.folder.write("app.yaml", *backend("app", await site.run(HttpApp("app"))))
    await site.start()
    expected = {"nginx-by-name", "ours-by-class", "nginx-annotation", "field-before-annotation", "neither"}
    assert await served(site, *HOSTS) == expected


async def test_the_flags_of_a_second_controller_choose_other_ingresses_and_annotations(steady_site: Site) -> None:
    """Two controllers in a cluster: what the first one serves is not this one's, and Ingresses of no class are nobody's."""
    site = steady_site
    own = (of_class("own-annotation", None, "own"), of_class("own-by-controller", "own-class"), of_class("own-by-name", "own"))
    classes = [
        ingress_class("nginx"),
        ingress_class("ours"),
        ingress_class("own-class", CONTROLLER),
        ingress_class("own", "example.test/x"),
    ]
    site.folder.write("classes.yaml", *classes, *CLASSES, *own)
    site.folder.write("app.yaml", *backend("app", await site.run(HttpApp("app"))))
    for whose, prefix in (("mine", "example.test"), ("nginxs", "nginx.ingress.kubernetes.io")):
        redirect = {f"{prefix}/permanent-redirect": "https://elsewhere.test"}
        site.folder.write(f"{whose}.yaml", ingress(whose, f"{whose}.test", {"/": ("app", 80)}, redirect, ingress_class="own-class"))
    flags = ("--watch-ingress-without-class=false", "--annotations-prefix=example.test")
    await site.start("--ingress-class=own", f"--controller-class={CONTROLLER}", *flags)
    assert await served(site, *HOSTS, "own-annotation", "own-by-controller", "own-by-name") == {"own-annotation", "own-by-controller"}
    assert (await site.get("/", host="mine.test")).header("location") == "https://elsewhere.test"
    assert (await site.get("/", host="nginxs.test")).app == "app"


async def test_a_class_may_be_ours_by_its_name_and_one_namespace_may_be_all_that_is_watched(steady_site: Site) -> None:
    site = steady_site
    classes = [ingress_class("special", "example.test/other"), ingress_class("other", "example.test/other")]
    inside = [of_class("by-name", "special", namespace="one"), of_class("other-name", "other", namespace="one")]
    outside = [of_class("outside", "special", namespace="two"), of_class("outside-too", None, "special")]
    site.folder.write("classes.yaml", *classes, *inside, *outside)
    address = await site.run(HttpApp("app"))
    for namespace in ("one", "two", "default"):
        site.folder.write(f"app-{namespace}.yaml", *backend("app", address, namespace=namespace))
    await site.start("--ingress-class=special", "--ingress-class-by-name", "--watch-namespace=one")
    assert await served(site, "by-name", "other-name", "outside", "outside-too") == {"by-name"}


async def test_the_default_backend_answers_the_rest_and_what_is_disabled_is_not_served(steady_site: Site) -> None:
    site = steady_site
    catch_all = ingress("catch-all", "catch-all.test", {"/": ("app", 80)}, default=("app", 80))
    paths = {"/app": ("app", 80), "/external": ("external", 80)}
    site.folder.write("namespaces.yaml", in_namespace("default", team="a", stage="live"), in_namespace("test", team="a", stage="test"))
    site.folder.write("web.yaml", ingress("web", "web.test", paths), of_class("test", "nginx", namespace="test"), catch_all)
    site.folder.write("external.yaml", service("external", external_name="localhost"))
    address = await site.run(HttpApp("app"))
    site.folder.write("app.yaml", *backend("app", address), *backend("app", address, namespace="test"))
    fallback = endpoint_slice("fallback", [await site.run(HttpApp("fallback"))], namespace="test", port_name="first")
    site.folder.write("fallback.yaml", service("fallback", {"first": 8080, "second": 80}, namespace="test"), fallback)
    flags = ("--default-backend-service=test/fallback", "--disable-catch-all", "--disable-svc-external-name")
    await site.start(*flags, "--watch-namespace-selector=team=a,stage!=test")

    assert (await site.get("/app", host="web.test")).app == "app"
    assert (await site.get("/external", host="web.test")).status == 503
    for host in ("web.test", "catch-all.test", "test.test", "unknown.test"):
        response = await site.get("/some/path?a=b", host=host, method="PUT", body=b"12345")
        assert (response.app, response.json()["method"], response.json()["path"]) == ("fallback", "PUT", "/some/path?a=b")
        assert response.json()["body_length"] == 5

    site.folder.remove("fallback.yaml")
    gone = await site.until_status("/", 404, host="unknown.test")
    assert "<center>nginx</center>" in gone.text
    assert (await site.get("/other", host="web.test")).status == 404
    assert (await site.get("/app", host="web.test")).app == "app"
