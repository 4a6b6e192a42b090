"""Which Ingresses are ours, where an API server and not a folder is the Source (nginx 4.8)."""

from __future__ import annotations

import pytest

from xds.config import Flags
from xds.kube.objects import Backend, Ingress, IngressClass, Meta
from xds.kube.world import World
from xds.translate.selection import selects
from xds.units.tables import Tables


def problems_and_routes(*objects: Ingress | IngressClass, settings: Flags) -> tuple[list[str], int]:
    """The codes of all Problems about Ingresses, and how many routes the catch-all has."""
    world = World(settings)
    tables = Tables(world)
    tables.apply(world.apply(objects))
    served = tables.hosts.values[""].body
    return [p.code for p in tables.problems() if p.about.kind == "Ingress"], served.count(b"default/web")


def ingress(class_name: str | None) -> Ingress:
    return Ingress(meta=Meta(namespace="default", name="web"), class_name=class_name, default_backend=Backend("web", 80))


def test_a_class_that_was_deleted_takes_no_host_with_it() -> None:
    """ingress-nginx's own chart deletes the class when it is uninstalled."""
    codes, routes = problems_and_routes(ingress("nginx"), settings=Flags())
    assert "class-missing" in codes
    assert routes


def test_a_class_of_another_controller_is_not_ours_even_under_our_name() -> None:
    other = IngressClass(meta=Meta(namespace="", name="nginx"), controller="example.com/other")
    codes, routes = problems_and_routes(ingress("nginx"), other, settings=Flags())
    assert (codes, routes) == ([], 0)


def test_a_class_that_nobody_has_is_nobodys() -> None:
    codes, routes = problems_and_routes(ingress("elsewhere"), settings=Flags())
    assert (codes, routes) == (["class-missing"], 0)


@pytest.mark.parametrize("without_class", [True, False])
def test_an_ingress_without_a_class_is_ours_only_if_told(*, without_class: bool) -> None:
    _, routes = problems_and_routes(ingress(None), settings=Flags(watch_ingress_without_class=without_class))
    assert bool(routes) is without_class


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("team=a", True),
        ("team==a", True),
        ("team=b", False),
        ("team!=b", True),
        ("team!=a", False),
        ("other!=a", True),
        ("team in (a, b)", True),
        ("team notin (a)", False),
        ("team", True),
        ("!team", False),
        ("!other", True),
        ("team=a,other", False),
        ("team=a,!other", True),
        ("team=a b", False),
    ],
)
def test_a_selector_of_namespaces_is_kubernetes_own(selector: str, *, matches: bool) -> None:
    assert selects(selector, {"team": "a"}) is matches
