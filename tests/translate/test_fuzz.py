"""Whatever anybody writes: no Unit raises, every Problem can be read, every message can be decoded, and the innocent are as they were."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from envoy_data_plane.message_pool import default_message_pool
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings

from tests.exploring import examples
from tests.strategies import FLAGS, GLOBAL, INNOCENT, documents, innocent, objects, pems, texts
from xds.kube import parse
from xds.kube.objects import (
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Object,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
    ref,
)
from xds.kube.world import World
from xds.problem import Problem, Ref
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, TYPES, Snapshot
from xds.units.tables import Tables
from xds.wire.encode import encode, field

FUZZED = hypothesis_settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
FLAGGED = {Ref("ConfigMap", "wild", name) for name in ("config", "tcp", "udp")} | {
    Ref("Service", "wild", "a"),
    Ref("Secret", "wild", "first"),
}
FILTER_CHAINS = 3


class Built(NamedTuple):
    tables: Tables
    snapshot: Snapshot

    def body(self, type_url: str, name: str) -> bytes:
        return self.snapshot[type_url][name].body

    def of_the_innocent(self) -> dict[tuple[str, str], bytes]:
        """Clusters, endpoints and secrets of their namespace; a ConfigMap that closes all paths leaves no more than the secret."""
        found = {(t, n): r.body for t in (CLUSTER, ENDPOINT, SECRET) for n, r in self.snapshot[t].items() if n.startswith("innocent/")}
        assert len(found) in (1, 3)
        return found


def build(items: list[Object]) -> Built:
    """Everything that a control plane makes of these objects; where two have a name, the later one counts."""
    world = World(FLAGS)
    tables, snapshot = Tables(world), Snapshot()
    tables.apply(world.apply(items)).publish(snapshot)
    return Built(tables, snapshot)


def taken(items: list[Object]) -> Built:
    """The same, once it is certain that no Unit raised and that all that came out can be used."""
    built = build([*innocent(), *items])
    assert not built.tables.build.faults
    for type_url in TYPES:
        for name, resource in built.snapshot[type_url].items():
            assert named(type_url, resource.body) == name
    for problem in built.tables.problems():
        assert_readable(problem)
    return built


@lru_cache(maxsize=2048)
def named(type_url: str, body: bytes) -> str:
    """The name in a message, of which nothing may be lost or added when it is read (fields may have come in another order)."""
    message: Any = default_message_pool.url_to_type[type_url].parse(body)
    assert len(encode(message)) == len(body)
    return str(message.cluster_name if type_url == ENDPOINT else message.name)


def assert_readable(problem: Problem) -> None:
    """One printable line that says which object, and a sentence that somebody can read to its end."""
    line = str(problem)
    assert line.isprintable()
    assert len(line) < 2000
    assert problem.sentence.isprintable()
    assert problem.sentence.endswith((".", "…"))
    assert problem.about.kind in line
    if (about := str(problem.about)).isprintable() and len(about) <= 400:
        assert about in line


def is_global(item: Object) -> bool:
    """Whether flags name it for all hosts; pages of errors are asked of the default backend."""
    match item:
        case ConfigMap():
            return (item.meta.namespace, item.meta.name) == GLOBAL
        case Service():
            return ref(item) in FLAGGED
        case EndpointSlice():
            return Ref("Service", item.meta.namespace, item.service) in FLAGGED
        case _:
            return False


def assert_unharmed(built: Built, items: list[Object]) -> None:
    """What the innocent get is, byte for byte, what they get without the others: the ConfigMap and the default backend are everybody's."""
    alone = build([*innocent(), *filter(is_global, items)])
    host = alone.tables.hosts.values[INNOCENT]
    assert built.tables.hosts.values[INNOCENT] == host
    assert host.body in built.body(ROUTE, "ingress")
    assert built.of_the_innocent() == alone.of_the_innocent()
    assert built.body(LISTENER, "http") == alone.body(LISTENER, "http")
    https: Any = default_message_pool.url_to_type[LISTENER].parse(alone.body(LISTENER, "https"))
    _default, chain = https.filter_chains
    assert chain.name == "innocent/web"
    assert field(FILTER_CHAINS, encode(chain)) in built.body(LISTENER, "https")


PAGES_FOR_ALL = ConfigMap(meta=Meta(namespace="wild", name="config"), data={"custom-http-errors": "404"})
DEFAULT_BACKEND = (
    Service(meta=Meta(namespace="wild", name="a"), ports=(ServicePort(80),)),
    EndpointSlice(
        meta=Meta(namespace="wild", name="a"), service="a", ports=(EndpointPort("", 8080),), endpoints=(Endpoint(("10.1.2.4",)),)
    ),
)


@FUZZED
@given(objects(names=texts()))
@example([PAGES_FOR_ALL, *DEFAULT_BACKEND])
def test_objects_with_anything_in_them_are_taken_and_harm_nobody(items: list[Object]) -> None:
    built = taken(items)
    about = FLAGGED | {ref(item) for item in items}
    assert {problem.about for problem in built.tables.problems()} <= about
    assert_unharmed(built, items)


@FUZZED
@given(documents())
def test_documents_with_anything_in_any_field_are_taken_and_harm_nobody(written: list[Any]) -> None:
    found = [each for document in written for each in parse.from_document(document)]
    for problem in found:
        if isinstance(problem, Problem):
            assert_readable(problem)
    items = [each for each in found if not isinstance(each, Problem)]
    assert_unharmed(taken(items), items)


SERVED = Ingress(meta=Meta(namespace="wild", name="a"), rules=(Rule("a.wild.test"),), tls=(Tls(("a.wild.test",), "cert"),))
CERTIFICATE = Secret(meta=Meta(namespace="wild", name="cert"), data={"tls.crt": pems()[0][0], "tls.key": pems()[0][1]})
OF_LISTENERS = ConfigMap(meta=Meta(namespace="wild", name="config"), data={"hsts": "false"})


@FUZZED
@given(objects(names=texts()))
@example([SERVED, CERTIFICATE, OF_LISTENERS])
def test_what_was_wild_leaves_nothing_behind(items: list[Object]) -> None:
    built, alone = build([*innocent(), *items]), build(innocent())
    gone = {ref(item) for item in items}
    built.tables.apply(built.tables.world.apply(drop=gone)).publish(built.snapshot)
    assert {t: {n: r.body for n, r in built.snapshot[t].items()} for t in TYPES} == {
        t: {n: r.body for n, r in alone.snapshot[t].items()} for t in TYPES
    }
    assert built.tables.problems() == alone.tables.problems()
