"""Whatever one object has thousands of: the work is linear in its size, and what exceeds a limit is a Problem.

Work is counted in lines of ours that run, not in time. What C code does in one step (to sort, to hash, to compare) is not counted.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nginx.test_effects import BESIDE
from tests.units.test_any_order import Life, endpoints, pems, site
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Namespace,
    Object,
    Path,
    Rule,
    Secret,
    Service,
    ServicePort,
    Tls,
)
from xds.kube.world import MOST_RULES, MOST_WILDCARDS
from xds.nginx.registry import known_annotations
from xds.problem import Problem
from xds.translate.backends import MOST_ENDPOINTS, MOST_PORTS
from xds.translate.certificates import MOST_TLS
from xds.translate.claims import MOST_PATHS
from xds.translate.configuration import MOST_UNKNOWN
from xds.translate.hosts import MOST_EXTERNAL_NAMES
from xds.translate.streams import MOST_ENTRIES

PREFIX = "nginx.ingress.kubernetes.io/"
RUNS = itertools.count()


def rule(host: str, *paths: str, service: str = "s0", ports: Sequence[int] = ()) -> Rule:
    return Rule(host, tuple(Path(path, "Prefix", Backend(service, ports[k] if ports else 80)) for k, path in enumerate(paths)))


def big(*rules: Rule, tls: Sequence[Tls] = (), **annotations: str) -> Ingress:
    notes = {PREFIX + name.replace("_", "-"): value for name, value in annotations.items()}
    return Ingress(meta=Meta(namespace="one", name="big", annotations=notes), rules=rules, tls=tuple(tls))


def joined(*rules: Rule, by: Sequence[str], **more: str) -> list[Object]:
    """An Ingress, and canaries of these names for the same paths."""
    notes = {PREFIX + name: text for name, text in (("canary", "true"), ("canary-weight", "1"), ("canary-by-cookie", "next"))}
    canaries = (Ingress(meta=Meta(namespace="one", name=name, annotations=notes), rules=rules) for name in by)
    return [big(*rules, **more), *canaries]


def prefixed(annotations: Mapping[str, str]) -> Ingress:
    return Ingress(meta=Meta(namespace="one", name="big", annotations=annotations), rules=(rule("a.example.org", "/"),))


def names(n: int, suffix: str = "big.example.org") -> list[str]:
    """Host names that no cache of ours knows yet."""
    run = next(RUNS)
    return [f"h{k:05}-{run:05}.{suffix}" for k in range(n)]


def paths(n: int, tail: str = "") -> list[str]:
    """Paths, likewise."""
    run = next(RUNS)
    return [f"/{k:05}-{run:05}{tail}" for k in range(n)]


def config(name: str, data: Mapping[str, str]) -> ConfigMap:
    return ConfigMap(meta=Meta(namespace="one", name=name), data=data)


def secret(name: str, which: int = 0, copies: int = 1) -> Secret:
    chain, key = pems()[which]
    return Secret(meta=Meta(namespace="one", name=name), type="kubernetes.io/tls", data={"tls.crt": chain * copies, "tls.key": key})


def ports(n: int) -> list[int]:
    return [k + 1 for k in range(n)]


def listed(hosts: list[str]) -> list[Object]:
    return [big(*(rule(host, "/") for host in hosts), tls=[Tls(tuple(hosts), "first")]), secret("first")]


def with_an_entry_each(hosts: list[str]) -> list[Object]:
    return [big(*(rule(host, "/") for host in hosts), tls=[Tls((host,), f"no-{host[:6]}") for host in hosts])]


SHAPES: Mapping[str, Callable[[int], list[Object]]] = {
    "hosts": lambda n: [big(*(rule(host, "/") for host in names(n)))],
    "hosts that are none": lambda n: [big(*(rule(host, "/") for host in names(n, "-.com")))],
    "hosts of one tls entry": lambda n: listed(names(n)),
    "hosts with a tls entry each": lambda n: with_an_entry_each(names(n)),
    "tls entries without hosts": lambda n: [big(*(rule(host, "/") for host in names(n)), tls=[Tls((), "first")] * n), secret("first")],
    "wildcards": lambda n: [big(*(rule(f"*.{host}", "/") for host in names(n)))],
    "wildcards and paths without a host": lambda n: [big(*(rule(f"*.{host}", "/") for host in names(n)), rule("", *paths(n)))],
    "wildcards and expressions without a host": lambda n: [
        big(*(rule(f"*.{host}", "/") for host in names(n)), rule("", *paths(n, "(a|b)")), use_regex="true")
    ],
    "paths": lambda n: [big(rule("a.example.org", *paths(n)))],
    "one path again and again": lambda n: [big(rule("a.example.org", *["/x"] * n))],
    "paths that end in a slash": lambda n: [big(rule("a.example.org", *paths(n, "/")))],
    "paths that are none": lambda n: [big(rule("a.example.org", *paths(n, "\n")))],
    "protected paths that are none": lambda n: [big(rule("a.example.org", *paths(n, "\n")), auth_url="http://x")],
    "protected expressions beside an open path": lambda n: [
        big(rule("a.example.org", *paths(n, "(a|b)")), use_regex="true", auth_url="http://x"),
        Ingress(meta=Meta(namespace="one", name="open"), rules=(rule("a.example.org", "/"),)),
    ],
    "expressions": lambda n: [big(rule("a.example.org", *paths(n, "(a|b)")), use_regex="true")],
    "expressions that are none": lambda n: [big(rule("a.example.org", *paths(n, "(")), use_regex="true")],
    "expressions on many hosts": lambda n: [big(*(rule(host, "/x(a|b)") for host in names(n)), rewrite_target="/$1")],
    "rules of one host": lambda n: [big(*(rule("a.example.org", path) for path in paths(n)))],
    "paths with a canary": lambda n: joined(rule("a.example.org", *paths(n)), by=["next"]),
    "expressions with a canary": lambda n: joined(rule("a.example.org", *paths(n, "(a|b)")), by=["next"], use_regex="true"),
    "hosts with a canary": lambda n: joined(*(rule(host, "/") for host in names(n)), by=["next"]),
    "canaries of one path": lambda n: joined(rule("a.example.org", "/"), by=names(n)),
    "canaries of no path": lambda n: joined(rule("a.example.org", *paths(n)), by=["next"])[1:],
    "Services that do not exist": lambda n: [big(*(rule("a.example.org", f"/{k}", service=f"no{k}") for k in range(n)))],
    "annotations": lambda n: [big(rule("a.example.org", "/"), **{f"server-snippett-{k}": "x" for k in range(n)})],
    "prefixes": lambda n: [prefixed({f"nginx.ingress.kubernetes{k:05}.io/auth-url": "x" for k in range(n)})],
    "annotations of a mistaken prefix": lambda n: [prefixed({f"nginx.org/proxy-{k}": "x" for k in range(n)})],
    "a long annotation": lambda n: [big(rule("a.example.org", "/"), rewrite_target="$" * n, upstream_hash_by="$uri" * n)],
    "keys": lambda n: [config("config", {f"proxy-body-sizes-{k}": "1m" for k in range(n)})],
    "streams": lambda n: [config("tcp", {str(2_000 + k): "one/s0:80" for k in range(n)})],
    "streams that are none": lambda n: [config("tcp", {f"x{k}": "one/s0:80" for k in range(n)})],
    "endpoints": lambda n: [endpoints(0, *(f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}" for k in range(n)))],
    "endpoints that are none": lambda n: [endpoints(0, *(f"x{k}" for k in range(n)))],
    "ports of a Service": lambda n: [
        Service(meta=Meta(namespace="one", name="s0"), ports=tuple(ServicePort(port, f"p{port}", 8080) for port in ports(n))),
        big(rule("a.example.org", *paths(n), ports=ports(n))),
    ],
    "ports of a slice": lambda n: [
        EndpointSlice(
            meta=Meta(namespace="one", name="s0-1"),
            service="s0",
            ports=tuple(EndpointPort(f"p{port}", port) for port in ports(n)),
            endpoints=(Endpoint(("10.0.0.1",)),),
        )
    ],
    "certificates in a Secret": lambda n: [
        secret("first", copies=n),
        big(rule("a.example.com", "/"), tls=[Tls(("a.example.com",), "first")]),
    ],
    "labels": lambda n: [Namespace(meta=Meta(namespace="", name="one", labels={"team": "web"} | {f"a{k}": "b" for k in range(n)}))],
}


def work(found: list[Object]) -> int:
    """Lines of `xds` that run while these objects are taken over by a small site that has served before."""
    life = Life([*site(3), secret("second", 1)])
    counted = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal counted
        if "/xds/" not in frame.f_code.co_filename:
            return None
        counted += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        life.take(found)
        life.tables.problems()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_as_much_is_at_most_some_four_times_the_work(shape: str) -> None:
    work(SHAPES[shape](30))  # what is made once for all
    small, large = work(SHAPES[shape](30)), work(SHAPES[shape](120))
    assert large <= 4.8 * small


def one_feature_each(n: int, host: Callable[[str], str]) -> list[Object]:
    """Ingresses with one annotation each, that of all features in turn, and what that needs beside it."""
    notes = [{each.name: each.example, **BESIDE.get(each.name, {})} for _, each in sorted(known_annotations().items())]
    return [
        Ingress(
            meta=Meta(namespace="one", name=f"i{k}", annotations={PREFIX + name: text for name, text in notes[k % len(notes)].items()}),
            rules=(rule(host(name), f"/{name}"),),
        )
        for k, name in enumerate(names(n))
    ]


@pytest.mark.parametrize("host", [str, lambda _: "a.example.org"], ids=["a host each", "one host"])
def test_ingresses_with_one_feature_each_are_linear_in_their_number(host: Callable[[str], str]) -> None:
    every = len(known_annotations())
    work(one_feature_each(every, host))
    small, large = work(one_feature_each(every, host)), work(one_feature_each(4 * every, host))
    assert large <= 4.8 * small


SMALL = st.integers(0, 60)


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(sorted(SHAPES)), SMALL, min_size=1, max_size=3))
def test_the_work_per_byte_of_input_is_bounded(mixed: dict[str, int]) -> None:
    found: list[Object] = []
    for number, (shape, n) in enumerate(mixed.items()):
        made = SHAPES[shape](n)
        found += [
            msgspec.structs.replace(i, meta=msgspec.structs.replace(i.meta, name=f"big{number}"))
            if isinstance(i, Ingress) and i.meta.name == "big"
            else i
            for i in made
        ]
    assert work(found) <= 3_000 + 100 * len(msgspec.json.encode(found))


def codes(life: Life) -> dict[str, Problem]:
    return {p.code.partition(":")[0]: p for p in life.tables.problems()}


def external(n: int) -> list[Object]:
    """An Ingress that leads to many ports of one ExternalName, which declares none."""
    named = Service(meta=Meta(namespace="one", name="named"), type="ExternalName", external_name="a.example.net")
    return [named, big(rule("a.example.org", *paths(n), service="named", ports=ports(n)))]


def many_of_many() -> list[Object]:
    """A Service with as many ports as it may have, of which one is asked for, and one endpoint more than there may be then."""
    addresses = [f"10.0.{k // 250}.{k % 250 + 1}" for k in range(MOST_ENDPOINTS // MOST_PORTS + 1)]
    listed = tuple(ServicePort(port, f"p{port}", 8080) for port in ports(MOST_PORTS))
    asked = big(rule("a.example.org", "/", ports=[MOST_PORTS]))
    piece = EndpointSlice(meta=Meta(namespace="one", name="s0-1"), service="s0", endpoints=(Endpoint(tuple(addresses)),))
    return [Service(meta=Meta(namespace="one", name="s0"), ports=listed), piece, asked]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda: [big(*(rule(host, "/") for host in names(MOST_RULES + 1)))], "too-many-rules"),
        (lambda: [big(*(rule(f"*.{host}", "/") for host in names(MOST_WILDCARDS + 1)))], "too-many-wildcards"),
        (lambda: [big(rule("a.example.org", *paths(MOST_PATHS + 1)))], "too-many-paths"),
        (lambda: [big(rule("a.example.org", "/"), tls=[Tls((), "first")] * (MOST_TLS + 1))], "too-many-tls"),
        (lambda: [config("tcp", {str(2_000 + k): "no/such:80" for k in range(MOST_ENTRIES + 1)})], "too-many-entries"),
        (lambda: SHAPES["ports of a Service"](MOST_PORTS + 1), "too-many-ports"),
        (many_of_many, "too-many-endpoints"),
        (lambda: external(MOST_EXTERNAL_NAMES + 1), "too-many-external-names"),
    ],
)
def test_what_exceeds_a_limit_is_a_problem(what: Callable[[], list[Object]], code: str) -> None:
    assert code in codes(Life([*site(3), *what()]))


def test_what_exceeds_a_limit_is_not_there_and_the_rest_is() -> None:
    hosts = names(MOST_RULES + 1)
    life = Life([*site(3), big(*(rule(host, "/") for host in hosts))])
    assert hosts[-2] in life.tables.hosts.values
    assert hosts[-1] not in life.tables.hosts.values
    life.take([big(rule("a.example.org", *paths(MOST_PATHS + 1)))])
    body = life.tables.hosts.values["a.example.org"].body
    assert b"/04999-" in body
    assert b"/05000-" not in body


def test_of_many_wildcards_the_first_are_there() -> None:
    hosts = [f"*.{host}" for host in names(MOST_WILDCARDS + 1)]
    there = Life([*site(3), big(*(rule(host, "/") for host in hosts), rule("last.example.org", "/"))]).tables.hosts.values
    assert [host in there for host in (hosts[-2], hosts[-1], "last.example.org")] == [True, False, True]


def test_beyond_the_limit_of_external_names_paths_are_closed() -> None:
    life = Life([*site(3), *external(MOST_EXTERNAL_NAMES + 1)])
    asked = sorted(cluster.port for cluster in life.tables.clusters.values if cluster.external)
    assert asked == ports(MOST_EXTERNAL_NAMES)
    life = Life([*site(3), *external(MOST_EXTERNAL_NAMES)])
    assert "too-many-external-names" not in codes(life)


def test_each_of_many_ports_has_its_part_of_the_endpoints() -> None:
    (found,) = (body for cluster, body in Life([*site(3), *many_of_many()]).tables.endpoints.values.items() if cluster.port == MOST_PORTS)
    assert found.count(b"10.0.") == MOST_ENDPOINTS // MOST_PORTS


@pytest.mark.parametrize("shape", ["annotations", "keys", "streams that are none"])
def test_of_thousands_of_wrong_names_some_are_told_and_the_rest_is_counted(shape: str) -> None:
    few = len(Life(site(3)).tables.problems())
    life = Life([*site(3), *SHAPES[shape](3_000)])
    told = life.tables.problems()
    assert MOST_UNKNOWN <= len(told) - few <= MOST_UNKNOWN + 2
    assert any("2,900 more" in p.sentence for p in told)
