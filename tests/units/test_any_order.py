"""Whatever happens, in whichever order and batches: the Snapshot is that of a fresh start, and nothing else is remembered."""

from __future__ import annotations

import copy
import dataclasses
import functools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.envoy.harness.tls import make_certificate
from xds import request_metrics
from xds.config import Flags
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressClass,
    Meta,
    Namespace,
    Object,
    Path,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
    ref,
)
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.nginx import registry
from xds.nginx.registry import known_annotations
from xds.problem import Problem, Ref
from xds.snapshot import ENDPOINT, ROUTE, TYPES, Snapshot
from xds.translate.configuration import ingress_settings
from xds.translate.selection import claimed, served
from xds.units.memo import Beside, Build
from xds.units.tables import Tables

FLAGS = Flags(
    watch_ingress_without_class=True,
    watch_namespace_selector="team=web",
    configmap="one/config",
    tcp_services_configmap="one/tcp",
    udp_services_configmap="one/udp",
    default_backend_service="one/a",
    default_ssl_certificate="one/first",
    pod_namespace="two",
    enable_ssl_passthrough=True,
    healthz_port=8081,  # behind the Services' port 81: of namespace "two" nobody may be asked there
)
CONSTANTS = {DEFAULT_CERTIFICATE: (b"chain", b"key"), NOW: 1_800_000_000}
NAMESPACES = ("one", "two")
HOSTS = ("", "a.example.com", "A.example.com", "b.example.com", "*.example.com", "not a host")
PATHS = ("/", "/x", "/x/", "/[", "no-slash")
SERVICES = ("a", "b")
SECRETS = ("first", "second")
PREFIX = "nginx.ingress.kubernetes.io/"
ANNOTATIONS: tuple[dict[str, str], ...] = (
    {},
    {PREFIX + "rewrite-target": "/y"},
    {PREFIX + "use-regex": "true"},
    {PREFIX + "load-balance": "ewma", PREFIX + "proxy-body-size": "rubbish"},
    {PREFIX + "app-root": "/app", PREFIX + "ssl-redirect": "false"},
    {PREFIX + "service-upstream": "true", PREFIX + "no-such": "x"},
    {PREFIX + "ssl-passthrough": "true"},
    {PREFIX + "from-to-www-redirect": "true"},
    {PREFIX + "server-alias": "a.example.com, other.example.com, *.deep.example.com"},
    {PREFIX + "custom-headers": "one/headers"},
    {PREFIX + "custom-headers": "two/headers", PREFIX + "mirror-target": "http://a.one.svc:81/x"},
    {PREFIX + "mirror-target": "https://elsewhere.example$request_uri", PREFIX + "mirror-host": "$host"},
    {PREFIX + "canary": "true", PREFIX + "canary-weight": "30", PREFIX + "load-balance": "ewma"},
    {PREFIX + "canary": "true", PREFIX + "canary-by-header": "X-Canary", PREFIX + "canary-by-cookie": "next", PREFIX + "app-root": "/app"},
    {"kubernetes.io/ingress.class": "other"},
)

State = dict[str, dict[str, tuple[str, bytes]]]


class Event(NamedTuple):
    """Something that is there now, or (`gone`) not any more."""

    item: Object | None
    gone: Ref | None = None


@functools.cache
def pems() -> tuple[tuple[bytes, bytes], ...]:
    """Two certificates of one host, so that one can replace the other, and one of another."""
    made = [make_certificate([host]) for host in ("a.example.com", "a.example.com", "*.example.com")]
    return tuple((m.cert_pem, m.key_pem) for m in made)


def metas(*names: str, labels: Sequence[dict[str, str]] = ({},), annotations: Sequence[dict[str, str]] = ({},)) -> st.SearchStrategy[Meta]:
    return st.builds(
        Meta,
        namespace=st.sampled_from(NAMESPACES),
        name=st.sampled_from(names),
        created=st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
        labels=st.sampled_from(labels),
        annotations=st.sampled_from(annotations),
    )


def many(what: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(what, max_size=most).map(tuple)


def ingresses() -> st.SearchStrategy[Ingress]:
    backend = st.builds(Backend, st.sampled_from(SERVICES), st.sampled_from([80, 81, "http"]))
    path = st.builds(Path, st.sampled_from(PATHS), st.sampled_from(["Exact", "Prefix", ""]), backend)
    tls = st.builds(Tls, many(st.sampled_from(HOSTS)), st.sampled_from(["", *SECRETS]))
    return st.builds(
        Ingress,
        meta=metas("i", "j", "k", annotations=ANNOTATIONS),
        class_name=st.sampled_from([None, None, "ours", "theirs"]),
        default_backend=st.none() | backend,
        rules=many(st.builds(Rule, st.sampled_from(HOSTS), many(path))),
        tls=many(tls),
    )


def services() -> st.SearchStrategy[Service]:
    port = st.sampled_from([ServicePort(80, "http", 8080), ServicePort(81, "", 8081), ServicePort(80, "dns", 53, "UDP")])
    return st.builds(
        Service,
        meta=metas(*SERVICES),
        type=st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"]),
        external_name=st.just("example.org"),
        cluster_ips=st.sampled_from([(), ("10.96.0.1",)]),
        ports=many(port, 3),
        affinity=st.sampled_from(["None", "ClientIP"]),
    )


def slices() -> st.SearchStrategy[EndpointSlice]:
    endpoint = st.builds(
        Endpoint,
        st.sampled_from([("10.0.0.1",), ("10.0.0.2",), ("no address",)]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    ports = (EndpointPort("http", 8080), EndpointPort("", 8081), EndpointPort("dns", 53, "UDP"))
    return st.builds(
        EndpointSlice,
        meta=metas("s", "t"),
        service=st.sampled_from(SERVICES),
        ports=st.just(ports),
        endpoints=many(endpoint),
        legacy=st.booleans(),
    )


def secrets() -> st.SearchStrategy[Secret]:
    contents = [{"tls.crt": chain, "tls.key": key} for chain, key in pems()] + [{"tls.crt": b"rubbish", "tls.key": b"\xff"}, {}]
    return st.builds(Secret, meta=metas(*SECRETS), type=st.just("kubernetes.io/tls"), data=st.sampled_from(contents))


def config_maps() -> st.SearchStrategy[ConfigMap]:
    data = [
        {},
        {"80": "one/a:80"},
        {"5000": "one/a:80", "5001": "two/b:81:PROXY"},
        {"53": "one/a:dns"},
        {"ssl-redirect": "false", "x": "y"},
        {"proxy-body-size": "7m"},  # the route table without its hosts
        {"global-allowed-response-headers": "X-One", "allow-cross-namespace-resources": "true"},
        {"X-One": "1"},
        {"hsts": "false"},  # the listeners
    ]
    return st.builds(ConfigMap, meta=metas("config", "tcp", "udp", "headers"), data=st.sampled_from(data))


def cluster_scoped(item: Object) -> Object:
    """Without the namespace that `metas` gives everything."""
    meta = Meta(namespace="", name=item.meta.name, labels=item.meta.labels)
    return IngressClass(meta=meta, controller=item.controller) if isinstance(item, IngressClass) else Namespace(meta=meta)


def objects() -> st.SearchStrategy[Object]:
    controllers = st.sampled_from(["k8s.io/ingress-nginx", "example.com/other"])
    classes = st.builds(IngressClass, meta=metas("ours", "theirs"), controller=controllers)
    namespaces = st.builds(Namespace, meta=metas(*NAMESPACES, labels=[{"team": "web"}, {"team": "web"}, {}]))
    return st.one_of(
        ingresses(),
        ingresses(),
        services(),
        slices(),
        secrets(),
        config_maps(),
        classes.map(cluster_scoped),
        namespaces.map(cluster_scoped),
    )


def events() -> st.SearchStrategy[Event]:
    return st.one_of(objects().map(Event), objects().map(Event), objects().map(lambda item: Event(None, ref(item))))


OPENED: tuple[Object, ...] = tuple(Namespace(meta=Meta(namespace="", name=name, labels={"team": "web"})) for name in NAMESPACES)
"""Both namespaces are watched at first, or most of what follows would have no effect."""


class Life:
    """A control plane without servers: a World, its Tables, and the Snapshot that they have published."""

    def __init__(self, put: Sequence[Object] = (), flags: Flags = FLAGS) -> None:
        self.world = World(flags, CONSTANTS)
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.take(put)

    def take(self, put: Sequence[Object] = (), drop: Sequence[Ref] = ()) -> None:
        self.tables.apply(self.world.apply(put, drop)).publish(self.snapshot)
        assert not self.tables.build.faults

    def state(self) -> State:
        return {t: {name: (r.version, r.body) for name, r in self.snapshot[t].items()} for t in TYPES}

    def problems(self) -> list[tuple[Problem, str, object]]:
        return [(p, p.sentence, p.severity) for p in self.tables.problems()]


@pytest.fixture(autouse=True, scope="module")
def _room_for_few() -> Iterator[None]:
    """So few paths have labels of their own that some namespaces give way to others."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(request_metrics, "MOST_APART", 3)
        yield


@given(st.lists(st.lists(events(), min_size=1, max_size=4), max_size=10), st.booleans())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_snapshot_depends_on_what_is_there_and_not_on_how_it_came_about(batches: list[list[Event]], owned: bool) -> None:
    flags = dataclasses.replace(FLAGS, host_ownership=owned, enable_metrics=not owned)
    life = Life(OPENED, flags)
    for batch in batches:
        # of one object, a batch says one thing only: that is how sources hand them over
        last = {event.gone or ref(event.item): event for event in batch if event.gone or event.item}  # type: ignore[arg-type]
        life.take([e.item for e in last.values() if e.item], [e.gone for e in last.values() if e.gone])
    there = [item for kind in KINDS for item in life.world.objects(kind)]
    fresh = Life(there, flags)
    assert life.world.apply(copy.deepcopy(there)) == set()  # a re-list
    assert life.state() == fresh.state()
    assert life.problems() == fresh.problems()
    assert len(life.tables.build) == len(fresh.tables.build)
    life.take(drop=[ref(item) for item in there])
    empty = Life(flags=flags)
    assert life.state() == empty.state()
    assert life.problems() == empty.problems()
    assert len(life.tables.build) == len(empty.tables.build)


def test_labels_of_a_host_follow_what_others_of_its_namespace_write() -> None:
    """The Ingress that makes a namespace write too much touches none of the other hosts, whose paths lose labels for it."""
    flags = dataclasses.replace(FLAGS, enable_metrics=True)
    paths = tuple(Path(f"/{number}", "Prefix", Backend("a", 80)) for number in range(3))
    first, second = (Ingress(meta=Meta(namespace="one", name=name), rules=(Rule(f"{name}.example.com", paths),)) for name in "ab")
    life = Life([*OPENED, first], flags)
    alone = life.state()
    life.take([second])
    assert life.state() == Life([*OPENED, first, second], flags).state()
    life.take(drop=[ref(second)])
    assert life.state() == alone


@given(st.lists(st.tuples(st.sampled_from(["s", "t"]), st.sets(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]))), max_size=8))
@settings(max_examples=60)
def test_endpoints_follow_where_our_own_pods_are(moves: list[tuple[str, set[str]]]) -> None:
    """Each move leaves a slice of our own namespace with these addresses, or takes it away."""
    to_a = Rule("a.example.com", (Path("/", "Prefix", Backend("a", 81)),))
    web = Service(meta=Meta(namespace="one", name="a"), ports=(ServicePort(81, "", 8081),))
    life = Life(
        [*OPENED, Ingress(meta=Meta(namespace="one", name="i"), rules=(to_a,)), web, own_slice("one", "a", {"10.0.0.1", "10.0.0.2"})]
    )
    ours: dict[str, set[str]] = {}
    for name, ips in moves:
        gone = own_slice("two", name, ips)
        life.take([gone] if ips else (), () if ips else [ref(gone)])
        ours[name] = ips
        fresh = Life([item for kind in KINDS for item in life.world.objects(kind)])
        assert (life.state(), life.problems()) == (fresh.state(), fresh.problems())
        left = {"10.0.0.1", "10.0.0.2"} - set().union(*ours.values())
        body = life.snapshot[ENDPOINT]["one/a/81"].body if left else b""
        assert {ip for ip in ("10.0.0.1", "10.0.0.2") if ip.encode() in body} == left


@given(st.lists(st.lists(events(), min_size=1, max_size=4), max_size=4), st.lists(objects(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_reader_beside_the_build_reads_what_units_read(batches: list[list[Event]], more: list[Object]) -> None:
    life = Life(OPENED)
    for batch in batches:
        life.take([e.item for e in batch if e.item], [e.gone for e in batch if e.gone])
    beside, fresh = Beside(life.tables.build), Beside(Build(life.world.get))

    def compare() -> None:
        for item in life.world.objects(Ingress):
            for function in (served, claimed, ingress_settings):
                arguments = item.meta.namespace, item.meta.name
                assert beside.unit(function, *arguments) == fresh.unit(function, *arguments)

    compare()
    touched = life.tables.touch(life.world.apply(more))
    compare()  # while the Build is behind the World
    life.tables.refresh(touched)
    compare()


def test_a_reader_beside_the_build_runs_nothing_that_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(site(3))
    with monkeypatch.context() as patched:
        patched.setattr(registry, "read_settings", lambda *_: pytest.fail("settings were read again"))
        assert all(served(Beside(life.tables.build), "one", f"i{n}") for n in range(3))


def own_slice(namespace: str, name: str, ips: set[str]) -> EndpointSlice:
    endpoints = tuple(Endpoint((ip,)) for ip in sorted(ips))
    return EndpointSlice(meta=Meta(namespace=namespace, name=name), service=name, ports=(EndpointPort("", 8081),), endpoints=endpoints)


KINDS: tuple[type[Object], ...] = (Ingress, IngressClass, Service, EndpointSlice, Secret, ConfigMap, Namespace)


def site(count: int) -> list[Object]:
    """Hosts with a Service each, and endpoints."""
    found: list[Object] = list(OPENED)
    for n in range(count):
        rule = Rule(f"h{n}.example.com", (Path("/", "Prefix", Backend(f"s{n}", 80)),))
        found.append(Ingress(meta=Meta(namespace="one", name=f"i{n}"), rules=(rule,)))
        found.append(Service(meta=Meta(namespace="one", name=f"s{n}"), ports=(ServicePort(80, "http", 8080),)))
        found.append(endpoints(n, "10.0.0.1"))
    return found


def endpoints(n: int, *ips: str) -> EndpointSlice:
    meta = Meta(namespace="one", name=f"s{n}-1")
    return EndpointSlice(meta=meta, service=f"s{n}", ports=(EndpointPort("http", 8080),), endpoints=tuple(Endpoint((ip,)) for ip in ips))


def test_a_config_map_that_changes_nothing_but_what_stands_around_the_hosts_is_published() -> None:
    life = Life(site(2))
    before, hosts = life.snapshot[ROUTE]["ingress"], dict(life.tables.hosts.values)
    life.take([ConfigMap(meta=Meta(namespace="one", name="config"), data={"proxy-body-size": "7m"})])
    assert dict(life.tables.hosts.values) == hosts
    after = life.snapshot[ROUTE]["ingress"]
    assert (after.version != before.version, after.body != before.body) == (True, True)


def test_a_changed_slice_runs_the_units_of_its_own_endpoints_only() -> None:
    life = Life(site(20))
    before, state = life.tables.build.runs, life.state()
    life.take([endpoints(3, "10.0.0.1", "10.0.0.2")])
    assert life.tables.build.runs - before == 3  # the addresses of the pods, whether there are any, and the load assignment
    after = life.state()
    changed = {(t, name) for t in TYPES for name in after[t] if after[t][name] != state[t].get(name)}
    assert changed == {(ENDPOINT, "one/s3/80")}


def test_a_slice_that_says_the_same_runs_no_more_than_it_takes_to_see_that() -> None:
    life = Life(site(20))
    before, state = life.tables.build.runs, life.state()
    life.take([endpoints(3, "10.0.0.1")])
    assert life.tables.build.runs == before
    other = endpoints(3, "10.0.0.1")
    life.take([replace(other, meta=replace(other.meta, labels={"a": "b"}))])
    assert life.tables.build.runs - before == 1
    assert life.state() == state


@pytest.mark.parametrize("others", [5, 50])
def test_what_a_changed_ingress_costs_does_not_depend_on_how_many_others_there_are(others: int) -> None:
    life = Life(site(others))
    before = life.tables.build.runs
    rule = Rule("h1.example.com", (Path("/other", "Prefix", Backend("s1", 80)),))
    life.take([Ingress(meta=Meta(namespace="one", name="i1"), rules=(rule,))])
    assert life.tables.build.runs - before <= 8


def examples() -> list[Object]:
    """An Ingress for each annotation that there is, with its example."""
    found: list[Object] = []
    for name, annotation in sorted(known_annotations().items()):
        meta = Meta(namespace="one", name=name, annotations={PREFIX + name: annotation.example})
        rule = Rule(f"{name}.example.com", (Path("/x", "Prefix", Backend("s0", 80)),))
        found.append(Ingress(meta=meta, rules=(rule,)))
    return found


VERSIONS = """
from tests.units.test_any_order import Life, examples, site
print({t: {n: v for n, (v, _) in sorted(r.items())} for t, r in Life([*site(2), *examples()]).state().items()})
"""


def test_another_process_gives_the_same_versions() -> None:
    """Replicas agree, and a restart changes nothing: neither hash seeds nor addresses of objects enter."""
    command = [sys.executable, "-c", VERSIONS]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}) for seed in ("1", "2")
    ]
    seen = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(seen) == 1
    assert "one/s0/80~" in seen.pop()
