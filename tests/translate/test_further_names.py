"""Who has a further name of a host: rules before redirects before aliases, whoever came first or last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule, ref
from xds.kube.world import MOST_NAMES, World, named_by
from xds.model import Redirect, RedirectTo, VirtualHost
from xds.nginx.features.server_alias import MOST_ALIASES
from xds.problem import Ref
from xds.snapshot import Snapshot
from xds.translate.claims import MOST_PATHS
from xds.translate.hosts import virtual_host
from xds.units.memo import Recorder
from xds.units.tables import Tables
from xds.units.traces import Asked, parts_of

PREFIX = "nginx.ingress.kubernetes.io/"
HOSTS = ("a.test", "b.test", "www.a.test", "c.test")


def ingress(
    name: str, hosts: Sequence[str], notes: Mapping[str, str] | None = None, *, namespace: str = "one", age: int = 1, paths: int = 1
) -> Ingress:
    annotations = {PREFIX + key: text for key, text in (notes or {}).items()}
    meta = Meta(namespace=namespace, name=name, created=f"2026-01-0{age}T00:00:00Z", annotations=annotations)
    claimed = tuple(Path(f"/{n}" if n else "/", "Exact", Backend("web", 80)) for n in range(paths))
    return Ingress(meta=meta, rules=tuple(Rule(host, claimed) for host in hosts))


class Served:
    """What becomes of these Ingresses."""

    def __init__(self, *items: Ingress, owned: bool = False) -> None:
        self.world = World(Flags(watch_ingress_without_class=True, host_ownership=owned))
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.put(*items)

    def put(self, *items: Ingress, gone: Sequence[Ref] = ()) -> None:
        self.tables.apply(self.world.apply(items, gone)).publish(self.snapshot)
        assert not self.tables.build.faults

    def host(self, name: str) -> VirtualHost | None:
        return virtual_host(Recorder(self.tables.build), name)

    def owner(self, name: str) -> str | None:
        """The Ingress that the first route of a host is from."""
        found = self.host(name)
        return found.routes[0].origin.name if found and found.routes[0].origin else None

    def codes(self) -> set[str]:
        return {problem.code for problem in self.tables.problems()}


ALIAS = {"server-alias": "x.test"}
WWW = {"from-to-www-redirect": "true"}


def test_a_rule_keeps_its_host() -> None:
    served = Served(ingress("alias", ["a.test"], {"server-alias": "b.test"}), ingress("rule", ["b.test"], age=9))
    assert served.owner("b.test") == "rule"
    assert "name:b.test" in served.codes()


@pytest.mark.parametrize(("owned", "owner"), [(False, "young"), (True, "old")])
def test_of_two_hosts_the_first_in_the_alphabet_has_a_name_and_with_host_ownership_the_oldest_ingress(owned: bool, owner: str) -> None:
    young, old = ingress("young", ["a.test"], ALIAS, namespace="two", age=5), ingress("old", ["b.test"], ALIAS, age=2)
    assert Served(young, old, owned=owned).owner("x.test") == owner


def test_a_redirect_goes_before_an_alias() -> None:
    served = Served(ingress("alias", ["a.test"], {"server-alias": "www.b.test"}), ingress("www", ["b.test"], WWW))
    found = served.host("www.b.test")
    assert found
    assert [route.action for route in found.routes] == [Redirect(308, RedirectTo.NAME, "b.test")]


def test_neither_is_redirected_where_both_have_rules() -> None:
    served = Served(ingress("one", ["a.test"], WWW), ingress("two", ["www.a.test"], WWW))
    assert (served.owner("a.test"), served.owner("www.a.test")) == ("one", "two")


def test_with_host_ownership_an_ingress_that_does_not_own_a_host_gives_it_no_name() -> None:
    owner, guest = ingress("owner", ["a.test"]), ingress("guest", ["a.test"], ALIAS | WWW, namespace="two", age=5)
    assert Served(owner, guest).owner("x.test") == "owner"
    assert Served(owner, guest, owned=True).host("x.test") is None
    assert Served(owner, guest, owned=True).host("www.a.test") is None


def test_an_ingress_went_into_the_names_that_it_has_and_into_no_others() -> None:
    served = Served(ingress("alias", ["a.test"], {"server-alias": "b.test, x.test"} | WWW), ingress("rule", ["b.test"]))
    pieces = {part.piece for part in parts_of(served.tables, Asked(Ref("Ingress", "one", "alias")))}
    assert {"a.test", "x.test", "www.a.test"} <= pieces
    assert "b.test" not in pieces


def test_names_repeat_no_more_paths_than_an_ingress_may_have() -> None:
    many = ", ".join(f"n{n}.test" for n in range(MOST_ALIASES + 5))
    served = Served(ingress("wide", ["a.test"], {"server-alias": many}, paths=MOST_PATHS // 10))
    there = [n for n in range(MOST_ALIASES + 5) if served.host(f"n{n}.test")]
    assert there == list(range(10))
    assert "name:n10.test" in served.codes()
    assert Served(ingress("narrow", ["a.test"], {"server-alias": many})).host(f"n{MOST_ALIASES}.test") is None


def test_an_ingress_gives_so_many_names_and_no_more() -> None:
    hosts = [f"h{n}.test" for n in range(MOST_NAMES // 50 + 10)]
    aliases = ", ".join(f"n{n}.test" for n in range(50))
    served = Served(ingress("wide", hosts, {"server-alias": aliases}))
    read = Recorder(served.tables.build)
    assert sum(len(named_by(read, f"n{n}.test")) for n in range(50)) == MOST_NAMES


NOTES: Sequence[Mapping[str, str]] = (
    {},
    ALIAS,
    WWW,
    {"server-alias": "b.test, www.a.test, *.c.test"},
    {"server-alias": "~^x"},
    WWW | ALIAS,
)
INGRESSES = st.builds(
    lambda name, hosts, notes, namespace, age: ingress(name, hosts, notes, namespace=namespace, age=age),
    st.sampled_from("ijk"),
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True),
    st.sampled_from(NOTES),
    st.sampled_from(["one", "two"]),
    st.integers(1, 3),
)


@given(st.lists(st.tuples(INGRESSES, st.booleans()), max_size=8), st.booleans())
@settings(deadline=None, max_examples=examples(60))
def test_in_any_order_a_name_has_the_routes_that_it_would_have_from_the_beginning(steps: list[tuple[Ingress, bool]], owned: bool) -> None:
    life, there = Served(owned=owned), dict[Ref, Ingress]()
    for item, gone in steps:
        if gone:
            there.pop(ref(item), None)
            life.put(gone=[ref(item)])
        else:
            there[ref(item)] = item
            life.put(item)
    anew = Served(*there.values(), owned=owned)
    for name in (*HOSTS, "x.test", "*.c.test", "www.b.test", "www.c.test", "www.www.a.test"):
        assert life.host(name) == anew.host(name)
        if ruling := {item.meta.name for item in there.values() if name in {rule.host for rule in item.rules}}:
            assert life.owner(name) in ruling
    assert {n: h.body for n, h in life.tables.hosts.values.items()} == {n: h.body for n, h in anew.tables.hosts.values.items()}
