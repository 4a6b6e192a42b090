"""`--host-ownership`: what one namespace has claimed, no other one changes, whatever comes and goes in whichever order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.units.test_any_order import FLAGS, OPENED, Life, ingresses, site
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule, Tls, ref
from xds.kube.world import hosts_of, oldest_first
from xds.problem import Ref

OWNED = dataclasses.replace(FLAGS, host_ownership=True)
HOST = "a.example.com"
CLASS = "kubernetes.io/ingress.class"


def ingress(namespace: str, day: int, *paths: str, host: str = HOST, tls: bool = False) -> Ingress:
    meta = Meta(namespace=namespace, name=f"i{day}", created=f"2026-01-{day:02}T00:00:00Z")
    rule = Rule(host, tuple(Path(path, "Prefix", Backend("s0", 80)) for path in paths))
    return Ingress(meta=meta, rules=(rule,), tls=(Tls((host,), ""),) if tls else ())


def served(life: Life, host: str = HOST) -> bytes:
    return life.tables.hosts.values[host].body


def without(item: Ingress, host: str) -> Ingress | None:
    """An Ingress without its rules for a host; None where nothing is left of it."""
    rules = tuple(rule for rule in item.rules if rule.host.lower() != host)
    return msgspec.structs.replace(item, rules=rules) if rules else None


@given(st.lists(ingresses(), max_size=5))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_hosts_are_those_that_their_owners_alone_would_have(some: Sequence[Ingress]) -> None:
    there = {ref(item): item for item in some if item.class_name is None and CLASS not in item.meta.annotations}
    life = Life([*OPENED, *there.values()], OWNED)
    for host in life.tables.hosts.values:
        claiming = oldest_first(item for item in there.values() if host in hosts_of(item))
        if not claiming:
            continue
        foreign = {ref(i) for i in claiming if i.meta.namespace != claiming[0].meta.namespace}
        alone = [i for which, item in there.items() if (i := without(item, host) if which in foreign else item)]
        assert served(life, host) == served(Life([*OPENED, *alone], OWNED), host)
        assert {p.about for p in life.tables.problems() if p.code == f"foreign-host:{host}"} == foreign


def test_when_the_last_ingress_of_the_owner_goes_the_next_one_owns_the_host() -> None:
    first, again, next_one = ingress("one", 1, "/"), ingress("one", 3, "/more"), ingress("two", 2, "/theirs", tls=True)
    life = Life([*site(1), first, again, next_one], OWNED)
    assert served(life) == served(Life([*site(1), first, again], OWNED))
    life.take(drop=[ref(first)])
    assert served(life) == served(Life([*site(1), next_one], OWNED)), "the oldest that is left is the next one's"
    assert {p.about for p in life.tables.problems() if p.code == f"foreign-host:{HOST}"} == {Ref("Ingress", "one", "i3")}
    life.take(put=[first])
    assert served(life) == served(Life([*site(1), first, again], OWNED)), "a host goes back to who claimed it first"


def test_a_wildcard_claims_no_exact_host() -> None:
    life = Life([*site(1), ingress("one", 1, "/", host="*.example.com"), ingress("two", 2, "/")], OWNED)
    assert served(life) == served(Life([*site(1), ingress("two", 2, "/")], OWNED))
    assert not [p for p in life.tables.problems() if p.code.startswith("foreign-host")]


def test_a_wildcard_of_another_namespace_does_not_force_https() -> None:
    wildcard, mine = ingress("one", 1, "/", host="*.example.com", tls=True), ingress("two", 2, "/")
    own_wildcard = ingress("two", 1, "/", host="*.example.com", tls=True)
    plain = served(Life([*site(1), mine], OWNED))
    assert served(Life([*site(1), wildcard, mine], OWNED)) == plain
    assert served(Life([*site(1), own_wildcard, mine], OWNED)) != plain
    assert served(Life([*site(1), wildcard, mine])) != plain, "as in ingress-nginx"


def test_without_the_flag_a_note_says_what_it_would_do() -> None:
    life = Life([*site(1), ingress("one", 1, "/"), ingress("two", 2, "/theirs")])
    [note] = [p for p in life.tables.problems() if p.code == f"foreign-host:{HOST}"]
    assert (note.about, note.severity.value) == (Ref("Ingress", "two", "i2"), "note")
    assert b"/theirs" in served(life)


def test_with_the_flag_each_foreign_path_is_an_error() -> None:
    life = Life([*site(1), ingress("one", 1, "/"), ingress("two", 2, "/theirs", "/more")], OWNED)
    found = [p for p in life.tables.problems() if p.code == f"foreign-host:{HOST}"]
    assert [(p.field, p.severity.value) for p in found] == [(f"spec.rules[0].http.paths[{n}].path", "error") for n in range(2)]
    assert b"/theirs" not in served(life)
