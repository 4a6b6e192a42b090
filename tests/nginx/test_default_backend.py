"""default-backend: which Services may answer instead of another one, and why others may not."""

from __future__ import annotations

import pytest

from xds.config import Flags
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule, Service, ServicePort
from xds.kube.world import World
from xds.snapshot import CLUSTER, Snapshot
from xds.units.tables import Tables

PREFIX = "nginx.ingress.kubernetes.io/"
ASKED = {"default-backend": "out", "custom-http-errors": "404"}


def clusters(out: Service, *, disabled: bool = False) -> tuple[set[str], list[str]]:
    """The names of all clusters, without what their policy adds, and what is wrong with the annotation."""
    annotations = {PREFIX + name: text for name, text in ASKED.items()}
    rule = Rule("a.example.com", (Path("/", "Prefix", Backend("none", 80)),))
    item = Ingress(meta=Meta(namespace="one", name="web", annotations=annotations), rules=(rule,))
    world = World(Flags(watch_ingress_without_class=True, disable_svc_external_name=disabled))
    tables, snapshot = Tables(world), Snapshot()
    tables.apply(world.apply([item, out])).publish(snapshot)
    wrong = [problem.sentence for problem in tables.problems() if "default-backend" in problem.field]
    return {name.partition("~")[0] for name in snapshot[CLUSTER]}, wrong


def outside(name: str, *ports: ServicePort) -> Service:
    return Service(meta=Meta(namespace="one", name="out"), type="ExternalName", external_name=name, ports=ports)


HTTP = ServicePort(80, target=8080)


def test_an_external_name_answers_and_gives_pages() -> None:
    assert clusters(outside("pages.example.org", HTTP)) == ({"one/out/80@one/web", "one/out/80"}, [])


@pytest.mark.parametrize("name", ["169.254.169.254", "127.0.0.1", "localhost", "127.1", "", "a b"])
def test_one_that_may_lead_nowhere_has_no_effect(name: str) -> None:
    found, (sentence,) = clusters(outside(name, HTTP))
    assert found == set()
    assert sentence.startswith("default-backend names Service one/out, which stands for ")


def test_nor_has_one_without_a_port_or_where_such_services_are_disabled() -> None:
    assert clusters(outside("pages.example.org"))[0] == set()
    assert clusters(outside("pages.example.org", ServicePort(80, protocol="UDP")))[0] == set()
    assert clusters(outside("pages.example.org", HTTP), disabled=True)[0] == set()
