"""What controllers report about an object is kept, and makes no Unit run again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xds.config import Flags
from xds.kube import parse
from xds.kube.objects import Ingress, Meta, Object, Rule, Service, ServicePort
from xds.kube.world import World, ingresses_key
from xds.problem import Problem, Ref
from xds.units.tables import Tables

STATUS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "hostname": "both.test"}, {"hostname": "a.test"}, {}]}}


def read(kind: str, version: str, **fields: Any) -> Any:
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "uid": "u-1"}, **fields}
    (found,) = parse.from_document(document)
    assert parse.from_json(json.dumps(document).encode()) == found
    return found


@pytest.mark.parametrize("version", ["networking.k8s.io/v1", "networking.k8s.io/v1beta1"])
def test_an_ingress_has_its_uid_and_the_addresses_of_its_status(version: str) -> None:
    found = read("Ingress", version, status=STATUS)
    assert found.uid == "u-1"
    assert found.addresses == ("192.0.2.1", "a.test", "")


def test_a_service_has_its_external_ips_and_the_addresses_of_its_status() -> None:
    found = read("Service", "v1", spec={"externalIPs": ["192.0.2.5"]}, status=STATUS)
    assert found.external_ips == ("192.0.2.5",)
    assert found.load_balancer == ("192.0.2.1", "a.test", "")


@pytest.mark.parametrize("status", [None, {}, {"loadBalancer": None}, {"loadBalancer": {}}, {"loadBalancer": {"ingress": None}}], ids=str)
def test_an_object_without_addresses_has_none(status: Any) -> None:
    assert read("Ingress", "networking.k8s.io/v1", status=status).addresses == ()
    assert read("Service", "v1", status=status).load_balancer == ()


def test_a_status_that_cannot_be_is_said_in_words() -> None:
    found = read("Ingress", "networking.k8s.io/v1", status={"loadBalancer": {"ingress": "192.0.2.1"}})
    assert isinstance(found, Problem)
    assert (found.field, found.code) == ("status.loadBalancer.ingress", "wrong-type")


INGRESS = Ingress(meta=Meta(namespace="a", name="i", version="1"), uid="u", rules=(Rule("a.test"),))
SERVICE = Service(meta=Meta(namespace="a", name="s", version="1"), ports=(ServicePort(80),))


def reported(item: Ingress | Service) -> Ingress | Service:
    meta = Meta(namespace=item.meta.namespace, name=item.meta.name, version="2")
    if isinstance(item, Ingress):
        return Ingress(meta=meta, uid=item.uid, rules=item.rules, addresses=("192.0.2.1",))
    return Service(meta=meta, ports=item.ports, load_balancer=("192.0.2.1",))


@pytest.mark.parametrize("item", [INGRESS, SERVICE], ids=["Ingress", "Service"])
def test_a_report_touches_no_unit_and_is_known_everywhere(item: Ingress | Service) -> None:
    world = World(Flags())
    assert world.apply([item])
    new = reported(item)
    assert world.apply([new]) == set()
    assert world.get((type(item).__name__, "a", item.meta.name)) is new
    if isinstance(item, Ingress):
        assert world.get(ingresses_key("a.test")) == (new,)
    assert world.apply(drop=[Ref(type(item).__name__, "a", item.meta.name)])


@pytest.mark.parametrize(
    "other",
    [
        Ingress(meta=Meta(namespace="a", name="i", version="2"), uid="u", rules=(Rule("b.test"),)),
        Ingress(meta=Meta(namespace="a", name="i", version="2", annotations={"x/y": "z"}), uid="u", rules=(Rule("a.test"),)),
        Ingress(meta=Meta(namespace="a", name="i", version="2", created="2026-01-01T00:00:00Z"), uid="u", rules=(Rule("a.test"),)),
    ],
    ids=["rules", "annotations", "made anew"],
)
def test_what_differs_in_more_than_a_report_touches_units(other: Object) -> None:
    world = World(Flags())
    world.apply([INGRESS])
    assert ("Ingress", "a", "i") in world.apply([other])


def test_to_write_every_status_runs_no_unit() -> None:
    settings = Flags(watch_ingress_without_class=True)
    world = World(settings)
    tables = Tables(world)
    items = [Ingress(meta=Meta(namespace="a", name=f"i{n}", version="1"), rules=(Rule(f"{n}.test"),)) for n in range(5)]
    tables.apply(world.apply(items))
    before = tables.build.runs
    tables.apply(world.apply([reported(item) for item in items]))
    assert tables.build.runs == before
