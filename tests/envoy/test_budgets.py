"""What one author's object can do to others, through a real Envoy: to their requests, and to the time that their changes take."""

from __future__ import annotations

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Site, backend, ingress

pytestmark = pytest.mark.envoy

REGEX = {"nginx.ingress.kubernetes.io/use-regex": "true"}
PROTECTED = REGEX | {"nginx.ingress.kubernetes.io/auth-url": "http:///check"}
OLD, NEW = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
BOMB = "a{1,999}" * 9


async def apps(site: Site) -> None:
    for name in ("open", "longer", "mine", "theirs"):
        site.folder.write(f"{name}.yaml", *backend(name, await site.run(HttpApp(name)), namespace="two" if name == "theirs" else "default"))


async def test_protected_paths_that_are_left_out_do_not_fall_to_open_ones(steady_site: Site) -> None:
    site = steady_site
    await apps(site)
    many = {f"/admin/{n:04}/(a|b)[0-9]+": ("open", 80) for n in range(1_000)} | {f"/secret/{BOMB}": ("open", 80)}
    site.folder.write(
        "ingresses.yaml",
        ingress("open", "a.test", {"/": ("open", 80), "/admin/0999/publicly/(.*)": ("longer", 80)}, created=OLD),
        ingress("protected", "a.test", many, PROTECTED, created=NEW),
        ingress("later", "later.test", {"/": ("open", 80)}),
    )
    await site.start()
    closed = ("/admin/0000/a1", "/admin/0999/b7", "/ADMIN/0999/b7", "/%61dmin/0999/b7", "/secret/aaa")
    assert {path: (await site.get(path, host="a.test")).status for path in closed} == dict.fromkeys(closed, 503)
    assert (await site.get("/x", host="a.test")).app == "open"
    assert (await site.get("/admin/0999/publicly/x", host="a.test")).app == "longer"
    assert (await site.get("/", host="later.test")).app == "open"


async def test_expressions_without_end_are_left_out_and_every_change_goes_on(steady_site: Site) -> None:
    site = steady_site
    await apps(site)
    site.folder.write(
        "dear.yaml", ingress("dear", "dear.test", {f"/{n}{BOMB}": ("open", 80) for n in range(40)} | {"/": ("open", 80)}, REGEX)
    )
    site.folder.write("other.yaml", ingress("other", "other.test", {"/": ("open", 80)}))
    await site.start()
    assert (await site.get("/0a", host="dear.test")).app == "open"
    site.folder.write("other.yaml", ingress("other", "other.test", {"/": ("mine", 80)}))
    await site.until_answered("/", "mine", host="other.test")


@pytest.mark.parametrize(("flag", "by"), [((), "theirs"), (("--host-ownership",), "mine")], ids=["shared", "owned"])
async def test_a_host_is_shared_or_with_the_flag_its_first_namespaces(steady_site: Site, flag: tuple[str, ...], by: str) -> None:
    site = steady_site
    await apps(site)
    site.folder.write("mine.yml", ingress("mine", "a.test", {"/": ("mine", 80)}, created=OLD))
    site.folder.write(
        "theirs.yml",
        ingress("theirs", "a.test", {"/login": ("theirs", 80)}, namespace="two", created=NEW),
        ingress("others", "b.a.test", {"/": ("theirs", 80)}, namespace="two", created=NEW),
        ingress("wild", "*.a.test", {"/": ("mine", 80)}, created=OLD),
    )
    await site.start(*flag)
    assert (await site.get("/login", host="a.test")).app == by
    assert (await site.get("/login", host="b.a.test")).app == "theirs", "a wildcard claims no exact host"
    site.folder.remove("mine.yml")
    await site.until_answered("/login", "theirs", host="a.test")
