"""The Ingresses of a host are in the order of their age, whatever happened before: the larger namespace/name first, of those of one age."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.config import Flags
from xds.kube.objects import Ingress, Meta, Rule, ref
from xds.kube.world import World, ingresses_key, oldest_first
from xds.problem import Ref

HOSTS = ("a.test", "b.test", "")
INGRESSES = st.builds(
    lambda namespace, name, created, hosts: Ingress(
        meta=Meta(namespace=namespace, name=name, created=created), rules=tuple(Rule(host, ()) for host in hosts)
    ),
    st.sampled_from(("a", "a-b", "b")),
    st.sampled_from(("x", "xy", "x-y", "z", "\U0010ffff", "\0")),
    st.sampled_from(("", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z")),
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3),
)


def as_ingress_nginx(item: Ingress) -> str:
    return f"{item.meta.namespace}/{item.meta.name}"


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(INGRESSES, st.booleans()), max_size=12))
def test_the_order_is_that_of_a_sort_of_all(events: list[tuple[Ingress, bool]]) -> None:
    world = World(Flags())
    there: dict[Ref, Ingress] = {}
    for item, put in events:
        if put:
            world.apply([item])
            there[ref(item)] = item
        else:
            world.apply(drop=[ref(item)])
            there.pop(ref(item), None)
        for host in HOSTS:
            ours = [each for each in there.values() if host in {rule.host for rule in each.rules}]
            by_name = sorted(ours, key=as_ingress_nginx, reverse=True)
            wanted = tuple(sorted(by_name, key=lambda each: each.meta.created or "~"))
            assert world.get(ingresses_key(host)) == wanted == oldest_first(ours)
