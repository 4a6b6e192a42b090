"""Whose fault it is when Envoy rejects a Part: the objects that somebody can mend, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.units.test_any_order import site
from tests.units.test_holds import HTTPS, Holding, host, leading_to, passing
from xds.kube.objects import Backend, ConfigMap, Ingress, Meta, Path, Rule
from xds.problem import Place, Problem, Ref
from xds.quarantine.blame import in_words, objects
from xds.quarantine.blame import problems as problems_of
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Part
from xds.units.parts import Held
from xds.units.tables import Tables


def problems(tables: Tables, culprits: Mapping[Part, Held]) -> list[Problem]:
    return [problem for found in problems_of(tables, culprits).values() for problem in found]


TCP = ConfigMap(meta=Meta(namespace="one", name="tcp"), data={"5000": "one/s0:80"})
WEB = Ref("Ingress", "one", "i1")


@pytest.mark.parametrize(
    ("part", "words", "found"),
    [
        (host(1), 'virtual host "h1.example.com"', [WEB]),
        (Part(ROUTE, "ingress", ""), 'virtual host "*"', []),
        (Part(ROUTE, "ingress"), "route table", [Ref("ConfigMap", "one", "config")]),
        (Part(CLUSTER, "one/s1/80"), 'cluster "one/s1/80"', [Ref("Service", "one", "s1"), WEB]),
        (Part(ENDPOINT, "one/s1/80"), 'endpoints of cluster "one/s1/80"', [Ref("Service", "one", "s1"), WEB]),
        (Part(SECRET, "one/first"), 'secret "one/first"', [Ref("Secret", "one", "first")]),
        (Part(SECRET, "default"), 'secret "default"', [Ref("Secret", "one", "first")]),  # that of --default-ssl-certificate
        (HTTPS._replace(piece="one/first"), 'filter chain of certificate "one/first"', [Ref("Secret", "one", "first")]),
        (
            HTTPS._replace(piece="passthrough:one/s0/80~ad56966b"),
            'filter chain that passes TLS through to "one/s0/80~ad56966b"',
            [Ref("Service", "one", "s0"), Ref("Ingress", "one", "p")],
        ),
        (Part(CLUSTER, "one/s0/80~ad56966b"), 'cluster "one/s0/80~ad56966b"', [Ref("Service", "one", "s0"), Ref("Ingress", "one", "p")]),
        (Part(LISTENER, "http"), 'listener "http"', [Ref("ConfigMap", "one", "config")]),
        (Part(LISTENER, "tcp/5000"), 'listener "tcp/5000"', [Ref("ConfigMap", "one", "tcp")]),
        (Part(LISTENER, "udp/53"), 'listener "udp/53"', [Ref("ConfigMap", "one", "udp")]),
    ],
)
def test_a_part_leads_to_the_objects_that_can_be_mended(part: Part, words: str, found: list[Ref]) -> None:
    life = Holding([*site(3), *passing()[3:], TCP])
    assert objects(life.tables, part) == found
    assert in_words(part) == words


def shared(name: str, **meta: Any) -> Ingress:
    rule = Rule("h1.example.com", (Path(f"/{name}", "Prefix", Backend("s1", 80)),))
    return Ingress(meta=Meta(namespace="one", name=name, **meta), rules=(rule,))


def test_for_a_cluster_no_ingress_of_another_namespace_is_to_blame_whatever_it_has_on_the_host() -> None:
    rule = Rule("h1.example.com", (Path("/two", "Prefix", Backend("s1", 80)),))
    life = Holding([*site(3), Ingress(meta=Meta(namespace="two", name="i1"), rules=(rule,))])
    assert {ref.namespace for ref in objects(life.tables, host(1))} == {"one", "two"}
    assert objects(life.tables, Part(CLUSTER, "one/s1/80")) == [Ref("Service", "one", "s1"), WEB]


@pytest.mark.parametrize("part", [host(1), Part(CLUSTER, "one/s1/80"), Part(ENDPOINT, "one/s1/80")])
def test_of_very_many_objects_twenty_are_to_blame(part: Part) -> None:
    life = Holding([*site(3), *(shared(f"x{n:02}") for n in range(30))])
    assert len(objects(life.tables, part)) == 20


def test_of_several_ingresses_of_a_host_those_that_changed_are_to_blame() -> None:
    life = Holding([*site(3), shared("other"), shared("third")])
    found = problems(life.tables, {host(1): Held("1", None, "no", causes=(Ref("Ingress", "one", "third"), Ref("Service", "one", "s1")))})
    assert [p.about.name for p in found] == ["third"]


def test_all_of_them_are_where_none_of_them_changed() -> None:
    life = Holding([*site(3), shared("other")])
    found = problems(life.tables, {host(1): Held("1", None, "no", causes=(Ref("Service", "one", "s1"),))})
    assert {p.about.name for p in found} == {"i1", "other"}


def test_an_ingress_that_is_not_served_is_not_to_blame() -> None:
    other = Ingress(meta=Meta(namespace="one", name="theirs"), class_name="theirs", rules=shared("x").rules)
    assert objects(Holding([*site(3), other]).tables, host(1)) == [WEB]


def test_a_service_is_to_blame_with_the_ingresses_that_name_it_and_no_others() -> None:
    life = Holding([*site(3), leading_to(2, 1)])
    assert objects(life.tables, Part(CLUSTER, "one/s1/80")) == [Ref("Service", "one", "s1"), WEB, Ref("Ingress", "one", "i2")]


def test_a_problem_says_what_stays_and_what_envoy_says_and_where_to_look() -> None:
    life = Holding([*site(1), shared("other", place=Place("a.yaml", 1, 7))])
    old = life.value(host(0))
    [kept] = problems(life.tables, {host(0): Held("1", old, "missing ): (x")})
    assert "What it accepted before stays in place until the object is changed. Envoy's error: missing ): (x" in kept.sentence
    [gone] = problems(life.tables, {host(1): Held("1", None, "no")})
    assert "It is left out until the object is changed." in gone.sentence
    assert gone.place == Place("a.yaml", 1, 7)
    assert kept.code != gone.code
    assert kept == problems(life.tables, {host(0): Held("2", None, "other words")})[0]  # the same Problem, said anew (decision 17)


def test_a_problem_of_what_is_held_along_is_about_the_first_of_its_clusters() -> None:
    life = Holding(site(2))
    along = frozenset([Part(CLUSTER, "one/s1/80"), *(Part(CLUSTER, f"one/s1/80~{n}") for n in range(10))])
    [found] = problems(life.tables, {host(1): Held("1", life.value(host(1)), "no", along=along)})
    assert found.sentence == (
        'Envoy rejects the cluster "one/s1/80", to which the virtual host "h1.example.com", which is made from this object, leads now. '
        "What it accepted before stays in place until the object is changed. Envoy's error: no"
    )


def test_a_canary_is_to_blame_for_the_host_that_it_joins_and_for_its_cluster() -> None:
    notes = {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "5"}
    joining = leading_to(1, 2)
    canary = msgspec.structs.replace(joining, meta=Meta(namespace="one", name="next", annotations=notes))
    life = Holding([*site(3), canary])
    which = Ref("Ingress", "one", "next")
    assert set(objects(life.tables, host(1))) == {WEB, which}
    assert which in objects(life.tables, Part(CLUSTER, "one/s2/80"))
